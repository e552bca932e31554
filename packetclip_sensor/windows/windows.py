"""Packets to streams and windows, judged at whole seconds of event time.

A stream is one view of the traffic (a host pair, all that a source starts, all that a destination receives); its window is its
last A packets not older than T seconds, and is judged at the end of each whole second in which the stream saw a packet. The state
between two batches is nothing but the packets that may still stand in a later window, as columns, and one array of row numbers
per view: a sort groups a batch by stream, so no work is done per packet in Python, and re-reading the last T seconds rebuilds it
exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Batch, Position, log_of
from packetclip_sensor.windows.headers import Bools, Ints
from packetclip_sensor.windows.packet_table import PacketColumns, PacketTable

VIEWS = ("pair", "source", "destination")
DENSE = 0.9
"""Part of the rows that a later window needs, above which those that none needs may stay among them for a while."""


@dataclass(frozen=True, slots=True)
class Window:
    """How windows are cut. These are the defaults for training; a sensor takes those of its bundle's manifest."""

    packets: int = 30
    """A, most packets in a window."""
    seconds: float = 60.0
    """T, oldest packet in a window."""
    min_packets: int = 4
    """Smaller windows are not judged: one to three packets are weak evidence, and other views see them too."""
    connections: int = 64
    """C, most connections of the last T seconds that a window remembers beyond its packets."""


@dataclass(frozen=True, slots=True)
class Windows:
    """W windows over one table of packets; also carries what the batch brought besides.

    `rows` is (W, A) row numbers into `table`, oldest first, -1 in front where a window is shorter than A. Windows stand in the
    order (second, view, last packet), whatever the batches were.
    """

    table: PacketColumns
    rows: Ints
    past: Ints
    """(W, 2, C) the stream's last C connections of T seconds: rows of each one's first packet and of its latest; -1 in front."""
    view: Ints
    second: Ints
    batch: Batch
    judged: int
    """Every second up to this one is judged once these windows are."""
    resume: tuple[Position, ...]
    """Where a restart must begin to read to rebuild every later window, of every source."""
    judged_by: dict[str, int]
    """`judged` of every source."""
    fresh: Ints
    """Rows of the packets whose second is judged now, in log order: each packet once, over restarts too."""


def view_keys(table: PacketColumns) -> tuple[Ints, Ints, Ints]:
    """A key for each packet in each of VIEWS, (n,) each. The pair's key is the same in both directions; what comes to a destination
    unasked is a stream of its own there, and stands in no other view."""
    return table.orig_h + table.resp_h, table.orig_h, np.where(table.unasked, ~table.resp_h, table.resp_h)


def cut(table: PacketColumns, keys: Ints, held: Ints, new: Ints, window: Window) -> tuple[Ints, Ints, Ints, Ints]:
    """Cut one view's windows.

    Args:
        table: packets; keys: (n,) stream key of each.
        held: rows kept from before, ascending; new: rows to judge now, ascending and behind them.
    Returns:
        rows (W, A) and past (W, 2, C) as in `Windows`; (W,) the row that ends each window; (H,) rows that a later window may
        need, ascending.
    """
    rows = np.concatenate([held, new])
    if not len(rows):
        return np.empty((0, window.packets), np.int64), np.empty((0, 2, window.connections), np.int64), rows, rows
    order = np.argsort(keys[rows], kind="stable")
    rows = rows[order]
    key, second, ts = keys[rows], table.second[rows], table.ts[rows]
    m = len(rows)
    place = np.arange(m)
    starts_key = np.r_[True, key[1:] != key[:-1]]
    ends_key = np.r_[starts_key[1:], True]
    first = np.maximum.accumulate(np.where(starts_key, place, 0))
    last = np.minimum.accumulate(np.where(ends_key, place, m)[::-1])[::-1]
    ends_second = ends_key | np.r_[second[1:] != second[:-1], True]
    (ends,) = np.nonzero(ends_second & (order >= len(held)))
    at = ends[:, None] + np.arange(1 - window.packets, 1)
    inside = at >= first[ends][:, None]
    inside &= ts[np.maximum(at, 0)] > ts[ends][:, None] - window.seconds
    enough = inside.sum(1) >= window.min_packets
    ends, at, inside = ends[enough], at[enough], inside[enough]

    opens = table.n[rows] == 1
    (opened,) = np.nonzero(opens)
    count = np.cumsum(opens)
    which = count[ends][:, None] + np.arange(-window.connections, 0)
    begun = np.append(opened, 0)[np.maximum(which, 0)]
    known = (which >= 0) & (begun >= first[ends][:, None]) & (ts[begun] > ts[ends][:, None] - window.seconds)
    latest = Latest(table.uid[rows])
    past = np.where(known[:, None, :], np.stack([rows[begun], rows[latest(begun, ends[:, None])]], axis=1), -1)

    recent = ts > float(ts.max()) - window.seconds
    remembered = opens & recent & (count[last] - count < window.connections)
    hold = ((last - place < window.packets) & recent) | remembered | latest.of(remembered)
    return np.where(inside, rows[np.maximum(at, 0)], -1), past, rows[ends], np.sort(rows[hold])


class Latest:
    """Finds the latest packet of a connection up to a place, for m packets in the order of time within each connection."""

    def __init__(self, uid: Ints) -> None:
        self._m = len(uid)
        _, self._uid = np.unique(uid, return_inverse=True)
        self._sorted = np.sort(self._uid * self._m + np.arange(self._m))

    def __call__(self, packet: Ints, upto: Ints) -> Ints:
        """Places of the latest packet at or before `upto` of the connections that the packets at `packet` belong to."""
        found = np.searchsorted(self._sorted, self._uid[packet] * self._m + upto, side="right") - 1
        return self._sorted[np.maximum(found, 0)] % self._m

    def of(self, chosen: Bools) -> Bools:
        """(m,) True at the very last packet of each connection that has a packet in `chosen`, (m,)."""
        wanted = np.zeros(int(self._uid.max()) + 1, np.bool_)
        wanted[self._uid[chosen]] = True
        owner = self._sorted // self._m
        out = np.zeros(self._m, np.bool_)
        out[self._sorted[np.r_[owner[1:] != owner[:-1], True]] % self._m] = True
        return out & wanted[self._uid]


class WindowCutter:
    """Groups packets of one source into windows and gives out those of every second that is over, a batch at a time.

    A second is over when a packet of a later one is read, when input is quiet or has ended, or when more packets wait for its
    end than may be held; a packet that comes later still is judged in the next second, never lost. What comes behind a final
    batch begins anew, at whatever time.
    """

    def __init__(
        self,
        window: Window,
        counters: Counters,
        *,
        judged: int = 0,
        max_rows: int = 150_000,
        period_s: float = 1.0,
        before_s: float = 0.0,
    ) -> None:
        """Args:
        judged: seconds up to this one were judged before a restart; they rebuild windows but are not given out again.
        before_s: how far before a window's packets, in seconds, a restart must begin to read for what earlier stages remember.
        max_rows: packets held at most; beyond it those of the host pairs longest without a packet are let go
            and counted in `counters.evicted`.
        period_s: judge at the end of each period of this length. The sensor's second is the default; training cuts finer to
            see an attack at more of its moments, and `Windows.second` then counts periods.
        """
        self._window, self._counters, self._period_s = window, counters, period_s
        self.max_rows, self._resume_s = max_rows, window.seconds + before_s
        self._begin(judged)

    def _begin(self, judged: int) -> None:
        self._packets = PacketTable()
        self._held = [np.empty(0, np.int64) for _ in VIEWS]
        self._judged = judged
        self._unjudged = self._latest = self._over = 0
        self._marks: list[tuple[int, tuple[Position, ...]]] = []

    def __call__(self, batch: Batch) -> Windows:
        """The windows of the seconds that this batch ends."""
        self._take(batch)
        crowded = self._unjudged > self.max_rows
        self._counters.seconds_split += crowded
        over = batch.final or batch.quiet or crowded
        self._over = max(self._over, self._latest if over else self._latest - 1)
        table = self._packets.table
        ready = np.arange(len(table) - self._unjudged, len(table))
        ready = ready[table.second[ready] <= self._over]
        rows, past, view, second = _cut_views(table, self._held, ready, self._window)
        self._unjudged -= len(ready)
        chosen = second > self._judged
        judged_to = max(self._over, self._judged)
        while len(self._marks) > 1 and self._marks[1][0] < judged_to - self._resume_s:
            self._marks.pop(0)
        self._counters.windows += int(chosen.sum())
        resume = _resume(self._marks[0][1], batch.end) if self._marks else batch.end
        fresh = ready[table.second[ready] > self._judged]
        judged_by = {batch.source: judged_to}
        out = Windows(table, rows[chosen], past[chosen], view[chosen], second[chosen], batch, judged_to, resume, judged_by, fresh)
        if len(ready):
            self._held = _compact(self._packets, self._held, ready, self.max_rows, self._counters)
        if batch.final:
            self._begin(0)
        return out

    def _take(self, batch: Batch) -> None:
        if not batch.packets:
            return
        fresh = PacketColumns.of(batch.packets, max(self._latest, self._over + 1), self._period_s)
        self._marks.append((self._latest, batch.start))
        self._counters.late_packets += int((np.floor(fresh.ts / self._period_s) < fresh.second).sum())
        self._latest = int(fresh.second[-1])
        self._packets.append(fresh)
        self._unjudged += len(fresh)


class WindowCutters:
    """A `WindowCutter` for each source: what they hold together is bounded, and each window says where all of them stand."""

    def __init__(
        self,
        window: Window,
        counters: Counters,
        *,
        judged: int = 0,
        judged_by: Mapping[str, int] = MappingProxyType({}),
        max_rows: int = 150_000,
        before_s: float = 0.0,
    ) -> None:
        """Args:
        judged, judged_by: see `checkpoint.State`. max_rows: packets held at most, of all sources. before_s: as `WindowCutter`.
        """
        self._window, self._counters, self._max_rows = window, counters, max_rows
        self._before, self._before_by, self._before_s = judged, judged_by, before_s
        self._cutters: dict[str, WindowCutter] = {}
        self._rows: dict[str, int] = {}
        self._resume: dict[str, tuple[Position, ...]] = {}
        self._judged = dict(judged_by)

    @property
    def held(self) -> int:
        """Packets held now."""
        return sum(self._rows.values())

    def __call__(self, batch: Batch) -> Windows:
        """The windows of the seconds of its source that this batch ends."""
        source = batch.source
        if (cut := self._cutters.get(source)) is None:
            known = bool(batch.start) or not self._before_by  # by another name, or a state saved before there were sources
            judged = self._before_by.get(source, self._before if known else 0)
            cut = self._cutters[source] = WindowCutter(self._window, self._counters, judged=judged, before_s=self._before_s)
        others = sum(rows for name, rows in self._rows.items() if name != source)
        cut.max_rows = max(self._max_rows - others, self._max_rows // len(self._cutters))
        found = cut(batch)
        self._rows[source], self._resume[source], self._judged[source] = len(found.table), found.resume, found.judged
        return replace(found, resume=tuple(chain.from_iterable(self._resume.values())), judged_by=dict(self._judged))


def windows(batches: Iterable[Batch], window: Window, counters: Counters, **options: Any) -> Iterator[Windows]:
    """`WindowCutter` over finished input."""
    return map(WindowCutter(window, counters, **options), batches)


def _resume(packets_from: tuple[Position, ...], end: tuple[Position, ...]) -> tuple[Position, ...]:
    """Packets are read again to rebuild windows, flow rows are not: episodes have counted them already."""
    flows = [p for p in end if log_of(Path(p.path).name) == "flow"]
    return (*(p for p in packets_from if log_of(Path(p.path).name) != "flow"), *flows)


def _cut_views(table: PacketColumns, held: list[Ints], ready: Ints, window: Window) -> tuple[Ints, Ints, Ints, Ints]:
    """Cut all views, renewing `held` in place: rows (W, A), past (W, 2, C), view (W,), second (W,), by second, view and last
    packet."""
    if not ready.size:
        return np.empty((0, window.packets), np.int64), np.empty((0, 2, window.connections), np.int64), ready, ready
    asked = ready[~table.unasked[ready]]
    cuts = [
        cut(table, keys, kept, ready if view == "destination" else asked, window)
        for view, keys, kept in zip(VIEWS, view_keys(table), held, strict=True)
    ]
    *parts, held[:] = zip(*cuts, strict=True)
    rows, past, ends = map(np.concatenate, parts)
    view_of = np.repeat(np.arange(len(cuts)), [len(view_ends) for view_ends in parts[2]])
    second = table.second[ends]
    order = np.lexsort((ends, view_of, second))
    return rows[order], past[order], view_of[order], second[order]


def _let_go(table: PacketColumns, keep: Bools, judged: int, surplus: int, counters: Counters) -> None:
    """Take `surplus` of the first `judged` rows out of `keep`: of the host pairs longest without a packet, the oldest first."""
    (kept,) = np.nonzero(keep)
    _, pair = np.unique(view_keys(table)[0][kept], return_inverse=True)
    latest = np.zeros(len(kept), np.int64)
    latest[pair] = kept  # of equal indices the last one stays
    mine = kept < judged
    order = np.argsort(latest[pair[mine]], kind="stable")[:surplus]
    keep[kept[mine][order]] = False
    counters.evicted += len(order)
    counters.evicted_streams += len(np.unique(pair[mine][order]))


def _compact(packets: PacketTable, held: list[Ints], ready: Ints, max_rows: int, counters: Counters) -> list[Ints]:
    """Drop packets that no later window can hold, once they are many, and renumber what each view holds.

    Args:
        ready: rows judged now, those before them were judged earlier.
    """
    table = packets.table
    judged = int(ready[-1]) + 1
    keep = np.zeros(len(table), np.bool_)
    for rows in held:
        keep[rows] = True
    keep[judged:] = True
    surplus = int(keep.sum()) - max_rows
    if surplus > 0:
        _let_go(table, keep, judged, surplus, counters)
        held = [rows[keep[rows]] for rows in held]
    packets.pack(ready[keep[ready]])
    if np.count_nonzero(keep) > DENSE * len(keep):
        return held
    packets.keep(np.nonzero(keep)[0])
    number = np.cumsum(keep) - 1
    return [number[rows] for rows in held]
