"""Each source's batches through its clock, its order, its copies and the direction of its connections, with the positions that
belong to what goes out.

What is held back must be read again after a restart. So the positions of a batch, and its flow rows, go out once no packet of
it, nor of one before it, is held: flow rows wait for the packets that were read before them, and are counted once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, pairwise
from math import inf

import msgspec
import structlog

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.normalize.clock import Clock, Stretch
from packetclip_sensor.normalize.copies import Copies
from packetclip_sensor.normalize.direction import Direction
from packetclip_sensor.normalize.order import Order
from packetclip_sensor.normalize.quality import count_connections
from packetclip_sensor.records import Batch, Flow, Packet
from packetclip_sensor.sources.logfile import FAR_S

log = structlog.get_logger()


class Normalizer:
    """Batches of all sources, each source by itself."""

    def __init__(
        self,
        counters: Counters,
        rejects: Rejects,
        *,
        lateness_s: float = 0.0,
        far_s: float = FAR_S,
        most: int = 150_000,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Args:
        lateness_s: how late lines may come; packets are held back so long and put in order.
        far_s: a time so far from the newest one is believed only when lines go on at it.
        most: packets held back at most.
        wall: this machine's clock, epoch seconds.
        """
        self._sources: dict[str, _Source] = {}
        self._source = partial(_Source, counters, rejects, lateness_s=lateness_s, far_s=far_s, most=most, wall=wall)

    def __call__(self, batch: Batch) -> list[Batch]:
        """What can go out now, as one batch; two where the source's clock was set back between: then the first one is final."""
        if batch.source not in self._sources:
            self._sources[batch.source] = self._source(batch.source)
        return self._sources[batch.source](batch)


def normalized(batches: Iterable[Batch], counters: Counters, rejects: Rejects, lateness_s: float = 0.0) -> Iterator[Batch]:
    """`Normalizer` over finished input."""
    return chain.from_iterable(map(Normalizer(counters, rejects, lateness_s=lateness_s), batches))


class _Source:
    """One source."""

    def __init__(
        self,
        counters: Counters,
        rejects: Rejects,
        name: str,
        *,
        lateness_s: float,
        far_s: float,
        most: int,
        wall: Callable[[], float],
    ) -> None:
        self._name, self._counters, self._rejects = name, counters, rejects
        self._clock = Clock(far_s, self._put_aside, wall=wall)
        self._order = Order(lateness_s, counters, most=most)
        self._copies = Copies(counters)
        self._turn = Direction(far_s)
        self._inputs: deque[tuple[int, Batch]] = deque()  # those of which something is held, with their numbers
        self._number = 0

    def __call__(self, batch: Batch) -> list[Batch]:
        self._number += 1
        count_connections(batch.flows, self._counters)
        self._inputs.append((self._number, batch))
        if batch.clock is None:
            stretches = self._clock(batch.packets, self._number, quiet=batch.quiet, final=batch.final)
        else:
            stretches = [Stretch(batch.packets, self._number)]
        out, last = [], stretches[-1]
        for stretch, following in pairwise(stretches):
            self._say_turned_back(following.behind_s)
            packets = self._copies(self._order(stretch.packets, stretch.since, all_=True), final=True)
            out.append(self._out(packets, following.since, final=True))
        ends = batch.final or batch.quiet
        packets = self._copies(self._order(last.packets, last.since, all_=ends, clock=batch.clock), final=batch.final)
        held = (since for since in (self._clock.since, self._order.since) if since is not None)
        out.append(self._out(packets, min(held, default=self._number + 1), idle=batch.idle, final=batch.final, quiet=batch.quiet))
        out[-1] = replace(out[-1], clock=batch.clock)
        return out

    def _out(self, packets: Sequence[Packet], since: int, **state: bool) -> Batch:
        """A batch of packets, and of the flow rows of every input before number `since`."""
        start = end = self._inputs[0][1].start
        flows: list[Flow] = []
        while self._inputs and self._inputs[0][0] < since:
            done = self._inputs.popleft()[1]
            flows += done.flows
            end = done.end
        if self._inputs:
            end = self._inputs[0][1].start
        return self._turn(Batch(list(packets), flows, start, end, source=self._name, **state))

    def _put_aside(self, packet: Packet, ahead_s: float) -> None:
        """Count a packet with a wrong time, and write it to the rejects file with the place from which it was read."""
        batch = self._inputs[0][1]
        before = {(p.device, p.inode): p.offset for p in batch.start}
        logs = [p for p in batch.end if p not in batch.start and p.log != "flow"]
        path, offset = (logs[0].path, before.get((logs[0].device, logs[0].inode), 0)) if logs else (self._name, 0)
        away = f"{abs(ahead_s):.0f} s {'before' if ahead_s < 0 else 'after'} the lines before it"
        far = "far from the lines after it" if abs(ahead_s) == inf else away
        reason = f"a wrong time, {far}; the line stands behind this offset. Set the clocks by NTP"
        self._rejects.add(path, offset, reason, msgspec.json.encode(packet))
        self._counters.wrong_times += 1

    def _say_turned_back(self, by_s: float) -> None:
        log.warning(
            "clock_turned_back",
            source=self._name,
            by_s=round(by_s),
            remedy="open episodes were closed, and what follows is judged by the new time; set the clock of Zeek's "
            "machine by NTP",
        )
