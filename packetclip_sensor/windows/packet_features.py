"""Windows to model input: the tokens of each packet once, the relations of each distinct window once, and what streams had in
a second.

Relations are what a packet is within its window, as numbers that hold on networks never seen: the part of a token that is not
bytes. Sizes, gaps, flags and what is new within the window come from the window's own packets. History comes from the stream's
last connections within T seconds, of which most began before the window's oldest packet: a window of 30 packets sees one log-in
over SSH, its history sees sixty. Everything that the model and evidence have to know of a batch is made here in one step, so that
they need only these arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from packetclip_sensor.records import FloatArray, Packet
from packetclip_sensor.windows import tokens
from packetclip_sensor.windows.headers import TCP, UDP, Bools, Ints
from packetclip_sensor.windows.packet_table import PacketColumns, one_way, view_keys
from packetclip_sensor.windows.windows import VIEWS, Windows

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

SECOND = ("packets", "sent", "bytes", "begun", "ports", "destinations", "sources", "skipped")
"""What a stream had in a second: packets, those of them that connections' originators sent, their bytes; connections begun,
distinct responder ports, responders and originators of these; connections that Zeek left out of the log."""
STREAM = ("connections", "volume")
"""Of the last T seconds: connections that the window remembers, and their packets."""
FIRST_PACKETS = 100
"""Every packet up to this one of a connection has a line; later lines stand for all packets since the one before."""
LEAST_GAP_S = 1e-3
"""Between beginnings of connections: what is below says how busy a machine was."""
RELATED_WINDOWS = 128
"""Windows whose relations are made at a time: their comparisons of all packets with all stay in the processor's cache."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StreamSeconds:
    """What the streams of W windows had in the windows' seconds, beside the last A packets that each window holds: a flood has
    thousands of them."""

    stream: list[tuple[int, str, str]]
    """Of each window its view and hosts, which are sorted for a pair, with "" for a side that the view leaves open. Answers that
    nobody asked for are a stream of their own, so the view is then that of VIEWS plus len(VIEWS)."""
    counts: FloatArray
    """(W, len(SECOND) + len(STREAM))"""
    rate: Floats
    """(W,) packets a second: as the first of SECOND, but of packets without a line only the share that came in this second, if
    they came evenly."""
    begun: Floats
    """(W, 5): time of the second's first and last connection's beginning, NaN where none began; number, sum and sum of squares of
    the natural logarithms of the gaps between those of the second, seconds."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """The V distinct windows of a batch's W windows, and the P packets that stand in them.

    Views that hold the same packets and began the same connections are one window.
    """

    windows: Windows
    distinct: Ints
    """(W,) which of the V windows each window is."""
    rows: Ints
    """(V, A) numbers of the rows of `tokens`, oldest packet first, -1 in front where a window is shorter than A."""
    tokens: npt.NDArray[np.uint16]
    """(P, ROW_BYTES)"""
    relations: FloatArray
    """(V, A, R), zero on padding."""
    streams: StreamSeconds


def model_input(windows: Windows) -> ModelInput:
    """The model input of a batch of windows."""
    table, both = windows.table, np.hstack([windows.rows, windows.past[:, 0]])
    _, first, distinct = np.unique(both, axis=0, return_index=True, return_inverse=True)
    rows, past = windows.rows[first], windows.past[first]
    used = np.unique(rows[rows >= 0])
    related = np.empty((*rows.shape, len(RELATIONS)), np.float32)
    for start in range(0, len(rows), RELATED_WINDOWS):
        some = slice(start, start + RELATED_WINDOWS)
        related[some] = relations(table, rows[some], past[some])
    toks, places = tokens.tokenize(table.take(used)), np.where(rows < 0, -1, np.searchsorted(used, rows))
    return ModelInput(windows, distinct.ravel(), places, toks, related, stream_seconds(windows))


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


def stream_seconds(w: Windows) -> StreamSeconds:
    """What the streams of windows had in the windows' seconds."""
    last, past = w.rows[:, -1], w.past[:, 1]
    counts, rate = np.zeros((len(last), len(SECOND) + len(STREAM)), np.float32), np.zeros(len(last))
    begun = np.zeros((len(last), 5))
    if not len(last):
        return StreamSeconds([], counts, rate, begun)
    fresh, ends = w.table.take(w.fresh), np.searchsorted(w.fresh, last)
    (weight, within), lone = _weights(w.table, w.fresh), one_way(fresh)
    skipped = np.array([r.skipped for r in w.packets], np.float64)
    for view, keys in enumerate(view_keys(fresh)):
        (mine,) = np.nonzero(w.view == view)
        if len(mine):
            use = np.ones(len(lone), np.bool_) if VIEWS[view] == "destination" else ~lone
            found = _seconds(fresh, keys, weight, within, skipped, use, ends[mine])
            counts[mine, : len(SECOND)], rate[mine], begun[mine] = found
    counts[:, len(SECOND)] = (past >= 0).sum(1)
    counts[:, len(SECOND) + 1] = np.where(past >= 0, w.table.n[past], 0).sum(1)
    stream = [_stream(*each) for each in zip(w.view.tolist(), w.packets[ends], lone[ends].tolist(), strict=True)]
    return StreamSeconds(stream, counts, rate, begun)


def _stream(view: int, last: Packet, lone: bool) -> tuple[int, str, str]:
    a, b = last.orig_h, last.resp_h
    if VIEWS[view] == "pair":
        return view, min(a, b), max(a, b)
    return (view, a, "") if VIEWS[view] == "source" else (view + len(VIEWS) * lone, "", b)


def _weights(table: PacketColumns, fresh: Ints) -> tuple[Floats, Floats]:
    """(F,) packets that each line stands for, and (F,) how many of them came in the line's own second, if they came evenly."""
    n = table.n[fresh]
    weight, within = np.ones((2, len(fresh)))
    late = n > FIRST_PACKETS
    if late.any():
        (known,) = np.nonzero(np.isin(table.uid, table.uid[fresh[late]]))
        order = known[np.lexsort((table.n[known], table.uid[known]))]
        before = np.arange(len(table.n))
        same = table.uid[order[1:]] == table.uid[order[:-1]]
        before[order[1:][same]] = order[:-1][same]
        since = before[fresh[late]]
        weight[late] = np.maximum(n[late] - table.n[since], 1)
        ts, lasting = table.ts[fresh[late]], np.maximum(table.ts[fresh[late]] - table.ts[since], 1e-6)
        within[late] = np.maximum(weight[late] * np.minimum((ts - np.floor(ts)) / lasting, 1.0), 1.0)
    return weight, within


def _seconds(
    t: PacketColumns, keys: Ints, weight: Floats, within: Floats, skipped: Floats, use: Bools, ends: Ints
) -> tuple[Floats, Floats, Floats]:
    """Counts, (w, len(SECOND)), packets a second, (w,), and beginnings, (w, 5), of the streams and seconds in which the packets
    `ends` stand."""
    order = np.lexsort((t.second, keys))
    starts = np.ones(len(order), np.bool_)
    starts[1:] = (np.diff(keys[order]) != 0) | (np.diff(t.second[order]) != 0)
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(starts) - 1
    groups = int(starts.sum())
    (at,) = np.nonzero(use & t.opens)
    at = at[np.lexsort((t.ts[at], group[at]))]
    of, ts = group[at], t.ts[at]

    def total(values: Floats, chosen: Bools = use) -> Floats:
        out: Floats = np.bincount(group[chosen], values[chosen], groups).astype(np.float64)
        return out

    def distinct(values: Ints) -> Ints:
        """Of the connections begun."""
        by = np.lexsort((values[at], of))
        new = np.ones(len(by), np.bool_)
        new[1:] = (np.diff(values[at][by]) != 0) | (np.diff(of[by]) != 0)
        return np.bincount(of[by][new], minlength=groups)

    counts = np.stack(
        [
            total(weight),
            total(weight, use & t.is_orig),
            total(weight * t.size_bytes),
            np.bincount(of, minlength=groups),
            distinct(t.resp_p),
            distinct(t.resp_h),
            distinct(t.orig_h),
            total(skipped),
        ],
        axis=1,
    )
    begun = np.zeros((groups, 5))
    begun[:, :2] = np.nan
    if len(at):
        same = of[1:] == of[:-1]
        begun[of[np.append(True, ~same)], 0] = ts[np.append(True, ~same)]
        begun[of[np.append(~same, True)], 1] = ts[np.append(~same, True)]
        gaps = np.log(np.maximum(np.diff(ts)[same], LEAST_GAP_S))
        for column, values in enumerate((np.ones(len(gaps)), gaps, gaps**2), 2):
            begun[:, column] = np.bincount(of[1:][same], values, groups)
    mine = group[ends]
    return counts[mine], total(within)[mine], begun[mine]
