"""Holds packets back for as long as lines may come late, and gives them out in the order of time.

The workers of a cluster write the log by blocks, each up to a second or two behind the others. What comes out is in the order
of (time, uid, number in the connection), whatever that of the lines was and however they were read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from math import inf
from operator import itemgetter

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Packet

Held = tuple[float, str, int, int, int, Packet]
"""Time, uid and number in the connection to sort by; a number of its own; that of the input it came with; the packet."""


class Order:
    """The packets of one source. Where no line is late (`lateness_s` 0) they pass as they are."""

    def __init__(self, lateness_s: float, counters: Counters, *, most: int = 150_000) -> None:
        """Args:
        lateness_s: how far a line's time may be behind the newest before it.
        most: packets held at most; of more, the oldest half goes out early.
        """
        self._lateness_s, self._counters, self._most = lateness_s, counters, most
        self._held: list[Held] = []
        self._newest, self._next = -inf, 0
        self._left: Counter[int] = Counter()

    @property
    def since(self) -> int | None:
        """Number of the input that the oldest packet held back came with."""
        return min(self._left, default=None)

    def __call__(self, packets: Sequence[Packet], number: int, *, all_: bool = False) -> list[Packet]:
        """The packets that none read later can come before.

        Args:
            number: of the input that `packets` came with. all_: hold nothing back.
        """
        if not self._lateness_s:
            return list(packets)
        held = self._held
        held += [(p.ts, p.uid, p.n, at, number, p) for at, p in enumerate(packets, self._next)]
        self._next += len(packets)
        self._left.update({number: len(packets)} if packets else {})
        held.sort()
        self._newest = max(self._newest, held[-1][0] if held else -inf)
        end = len(held) if all_ else bisect_right(held, self._newest - self._lateness_s, key=itemgetter(0))
        if len(held) - end > self._most:
            self._counters.released_early += 1
            end = len(held) - self._most // 2
        out, self._held = held[:end], held[end:]
        self._left.subtract(Counter(map(itemgetter(4), out)))
        self._left = +self._left
        if all_:
            self._newest = -inf
        return [each[5] for each in out]
