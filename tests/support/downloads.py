"""Ordinary HTTP downloads mixed into a capture, between the hosts of its attack: what hides an attack from who looks at the last
packets alone."""

from __future__ import annotations

import ipaddress
import random
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from altered_captures import Capture, Record, checksum

SYN, ACK, PUSH, FIN = 2, 16, 8, 1
SEGMENT = 1448
Ends = tuple[bytes, bytes, bytes, bytes]
"""Addresses and MACs of client and server: client's and server's IPv4 address, client's and server's MAC."""


def mixed(capture: Capture, interval: dict[str, Any], per_second: int, at: Literal["end", "random"], seed: int = 1) -> Capture:
    """With `per_second` downloads in every second of a labelled interval, by the attacker from the victim: one after the other at
    the second's end, or at random moments. The capture itself where no IPv4 packet went from one to the other."""
    rng = random.Random(seed)
    ends = ends_of(capture, interval)
    if ends is None:
        return capture
    added: list[Record] = []
    for second in range(int(interval["start"]), int(interval["end"])):
        for i in range(per_second):
            begins = second + (1 - 0.02 * (per_second - i) if at == "end" else rng.random() * 0.98)
            added += download(capture, ends, begins, rng)
    return capture.of(sorted([*capture.records, *added], key=lambda r: r.time))


def ends_of(capture: Capture, interval: dict[str, Any]) -> Ends | None:
    """The attacker and the victim between whom most packets of the interval went; a forged source is one too."""
    counted: Counter[Ends] = Counter()
    for r in capture.records:
        inside = interval["start"] * capture.unit <= r.time <= interval["end"] * capture.unit
        if not inside or r.frame[12:14] != b"\x08\x00":
            continue
        if among(r.frame[26:30], interval["attacker"], interval["victim"]) and among(r.frame[30:34], interval["victim"], ()):
            counted[r.frame[26:30], r.frame[30:34], r.frame[6:12], r.frame[:6]] += 1
    return max(counted, key=lambda ends: counted[ends], default=None)


def among(address: bytes, networks: Sequence[str], but: Sequence[str]) -> bool:
    """Whether an address is in one of the networks; "spoofed" stands for any that is not in `but`."""
    host = ipaddress.ip_address(address)
    inside = any(host in ipaddress.ip_network(name) for name in networks if name != "spoofed")
    return inside or ("spoofed" in networks and not among(address, but, ()))


def download(capture: Capture, ends: Ends, begins: float, rng: random.Random) -> Iterator[Record]:
    """One connection within 15 ms: handshake, request, 30 to 90 KB with an acknowledgement of each second segment, end."""
    answer = rng.randbytes(rng.randrange(30_000, 90_000))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % len(answer)
    asked = b"GET /files/%06d.bin HTTP/1.1\r\nHost: %s\r\n" % (rng.randrange(10**6), b"files.example.net")
    asked += b"User-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n"
    answer, port = head + answer, rng.randrange(32_768, 61_000)
    seq, ident = [rng.getrandbits(32), rng.getrandbits(32)], [rng.getrandbits(16), rng.getrandbits(16)]
    clock = [rng.getrandbits(31), rng.getrandbits(31)]
    sent: list[tuple[int, int, bytes]] = [
        (0, SYN, b""),
        (1, SYN | ACK, b""),
        (0, ACK, b""),
        (0, ACK | PUSH, asked),
        (1, ACK, b""),
    ]
    for i in range(0, len(answer), SEGMENT):
        part = answer[i : i + SEGMENT]
        sent.append((1, ACK | PUSH if len(part) < SEGMENT else ACK, part))
        if i // SEGMENT % 2:
            sent.append((0, ACK, b""))
    sent += [(0, ACK | FIN, b""), (1, ACK | FIN, b""), (0, ACK, b"")]
    time = begins
    for side, flags, data in sent:
        time += rng.uniform(0.2, 1.0) * 0.015 / len(sent)
        ack = seq[1 - side] if flags & ACK else 0
        stamp = struct.pack(">HBBII", 0x0101, 8, 10, clock[side] & 0xFFFFFFFF, clock[1 - side] if flags & ACK else 0)
        options = struct.pack(">HHHB", 0x0204, 1460, 0x0402, 1) + b"\x03\x03\x07" + b"\1\1" + stamp[2:] if flags & SYN else stamp
        options = options + bytes(-len(options) % 4)
        ports = (port, 80) if side == 0 else (80, port)
        words = 5 + len(options) // 4
        body = struct.pack(">HHIIBBHHH", *ports, seq[side], ack, words << 4, flags, 502, 0, 0) + options + data
        source, target = (ends[0], ends[1]) if side == 0 else (ends[1], ends[0])
        pseudo = source + target + struct.pack(">HH", 6, len(body))
        body = body[:16] + checksum(pseudo + body) + body[18:]
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), ident[side], 0x4000, 64, 6, 0) + source + target
        ip = ip[:10] + checksum(ip) + ip[12:]
        macs = ends[3] + ends[2] if side == 0 else ends[2] + ends[3]
        frame = macs + b"\x08\x00" + ip + body
        yield Record(round(time * capture.unit), len(frame), frame)
        seq[side] = (seq[side] + len(data) + bool(flags & (SYN | FIN))) & 0xFFFFFFFF
        ident[side] = (ident[side] + 1) & 0xFFFF
        clock[side] = (clock[side] + (time - begins > 0.001)) & 0xFFFFFFFF
