"""Puts aside packets whose time is far from that of their neighbours, and says where a source's clock was set back.

Event time never falls within what windows and episodes see, so one packet of the year 2106 would make every later one late.
A time far from the newest is therefore believed only when lines go on at it: until then it is held back. Where the next lines
are at the old time again, it was wrong. Where they go on ahead, there was a gap in time. Where they go on behind, the clock was
set back, and the input ends: what is held is judged, open episodes close, and the next packets are the first of a new time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from packetclip_sensor.records import Packet

SETTLED_S = 5.0
"""A time far from the newest is believed once lines have gone on at it, and at no other, over so many seconds of it."""
STRETCHES = 5
"""It is believed as well where lines are so few that so many stretches, far from each other, follow one another."""
FIRST = 8
"""So many packets of one time are believed at the beginning, where there is no time yet that they may be far from."""
MOST_HELD = 50_000
"""Packets held back at most; then the last stretch of them is believed."""
FEW = 10
"""Packets at the end of input that are far behind and fewer than this are no clock that was set back; neither are more, where
some were put aside before."""


@dataclass(slots=True)
class Stretch:
    """Packets of one time; before each stretch but the first the clock was set back."""

    packets: list[Packet] = field(default_factory=list)
    since: int = 0
    """Number of the input that its oldest packet came with."""
    behind_s: float = 0.0
    """By how much the clock was set back before it."""


class Clock:
    """The clock of one source, as its packets show it."""

    def __init__(self, far_s: float, reject: Callable[[Packet, float], None], *, wall: Callable[[], float] = time.time) -> None:
        """Args:
        far_s: how far from the newest time a packet may be.
        reject: takes a packet that is put aside, and by how many seconds it is ahead of the newest.
        wall: this machine's clock, epoch seconds.
        """
        self._far_s, self._reject, self._wall = far_s, reject, wall
        self.newest = -inf
        """Time of the newest packet passed on."""
        self.since: int | None = None
        """Number of the input that the oldest packet held back came with."""
        self._held: list[Packet] = []
        self._last = self._stretches = 0  # where the last stretch of them begins, and how many there are
        self._top = -inf  # its newest time
        self._wrong = False  # whether a packet was put aside

    def __call__(self, packets: Sequence[Packet], number: int, *, quiet: bool = False, final: bool = False) -> list[Stretch]:
        """What of the packets held, and of these of input `number`, is believed now.

        Args:
            quiet: no more lines are to come for a while. final: none at all.
        """
        out = [Stretch(since=number)]
        if not self._held and packets:
            ts = np.array([p.ts for p in packets])
            top = np.maximum.accumulate(np.concatenate([[self.newest], ts]))
            if (np.abs(ts - top[:-1]) <= self._far_s).all():
                self.newest = float(top[-1])
                return [Stretch(list(packets), number)]
        for packet in packets:
            self._take(packet, number, out)
        if self._held and (quiet or final):
            self._end(out, final=final)
        return out

    def _take(self, packet: Packet, number: int, out: list[Stretch]) -> None:
        if abs(packet.ts - self.newest) <= self._far_s:
            self._put_aside(self._held)
            self.newest = max(self.newest, packet.ts)
            out[-1].packets.append(packet)
            return
        if self._held and abs(packet.ts - self._top) > self._far_s:
            if -inf < self.newest < self._top < packet.ts:
                self._believe(out)  # a gap in time, and another one
            else:
                self._last, self._stretches = len(self._held), self._stretches + 1
        if self.since is None:
            self.since, self._last, self._stretches = number, 0, 1
        self._top = packet.ts if self._last == len(self._held) else max(self._top, packet.ts)
        self._held.append(packet)
        long = packet.ts - self._held[self._last].ts >= SETTLED_S
        long |= self.newest == -inf and len(self._held) - self._last >= FIRST
        if long or self._stretches >= STRETCHES or len(self._held) >= MOST_HELD:
            self._believe(out)

    def _believe(self, out: list[Stretch]) -> None:
        """Pass on the last stretch held, and those before it that lead up to it in time."""
        stretch, since, top = self._held[self._last :], self.since or 0, self._top
        back = stretch[0].ts < self.newest
        if back:
            out.append(Stretch(since=since, behind_s=self.newest - stretch[0].ts))
        floor = -inf if back else self.newest
        wrong = []
        for packet in self._held[: self._last]:
            if floor <= packet.ts <= stretch[0].ts:
                out[-1].packets.append(packet)
                floor = packet.ts
            else:
                wrong.append(packet)
        self._put_aside(wrong)
        out[-1].packets += stretch
        out[-1].since = min(out[-1].since, since)
        self.newest = top

    def _put_aside(self, packets: list[Packet]) -> None:
        self._wrong |= bool(packets)
        for packet in packets:
            self._reject(packet, packet.ts - self.newest)
        self._held, self.since, self._top = [], None, -inf

    def _end(self, out: list[Stretch], *, final: bool) -> None:
        """Nothing follows that would show whether the last stretch is to be believed; this machine's clock may."""
        latest = self._wall() + self._far_s
        alone = self._held[self._last].ts > latest >= self.newest > -inf
        behind = self._top < self.newest
        if not alone and (not behind or (final and len(self._held) >= FEW and not self._wrong)):
            self._believe(out)
        elif final:
            self._put_aside(self._held)
