"""IP and transport headers of a batch of packets: the one parser, whose columns all others read.

A packet that is cut, malformed or of another protocol has columns that say so; no bytes raise. As in Zeek, what stands behind
IPv6's extension headers below is the packet's transport; encryption (ESP), and authentication in IPv4, is a transport of its own,
which nobody looks into.

Source: RFC 791, RFC 8200, RFC 4302, RFC 9293, RFC 768, RFC 792, RFC 4443; Zeek 8.0.6, src/IP.cc.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
IPV6_FRAGMENT, IPV6_AUTHENTICATION = 44, 51
IPV6_EXTENSIONS = {0: "hop-by-hop options", 43: "routing header", IPV6_FRAGMENT: "fragment header",
                   IPV6_AUTHENTICATION: "authentication header", 60: "destination options", 135: "mobility header"}  # fmt: skip
NO_NEXT_HEADER = 59
MOST_EXTENSIONS = 4
"""RFC 8200 asks for few extension headers; four is more than real traffic has."""
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
WHOLE, FIRST_FRAGMENT, LATER_FRAGMENT = range(3)

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Narrow = npt.NDArray[Any]
"""Integers of the least width that holds them."""

_IS_EXTENSION = np.isin(np.arange(256), list(IPV6_EXTENSIONS))


@dataclass(frozen=True, slots=True)
class Headers:
    """What the headers of n packets say: an array each, (n,)."""

    data: Bytes
    """(n, width) the packets' first bytes, zero behind their end."""
    captured: Narrow
    """How many bytes of each row are real."""
    version: Narrow
    """4 or 6; 0 where neither, or where the IP header is cut."""
    proto: Narrow
    """IP protocol number of the transport header; 0 where there is none."""
    fragment: Narrow
    """WHOLE, FIRST_FRAGMENT or LATER_FRAGMENT."""
    l4: Narrow
    """Offset of the transport header, bytes."""
    has_l4: Bools
    """False for later fragments and cut headers."""
    l4_bytes: Narrow
    """Length of the transport header, bytes: as TCP's data offset says it (below 20 it is malformed), 8 of any other protocol;
    -1 where the header is not at hand."""
    flags: Narrow
    """TCP flags byte, 0 where not TCP."""
    payload_bytes: Ints
    """Bytes behind the transport header on the wire."""
    icmp_type: Narrow
    """-1 where not ICMP."""


class Header(NamedTuple):
    """One packet's row of `Headers`."""

    version: int
    proto: int
    fragment: int
    l4: int
    has_l4: bool
    l4_bytes: int
    flags: int
    payload_bytes: int
    icmp_type: int


@dataclass(frozen=True, slots=True)
class Extensions:
    """The next IPv6 extension header of those of n packets that have one more; (n,) each."""

    here: Bools
    number: Ints
    """Its own protocol number."""
    at: Ints
    """Its offset, bytes, and that of what is behind it."""
    end: Ints
    following: Ints
    """The protocol number of what is behind it."""
    fragment: Ints
    """What a fragment header says; WHOLE of any other."""


def rows(data: Sequence[bytes], width: int = 0) -> tuple[Bytes, Ints]:
    """Cut or pad packet bytes to equal rows.

    Args:
        width: bytes of a row; 0 cuts nothing.
    Returns:
        (n, width) uint8, zero behind the packet's end; (n,) int64, how many bytes of each row are real.
    """
    lengths = np.fromiter((len(d) for d in data), np.int64, len(data))
    width = width or max(64, int(lengths.max(initial=0)))
    joined = b"".join([d[:width].ljust(width, b"\0") for d in data])
    return np.frombuffer(joined, np.uint8).reshape(len(data), width), np.minimum(lengths, width)


def parse(data: Bytes, captured: Ints, size_bytes: Ints) -> Headers:
    """Read IP and transport headers of n packets at once.

    Args:
        data, captured: from `rows`.
        size_bytes: (n,) length of each IP packet on the wire.
    """
    index = np.arange(len(data))
    version = data[:, 0] >> 4
    v4, v6 = (version == 4) & (captured >= 20), (version == 6) & (captured >= 40)
    l4 = np.where(v4, np.maximum((data[:, 0] & 15).astype(np.int64) * 4, 20), np.where(v6, 40, 0))
    proto = np.where(v4, data[:, 9], np.where(v6, data[:, 6], 0)).astype(np.int64)
    later = v4 & ((data[:, 6] & 0x1F | data[:, 7]) != 0)
    fragment = np.where(later, LATER_FRAGMENT, np.where(v4 & (data[:, 6] & 0x20 != 0), FIRST_FRAGMENT, WHOLE))
    for more in extensions(data, captured, v6):
        fragment = np.maximum(fragment, more.fragment)
        proto, l4 = np.where(more.here, more.following, proto), np.where(more.here, more.end, l4)
    has_l4 = (v4 | v6) & (fragment != LATER_FRAGMENT) & (l4 + 8 <= captured)
    tcp = has_l4 & (proto == TCP)
    has_flags = tcp & (l4 + 14 <= captured)
    at = np.where(has_flags, l4, 0)
    l4_bytes = np.where(has_flags, (data[index, at + 12] >> 4).astype(np.int64) * 4, np.where(has_l4 & ~tcp, 8, -1))
    header = np.where(has_flags, np.maximum(l4_bytes, 20), np.where(has_l4, 8, 0))
    icmp = has_l4 & ((proto == ICMP) & v4 | (proto == ICMP6) & v6)
    return Headers(
        data=data,
        captured=captured,
        version=np.where(v4 | v6, version, 0).astype(np.uint8),
        proto=proto.astype(np.uint8),
        fragment=fragment.astype(np.uint8),
        l4=l4.astype(np.int16),  # at most 40 and four extension headers of 2,048
        has_l4=has_l4,
        l4_bytes=l4_bytes.astype(np.int8),
        flags=np.where(has_flags, data[index, at + 13], 0).astype(np.uint8),
        payload_bytes=np.maximum(size_bytes - l4 - header, 0),
        icmp_type=np.where(icmp, data[index, np.where(icmp, l4, 0)].astype(np.int16), -1).astype(np.int16),
    )


def read(packets: Sequence[bytes], size_bytes: Sequence[int] | None = None) -> Iterator[Header]:
    """`parse` for those who look at packets one by one; without `size_bytes` no packet is longer than its bytes."""
    data, captured = rows(packets)
    head = parse(data, captured, captured if size_bytes is None else np.array(size_bytes, np.int64))
    return map(Header, *(getattr(head, name).tolist() for name in Header._fields))


def extensions(data: Bytes, captured: Ints, v6: Bools) -> Iterator[Extensions]:
    """Step through the extension headers of all packets at once; `v6` (n,) says which packets are IPv6."""
    index = np.arange(len(data))
    number, at = np.where(v6, data[:, 6], NO_NEXT_HEADER).astype(np.int64), np.full(len(data), 40)
    for _ in range(MOST_EXTENSIONS):
        here = _IS_EXTENSION[number] & (at + 8 <= captured)
        if not here.any():
            return
        start = np.where(here, at, 0)
        following, length, offset = (data[index, start + i].astype(np.int64) for i in (0, 1, 3))
        is_fragment = here & (number == IPV6_FRAGMENT)
        later = (data[index, start + 2].astype(np.int64) << 8 | offset) >> 3 != 0
        fragment = np.where(is_fragment, np.where(later, LATER_FRAGMENT, offset & 1), WHOLE)
        # An authentication header alone counts its length in words of four bytes, less two (RFC 4302, 2.2).
        end = at + np.where(is_fragment, 8, np.where(number == IPV6_AUTHENTICATION, (length + 2) * 4, (length + 1) * 8))
        yield Extensions(here, number, at, end, following, fragment)
        number, at = np.where(here, following, number), np.where(here, end, at)
