"""Packets by hand, and two windows of them: a port scan and a whole small connection."""

from __future__ import annotations

import struct
from typing import Any

import factories
from packet_bytes import ip4, tcp_header

from packetclip_sensor.records import Packet

A, B = "192.0.2.9", "192.0.2.10"
SYN, ACK, RST, PSH, FIN = 2, 16, 4, 8, 1


def packet(data: bytes, **changes: Any) -> Packet:
    """A packet of A's to port 80 of B."""
    fields = {"ts": 100.0, "uid": "C1", "orig_h": A, "resp_h": B, "size_bytes": len(data)}
    return factories.packet(data=data, **(fields | changes))


def tcp(flags: int, payload: int | bytes = 0, **changes: Any) -> Packet:
    return packet(ip4(6, tcp_header(flags, bytes(payload))), **changes)


def udp(payload: int, **changes: Any) -> Packet:
    return packet(ip4(17, struct.pack(">HHHH", 40000, 53, 8 + payload, 0) + bytes(payload)), proto="udp", **changes)


def icmp(kind: int, payload: int = 56, **changes: Any) -> Packet:
    return packet(ip4(1, struct.pack(">BBHHH", kind, 0, 0, 1, 1) + bytes(payload)), proto="icmp", resp_p=0, **changes)


def scan() -> list[Packet]:
    """30 packets in 0.4 s: SYN to 29 ports, the first of which answers with a reset."""
    out = [tcp(SYN, ts=100.0, uid="C0", resp_p=1), tcp(RST | ACK, ts=100.01, uid="C0", resp_p=1, is_orig=False, n=2)]
    return out + [tcp(SYN, ts=100 + 0.4 * i / 28, uid=f"C{i}", resp_p=1 + i) for i in range(1, 29)]


def handshake() -> list[Packet]:
    """A whole small connection: handshake, 100 bytes there, 900 bytes back, FIN."""
    return [
        tcp(SYN, ts=1.0, n=1),
        tcp(SYN | ACK, ts=1.1, n=2, is_orig=False),
        tcp(ACK, ts=1.2, n=3),
        tcp(PSH | ACK, 100, ts=1.3, n=4),
        tcp(PSH | ACK, 900, ts=4.3, n=5, is_orig=False),
        tcp(FIN | ACK, ts=5.0, n=6),
    ]
