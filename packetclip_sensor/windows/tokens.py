"""Packet bytes to model input. Training uses this same file, so what is trained is what runs.

A token is a byte from the IP header on, or PAD past the packet's end, or MASK where a field names a place instead of a behaviour:
addresses, ids, checksums, sequence numbers, timestamps and ports. Because of the masks the packets of a flood are
equal, and each distinct row is encoded once. Everything here works on whole batches; a truncated or malformed packet is padded,
never an exception.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from packetclip_sensor.windows.headers import TCP, UDP, Bools, Headers, Ints

PAD = 256
MASK = 257
VOCABULARY = 258
ROW_BYTES = 128

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
    "ports": (("ports", 0, 4),),
}
ICMP_ERRORS = (3, 4, 5, 11, 12)
ICMP6_ERRORS = (1, 2, 3, 4)
TCP_TIMESTAMPS = 8

Tokens = npt.NDArray[np.uint16]


def _scatter(mask: Bools, rows: Ints, at: Ints, start: int, end: int) -> None:
    """Set mask[row, offset + start : offset + end] for every row of `rows` and its offset in `at`, (n,) each."""
    columns = at[:, None] + np.arange(start, end)
    keep = columns < mask.shape[1]
    mask[np.broadcast_to(rows[:, None], columns.shape)[keep], columns[keep]] = True


def place_mask(head: Headers) -> Bools:
    """(n, width) True where a byte names a place and must not reach the model."""
    mask = np.zeros(head.data.shape, np.bool_)
    for version, name in ((4, "ipv4"), (6, "ipv6")):
        chosen = head.version == version
        for _, start, end in MASKED_FIELDS[name]:
            mask[chosen, start:end] = True
    icmp4, icmp6 = ((head.icmp_type >= 0) & (head.version == version) for version in (4, 6))
    tcp, udp = head.has_l4 & (head.proto == TCP), head.has_l4 & (head.proto == UDP)
    kinds = {
        "tcp": tcp,
        "udp": udp,
        "icmp": icmp4 | icmp6,
        "icmp error": icmp4 & np.isin(head.icmp_type, ICMP_ERRORS),
        "icmp6 error": icmp6 & np.isin(head.icmp_type, ICMP6_ERRORS),
        "ports": tcp | udp,
    }
    for name, chosen in kinds.items():
        (rows_of_kind,) = np.nonzero(chosen)
        for _, start, end in MASKED_FIELDS[name]:
            _scatter(mask, rows_of_kind, head.l4[rows_of_kind], start, end)
    _mask_tcp_timestamps(head, tcp, mask)
    return mask


def _mask_tcp_timestamps(head: Headers, tcp: Bools, mask: Bools) -> None:
    """Walk the TCP options of all rows in step and mask the timestamps option's values (RFC 7323)."""
    (index,) = np.nonzero(tcp & (head.l4_bytes > 20))
    data, width = head.data, head.data.shape[1]
    at = head.l4[index].astype(np.int64) + 20
    end = np.minimum(at - 20 + head.l4_bytes[index], width)
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


def tokenize(head: Headers) -> Tokens:
    """Bytes to tokens: (n, width) uint16 below VOCABULARY, with place fields as MASK and everything past the packet's end as
    PAD."""
    tokens: Tokens = head.data.astype(np.uint16)
    tokens[place_mask(head)] = MASK
    tokens[np.arange(tokens.shape[1])[None, :] >= head.captured[:, None]] = PAD
    return tokens
