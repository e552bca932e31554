"""Packets to streams and windows, judged at whole seconds of event time.

A stream is one view of the traffic (a host pair, all that a source starts, all that a destination receives); its window is its
last A packets not older than T seconds, and is judged at the end of each whole second in which the stream saw a packet. The state
between two batches is nothing but the packets that may still stand in a later window, as columns, and one array of row numbers
per view: a sort groups a batch by stream, so no work is done per packet in Python, and to read the last T seconds again rebuilds
it exactly.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, inf
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Batch, Packet, Position
from packetclip_sensor.windows.headers import Bools, Ints
from packetclip_sensor.windows.packet_table import Latest, PacketColumns, PacketTable, compact, light, one_way, view_keys

VIEWS = ("pair", "source", "destination")
PATIENCE_S = (32, 16, 8, 4, 2)
"""Spans of event time in which what is new in a stream is counted where not every window can be judged; below T, so that no
packet that counts is forgotten."""
STEPS = (1, 4, 8, 16, 24)
"""Packets in such a span at which a stream is to be judged again: the first ones of an attack are new soon, later ones by the
quarter of a window."""
PACKETS_EACH = 8
"""A second may judge one window for so many of its packets, beside a fixed number, so that a packet's cost is bounded."""
EVERY = 1 << 62
"""More windows than any second has."""

Owns = Callable[[str, Packet], bool]
"""Whether the stream of a view of VIEWS to which a packet belongs is judged here."""


@dataclass(frozen=True, slots=True)
class Window:
    """How windows are cut. A sensor takes what its bundle's manifest says; training takes TRAINED."""

    packets: Annotated[int, Meta(ge=1, le=1000)] = 30
    """A, most packets in a window."""
    seconds: Annotated[float, Meta(ge=1.0, le=3600.0)] = 60.0
    """T, oldest packet in a window."""
    min_packets: Annotated[int, Meta(ge=1, le=1000)] = 4
    """Smaller windows are not judged: one to three packets are weak evidence, and other views see them too."""
    connections: Annotated[int, Meta(ge=1, le=1000)] = 64
    """C, most connections of the last T seconds that a window remembers beyond its packets."""
    looks: Annotated[int, Meta(ge=1, le=100)] = 1
    """Parts of a second at whose ends windows may end where heavy connections may hide others; each part needs A packets. 1 for
    no closer look, as a bundle that does not name it was calibrated."""
    heavy_bytes: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 8_000
    """Logged bytes of a connection in one second (IP lengths) above which its packets in that second are not light."""
    volume: bool = False
    """Whether lines beyond a connection's first packets (`Packet.total_bytes`) stand in windows. Where not, they only say how
    much the connection has sent, see `so_far`. A bundle that does not name it was trained without such lines."""


TRAINED = Window(volume=True, looks=4)
"""How windows are cut for the next model."""


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
    packets: npt.NDArray[np.object_]
    """Their records, which `table` may hold packed already."""
    volume: Ints
    """Rows of the last T seconds' lines beyond connections' first packets, ascending; see `so_far`."""


class View:
    """One view's packets, stream after stream and each in log order, and the windows that end among them."""

    def __init__(self, table: PacketColumns, keys: Ints, held: Ints, new: Ints, window: Window) -> None:
        """Args:
        table: packets; keys: (n,) stream key of each.
        held: rows kept from before, ascending; new: rows to judge now, ascending and behind them.
        """
        rows = np.concatenate([held, new])
        order = np.argsort(keys[rows], kind="stable")
        self._window, self._rows = window, rows[order]
        key, self._second, self._ts = keys[self._rows], table.second[self._rows], table.ts[self._rows]
        m = len(rows)
        self._place = np.arange(m)
        starts_key, starts_second = np.ones((2, m), np.bool_)
        starts_key[1:] = key[1:] != key[:-1]
        starts_second[1:] = starts_key[1:] | (self._second[1:] != self._second[:-1])
        ends_key, ends_second = np.roll(starts_key, -1), np.roll(starts_second, -1)
        self._first = np.maximum.accumulate(np.where(starts_key, self._place, 0))
        self._first_of_second = np.maximum.accumulate(np.where(starts_second, self._place, 0))
        self._last = np.minimum.accumulate(np.where(ends_key, self._place, m)[::-1])[::-1]
        self._every, self._light = np.ones(m, np.bool_), table.light[self._rows]
        self._all_light = bool(self._light.all())
        self._opens, self._latest = table.n[self._rows] == 1, Latest(table.uid[self._rows])
        (ends,) = np.nonzero(ends_second & (order >= len(held)))
        light = ends[:0]
        if not self._all_light:
            # Where a heavy connection may hide others: windows within the second too, and one of light packets alone.
            packets, inside = self._last_of(self._every, ends, window.packets)
            closer = ends[(inside & ~self._light[packets]).any(1)]
            ends = np.concatenate([ends, self._earlier(closer)])
            light, known = self._last_of(self._light, closer, 1)
            light = light[known & (light >= self._first_of_second[closer][:, None])]
        ends, light = (
            x[self._last_of(among, x, window.packets)[1].sum(1) >= window.min_packets]
            for among, x in ((self._every, ends), (self._light, light))
        )
        self.ends = np.concatenate([ends, light])
        """(W,) places at which windows end."""
        self.end_rows: Ints = self._rows[self.ends]
        """(W,) their rows in the table."""
        self._of_light = np.arange(len(self.ends)) >= len(ends)

    def _last_of(self, among: Bools, ends: Ints, count: int) -> tuple[Ints, Bools]:
        """(W, count) places of the stream's last packets `among` those up to `ends`, and which of them are young enough."""
        places = np.append(np.nonzero(among)[0], 0)
        number = np.cumsum(among)[ends][:, None] + np.arange(-count, 0)
        at = places[np.maximum(number, 0)]
        inside = (number >= 0) & (at >= self._first[ends][:, None])
        return at, inside & (self._ts[at] > self._ts[ends][:, None] - self._window.seconds)

    def _earlier(self, ends: Ints) -> Ints:
        """Places within the seconds that end at `ends` at which windows end too: the last packet of each part of the second that
        has packets for a whole window, but for the last part."""
        chosen = np.zeros(len(self._place), np.bool_)
        chosen[self._first_of_second[ends]] = True
        part = np.floor(self._ts * self._window.looks)
        ends_part = np.append((part[1:] != part[:-1]) & (self._first_of_second[1:] < self._place[1:]), False)
        first = np.maximum(self._first_of_second, np.maximum.accumulate(np.where(np.roll(ends_part, 1), self._place, 0)))
        whole = self._place - first + 1 >= self._window.packets
        return np.nonzero(ends_part & whole & chosen[self._first_of_second])[0]

    def keep(self, mine: Bools) -> None:
        """Have no windows but these of its own."""
        self.ends, self.end_rows, self._of_light = self.ends[mine], self.end_rows[mine], self._of_light[mine]

    def urgency(self, chosen: Bools, phase: Ints) -> Ints:
        """How much is new in the `chosen` windows: (n,) the longest span of PATIENCE_S in which a packet count of STEPS is
        passed in the window's second, 1 where none is; above them all where the second alone has PACKETS_EACH. `phase` (n,) says
        when a stream's spans begin, seconds.

        It follows from the last A packets before the second alone, so neither batches nor a restart change it.
        """
        ends = self.ends[chosen]
        starts = self._first_of_second[ends]
        now = ends - starts + 1
        at = starts[:, None] - np.arange(1, self._window.packets + 1)
        near = (at >= self._first[ends][:, None]) & (self._ts[np.maximum(at, 0)] > self._ts[ends][:, None] - self._window.seconds)
        seconds, second = self._second[np.maximum(at, 0)], self._second[ends]
        out = np.where(now >= PACKETS_EACH, 2 * PATIENCE_S[0], 1)
        for span in PATIENCE_S[::-1]:
            span_of = (second + phase) // span
            before = (near & ((seconds + phase[:, None]) // span == span_of[:, None])).sum(1)
            passed = np.searchsorted(STEPS, before, side="right") != np.searchsorted(STEPS, before + now, side="right")
            out = np.where(passed & (before < self._window.packets), np.maximum(out, span), out)
        return out

    def cut(self, chosen: Bools) -> tuple[Ints, Ints]:
        """The `chosen` windows: rows (W, A) and past (W, 2, C) as in `Windows`."""
        found = []
        kinds = [(self._every, ~self._of_light), (self._light, self._of_light)]
        for among, kind in kinds[: 1 if self._all_light else 2]:
            ends = self.ends[chosen & kind]
            at, inside = self._last_of(among, ends, self._window.packets)
            begun, known = self._last_of(among & self._opens, ends, self._window.connections)
            both = np.stack([self._rows[begun], self._rows[self._latest(begun, ends[:, None])]], axis=1)
            found.append((np.where(inside, self._rows[at], -1), np.where(known[:, None, :], both, -1)))
        rows, past = map(np.concatenate, zip(*found, strict=True))
        return rows, past

    def hold(self) -> Ints:
        """(H,) rows that a later window may need, ascending."""
        recent = self._ts > float(self._ts.max(initial=-inf)) - self._window.seconds

        def last(among: Bools, number: int) -> Bools:
            """The last packets of each stream `among` those, and the last light ones."""
            kept: Bools = np.zeros(len(recent), np.bool_)
            for each in (among, among & self._light)[: 1 if self._all_light else 2]:
                count = np.cumsum(each)
                kept |= each & recent & (count[self._last] - count < number)
            return kept

        hold, remembered = last(self._every, self._window.packets), last(self._opens, self._window.connections)
        return np.sort(self._rows[hold | remembered | self._latest.of(remembered)])


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
        windows_per_second: int = EVERY,
        owns: Owns | None = None,
        until: int = EVERY,
    ) -> None:
        """Args:
        judged: seconds up to this one were judged before a restart; they rebuild windows but are not given out again.
        until: seconds from this one on are not given out.
        before_s: how far before a window's packets, in seconds, a restart must begin to read for what earlier stages remember.
        max_rows: packets held at most; beyond it those of the host pairs longest without a packet are let go
            and counted in `counters.evicted`.
        period_s: judge at the end of each period of this length. The sensor's second is the default; training cuts finer to
            see an attack at more of its moments, and `Windows.second` then counts periods.
        windows_per_second: packets of a second at which windows may end and be judged, beside one for PACKETS_EACH packets. In a
            second that has more, the windows of which least is new are left out and counted in `counters.windows_skipped`.
        """
        self._window, self._counters, self._period_s = window, counters, period_s
        self.max_rows, self._most, self._resume_s = max_rows, windows_per_second, window.seconds + before_s
        self._owns, self._until = owns, until
        self._begin(judged)

    def _begin(self, judged: int) -> None:
        self._packets = PacketTable()
        self._held = [np.empty(0, np.int64) for _ in VIEWS]
        self._volume = np.empty(0, np.int64)
        self._judged = judged
        self._unjudged = self._latest = self._over = 0
        self._marks: list[tuple[int, tuple[Position, ...]]] = []

    def __call__(self, batch: Batch) -> Windows:
        """The windows of the seconds that this batch ends."""
        if batch.packets:
            self._take(batch)
        crowded = self._unjudged > self.max_rows
        self._counters.seconds_split += crowded
        over = batch.final or batch.quiet or crowded
        by_clock = floor(batch.clock) - 1 if batch.clock is not None else 0
        self._over = max(self._over, self._latest if over else self._latest - 1, by_clock)
        table = self._packets.table
        ready = np.arange(len(table) - self._unjudged, len(table))
        ready = ready[table.second[ready] <= self._over]
        beyond = table.total_bytes[ready] > 0
        new = ready if self._window.volume else ready[~beyond]
        volume = np.concatenate([self._volume, ready[beyond]])
        rows, past, view, second = _cut_views(table, self._held, new, self._window, self._most, self._counters, self._owns)
        self._unjudged -= len(ready)
        chosen = (second > self._judged) & (second < self._until)
        judged_to = max(self._over, self._judged)
        while len(self._marks) > 1 and self._marks[1][0] < judged_to - self._resume_s:
            self._marks.pop(0)
        if batch.clock is not None and not self._unjudged and self._latest < judged_to - self._resume_s:
            self._marks.clear()
        self._counters.windows += int(chosen.sum())
        begin = self._marks[0][1] if self._marks else batch.end
        # Packets are read again to rebuild windows, flow rows are not: episodes have counted them already.
        resume = (*(p for p in begin if p.log != "flow"), *(p for p in batch.end if p.log == "flow"))
        fresh = new[(table.second[new] > self._judged) & (table.second[new] < self._until)]
        rows, past, view, second = (each[chosen] for each in (rows, past, view, second))
        by, packets = {batch.source: judged_to}, table.record[fresh]
        out = Windows(table, rows, past, view, second, batch, judged_to, resume, by, fresh, packets, volume)
        if len(ready):
            volume = volume[table.ts[volume] > float(table.ts[ready].max()) - self._window.seconds]
            held = [*self._held, volume]
            *self._held, self._volume = compact(self._packets, held, ready, self.max_rows, self._counters)
        if batch.final:
            self._begin(0)
        return out

    def _take(self, batch: Batch) -> None:
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
        judged_by: Mapping[str, int] | None = None,
        max_rows: int = 150_000,
        **options: Any,
    ) -> None:
        """`judged` and `judged_by` as in `checkpoint.State`; `max_rows`: packets held at most; `options`: of each cutter."""
        self._window, self._counters, self._max_rows = window, counters, max_rows
        self._before, self._before_by, self._options = judged, judged_by or {}, options
        self._cutters: dict[str, WindowCutter] = {}
        self._rows: dict[str, int] = {}
        self._resume: dict[str, tuple[Position, ...]] = {}
        self._judged = dict(self._before_by)

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
            cut = self._cutters[source] = WindowCutter(self._window, self._counters, judged=judged, **self._options)
        others = sum(rows for name, rows in self._rows.items() if name != source)
        cut.max_rows = max(self._max_rows - others, self._max_rows // len(self._cutters))
        found = cut(batch)
        self._rows[source], self._resume[source], self._judged[source] = len(found.table), found.resume, found.judged
        return replace(found, resume=tuple(p for places in self._resume.values() for p in places), judged_by=dict(self._judged))


def windows(batches: Iterable[Batch], window: Window, counters: Counters, **options: Any) -> Iterator[Windows]:
    """`WindowCutter` over finished input."""
    return map(WindowCutter(window, counters, **options), batches)


def _cut_views(
    table: PacketColumns, held: list[Ints], ready: Ints, window: Window, most: int, counters: Counters, owns: Owns | None
) -> tuple[Ints, Ints, Ints, Ints]:
    """Cut all views, renewing `held` in place: rows (W, A), past (W, 2, C), view (W,), second (W,), by second, view and last
    packet."""
    if not ready.size:
        return np.empty((0, window.packets), np.int64), np.empty((0, 2, window.connections), np.int64), ready, ready
    if window.looks > 1:
        table.light[ready] = light(table.take(ready), window.heavy_bytes)
    asked = ready[~one_way(table)[ready]]
    views = [
        View(table, keys, kept, ready if name == "destination" else asked, window)
        for name, keys, kept in zip(VIEWS, view_keys(table), held, strict=True)
    ]
    if owns is not None:
        for name, view in zip(VIEWS, views, strict=True):
            mine = [owns(name, table.record[row]) for row in view.end_rows.tolist()]
            view.keep(np.array(mine, np.bool_))
    chosen = _afforded(table, views, ready, most, counters)
    held[:] = [view.hold() for view in views]
    rows, past = map(np.concatenate, zip(*(view.cut(mine) for view, mine in zip(views, chosen, strict=True)), strict=True))
    ends = np.concatenate([view.end_rows[mine] for view, mine in zip(views, chosen, strict=True)])
    view_of = np.repeat(np.arange(len(views)), [int(mine.sum()) for mine in chosen])
    second = table.second[ends]
    order = np.lexsort((ends, view_of, second))
    return rows[order], past[order], view_of[order], second[order]


def _afforded(table: PacketColumns, views: Sequence[View], ready: Ints, most: int, counters: Counters) -> list[Bools]:
    """Which windows of each view are judged, (W,) each: all in a second in which windows end at no more packets than `most` and
    one for PACKETS_EACH of its packets; else those that end at the most urgent ones, as many as that."""
    rows, where = np.unique(np.concatenate([view.end_rows for view in views]), return_inverse=True)
    parts = np.cumsum([len(view.ends) for view in views])[:-1]
    seconds, at_second, counts = np.unique(table.second[rows], return_inverse=True, return_counts=True)
    packets = np.diff(np.searchsorted(np.sort(table.second[ready]), np.stack([seconds, seconds + 1])), axis=0)[0]
    allowed = most + packets // PACKETS_EACH
    crowded = (counts > allowed)[at_second]
    if not crowded.any():
        return [np.ones(len(view.ends), np.bool_) for view in views]
    hosts = np.zeros((2, len(rows)), np.int64)  # of each end in a crowded second, a number that no restart changes
    for i in np.nonzero(crowded)[0].tolist():
        packet = table.record[rows[i]]
        hosts[:, i] = zlib.crc32(packet.orig_h.encode()), zlib.crc32(packet.resp_h.encode())
    urgency = np.zeros(len(rows), np.int64)
    for view, number, at in zip(views, (hosts.sum(0), *hosts), np.split(where.ravel(), parts), strict=True):
        mine = crowded[at]
        np.maximum.at(urgency, at[mine], view.urgency(mine, number[at[mine]]))
    turn = (hosts.sum(0) + table.second[rows]).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)
    order = np.lexsort((turn, -urgency, at_second))
    judged = np.empty(len(rows), np.bool_)
    judged[order] = np.arange(len(rows)) < np.repeat(np.cumsum(counts) - counts + allowed, counts)
    counters.windows_skipped += int((~judged[where]).sum())
    return [judged[at] for at in np.split(where.ravel(), parts)]
