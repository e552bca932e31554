"""A packet's first bytes by header field: where each stands, what it is called, what it says. For people, not for the model.

Never raises, whatever the bytes are: a field that is cut is named and said to be cut, what is not understood is payload.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from packetclip_sensor.windows import headers
from packetclip_sensor.windows.headers import ICMP, ICMP6, IPV6_EXTENSIONS, LATER_FRAGMENT, TCP, UDP
from packetclip_sensor.windows.window_statistics import FLAG_NAMES, icmp_name

_PROTOCOLS = {1: "ICMP", 2: "IGMP", 4: "IPv4 in IP", 6: "TCP", 17: "UDP", 41: "IPv6 in IP", 47: "GRE", 50: "ESP",
              51: "authentication header", 58: "ICMPv6", 132: "SCTP"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """Bytes `start` up to `end`; `part` is ip, transport or payload."""

    start: int
    end: int
    part: str
    name: str
    value: str


def fields(data: bytes) -> list[Field]:
    """The fields of a packet from its IP header on, in order, without gaps.

    Source: RFC 791, RFC 8200, RFC 9293 section 3.1, RFC 768, RFC 792, RFC 4443.
    """
    found: list[Field] = []
    (head,) = headers.read([data])
    at = head.l4
    if head.version == 4:
        _ipv4(data, at, found)
    elif head.version == 6:
        at = _ipv6(data, found)
    if head.version and head.fragment != LATER_FRAGMENT and at < len(data):
        at = _transport(data, head, found)
    if at < len(data):
        found.append(Field(at, len(data), "payload", "payload", f"{len(data) - at} bytes recorded"))
    return found


def _ipv4(data: bytes, end: int, found: list[Field]) -> None:
    fragment, header = int.from_bytes(data[6:8]), (data[0] & 15) * 4
    flags = [name for bit, name in ((0x4000, "don't fragment"), (0x2000, "more fragments")) if fragment & bit]
    offset = (fragment & 0x1FFF) * 8
    _add(
        found, data, "ip",
        (0, 1, "version, header length", f"4, {header} bytes" + ", too few: read as 20" * (header < 20)),
        (1, 2, "DSCP, ECN", f"{data[1] >> 2}, {data[1] & 3}"),
        (2, 4, "total length", f"{int.from_bytes(data[2:4])} bytes"),
        (4, 6, "identification", f"0x{data[4:6].hex()}"),
        (6, 8, "flags, fragment offset", f"{' and '.join(flags) or 'none'}, {offset}"),
        (8, 9, "time to live", f"{data[8]}"),
        (9, 10, "protocol", _protocol(data[9])),
        (10, 12, "header checksum", f"0x{data[10:12].hex()}"),
        (12, 16, "source address", str(ipaddress.IPv4Address(data[12:16]))),
        (16, 20, "destination address", str(ipaddress.IPv4Address(data[16:20]))),
        *([(20, end, "options", f"{end - 20} bytes")] if end > 20 else []),
    )  # fmt: skip


def _ipv6(data: bytes, found: list[Field]) -> int:
    """Fields of the IPv6 header and of its extension headers; returns the end of the last."""
    label = f"6, {int.from_bytes(data[0:2]) >> 4 & 255}, 0x{int.from_bytes(data[1:4]) & 0xFFFFF:05x}"
    _add(
        found, data, "ip",
        (0, 4, "version, traffic class, flow label", label),
        (4, 6, "payload length", f"{int.from_bytes(data[4:6])} bytes"),
        (6, 7, "next header", _protocol(data[6], IPV6_EXTENSIONS)),
        (7, 8, "hop limit", f"{data[7]}"),
        (8, 24, "source address", str(ipaddress.IPv6Address(data[8:24]))),
        (24, 40, "destination address", str(ipaddress.IPv6Address(data[24:40]))),
    )  # fmt: skip
    end = 40
    for more in headers.extensions(*headers.rows([data]), np.array([True])):
        start, end, kind, behind = (int(x[0]) for x in (more.at, more.end, more.number, more.following))
        _add(found, data, "ip", (start, end, IPV6_EXTENSIONS[kind], f"before {_protocol(behind, IPV6_EXTENSIONS)}"))
        if more.fragment[0] == LATER_FRAGMENT:
            break
    return end


def _transport(data: bytes, head: headers.Header, found: list[Field]) -> int:
    """Fields of the transport header; returns its end, or its beginning where it is not known here."""
    at = head.l4

    def number(start: int, end: int) -> int:
        return int.from_bytes(data[at + start : at + end])

    if head.proto in (TCP, UDP):
        _add(
            found,
            data,
            "transport",
            (at, at + 2, "source port", f"{number(0, 2)}"),
            (at + 2, at + 4, "destination port", f"{number(2, 4)}"),
        )
    if head.proto == TCP:
        length = max(20, (data[at + 12] >> 4) * 4) if len(data) > at + 12 else 20
        flags = [name for bit, name in FLAG_NAMES if number(13, 14) & bit]
        _add(
            found, data, "transport",
            (at + 4, at + 8, "sequence number", f"{number(4, 8)}"),
            (at + 8, at + 12, "acknowledgement number", f"{number(8, 12)}"),
            (at + 12, at + 13, "data offset", f"{length} bytes"),
            (at + 13, at + 14, "flags", " ".join(flags) or "none"),
            (at + 14, at + 16, "window", f"{number(14, 16)}"),
            (at + 16, at + 18, "checksum", f"0x{number(16, 18):04x}"),
            (at + 18, at + 20, "urgent pointer", f"{number(18, 20)}"),
            *([(at + 20, at + length, "options", f"{length - 20} bytes")] if length > 20 else []),
        )  # fmt: skip
        return at + length
    if head.proto == UDP:
        _add(
            found,
            data,
            "transport",
            (at + 4, at + 6, "length", f"{number(4, 6)} bytes"),
            (at + 6, at + 8, "checksum", f"0x{number(6, 8):04x}"),
        )
        return at + 8
    if head.proto in (ICMP, ICMP6):
        _add(
            found, data, "transport",
            (at, at + 1, "type", f"{number(0, 1)}, {icmp_name(head.version, number(0, 1))}"),
            (at + 1, at + 2, "code", f"{number(1, 2)}"),
            (at + 2, at + 4, "checksum", f"0x{number(2, 4):04x}"),
            (at + 4, at + 8, "rest of header", f"0x{number(4, 8):08x}"),
        )  # fmt: skip
        return at + 8
    return at


def _add(found: list[Field], data: bytes, part: str, *entries: tuple[int, int, str, str]) -> None:
    """Add what lies within the recorded bytes; a field that goes on behind them has no value to tell."""
    for start, end, name, value in entries:
        if start < len(data):
            found.append(Field(start, min(end, len(data)), part, name, value if end <= len(data) else "cut"))


def _protocol(number: int, extensions: Mapping[int, str] = {}) -> str:
    return extensions.get(number) or (f"{number}, {_PROTOCOLS[number]}" if number in _PROTOCOLS else f"{number}")
