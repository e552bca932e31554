"""Packets to streams and windows, judged at whole seconds of event time; the input ends where the clock was set back.

A stream is one view of the traffic (a host pair, all that a source starts, all that a destination receives); its window is its
last A packets not older than T seconds, and is judged at the end of each whole second in which the stream saw a packet. The state
between two batches is nothing but the packets that may still stand in a later window, as columns, and one array of row numbers
per view: a sort groups a batch by stream, so no work is done per packet in Python, and re-reading the last T seconds rebuilds it
exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Batch, Position, log_of
from packetclip_sensor.windows.headers import Bools, Ints
from packetclip_sensor.windows.packet_table import PacketColumns, PacketTable

VIEWS = ("pair", "source", "destination")
QUIET_STEP_S = 0.5
"""Most that the time between two batches counts towards quiet; a tail without new lines gives an empty batch more often."""
DENSE = 0.9
"""Part of the rows that a later window needs, above which those that none needs may stay among them for a while."""
SETTLED_S = 5.0
"""The clock counts as set back once nothing but packets of the earlier time has come over so many seconds of it: lines of a
second Zeek whose clock is slow come between others."""

log = structlog.get_logger()


class ClockCheck:
    """Passes batches on, and ends the input where the packets' clock was set back by more than `behind_s` (seconds).

    Seconds of event time never fall within what windows and episodes see: a packet that comes late is judged in the second that
    is open. A clock set back by an hour would keep that second open for an hour. So the input ends there, as at a replay's end:
    what is held is judged, open episodes close, and the next packets are the first ones of a new time.
    """

    def __init__(self, behind_s: float) -> None:
        self._behind_s = behind_s
        self._newest, self._back_since = -inf, inf
        self._end: tuple[Position, ...] = ()

    def __call__(self, batch: Batch) -> tuple[Batch, ...]:
        """The batch; before it one without packets and with `final` where the clock was set back."""
        end, self._end = self._end, batch.end
        if not batch.packets:
            return (batch,)
        top = max(packet.ts for packet in batch.packets)
        if top >= self._newest - self._behind_s:
            self._newest, self._back_since = max(self._newest, top), inf
            return (batch,)
        self._back_since = min(self._back_since, top)
        if top - self._back_since < SETTLED_S:
            return (batch,)
        log.warning(
            "clock_turned_back",
            by_s=round(self._newest - top),
            remedy="open episodes were closed, and what follows is judged by the new time; set the clock of Zeek's "
            "machine by NTP",
        )
        self._newest, self._back_since = top, inf
        return Batch([], [], end, end, final=True), batch


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
    """Where a restart must begin to read to rebuild every later window."""
    fresh: Ints
    """Rows of the packets whose second is judged now, in log order: each packet once, over restarts too."""


def view_keys(table: PacketColumns) -> tuple[Ints, Ints, Ints]:
    """A key for each packet in each of VIEWS, (n,) each. The pair's key is the same in both directions; what only comes to a
    destination is a stream of its own there."""
    return table.orig_h + table.resp_h, table.orig_h, np.where(one_way(table), ~table.resp_h, table.resp_h)


def one_way(table: PacketColumns) -> Bools:
    """(n,) True for packets that stand in the destination's view alone: answers that go from sender to receiver, unasked."""
    return table.unasked & table.is_orig


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
    """Groups packets into windows and gives out those of every second that is over, a batch at a time.

    A second is over when a packet of a later one is read, when input has ended, or when no packet has come for `quiet_s` by
    `clock`; a packet that comes later still is judged in the next second, never lost. What comes behind a final batch begins
    anew, at whatever time.
    """

    def __init__(
        self,
        window: Window,
        counters: Counters,
        *,
        judged: int = 0,
        max_rows: int = 150_000,
        quiet_s: float = 1.5,
        clock: Callable[[], float] = time.monotonic,
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
        self._window, self._counters, self._clock = window, counters, clock
        self._max_rows, self._quiet_s, self._period_s = max_rows, quiet_s, period_s
        self._resume_s = window.seconds + before_s
        self._quiet_for, self._before = 0.0, clock()
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
        quiet = batch.final or (batch.idle and self._quiet_for >= self._quiet_s)
        self._over = max(self._over, self._latest if quiet else self._latest - 1)
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
        out = Windows(table, rows[chosen], past[chosen], view[chosen], second[chosen], batch, judged_to, resume, fresh)
        if len(ready):
            self._held = _compact(self._packets, self._held, ready, self._max_rows, self._counters)
        if batch.final:
            self._begin(0)
        return out

    def _take(self, batch: Batch) -> None:
        now = self._clock()
        # A longer step is no quiet of the log's: the sensor was stopped, or waited for its sink, while lines were written.
        self._quiet_for, self._before = self._quiet_for + min(now - self._before, QUIET_STEP_S), now
        if not batch.packets:
            return
        fresh = PacketColumns.of(batch.packets, max(self._latest, self._over + 1), self._period_s)
        self._marks.append((self._latest, batch.start))
        self._counters.late_packets += int((np.floor(fresh.ts / self._period_s) < fresh.second).sum())
        self._latest, self._quiet_for = int(fresh.second[-1]), 0.0
        self._packets.append(fresh)
        self._unjudged += len(fresh)


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
    asked = ready[~one_way(table)[ready]]
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
