"""Captures made of nothing, and cut as capture programs cut them."""

from __future__ import annotations

import struct
from collections.abc import Iterable

ETHERNET = 1
Packet = tuple[float, bytes]
"""Time, epoch seconds, and the frame."""


def udp(number: int) -> bytes:
    """An Ethernet frame with a UDP packet of four bytes of data, checksums left zero as by an offloading card."""
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, number, 0, 64, 17, 0, bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]))
    return bytes(12) + b"\x08\x00" + ip + struct.pack("!HHHH", 40000 + number, 7, 12, 0) + b"abcd"


def packets(count: int, start: float = 1700000000.0) -> list[Packet]:
    """UDP packets of connections of their own, a second apart."""
    return [(start + i, udp(i)) for i in range(count)]


def pcap(
    packets: Iterable[Packet], *, order: str = "<", ticks: int = 1_000_000, link: int = ETHERNET, snap: int = 65535
) -> bytes:
    """A classic pcap in microseconds or nanoseconds."""
    magic = 0xA1B2C3D4 if ticks == 1_000_000 else 0xA1B23C4D
    records = (struct.pack(f"{order}IIII", int(ts), round(ts % 1 * ticks), len(f), len(f)) + f for ts, f in packets)
    return struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, snap, link) + b"".join(records)


def pcapng(packets: Iterable[tuple[int, float, bytes]], *, links: tuple[int, ...] = (ETHERNET,), order: str = "<") -> bytes:
    """A pcapng with an interface for each link type; packets name theirs. Times of odd interfaces are in nanoseconds."""
    out = struct.pack(f"{order}IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    for number, link in enumerate(links):
        option = struct.pack(f"{order}HHBxxxHH", 9, 1, 9, 0, 0) if number % 2 else b""
        size = 20 + len(option)
        out += struct.pack(f"{order}IIHHI", 1, size, link, 0, 1000 + number) + option + struct.pack(f"{order}I", size)
    for number, ts, frame in packets:
        ticks = round(ts * (1_000_000_000 if number % 2 else 1_000_000))
        size = 32 + (len(frame) + 3) // 4 * 4
        head = struct.pack(f"{order}IIIIIII", 6, size, number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
        out += head + frame.ljust(size - 32, b"\0") + struct.pack(f"{order}I", size)
    return out


def rotated(capture: bytes, seconds: float) -> list[bytes]:
    """A little-endian pcap in microseconds as `tcpdump -G` cuts it: a file ends before a packet so much later."""
    files, at, began = list[bytes](), 24, 0.0
    while at < len(capture):
        whole, part, size = struct.unpack_from("<III", capture, at)
        ts = whole + part / 1e6
        if not files or ts - began >= seconds:
            files.append(capture[:24])
            began = float(whole)
        files[-1] += capture[at : at + 16 + size]
        at += 16 + size
    return files
