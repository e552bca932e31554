"""What the sensor may hold at most, and by which rule it lets go when the traffic is more than it can judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Literal

import msgspec
import structlog
from msgspec import Meta

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Batch, Idle, Lines
from packetclip_sensor.sources.logfile import first_ts

Bytes = Annotated[int, Meta(ge=4096)]

log = structlog.get_logger()


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds. What is let go is counted (/metrics, health documents); nothing is let go in silence."""

    packets_held: Annotated[int, Meta(ge=1000)] = 150_000
    """Packets held for later windows; of more, those of the host pairs longest unheard go first. 1,000 take about half a MB."""
    line_bytes: Bytes = 1 << 20
    """Longest log line; a longer one is skipped and written to the rejects file."""
    block_bytes: Bytes = 1 << 20
    """Most log read at once."""
    open_files: Annotated[int, Meta(ge=8)] = 64
    """Log files held open; of more, those longest read to their end are closed, and opened again when they grow."""
    rejects_bytes: Bytes = 16 << 20
    """Size from which the rejects file becomes .1, in place of an older .1."""
    shed_load: Literal["none", "skip_old", "first_packets"] = "none"
    """Rule by which load is shed while the sensor is behind. none: everything is judged, however late. skip_old: packets older
    than shed_after_s are passed over unread, so that what is judged is recent. first_packets: of each connection only the first
    packets_kept are judged until the sensor has caught up."""
    shed_after_s: Annotated[float, Meta(gt=0)] = 300.0
    """Age of a packet, in seconds, from which load is shed; it ends at half of that."""
    packets_kept: Annotated[int, Meta(ge=1)] = 10
    """Packets of each connection that first_packets leaves."""


class Shedding:
    """Sheds load by the configured rule; without one it passes everything on.

    The rule looks at the age of what is read, not at a measured lag, so it starts and ends at exact lines. It makes a replay of
    the same logs tell other stories: that is why it has to be asked for.
    """

    def __init__(self, limits: LimitsConfig, counters: Counters, *, now: Callable[[], float] = time.time) -> None:
        self.on = False
        """Whether load is being shed now."""
        self._limits, self._counters, self._now = limits, counters, now

    def block(self, block: Lines | Idle) -> Lines | Idle:
        """The block, emptied where the rule skip_old passes over its packets; its positions stay."""
        if self._limits.shed_load != "skip_old":
            return block
        if isinstance(block, Lines) and block.log == "packet" and block.data and self._due(first_ts(block.data, 0, "packet")):
            self._counters.shed_lines += block.data.count(b"\n")
            self._counters.shed_bytes += len(block.data)
            return Lines(block.log, b"", block.start, block.end)
        self._caught_up(isinstance(block, Idle))
        return block

    def batch(self, batch: Batch) -> Batch:
        """The batch without the packets that the rule first_packets leaves unjudged."""
        if self._limits.shed_load != "first_packets":
            return batch
        if batch.packets and self._due(batch.packets[0].ts):
            kept = [packet for packet in batch.packets if packet.n <= self._limits.packets_kept]
            self._counters.shed_packets += len(batch.packets) - len(kept)
            return replace(batch, packets=kept)
        self._caught_up(batch.idle)
        return batch

    def lines(self, blocks: Iterable[Lines | Idle]) -> Iterator[Lines | Idle]:
        """`block` over all that is read."""
        return map(self.block, blocks)

    def packets(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """`batch` over all batches."""
        return map(self.batch, batches)

    def _caught_up(self, all_read: bool) -> None:
        if all_read and self.on:
            self._due(self._now())

    def _due(self, ts: float) -> bool:
        """Whether a packet of this time (epoch seconds) falls under the rule; begins at shed_after_s and ends at half of it."""
        age_s = self._now() - ts if ts > 0 else 0.0
        due = age_s > (self._limits.shed_after_s / 2 if self.on else self._limits.shed_after_s)
        if due != self.on:
            what = {"rule": self._limits.shed_load, "age_s": round(age_s, 1)}
            if due:
                log.warning("shedding_load", **what)
            else:
                counters = self._counters
                log.warning("shedding_ended", **what, lines=counters.shed_lines, packets=counters.shed_packets)
            self.on = due
        return due
