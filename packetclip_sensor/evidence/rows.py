"""A batch's windows as small rows: what evidence over minutes keeps of each.

A row says what a window's mission probabilities are, how its packets look on the average, and, beside the last A packets that
the window holds, what all packets of its stream in that second were: a flood has thousands of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from packetclip_sensor.records import FloatArray, Packet
from packetclip_sensor.windows.headers import Bools, Ints
from packetclip_sensor.windows.model_input import ModelInput
from packetclip_sensor.windows.packet_table import PacketColumns, one_way, view_keys
from packetclip_sensor.windows.windows import VIEWS

MOST_LOG_ODDS = 9.0
FIRST_PACKETS = 100
"""Every packet up to this one of a connection has a line; later lines stand for all packets since the one before."""
SECOND = ("packets", "sent", "bytes", "begun", "ports", "destinations", "sources", "skipped")
"""What the stream had in the second: packets, those of them that connections' originators sent, their bytes; connections begun,
distinct responder ports, responders and originators of these; connections that Zeek left out of the log."""
STREAM = ("connections", "volume")
"""Of the last T seconds: connections that the window remembers, and their packets."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rows:
    """W windows, in the order of `Windows`."""

    stream: list[tuple[int, str, str]]
    """Of each window its view and hosts, which are sorted for a pair, with "" for a side that the view leaves open. Answers that
    nobody asked for are a stream of their own, so the view is then that of VIEWS plus len(VIEWS)."""
    second: Ints
    log_odds: FloatArray
    """(W, missions), clipped to MOST_LOG_ODDS."""
    counts: FloatArray
    """(W, len(SECOND) + len(STREAM))"""
    looks: FloatArray
    """(W, R) mean relations of the window's packets."""
    begun: Floats
    """(W, 5): time of the second's first and last connection's beginning, NaN where none began; number, sum and sum of squares of
    the natural logarithms of the gaps between those of the second, seconds."""


def rows_of(given: ModelInput, probabilities: FloatArray) -> Rows:
    """The rows of a batch.

    Args:
        probabilities: (W, missions + 1), Benign first.
    """
    w, table = given.windows, given.windows.table
    p = probabilities[:, 1:].astype(np.float64).clip(1e-6, 1 - 1e-6)
    # Rounded, for the last bits of a probability depend on the windows that were judged with it, so on batches.
    log_odds = np.log(p / (1 - p)).clip(-MOST_LOG_ODDS, MOST_LOG_ODDS).round(2).astype(np.float32)
    real = given.rows >= 0
    looks = (given.relations.sum(1) / np.maximum(real.sum(1), 1)[:, None])[given.distinct]
    last = w.rows[:, -1]
    records = w.packets[np.searchsorted(w.fresh, last)]
    lone = one_way(table)
    stream = [_stream(int(v), r, bool(a)) for v, r, a in zip(w.view, records, lone[last], strict=True)]
    counts = np.zeros((len(last), len(SECOND) + len(STREAM)), np.float32)
    begun = np.full((len(last), 5), np.nan)
    begun[:, 2:] = 0.0
    if len(last):
        columns = table.take(w.fresh)
        weight = _weights(table, w.fresh)
        skipped = np.array([r.skipped for r in w.packets], np.float64)
        for view, keys in enumerate(view_keys(columns)):
            (mine,) = np.nonzero(w.view == view)
            if len(mine):
                ends = np.searchsorted(w.fresh, last[mine])
                use = np.ones(len(w.fresh), np.bool_) if VIEWS[view] == "destination" else ~lone[w.fresh]
                counts[mine, : len(SECOND)], begun[mine] = _second(columns, keys, weight, skipped, use, ends)
        past = w.past[:, 1]
        counts[:, len(SECOND)] = (past >= 0).sum(1)
        counts[:, len(SECOND) + 1] = np.where(past >= 0, table.n[past], 0).sum(1)
    return Rows(stream, w.second, log_odds, counts, looks, begun)


def _stream(view: int, last: Packet, lone: bool) -> tuple[int, str, str]:
    a, b = last.orig_h, last.resp_h
    if VIEWS[view] == "pair":
        return view, min(a, b), max(a, b)
    return (view, a, "") if VIEWS[view] == "source" else (view + len(VIEWS) * lone, "", b)


def _weights(table: PacketColumns, fresh: Ints) -> Floats:
    """(F,) packets that each line stands for."""
    n = table.n[fresh]
    weight = np.ones(len(fresh))
    late = n > FIRST_PACKETS
    if late.any():
        (known,) = np.nonzero(np.isin(table.uid, table.uid[fresh[late]]))
        order = known[np.lexsort((table.n[known], table.uid[known]))]
        before = np.zeros(len(table.n), np.int64)
        same = table.uid[order[1:]] == table.uid[order[:-1]]
        before[order[1:]] = np.where(same, table.n[order[:-1]], 0)
        since = before[fresh]
        weight[late] = np.where(since > 0, np.maximum(n - since, 1), 1)[late]
    return weight


def _second(t: PacketColumns, keys: Ints, weight: Floats, skipped: Floats, use: Bools, ends: Ints) -> tuple[Floats, Floats]:
    """Counts, (w, len(SECOND)), and beginnings, (w, 5), of the streams and seconds in which the packets `ends` stand."""
    order = np.lexsort((t.second, keys))
    starts = np.ones(len(order), np.bool_)
    starts[1:] = (keys[order][1:] != keys[order][:-1]) | (t.second[order][1:] != t.second[order][:-1])
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(starts) - 1
    groups = int(starts.sum())

    def total(values: Floats, chosen: Bools = use) -> Floats:
        out: Floats = np.bincount(group[chosen], values[chosen], groups).astype(np.float64)
        return out

    def distinct(values: Ints, chosen: Bools) -> Floats:
        _, number = np.unique(values, return_inverse=True)
        pairs = np.unique(group[chosen] * len(number) + number.ravel()[chosen])
        return np.bincount(pairs // len(number), minlength=groups).astype(np.float64)

    opens = use & (t.n == 1)
    one = np.ones(len(order))
    counts = np.stack(
        [
            total(weight),
            total(weight, use & t.is_orig),
            total(weight * t.size_bytes),
            total(one, opens),
            distinct(t.resp_p, opens),
            distinct(t.resp_h, opens),
            distinct(t.orig_h, opens),
            total(skipped),
        ],
        axis=1,
    )
    begun = np.full((groups, 5), np.nan)
    begun[:, 2:] = 0.0
    (at,) = np.nonzero(opens)
    at = at[np.lexsort((t.ts[at], group[at]))]
    if len(at):
        of, ts = group[at], t.ts[at]
        first = np.append(True, of[1:] != of[:-1])
        begun[of[first], 0] = ts[first]
        begun[of[np.append(first[1:], True)], 1] = ts[np.append(first[1:], True)]
        gaps = log_gap(np.diff(ts))[~first[1:]]
        inside = of[1:][~first[1:]]
        for column, values in enumerate((np.ones(len(gaps)), gaps, gaps**2), 2):
            begun[:, column] = np.bincount(inside, values, groups)
    mine = group[ends]
    return counts[mine], begun[mine]


def log_gap(seconds: Floats) -> Floats:
    """Natural logarithm of gaps, which are at least a millisecond: what is below says how busy a machine was."""
    return np.log(np.maximum(seconds, 1e-3))
