"""Which of an evidence packet's bytes may be shown: headers always, and of the payload what is known to hold no secret.

Passwords travel in more protocols than anybody lists, and a segment may begin in the middle of one. So nothing is looked for:
`masked` keeps what is known to be harmless (TLS records, DNS, an SSH banner, verbs and codes, an HTTP request's path and named
headers) and makes all other payload zeros. The checksum goes with it, since it reveals a payload of one or two bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from msgspec.structs import replace

from packetclip_sensor.records import Evidence
from packetclip_sensor.windows import payload
from packetclip_sensor.windows.headers import ICMP, ICMP6, LATER_FRAGMENT, TCP, UDP, Header
from packetclip_sensor.windows.payload import Content

_CHECKSUM = {TCP: 16, UDP: 6, ICMP: 2, ICMP6: 2}
"""Its offset in the transport header, bytes."""
_HTTP = re.compile(rb"([A-Z]{3,9} )([^\s?;@#=&]*)(\S*)( HTTP/\d\.\d\r?\n)?|HTTP/\d\.\d [1-5]\d\d [A-Za-z -]*\r?\n")
_HTTP_HEADER = re.compile(
    rb"(accept|accept-charset|accept-encoding|accept-language|accept-ranges|allow|cache-control|connection|content-encoding"
    rb"|content-length|content-type|date|expect|host|keep-alive|last-modified|pragma|range|retry-after|server|te"
    rb"|transfer-encoding|upgrade|user-agent|vary|via|x-powered-by): [^\r\n@]*(\r?\n|\Z)",
    re.I,
)
_TLS = re.compile(rb"[\x14-\x17]\x03[\0-\4]")
_TELNET = re.compile(rb"(\xff[\xfb-\xfe].)+", re.S)
_SSH = re.compile(rb"SSH-[12]\.\d+-[ -~]{0,80}\r?\n")
_CODE = re.compile(rb"[1-5][0-5]\d[ -]|\+OK|-ERR")


def masked(evidence: Sequence[Evidence], policy: str, read: Sequence[Content] | None = None) -> list[Evidence]:
    """The same with the bytes that may be shown; what is masked already stays as it is. `read` is what the packets hold, where
    somebody has read them."""
    if all(one.masked_bytes is not None for one in evidence):
        return [*evidence]
    made = shown([one.packet.data for one in evidence], policy, read)
    return [
        replace(one, packet=replace(one.packet, data=data), masked_bytes=count) if one.masked_bytes is None else one
        for one, (data, count) in zip(evidence, made, strict=True)
    ]


def shown(packets: Sequence[bytes], policy: str, read: Sequence[Content] | None = None) -> list[tuple[bytes, int]]:
    """What a policy (`evidence_bytes`) lets be shown of packets' first bytes, from the IP header on.

    Returns:
        Of each the bytes, with zeros for masked ones, and how many were masked or cut off.
    """
    if policy == "all":
        return [(data, 0) for data in packets]
    if policy == "none":
        return [(b"", len(data)) for data in packets]
    both = zip(packets, read or payload.contents(packets), strict=True)
    return [_shown(data, *content, headers_alone=policy == "headers") for data, content in both]


def _shown(data: bytes, head: Header, words: str, *, headers_alone: bool) -> tuple[bytes, int]:
    known = head.version and head.fragment != LATER_FRAGMENT and head.proto in _CHECKSUM and head.l4_bytes >= 0
    end = min(head.l4 + max(head.l4_bytes, 20 if head.proto == TCP else 8) if known else head.l4, len(data))
    if headers_alone:
        return data[:end], len(data) - end
    kept, load = bytearray(len(data) - end), data[end:]
    if known and head.proto in (TCP, UDP):
        for start, stop in _harmless(load, words):
            kept[start:stop] = load[start:stop]
    elif known and len(set(load)) == 1:
        kept[:] = load
    if kept == load:
        return data, 0
    out = bytearray(data[:end]) + kept
    if known:
        at = head.l4 + _CHECKSUM[head.proto]
        out[at : at + 2] = bytes(2)
    return bytes(out), sum(a != b for a, b in zip(kept, load, strict=True))


def _harmless(load: bytes, words: str) -> list[tuple[int, int]]:
    """The parts of a payload that hold no secret, as (start, end)."""
    if _TLS.match(load) or words.startswith("DNS ") or (len(load) > 1 and len(set(load)) == 1):
        return [(0, len(load))]
    for pattern in (_SSH, _TELNET, _CODE):
        if found := pattern.match(load):
            return [found.span()]
    if command := payload.COMMAND.match(load):
        return [command.span(1)]
    return _http(load)


def _http(load: bytes) -> list[tuple[int, int]]:
    """Of a request or response its first line, without query, and the headers that are listed; no body."""
    first = _HTTP.match(load)
    if first is None or not (payload.HTTP_REQUEST.match(load) or payload.HTTP_STATUS.match(load)):
        return []
    if first[1] is None:
        kept = [first.span()]
    else:
        kept = [first.span(1), *([] if b"@" in first[3] else [first.span(2)]), *([first.span(4)] if first[4] else [])]
    at = first.end()
    for line in takewhile(lambda line: line.strip(), load[at:].splitlines(keepends=True) if load[:at].endswith(b"\n") else ()):
        if _HTTP_HEADER.fullmatch(line):
            kept.append((at, at + len(line)))
        at += len(line)
    return kept
