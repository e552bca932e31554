"""Bytes of packets from the IP header on, for the tests of what reads them."""

from __future__ import annotations

import struct


def ip4(protocol: int, body: bytes, fragment: int = 0, options: bytes = b"") -> bytes:
    head = struct.pack(">BBHHHBBH8x", 0x45 + len(options) // 4, 0, 20 + len(options + body), 1, fragment, 64, protocol, 0)
    return head + options + body


def ip6(following: int, body: bytes) -> bytes:
    return struct.pack(">IHBB32x", 6 << 28, len(body), following, 64) + body


def tcp_header(flags: int, data: bytes = b"", *, words: int = 5) -> bytes:
    """`words` is the data offset."""
    return struct.pack(">HHIIBBHHH", 0, 0, 0, 0, words << 4, flags, 1024, 0, 0) + data


def tcp(data: bytes, flags: int = 24) -> bytes:
    return ip4(6, tcp_header(flags, data))


def udp(data: bytes) -> bytes:
    return ip4(17, struct.pack(">HHHH", 0, 0, 8 + len(data), 0) + data)


def icmp(kind: int, code: int = 0, data: bytes = b"") -> bytes:
    return ip4(1, bytes([kind, code, 0, 0, 0, 0, 0, 0]) + data)
