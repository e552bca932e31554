"""Packets to streams and windows, judged at whole seconds of event time.

A stream is one view of the traffic (a host pair, all that a source starts, all that a destination receives); its window is its
last A packets not older than T seconds, and is judged at the end of each whole second in which the stream saw a packet. The state
between two batches is nothing but the packets that may still stand in a later window, as columns, and one array of row numbers
per view: a sort groups a batch by stream, so no work is done per packet in Python, and to read the last T seconds again rebuilds
it exactly.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Batch, Packet, Position
from packetclip_sensor.windows.headers import Bools, Ints
from packetclip_sensor.windows.packet_table import Latest, PacketColumns, light, one_way, so_far, view_keys

VIEWS = ("pair", "source", "destination")
PATIENCE_S = (32, 16, 8, 4, 2)
"""Spans of event time in which what is new in a stream is counted where not every window can be judged; below T, so that no
packet that counts is forgotten."""
STEPS = (1, 4, 8, 16, 24)
"""Packets in such a span at which a stream is to be judged again: the first ones of an attack are new soon, later ones by the
quarter of a window."""
PACKETS_EACH = 8
"""A second may judge one window for so many of its packets, beside a fixed number, so that a packet's cost is bounded."""

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

    def contents(self, chosen: Ints) -> tuple[dict[int, Packet], Ints]:
        """What the `chosen` windows hold: their packets by row of the table, and (n, C) the packets so far of the
        connections that each remembers."""
        rows, past = np.unique(self.rows[chosen]), self.past[chosen, 1]
        rows = rows[rows >= 0]
        records = dict(zip(rows.tolist(), self.table.packets(rows).tolist(), strict=True))
        seconds = np.repeat(self.second[chosen], past.shape[1])
        sent, _ = so_far(self.table, self.volume, np.maximum(past, 0).ravel(), seconds)
        return records, sent.reshape(past.shape)


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
        self._opens, self._latest = table.opens[self._rows], Latest(table.uid[self._rows])
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


def cut_views(
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
