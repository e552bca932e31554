"""What a packet is within its window, as numbers that hold on networks never seen: the part of a token that is not bytes.

Sizes, gaps, flags and what is new within the window come from the window's own packets. History comes from the stream's last
connections within T seconds, of which most began before the window's oldest packet: a window of 30 packets sees one log-in over
SSH, its history sees sixty.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from packetclip_sensor.records import FloatArray
from packetclip_sensor.windows.headers import TCP, UDP, Bools, Ints
from packetclip_sensor.windows.packet_table import PacketColumns

HISTORY = (
    "history_connections",
    "history_resp_p",
    "history_resp_h",
    "history_orig_h",
    "history_log_age",
    "history_log_n",
    "history_log_n_spread",
    "history_one_packet_share",
    "history_log_gap",
    "history_log_gap_spread",
    "history_same_port_share",
    "history_log_duration",
)
"""How many connections (at most C), to how many ports and hosts and from how many, since when; packets of a connection so far (at
most N are logged), their spread, connections of one packet; time between beginnings and its spread; share of the latest's port;
age of a connection at its latest packet."""

RELATIONS = (
    "is_orig",
    "log_size",
    "log_payload",
    "log_gap",
    "fin",
    "syn",
    "rst",
    "psh",
    "ack",
    "urg",
    "tcp",
    "udp",
    "icmp",
    "icmp_echo",
    "log_n",
    "first_of_connection",
    "new_connection",
    "new_resp_p",
    "new_resp_h",
    "new_orig_h",
    "new_size",
    "share_connections",
    "share_resp_p",
    "share_resp_h",
    "share_orig_h",
    "share_sizes",
    "log_age",
    "same_gap",
    *HISTORY,
)
"""The relations of one token, in order; all scaled to about [-1, 1]. They hold on networks never seen, see docs/decisions.md."""

Floats = npt.NDArray[np.float64]


def relations(table: PacketColumns, rows: Ints, past: Ints) -> FloatArray:
    """What each packet is within its window, and what the window's stream did before: float32, zero on padding.

    New-within-window compares each packet with the earlier ones of the same window only; history stands at every packet alike.

    Args:
        table: packets. rows, past: (W, A) and (W, 2, C) as in `windows.Windows`.
    Returns:
        (W, A, len(RELATIONS)).
    """
    pad = rows < 0
    at = np.where(pad, 0, rows)
    count = np.maximum(np.cumsum(~pad, axis=1), 1).astype(np.float32)
    earlier = np.tril(np.ones((rows.shape[1], rows.shape[1]), np.bool_), -1)[None]
    earlier = earlier & ~pad[:, None, :]

    def unseen(values: Ints) -> Bools:
        """(W, A): True where no earlier packet of the window has this value."""
        field = values[at]
        seen: Bools = ((field[:, :, None] == field[:, None, :]) & earlier).any(2)
        return ~seen & ~pad

    ts = np.where(pad, np.inf, table.ts[at])
    previous = np.concatenate([np.full((len(rows), 1), np.inf), ts[:, :-1]], axis=1)
    has_previous = np.isfinite(previous) & ~pad
    gap = np.where(has_previous, np.maximum(np.where(pad, 0.0, ts) - np.where(has_previous, previous, 0.0), 0.0), 0.0)
    start = np.where(pad, np.inf, ts).min(1, initial=np.inf)
    age = np.where(pad, 0.0, np.maximum(np.where(pad, 0.0, ts) - np.where(np.isfinite(start), start, 0.0)[:, None], 0.0))
    log_gap = np.where(has_previous, _decades(gap, 1e-6, 8.0), 0.0)
    gap_before = np.concatenate([np.zeros((len(rows), 1)), log_gap[:, :-1]], axis=1)
    proto, flags, n = table.proto[at], table.flags[at], table.n[at]
    icmp = table.icmp_type[at] >= 0
    new = [unseen(v) for v in (table.uid, table.resp_p, table.resp_h, table.orig_h, table.size_bytes)]
    features = [
        np.where(table.is_orig[at], 1.0, -1.0),
        np.log1p(table.size_bytes[at]) / 8.0,
        np.log1p(table.payload_bytes[at]) / 8.0,
        log_gap,
        *((flags >> bit) & 1 for bit in range(6)),
        proto == TCP,
        proto == UDP,
        icmp,
        np.isin(table.icmp_type[at], (8, 128)),
        np.log1p(n) / 5.0,
        n == 1,
        *new,
        *(np.cumsum(x, axis=1) / count for x in new),
        _decades(age, 1e-3, 5.0),
        has_previous & (np.abs(log_gap - gap_before) < 0.02),
    ]
    before = history(table, past, rows[:, -1])
    out = np.empty((*rows.shape, len(RELATIONS)), np.float32)
    for i, feature in enumerate(features):
        out[:, :, i] = feature
    out[:, :, len(features) :] = before[:, None, :]
    out[pad] = 0.0
    return out


def history(table: PacketColumns, past: Ints, ends: Ints) -> FloatArray:
    """What a stream's last connections were like.

    Args:
        past: (W, 2, C) rows of first and latest packets, -1 where there is none. ends: (W,) each window's last row.
    Returns:
        (W, len(HISTORY)) float32, scaled to about [0, 1]; zeros where no connection began within T seconds.
    """
    held = past[:, 0] >= 0
    first, latest = np.where(held[:, None], past, 0).transpose(1, 0, 2)
    count = held.sum(1)
    begun = table.ts[first]
    follows = np.zeros_like(held)
    follows[:, 1:] = held[:, 1:] & held[:, :-1]
    gap = np.zeros_like(begun)
    gap[:, 1:] = np.maximum(begun[:, 1:] - begun[:, :-1], 0.0)

    def mean(x: Floats, among: Bools = held) -> Floats:
        out: Floats = np.where(among, x, 0.0).sum(1) / np.maximum(among.sum(1), 1)
        return out

    def spread(x: Floats, among: Bools = held) -> Floats:
        out: Floats = np.sqrt(mean((x - mean(x, among)[:, None]) ** 2, among))
        return out

    def distinct(values: Ints) -> Floats:
        x = np.sort(np.where(held, values[first], np.iinfo(np.int64).max), axis=1)
        new = np.diff(x, axis=1, prepend=np.iinfo(np.int64).min) != 0
        out: Floats = np.log1p((new & (x != np.iinfo(np.int64).max)).sum(1)) / 5.0
        return out

    log_n, log_gap = np.log1p(table.n[latest]) / 5.0, _decades(gap, 1e-6, 8.0)
    since = np.maximum(table.ts[ends] - np.where(held, begun, np.inf).min(1, initial=np.inf), 0.0)
    port = table.resp_p[first]
    newest = held.shape[1] - 1 - held[:, ::-1].argmax(1)  # packets out of order leave a hole at the end
    features = [
        np.log1p(count) / 5.0,
        *(distinct(v) for v in (table.resp_p, table.resp_h, table.orig_h)),
        np.where(count > 0, _decades(np.where(count > 0, since, 0.0), 1e-3, 5.0), 0.0),
        mean(log_n),
        spread(log_n),
        mean(table.n[latest] == 1),
        mean(log_gap, follows),
        spread(log_gap, follows),
        mean(port == port[np.arange(len(port)), newest][:, None]),
        mean(_decades(np.maximum(table.ts[latest] - begun, 0.0), 1e-3, 5.0)),
    ]
    return np.stack(features, axis=1).astype(np.float32)


def _decades(seconds: Floats, least: float, span: float) -> Floats:
    """Logarithm of seconds, 0 at `least` and 1 at `span` decades more."""
    out: Floats = (np.log10(seconds + least) - np.log10(least)) / span
    return out
