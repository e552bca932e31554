"""Sessions in which passwords go over the wire in clear, and the passwords of recorded traffic, for tests of what is shown."""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import msgspec
from packet_bytes import ip4, tcp_header

from packetclip_sensor.records import Packet
from packetclip_sensor.windows import headers

DATA = Path(__file__).parents[1] / "data"
START = 1_795_000_000.0
_COMMANDS = re.compile(rb"PASS ([^\r\n]+)\r|Authorization: \w+ ([^\r\n]{4,})|passw(?:or)?d=([^&\s]+)", re.I)


def _talk(kind: str, secret: bytes) -> list[tuple[bool, bytes]]:
    """What client (True) and server say of one attempt to log in."""
    plain, refused = b64encode(b"\0admin\0" + secret), b"535 5.7.8 Authentication failed\r\n"
    talks: dict[str, list[tuple[bool, bytes]]] = {
        "ftp": [(False, b"220 ready\r\n"), (True, b"USER admin\r\n"), (False, b"331 Password?\r\n"),
                (True, b"PASS " + secret + b"\r\n"), (False, b"530 Not for " + secret + b"\r\n")],
        "http": [(True, b"POST /login?password=" + secret + b" HTTP/1.1\r\nHost: a\r\nCookie: s=" + secret
                  + b"\r\nAuthorization: Basic " + b64encode(b"admin:" + secret) + b"\r\n\r\nuser=admin&password=" + secret),
                 (False, b"HTTP/1.1 401 Unauthorized\r\nSet-Cookie: s=" + secret + b"\r\n\r\n")],
        "smtp": [(False, b"220 mail\r\n"), (True, b"EHLO a\r\n"), (False, b"250 AUTH PLAIN LOGIN\r\n"),
                 (True, b"AUTH PLAIN " + plain + b"\r\n"), (False, refused), (True, b"AUTH LOGIN\r\n"),
                 (False, b"334 VXNlcg==\r\n"), (True, b64encode(secret) + b"\r\n"), (False, refused)],
        "telnet": [(False, b"login: "), (True, b"admin\r\n"), (False, b"Password: "), (True, secret + b"\r\n"),
                   (False, b"Login incorrect\r\n")],
        "keys": [(False, b"Password: "), *((True, secret[i : i + 1]) for i in range(len(secret))), (True, b"\r")],
    }  # fmt: skip
    return talks[kind]


PORTS = {"ftp": 21, "http": 80, "smtp": 25, "telnet": 23, "keys": 23}


def sessions(attempts: int = 12) -> tuple[list[Packet], set[bytes]]:
    """Guesses at an FTP, an HTTP, an SMTP and a Telnet server, whole lines and key by key, and the passwords in them. Every other
    one is from a host of its own, without the packets around it: of so few each becomes evidence."""
    packets, secrets = list[Packet](), set[bytes]()
    for k, (kind, port) in enumerate(PORTS.items()):
        for i in range(attempts):
            secret = f"Tr0ub4dor-{kind}-{i}".encode()
            secrets.add(secret)
            alone, talk = i % 2, [(up, 24, load) for up, load in _talk(kind, secret)]
            around = [(True, 2, b""), (False, 18, b""), (True, 16, b"")]
            for n, (up, flag, load) in enumerate(talk if alone else [*around, *talk, (True, 17, b""), (False, 17, b"")], 1):
                data = ip4(6, tcp_header(flag, load))
                packets.append(
                    Packet(
                        ts=START + 4 * k + i * 0.3 + n * 0.01, uid=f"C{kind}{i}",
                        orig_h=f"192.0.2.{100 + 10 * k + i * alone}", orig_p=40_000 + i,
                        resp_h=f"192.0.2.{k + 1}", resp_p=port, proto="tcp", is_orig=up, n=n, size_bytes=len(data), data=data,
                    )
                )  # fmt: skip
    return sorted(packets, key=lambda packet: packet.ts), secrets


def recorded(folder: Path) -> tuple[set[bytes], set[tuple[str, int]]]:
    """Of tests/data the connections in which a password goes over the wire: their packets are written below a folder.

    Returns:
        Passwords and their Base64 in FTP and HTTP, what was typed into Telnet key by key, and SNMP's community; and the packets
        (uid, number) of these keys. Words that an answer may have for another reason come with what is before them.
    """
    decoder = msgspec.json.Decoder(Packet)
    secrets, keys = set[bytes](), set[tuple[str, int]]()
    for log in sorted(DATA.glob("*/packetclip_packet.log.gz")):
        typing, of_logins = dict[str, bytes](), set[str]()
        packets = decoder.decode_lines(gzip.decompress(log.read_bytes()))
        for packet, load in _loads(packets):
            found = {part for parts in _COMMANDS.findall(load) for part in parts if part}
            if not packet.is_orig and load.endswith(b"assword: "):
                typing[packet.uid] = b""
            elif packet.is_orig and packet.uid in typing and load != b"\n":
                keys.add((packet.uid, packet.n))
                typing[packet.uid] += load
                if b"\r" in load:
                    found.add(typing.pop(packet.uid).strip(b"\r\n"))
            secrets |= found
            of_logins |= {packet.uid} if found else set()
        of_logins |= {packet.uid for packet in packets if packet.proto == "udp" and b"\x04\x06public" in packet.data}
        lines = [msgspec.json.encode(packet) for packet in packets if packet.uid in of_logins]
        if lines:
            (folder / log.parent.name).mkdir(parents=True)
            (folder / log.parent.name / "packetclip_packet.log").write_bytes(b"\n".join(lines) + b"\n")
    common = {b"": b"", b"admin": b"PASS admin", b"123456": b"PASS 123456"}
    return {common.get(secret, secret) for secret in secrets} - {b""} | {b"\x04\x06public"}, keys


def _loads(packets: list[Packet]) -> Iterator[tuple[Packet, bytes]]:
    """TCP packets with payload, and it."""
    for packet, head in zip(packets, headers.read([packet.data for packet in packets]), strict=True):
        if packet.proto == "tcp" and head.l4_bytes >= 20 and (load := packet.data[head.l4 + head.l4_bytes :]):
            yield packet, load
