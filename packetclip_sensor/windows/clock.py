"""Ends the input where the packets' clock was set back, so that what comes behind begins anew.

Seconds of event time never fall within what windows and episodes see: a packet that comes late is judged in the second that is
open. A clock set back by an hour would keep that second open for an hour. So the input ends there, as at a replay's end: what is
held is judged, open episodes close, and the next packets are the first ones of a new time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf

import structlog

from packetclip_sensor.records import Batch, Position

SETTLED_S = 5.0
"""The clock counts as set back once nothing but packets of the earlier time has come over so many seconds of it: lines of a
second Zeek whose clock is slow come between others."""

log = structlog.get_logger()


def split_at_clock_resets(batches: Iterable[Batch], *, behind_s: float) -> Iterator[Batch]:
    """Pass batches on; a batch without packets and with `final` comes first where the clock was set back by more than `behind_s`
    (seconds)."""
    newest, back_since = -inf, inf
    end: tuple[Position, ...] = ()
    for batch in batches:
        if batch.packets:
            top = max(packet.ts for packet in batch.packets)
            if top >= newest - behind_s:
                newest, back_since = max(newest, top), inf
            else:
                back_since = min(back_since, top)
                if top - back_since >= SETTLED_S:
                    log.warning(
                        "clock_turned_back",
                        by_s=round(newest - top),
                        remedy="open episodes were closed, and what follows is judged by the new time; set the clock of Zeek's "
                        "machine by NTP",
                    )
                    yield Batch([], [], end, end, final=True)
                    newest, back_since = top, inf
        end = batch.end
        yield batch
