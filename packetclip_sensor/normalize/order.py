"""Holds packets back for as long as lines may come late, and gives them out in the order of time.

The workers of a cluster write the log by blocks, each up to a second or two behind the others. What comes out is in the order
of (time, uid, number in the connection), whatever that of the lines was and however they were read. Where one Zeek writes the log
its packets are still some milliseconds out of order, when several queues of a card, or two taps, feed it: these are put in order
as well, and packets of one time keep the order of their lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
import numpy.typing as npt

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Packet

QUEUES_S = 0.02
"""How far packets of one Zeek come out of order, at most."""


class Order:
    """The packets of one source."""

    def __init__(self, lateness_s: float, counters: Counters, *, most: int = 150_000) -> None:
        """Args:
        lateness_s: how far a line's time may be behind the newest before it; what is later passes when it comes.
        most: packets held at most; of more, the oldest half goes out early.
        """
        self._lateness_s, self._hold_s = lateness_s, max(lateness_s, QUEUES_S)
        self._counters, self._most = counters, most
        self._newest = self._passed = -inf
        self._held: list[Packet] = []
        self._due = np.empty(0)  # the time at which each of them passes in the order
        self._came = np.empty(0, np.int64)

    @property
    def since(self) -> int | None:
        """Number of the input that the oldest packet held back came with."""
        return int(self._came.min()) if self._held else None

    def __call__(self, packets: Sequence[Packet], number: int, *, all_: bool = False, clock: float | None = None) -> list[Packet]:
        """The packets that none read later can come before.

        Args:
            number: of the input that `packets` came with. all_: hold nothing back. clock: as in `Batch`; it says instead of the
                packets' own times which may go out.
        """
        every = [*self._held, *packets]
        ts = np.array([p.ts for p in packets], np.float64)
        newest = np.maximum.accumulate(np.concatenate([[self._newest], ts]))
        floor = newest[:-1] - self._hold_s if clock is None else self._passed
        due = np.concatenate([self._due, np.maximum(ts, floor)])
        came = np.concatenate([self._came, np.full(len(packets), number)])
        by_uid = self._lateness_s or clock is not None
        if by_uid or (due[1:] < due[:-1]).any():
            order = np.argsort(due, kind="stable")
            every, due, came = [every[i] for i in order.tolist()], due[order], came[order]
            if by_uid:
                _sort_equal(every, due, came)
        end = len(every) if all_ else int(np.searchsorted(due, newest[-1] - self._hold_s, "right"))
        if clock is not None:
            end, self._passed = int(np.searchsorted(due, clock)), max(self._passed, clock)
        if len(every) - end > self._most:
            self._counters.released_early += 1
            end = len(every) - self._most // 2
        self._newest = -inf if all_ else float(newest[-1])
        self._held, self._due, self._came = every[end:], due[end:], came[end:]
        return every[:end]


def _sort_equal(packets: list[Packet], due: npt.NDArray[np.float64], came: npt.NDArray[np.int64]) -> None:
    """Sort packets of one time by uid and number in the connection, which say the same whoever wrote them first."""
    (equal,) = np.nonzero(due[1:] == due[:-1])
    for run in np.split(equal, np.nonzero(np.diff(equal) > 1)[0] + 1) if len(equal) else ():
        start, end = int(run[0]), int(run[-1]) + 2
        order = sorted(range(start, end), key=lambda i: (packets[i].uid, packets[i].n))
        packets[start:end], came[start:end] = [packets[i] for i in order], came[order]
