"""Ends the input where the packets' clock was set back, so that what comes behind begins anew.

Seconds of event time never fall within what windows and episodes see: a packet that comes late is judged in the second that is
open. A clock set back by an hour would keep that second open for an hour. So the input ends there, as at a replay's end: what is
held is judged, open episodes close, and the next packets are the first ones of a new time.
"""

from __future__ import annotations

from math import inf

import structlog

from packetclip_sensor.records import Batch, Position

SETTLED_S = 5.0
"""The clock counts as set back once nothing but packets of the earlier time has come over so many seconds of it: lines of a
second Zeek whose clock is slow come between others."""

log = structlog.get_logger()


class ClockCheck:
    """Passes batches on, and ends the input where the packets' clock was set back by more than `behind_s` (seconds)."""

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
