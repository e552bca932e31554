"""What a model loses when a group of fields is hidden from it at test time: bytes of the headers, or relations.

Ports, addresses, ids, checksums, sequence numbers and timestamps never reach a model (`packetclip_sensor.windows.tokens`), so
they cannot be hidden here. A field that stands both in the bytes and in the relations is hidden in both under "flags everywhere"
and "sizes everywhere"; hiding it in one alone asks how much the other carries.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from packetclip_sensor.windows import headers
from packetclip_sensor.windows import tokens as fields
from packetclip_sensor.windows.packet_features import HISTORY, RELATIONS
from training.data.windows import Examples

Tokens = npt.NDArray[np.uint16]

RELATION_GROUPS: dict[str, tuple[str, ...]] = {
    "relations: direction": ("is_orig",),
    "relations: sizes": ("log_size", "log_payload", "new_size", "share_sizes"),
    "relations: times": ("log_gap", "log_age", "same_gap"),
    "relations: flags": ("fin", "syn", "rst", "psh", "ack", "urg"),
    "relations: protocol": ("tcp", "udp", "icmp", "icmp_echo"),
    "relations: place in connection": ("log_n", "first_of_connection"),
    "relations: new and distinct ports, hosts, connections": (
        "new_connection", "new_resp_p", "new_resp_h", "new_orig_h",
        "share_connections", "share_resp_p", "share_resp_h", "share_orig_h",
    ),
    "relations: history": HISTORY,
}  # fmt: skip

BYTE_GROUPS = (
    "bytes: hop limit", "bytes: lengths", "bytes: TCP flags", "bytes: TCP window", "bytes: TCP options",
    "bytes: fragment fields", "bytes: payload", "bytes: all",
)  # fmt: skip

GROUPS = (*BYTE_GROUPS, *RELATION_GROUPS, "relations: all", "flags everywhere", "sizes everywhere")


def hide(examples: Examples, group: str) -> Examples:
    """The same windows with one group of fields hidden: bytes masked, relations zero.

    Raises:
        KeyError: not one of GROUPS.
    """
    if group == "flags everywhere":
        return hide(hide(examples, "bytes: TCP flags"), "relations: flags")
    if group == "sizes everywhere":
        return hide(hide(examples, "bytes: lengths"), "relations: sizes")
    if group in BYTE_GROUPS:
        return replace(examples, tokens=hide_bytes(examples.tokens, group))
    names = RELATIONS if group == "relations: all" else RELATION_GROUPS[group]
    relations = examples.relations.clone()
    relations[:, :, [RELATIONS.index(name) for name in names]] = 0.0
    return replace(examples, relations=relations)


def hide_bytes(rows: Tokens, group: str) -> Tokens:
    """(U, W) tokens with the group's bytes as MASK; padding stays padding."""
    captured = (rows != fields.PAD).sum(1).astype(np.int64)
    data = np.where(rows < fields.PAD, rows, 0).astype(np.uint8)
    head = headers.parse(data, captured, captured)
    at = np.arange(rows.shape[1])[None, :]
    tcp, udp = head.has_l4 & (head.proto == headers.TCP), head.has_l4 & (head.proto == headers.UDP)
    v4, v6 = (head.version == 4)[:, None], (head.version == 6)[:, None]
    tcp_end = head.l4 + np.maximum(head.l4_bytes, 20).astype(np.int64)
    end = np.where(tcp, tcp_end, head.l4 + 8)

    def span(chosen: npt.NDArray[np.bool_], start: int, stop: int) -> npt.NDArray[np.bool_]:
        return chosen[:, None] & (at >= head.l4[:, None] + start) & (at < head.l4[:, None] + stop)

    def ip(first: tuple[int, int], second: tuple[int, int]) -> npt.NDArray[np.bool_]:
        return (v4 & (at >= first[0]) & (at < first[1])) | (v6 & (at >= second[0]) & (at < second[1]))

    chosen = {
        "bytes: hop limit": lambda: ip((8, 9), (7, 8)),
        "bytes: lengths": lambda: ip((2, 4), (4, 6)) | span(udp, 4, 6),
        "bytes: TCP flags": lambda: span(tcp, 13, 14),
        "bytes: TCP window": lambda: span(tcp, 14, 16),
        "bytes: TCP options": lambda: span(tcp, 20, 60) & (at < tcp_end[:, None]),
        "bytes: fragment fields": lambda: ip((6, 8), (0, 0)),
        "bytes: payload": lambda: head.has_l4[:, None] & (at >= end[:, None]),
        "bytes: all": lambda: np.ones(rows.shape, bool),
    }[group]()
    return np.where(chosen & (rows != fields.PAD), np.uint16(fields.MASK), rows)
