"""Packet bytes to model input. Training uses this same file, so what is trained is what runs.

A token is a byte from the IP header on, or PAD past the packet's end, or MASK where a field names a place instead of a behaviour:
addresses, ids, checksums, sequence numbers, timestamps and (in the sensor) ports. Because of the masks the packets of a flood are
equal, and each distinct row is encoded once. Everything here works on whole batches; a truncated or malformed packet is padded,
never an exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PAD = 256
MASK = 257
VOCABULARY = 258
ROW_BYTES = 128

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58

# Byte ranges masked, relative to the header's start; the end is exclusive.
MASKED_FIELDS: dict[str, tuple[tuple[str, int, int], ...]] = {
    "ipv4": (("id", 4, 6), ("checksum", 10, 12), ("addresses", 12, 20)),
    "ipv6": (("flow label", 1, 4), ("addresses", 8, 40)),
    "tcp": (("seq and ack", 4, 12), ("checksum", 16, 18)),
    "udp": (("checksum", 6, 8),),
    "icmp": (("checksum", 2, 4), ("echo id and seq", 4, 8)),
    # An ICMP error quotes the packet that caused it: its header from byte 8 on, and the ports behind it.
    "icmp error": (("quoted id", 12, 14), ("quoted checksum and addresses", 18, 28), ("quoted ports and seq", 28, 36)),
    "icmp6 error": (("quoted addresses", 16, 48), ("quoted ports", 48, 52)),
}
PORT_FIELDS = (("ports", 0, 4),)
ICMP_ERRORS = (3, 4, 5, 11, 12)
ICMP6_ERRORS = (1, 2, 3, 4)
TCP_TIMESTAMPS = 8
IPV6_EXTENSIONS = (0, 43, 60, 135)
IPV6_FRAGMENT = 44

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Tokens = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Headers:
    """What the headers of n packets say. An array each, (n,)."""

    version: Ints
    """4 or 6; 0 where neither."""
    proto: Ints
    """IP protocol number of the transport header; 0 where there is none."""
    l4: Ints
    """Offset of the transport header, bytes."""
    has_l4: Bools
    """False for later fragments and cut headers."""
    flags: Ints
    """TCP flags byte, 0 where not TCP."""
    payload_bytes: Ints
    """Bytes behind the transport header on the wire."""
    icmp_type: Ints
    """-1 where not ICMP."""


def rows(data: Sequence[bytes], width: int = ROW_BYTES) -> tuple[Bytes, Ints]:
    """Cut or pad packet bytes to equal rows.

    Returns:
        (n, width) uint8, zero behind the packet's end; (n,) int64, how many bytes of each row are real.
    """
    joined = b"".join([d[:width].ljust(width, b"\0") for d in data])
    lengths = np.fromiter((len(d) for d in data), np.int64, len(data))
    return np.frombuffer(joined, np.uint8).reshape(len(data), width), np.minimum(lengths, width)


def headers(data: Bytes, captured: Ints, size_bytes: Ints) -> Headers:
    """Read IP and transport headers of n packets at once.

    Args:
        data: (n, width) from `rows`.
        captured: (n,) real bytes of each row.
        size_bytes: (n,) length of each IP packet on the wire.
    Source: RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 792, RFC 4443.
    """
    n, width = data.shape
    index = np.arange(n)
    version = (data[:, 0] >> 4).astype(np.int64)
    v4 = (version == 4) & (captured >= 20)
    v6 = (version == 6) & (captured >= 40)
    version = np.where(v4, 4, np.where(v6, 6, 0))
    l4 = np.where(v4, np.maximum((data[:, 0] & 15).astype(np.int64) * 4, 20), np.where(v6, 40, 0))
    proto = np.where(v4, data[:, 9], np.where(v6, data[:, 6], 0)).astype(np.int64)
    later_fragment = v4 & (((data[:, 6].astype(np.int64) & 0x1F) << 8 | data[:, 7]) != 0)
    for _ in range(4):  # RFC 8200 asks for few extension headers; four is more than real traffic has
        extension = v6 & np.isin(proto, IPV6_EXTENSIONS) & (l4 + 8 <= captured)
        fragment = v6 & (proto == IPV6_FRAGMENT) & (l4 + 8 <= captured)
        if not (extension.any() or fragment.any()):
            break
        at = np.minimum(l4, width - 8)
        offset = (data[index, at + 2].astype(np.int64) << 8 | data[index, at + 3]) >> 3
        later_fragment |= fragment & (offset != 0)
        following = data[index, at].astype(np.int64)
        length = np.where(fragment, 8, (data[index, at + 1].astype(np.int64) + 1) * 8)
        step = extension | fragment
        proto = np.where(step, following, proto)
        l4 = np.where(step, l4 + length, l4)
    has_l4 = (version != 0) & ~later_fragment & (l4 + 8 <= np.minimum(captured, width))
    tcp = has_l4 & (proto == TCP) & (l4 + 14 <= np.minimum(captured, width))
    at = np.where(tcp, l4, 0)
    flags = np.where(tcp, data[index, at + 13], 0).astype(np.int64)
    tcp_header = np.where(tcp, np.maximum((data[index, at + 12] >> 4).astype(np.int64) * 4, 20), 0)
    header = np.where(tcp, tcp_header, np.where(has_l4, 8, 0))
    icmp = has_l4 & ((proto == ICMP) & (version == 4) | (proto == ICMP6) & (version == 6))
    icmp_type = np.where(icmp, data[index, np.where(icmp, l4, 0)].astype(np.int64), -1)
    payload = np.maximum(size_bytes - l4 - header, 0)
    return Headers(version, proto, l4, has_l4, flags, payload, icmp_type)


def _scatter(mask: Bools, rows: Ints, at: Ints, start: int, end: int) -> None:
    """Set mask[row, offset + start : offset + end] for every row of `rows` and its offset in `at`, (n,) each."""
    columns = at[:, None] + np.arange(start, end)
    keep = columns < mask.shape[1]
    mask[np.broadcast_to(rows[:, None], columns.shape)[keep], columns[keep]] = True


def place_mask(data: Bytes, head: Headers, *, ports: bool = True) -> Bools:
    """(n, width) True where a byte names a place and must not reach the model; `ports` masks TCP and UDP ports as well."""
    n, width = data.shape
    mask = np.zeros((n, width), np.bool_)
    for version, name in ((4, "ipv4"), (6, "ipv6")):
        chosen = head.version == version
        for _, start, end in MASKED_FIELDS[name]:
            mask[chosen, start:end] = True
    icmp4 = head.has_l4 & (head.icmp_type >= 0) & (head.version == 4)
    icmp6 = head.has_l4 & (head.icmp_type >= 0) & (head.version == 6)
    tcp, udp = head.has_l4 & (head.proto == TCP), head.has_l4 & (head.proto == UDP)
    kinds = {
        "tcp": tcp,
        "udp": udp,
        "icmp": icmp4 | icmp6,
        "icmp error": icmp4 & np.isin(head.icmp_type, ICMP_ERRORS),
        "icmp6 error": icmp6 & np.isin(head.icmp_type, ICMP6_ERRORS),
    }
    for name, chosen in kinds.items():
        (rows_of_kind,) = np.nonzero(chosen)
        for _, start, end in MASKED_FIELDS[name]:
            _scatter(mask, rows_of_kind, head.l4[rows_of_kind], start, end)
    if ports:
        (with_ports,) = np.nonzero(tcp | udp)
        for _, start, end in PORT_FIELDS:
            _scatter(mask, with_ports, head.l4[with_ports], start, end)
    _mask_tcp_timestamps(data, head, tcp, mask)
    return mask


def _mask_tcp_timestamps(data: Bytes, head: Headers, tcp: Bools, mask: Bools) -> None:
    """Walk the TCP options of all rows in step and mask the timestamps option's values (RFC 7323)."""
    (index,) = np.nonzero(tcp)
    if not index.size:
        return
    width = data.shape[1]
    l4 = head.l4[index]
    end = np.minimum(l4 + (data[index, np.minimum(l4 + 12, width - 1)] >> 4).astype(np.int64) * 4, width)
    at = l4 + 20
    alive = at < end
    while alive.any():  # each step moves at least one byte within at most 40 bytes of options
        here = np.minimum(at, width - 1)
        kind = data[index, here]
        length = np.where(kind <= 1, 1, np.maximum(data[index, np.minimum(here + 1, width - 1)].astype(np.int64), 2))
        found = alive & (kind == TCP_TIMESTAMPS)
        if found.any():
            _scatter(mask, index[found], at[found], 2, 10)
        alive &= kind != 0
        at = at + length
        alive &= at < end


def tokenize(data: Bytes, captured: Ints, head: Headers, *, ports: bool = True) -> Tokens:
    """Bytes to tokens: (n, width) uint16 below VOCABULARY, with place fields as MASK and everything past the packet's end as
    PAD."""
    tokens: Tokens = data.astype(np.uint16)
    tokens[place_mask(data, head, ports=ports)] = MASK
    tokens[np.arange(data.shape[1])[None, :] >= captured[:, None]] = PAD
    return tokens
