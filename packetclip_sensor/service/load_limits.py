"""What the sensor may hold at most, and by which rule it lets go when the traffic is more than it can judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import structlog

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import Limits
from packetclip_sensor.records import Batch, Idle, Lines
from packetclip_sensor.sources.logfile import first_ts

log = structlog.get_logger()


class Shedding:
    """Sheds load by the configured rule; without one it passes everything on.

    The rule looks at the age of what is read, not at a measured lag, so it starts and ends at exact lines. It makes a replay of
    the same logs give other alerts: that is why it has to be asked for.
    """

    def __init__(self, limits: Limits, counters: Counters, *, now: Callable[[], float] = time.time) -> None:
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
            kept = [packet for packet in batch.packets if packet.n <= self._limits.packets_kept or packet.total_bytes]
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
