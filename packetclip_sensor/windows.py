"""Packets to streams and windows, judged at whole seconds of event time.

A stream is one view of the traffic (a host pair, all that a source starts, all that a destination receives); its window is its
last A packets not older than T seconds, and is judged at the end of each whole second in which the stream saw a packet. The state
between two batches is nothing but the packets that may still stand in a later window, as columns, and one array of row numbers
per view: a sort groups a batch by stream, so no work is done per packet in Python, and re-reading the last T seconds rebuilds it
exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from packetclip_sensor import tokens
from packetclip_sensor.metrics import Counters
from packetclip_sensor.records import Batch, FloatArray, Packet, Position
from packetclip_sensor.sources.logfile import log_of

VIEWS = ("pair", "source", "destination")

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

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
)
"""The relations of one token, in order; all scaled to about [-1, 1]. They hold on networks never seen, see docs/decisions.md."""


@dataclass(frozen=True, slots=True)
class Window:
    """How windows are cut: the bundle's manifest carries these, so that a sensor judges what was trained."""

    packets: int = 30
    """A, most packets in a window."""
    seconds: float = 60.0
    """T, oldest packet in a window."""
    min_packets: int = 4
    """Smaller windows are not judged: one to three packets are weak evidence, and other views see them too."""


@dataclass(slots=True)
class Columns:
    """Packets as columns in log order, each (n, ...)."""

    record: npt.NDArray[np.object_]
    ts: npt.NDArray[np.float64]
    second: Ints
    """The whole second in which the packet is judged: that of the latest packet read so far, so never falling."""
    uid: Ints
    """Hash of the uid; hashes are only ever compared."""
    orig_h: Ints
    resp_h: Ints
    resp_p: Ints
    is_orig: Bools
    n: Ints
    size_bytes: Ints
    data: npt.NDArray[np.uint8]
    captured: Ints
    version: Ints
    proto: Ints
    l4: Ints
    has_l4: Bools
    flags: Ints
    payload_bytes: Ints
    icmp_type: Ints

    def __len__(self) -> int:
        return len(self.ts)

    def take(self, chosen: Ints | slice) -> Columns:
        """The rows `chosen`, in that order."""
        return Columns(*(getattr(self, f.name)[chosen] for f in fields(self)))

    @staticmethod
    def join(parts: list[Columns]) -> Columns:
        """All rows of `parts`, one after the other."""
        return Columns(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Columns)))


def columns(packets: list[Packet], latest: int = 0, period_s: float = 1.0) -> Columns:
    """Turn records into columns; `latest` is the highest second (or period) seen before."""
    data, captured = tokens.rows([p.data for p in packets])
    size = np.array([p.size_bytes for p in packets], np.int64)
    head = tokens.headers(data, captured, size)
    ts = np.array([p.ts for p in packets], np.float64)
    record = np.empty(len(packets), np.object_)
    record[:] = packets
    return Columns(
        record=record,
        ts=ts,
        second=np.maximum.accumulate(np.maximum(np.floor(ts / period_s).astype(np.int64), latest))
        if len(ts)
        else ts.astype(np.int64),
        uid=np.array([hash(p.uid) for p in packets], np.int64),
        orig_h=np.array([hash(p.orig_h) for p in packets], np.int64),
        resp_h=np.array([hash(p.resp_h) for p in packets], np.int64),
        resp_p=np.array([p.resp_p for p in packets], np.int64),
        is_orig=np.array([p.is_orig for p in packets], np.bool_),
        n=np.array([p.n for p in packets], np.int64),
        size_bytes=size,
        data=data,
        captured=captured,
        version=head.version,
        proto=head.proto,
        l4=head.l4,
        has_l4=head.has_l4,
        flags=head.flags,
        payload_bytes=head.payload_bytes,
        icmp_type=head.icmp_type,
    )


@dataclass(frozen=True, slots=True)
class Windows:
    """W windows over one table of packets; also carries what the batch brought besides.

    `rows` is (W, A) row numbers into `table`, oldest first, -1 in front where a window is shorter than A. Windows stand in the
    order (second, view, last packet), whatever the batches were.
    """

    table: Columns
    rows: Ints
    view: Ints
    second: Ints
    batch: Batch
    judged: int
    """Every second up to this one is judged once these windows are."""
    resume: tuple[Position, ...]
    """Where a restart must begin to read to rebuild every later window."""


def view_keys(table: Columns) -> tuple[Ints, Ints, Ints]:
    """A key for each packet in each of VIEWS, (n,) each. The pair's key is the same in both directions."""
    return table.orig_h + table.resp_h, table.orig_h, table.resp_h


def cut(table: Columns, keys: Ints, held: Ints, new: Ints, window: Window) -> tuple[Ints, Ints, Ints]:
    """Cut one view's windows.

    Args:
        table: packets; keys: (n,) stream key of each.
        held: rows kept from before, ascending; new: rows to judge now, ascending and behind them.
    Returns:
        (W, A) rows of windows; (W,) the row that ends each; (H,) rows to hold for the next call, ascending.
    """
    rows = np.concatenate([held, new])
    if not rows.size:
        return np.empty((0, window.packets), np.int64), rows, rows
    order = np.argsort(keys[rows], kind="stable")
    rows = rows[order]
    key, second, ts = keys[rows], table.second[rows], table.ts[rows]
    m = len(rows)
    starts_key = np.r_[True, key[1:] != key[:-1]]
    ends_key = np.r_[starts_key[1:], True]
    first = np.maximum.accumulate(np.where(starts_key, np.arange(m), 0))
    last = np.minimum.accumulate(np.where(ends_key, np.arange(m), m)[::-1])[::-1]
    ends_second = ends_key | np.r_[second[1:] != second[:-1], True]
    (ends,) = np.nonzero(ends_second & (order >= len(held)))
    at = ends[:, None] + np.arange(1 - window.packets, 1)
    inside = at >= first[ends][:, None]
    inside &= ts[np.maximum(at, 0)] > ts[ends][:, None] - window.seconds
    enough = inside.sum(1) >= window.min_packets
    picked = np.where(inside, rows[np.maximum(at, 0)], -1)[enough]
    now = float(table.ts[rows].max())
    hold = (last - np.arange(m) < window.packets) & (ts > now - window.seconds)
    return picked, rows[ends[enough]], np.sort(rows[hold])


def windows(
    batches: Iterable[Batch],
    window: Window,
    counters: Counters,
    *,
    judged: int = 0,
    max_rows: int = 150_000,
    quiet_s: float = 1.5,
    clock: Callable[[], float] = time.monotonic,
    period_s: float = 1.0,
) -> Iterator[Windows]:
    """Group packets into windows and give out those of every second that is over.

    A second is over when a packet of a later one is read, when input has ended, or when no packet has come for `quiet_s` by
    `clock`; a packet that comes later still is judged in the next second, never lost.

    Args:
        judged: seconds up to this one were judged before a restart; they rebuild windows but are not given out again.
        max_rows: packets held at most; beyond it the oldest are let go and counted in `counters.evicted`.
        period_s: judge at the end of each period of this length. The sensor's second is the default; training cuts finer to
            see an attack at more of its moments, and `Windows.second` then counts periods.
    """
    table = columns([])
    held = [np.empty(0, np.int64) for _ in VIEWS]
    unjudged = latest = over = 0
    marks: list[tuple[int, tuple[Position, ...]]] = []
    last_packet = clock()
    for batch in batches:
        if batch.packets:
            fresh = columns(batch.packets, max(latest, over + 1), period_s)
            marks.append((latest, batch.start))
            counters.late_packets += int((np.floor(fresh.ts / period_s) < fresh.second).sum())
            latest, last_packet = int(fresh.second[-1]), clock()
            table = Columns.join([table, fresh])
            unjudged += len(fresh)
        quiet = batch.final or (batch.idle and clock() - last_packet >= quiet_s)
        over = max(over, latest if quiet else latest - 1)
        ready = np.arange(len(table) - unjudged, len(table))
        ready = ready[table.second[ready] <= over]
        rows, view, second = _cut_views(table, held, ready, window)
        unjudged -= len(ready)
        chosen = second > judged
        judged_to = max(over, judged)
        while len(marks) > 1 and marks[1][0] < judged_to - window.seconds:
            marks.pop(0)
        counters.windows += int(chosen.sum())
        resume = _resume(marks[0][1], batch.end) if marks else batch.end
        yield Windows(table, rows[chosen], view[chosen], second[chosen], batch, judged_to, resume)
        if len(ready):
            table, held = _compact(table, held, unjudged, max_rows, counters)


def _resume(packets_from: tuple[Position, ...], end: tuple[Position, ...]) -> tuple[Position, ...]:
    """Packets are read again to rebuild windows, flow rows are not: episodes have counted them already."""
    flows = [p for p in end if log_of(Path(p.path).name) == "flow"]
    return (*(p for p in packets_from if log_of(Path(p.path).name) != "flow"), *flows)


def _cut_views(table: Columns, held: list[Ints], ready: Ints, window: Window) -> tuple[Ints, Ints, Ints]:
    """Cut all views, renewing `held` in place: rows (W, A), view (W,) and second (W,), by second, view and last packet."""
    if not ready.size:
        return np.empty((0, window.packets), np.int64), ready, ready
    cuts = []
    for view, keys in enumerate(view_keys(table)):
        picked, ends, held[view] = cut(table, keys, held[view], ready, window)
        cuts.append((picked, ends, np.full(len(ends), view)))
    rows, ends, view_of = (np.concatenate(part) for part in zip(*cuts, strict=True))
    second = table.second[ends]
    order = np.lexsort((ends, view_of, second))
    return rows[order], view_of[order], second[order]


def _compact(table: Columns, held: list[Ints], unjudged: int, max_rows: int, counters: Counters) -> tuple[Columns, list[Ints]]:
    """Drop packets that no later window can hold, and renumber what each view holds."""
    keep = np.zeros(len(table), np.bool_)
    for rows in held:
        keep[rows] = True
    keep[len(table) - unjudged :] = True
    surplus = int(keep.sum()) - max_rows
    if surplus > 0:
        oldest = np.nonzero(keep[: len(table) - unjudged])[0][:surplus]
        keep[oldest] = False
        counters.evicted += len(oldest)
    if keep.all():
        return table, held
    number = np.cumsum(keep) - 1
    return table.take(np.nonzero(keep)[0]), [number[rows[keep[rows]]] for rows in held]


def relations(table: Columns, rows: Ints) -> FloatArray:
    """What each packet is within its window: (W, A) rows to (W, A, len(RELATIONS)) float32, zero on padding.

    New-within-window compares each packet with the earlier ones of the same window only, so the result depends on nothing else.
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
    log_gap = np.where(has_previous, (np.log10(gap + 1e-6) + 6.0) / 8.0, 0.0)
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
        proto == tokens.TCP,
        proto == tokens.UDP,
        icmp,
        np.isin(table.icmp_type[at], (8, 128)),
        np.log1p(n) / 5.0,
        n == 1,
        *new,
        *(np.cumsum(x, axis=1) / count for x in new),
        (np.log10(age + 1e-3) + 3.0) / 5.0,
        has_previous & (np.abs(log_gap - gap_before) < 0.02),
    ]
    out = np.empty((*rows.shape, len(RELATIONS)), np.float32)
    for i, feature in enumerate(features):
        out[:, :, i] = feature
    out[pad] = 0.0
    return out
