"""Batches of packets to windows: which seconds are over, and what is kept of a source between two batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import floor
from typing import Any

import numpy as np

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Batch, Position
from packetclip_sensor.windows.packet_table import PacketColumns, PacketTable, compact
from packetclip_sensor.windows.windows import VIEWS, Owns, Window, Windows, cut_views

EVERY = 1 << 62
"""More windows than any second has."""


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
        rows, past, view, second = cut_views(table, self._held, new, self._window, self._most, self._counters, self._owns)
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
