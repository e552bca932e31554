"""A flood of numbered packets as a capture, to see afterwards which of them are in a log, and how often."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from packetclip_sensor.records import Packet

START = 1_700_000_000.0
_PORTS = 60_000


def write(pcap: Path, numbers: range, *, at: float = 0.0) -> None:
    """UDP packets that carry these numbers, two to a flow, an answer each, 10 us apart from `at` seconds after START on."""
    out = bytearray(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    for i in numbers:
        flow, answer = divmod(i, 2)
        ends = (0xC0000200 + flow // _PORTS, 1024 + flow % _PORTS), (0xC6336402, 9000)
        (src, sport), (dst, dport) = reversed(ends) if answer else ends
        ip = struct.pack("!BBHHHBBHII", 0x45, 0, 40, i & 0xFFFF, 0, 64, 17, 0, src, dst)
        total = sum(struct.unpack("!10H", ip))
        total = (total & 0xFFFF) + (total >> 16)
        ip = ip[:10] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + ip[12:]
        frame = b"\2\0\0\0\0\2\2\0\0\0\0\1\x08\0" + ip + struct.pack("!HHHH", sport, dport, 20, 0) + b"%012d" % i
        micros = round((START + at) * 1e6) + 10 * (i - numbers.start)
        out += struct.pack("<IIII", *divmod(micros, 1_000_000), len(frame), len(frame)) + frame
    unfinished = pcap.parent.with_suffix(".unfinished")  # not in the folder that Suricata looks at
    unfinished.write_bytes(out)
    unfinished.rename(pcap)


def told(logs: Iterable[Path]) -> Counter[int]:
    """How often each number stands in these packet logs. A torn line is an error, but for the last, which may be half-written."""
    decoder = msgspec.json.Decoder(Packet)
    texts = (log.read_bytes() for log in logs)
    return Counter(int(packet.data[28:40]) for text in texts for packet in decoder.decode_lines(text[: text.rfind(b"\n") + 1]))
