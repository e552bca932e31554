"""A packet's first bytes by header field: where each stands, what it is called, what it says. For people, not for the model.

Never raises, whatever the bytes are: a field that is cut is named and said to be cut, what is not understood is payload.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from packetclip_sensor.windows.window_statistics import FLAG_NAMES, Header, icmp_name

_PROTOCOLS = {1: "ICMP", 2: "IGMP", 4: "IPv4 in IP", 6: "TCP", 17: "UDP", 41: "IPv6 in IP", 47: "GRE", 50: "ESP", 58: "ICMPv6",
              132: "SCTP"}  # fmt: skip
_EXTENSIONS = {0: "hop-by-hop options", 43: "routing header", 44: "fragment header", 51: "authentication header",
               60: "destination options"}  # fmt: skip


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
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        protocol, at = _ipv4(data, found)
    elif version == 6 and len(data) >= 40:
        protocol, at = _ipv6(data, found)
    else:
        protocol, at = None, 0
    if protocol is not None and at < len(data):
        at = _transport(data, protocol, at, found, 6 if version == 6 else 4)
    if at < len(data):
        found.append(Field(at, len(data), "payload", "payload", f"{len(data) - at} bytes recorded"))
    return found


def _ipv4(data: bytes, found: list[Field]) -> tuple[int | None, int]:
    """Fields of the IPv4 header; returns the protocol behind it (None where it is not at hand) and the header's end."""
    end = max(20, (data[0] & 15) * 4)
    fragment = int.from_bytes(data[6:8])
    flags = [name for bit, name in ((0x4000, "don't fragment"), (0x2000, "more fragments")) if fragment & bit]
    offset = (fragment & 0x1FFF) * 8
    _add(
        found, data, "ip",
        (0, 1, "version, header length", f"4, {(data[0] & 15) * 4} bytes"),
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
    return (None if offset else data[9]), end


def _ipv6(data: bytes, found: list[Field]) -> tuple[int | None, int]:
    protocol, at = data[6], 40
    label = f"6, {int.from_bytes(data[0:2]) >> 4 & 255}, 0x{int.from_bytes(data[1:4]) & 0xFFFFF:05x}"
    _add(
        found, data, "ip",
        (0, 4, "version, traffic class, flow label", label),
        (4, 6, "payload length", f"{int.from_bytes(data[4:6])} bytes"),
        (6, 7, "next header", _EXTENSIONS.get(protocol) or _protocol(protocol)),
        (7, 8, "hop limit", f"{data[7]}"),
        (8, 24, "source address", str(ipaddress.IPv6Address(data[8:24]))),
        (24, 40, "destination address", str(ipaddress.IPv6Address(data[24:40]))),
    )  # fmt: skip
    while protocol in _EXTENSIONS and len(data) >= at + 8:
        length = 8 if protocol == 44 else (data[at + 1] + 2) * 4 if protocol == 51 else (data[at + 1] + 1) * 8
        behind = data[at]
        _add(
            found, data, "ip", (at, at + length, _EXTENSIONS[protocol], f"before {_EXTENSIONS.get(behind) or _protocol(behind)}")
        )
        if protocol == 44 and int.from_bytes(data[at + 2 : at + 4]) >> 3:
            return None, at + length
        protocol, at = behind, at + length
    return (None if protocol in _EXTENSIONS else protocol), at


def _transport(data: bytes, protocol: int, at: int, found: list[Field], version: int) -> int:
    """Fields of the transport header that begins at `at`; returns its end, or `at` where it is not known here."""

    def number(start: int, end: int) -> int:
        return int.from_bytes(data[at + start : at + end])

    if protocol in (6, 17):
        _add(
            found,
            data,
            "transport",
            (at, at + 2, "source port", f"{number(0, 2)}"),
            (at + 2, at + 4, "destination port", f"{number(2, 4)}"),
        )
    if protocol == 6:
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
    if protocol == 17:
        _add(
            found,
            data,
            "transport",
            (at + 4, at + 6, "length", f"{number(4, 6)} bytes"),
            (at + 6, at + 8, "checksum", f"0x{number(6, 8):04x}"),
        )
        return at + 8
    if protocol in (1, 58):
        _add(
            found, data, "transport",
            (at, at + 1, "type", f"{number(0, 1)}, {icmp_name(Header(version, icmp_type=number(0, 1)))}"),
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


def _protocol(number: int) -> str:
    return f"{number}, {_PROTOCOLS[number]}" if number in _PROTOCOLS else f"{number}"
