"""How the sensor is: what the pipeline notes while it works, and what follows from it for those who look from outside.

The pipeline's thread only sets attributes here, so being watched costs it nothing; another thread (`monitor.py`) reads them, adds
what it measures itself, and asks `reasons` why the sensor is not well. Every reason has a name to alert on, and says the remedy.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from packetclip_sensor import __version__
from packetclip_sensor.common.metrics import Counters, Gauges
from packetclip_sensor.common.text import printable
from packetclip_sensor.config.settings import HealthConfig
from packetclip_sensor.normalize.quality import FEW_CONNECTIONS, FEW_PACKETS, MANY_COPIES, MANY_GAPS, MANY_ONE_WAY

if TYPE_CHECKING:
    from packetclip_sensor.common.rejects import Rejects
    from packetclip_sensor.records import Batch
    from packetclip_sensor.service.load_limits import Shedding
    from packetclip_sensor.sources.backlog import Backlog

MIN_FREE_BYTES = 64 << 20
STALLED_S = 60.0
"""A step of the pipeline takes a second at most, also under a flood."""
REJECTED_SHARE = 0.01
"""Share of the lines of the last minutes from which rejected ones are a reason: one line of many is a writer's mishap."""
SHARES_S = 300.0
"""Shares of rejected lines, copies, one-way connections and gaps are those of so long a time."""
SKEW_S = 30.0
"""A source whose fresh lines are further than this from this machine's clock has another clock, or its Zeek lags."""
FRESH_S = 2.0
"""Lines read so soon after there were none to read have just been written."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Reason(NamedTuple):
    """Why the sensor is not well."""

    name: str
    message: str


REASONS = (
    "starting", "stalled", "sink_waiting", "behind", "shedding", "no_logs", "unreadable", "logs_gone", "lines_rejected", "clock",
    "copies", "one_way", "gaps", "flows_dropped",
    "state_unsaved", "disk_full", "memory", "stopping",
)  # fmt: skip
"""Every name that a Reason can have."""


@dataclass
class Health:
    """One object for the whole sensor. Attributes are set by one thread each; reading them needs no lock."""

    config: HealthConfig
    counters: Counters
    sensor: str = ""
    state_dir: Path = Path()
    stopping: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    model_version: str = ""
    backlog: Backlog | None = None
    dead_letter_paths: tuple[Path, ...] = ()
    started: bool = False
    """Set when the pipeline has read the logs for the first time."""
    packets_held: int = 0
    episodes_open: int = 0
    budget_used: float = 0.0
    judged: int = 0
    read_since: float = 0.0
    """Archived logs that were written since then may hold what was not read, epoch seconds; 0 before anything was judged."""
    last_packet: float = 0.0
    reached: tuple[str, float] | None = None
    """Of a role on Kafka: the partition that is furthest behind, and the time up to which it is read or judged, epoch seconds."""
    shedding: Shedding | None = None
    rejects: Rejects | None = None
    accepted: bool = False
    """Whether Elasticsearch has taken a health document."""
    unsaved: str | None = None
    """Why the state file could not be written last time."""
    lag_s: float = 0.0
    behind: str = ""
    """The partition that was furthest behind when that was measured."""
    lag_bytes: int = 0

    def __post_init__(self) -> None:
        self._since = self._moved = self.clock()
        self._waiting: tuple[float, str] | None = None
        self._read_all: dict[str, float] = {}
        self._offsets: dict[str, float] = {}
        self._counted: deque[tuple[float, Counters]] = deque([(self._since, replace(self.counters))])

    def read(self, batch: Batch, held: int) -> None:
        """A batch was read and cut into windows, of which `held` packets stay."""
        if batch.packets:
            self.last_packet = batch.packets[-1].ts
            if self.clock() - self._read_all.pop(batch.source, -inf) < FRESH_S:
                self._offsets[batch.source] = self.last_packet - self.now()
        if batch.idle:
            self._read_all[batch.source] = self.clock()
        self.packets_held = held
        self.moved()

    def moved(self) -> None:
        """The pipeline has done a step."""
        self.started = True
        self._moved = self.clock()

    def paused(self) -> None:
        """The whole process has stood still, which is no fault of the pipeline."""
        self._moved = self.clock()

    def waiting(self, why: str | None) -> None:
        """The sink begins to wait for its place to write, or (None) goes on."""
        if why is None:
            self._waiting, self._moved = None, self.clock()
        else:
            self._waiting = (self._waiting[0] if self._waiting else self.clock(), why)

    def measure(self) -> None:
        """Look how far the reader is behind its logs; lists folders, so not for the pipeline's own thread."""
        if self.backlog is not None:
            self.lag_bytes, self.lag_s = self.backlog.measure(self.now())
        elif self.reached or self.behind:
            self.behind, until = self.reached or ("", 0.0)
            self.lag_s = max(0.0, self.now() - until) if until else 0.0
        self._counted.append((self.clock(), replace(self.counters)))
        while len(self._counted) > 2 and self._counted[1][0] <= self.clock() - SHARES_S:
            self._counted.popleft()

    def _share(self, part: str, of: str, least: int) -> float:
        """Share of one counter in another over the last SHARES_S; 0 where there were fewer than `least`."""
        before, now = self._counted[0][1], self._counted[-1][1]
        count = getattr(now, of) - getattr(before, of)
        return (getattr(now, part) - getattr(before, part)) / count if count >= least else 0.0

    def _shares(self) -> tuple[float, float, float]:
        """Of copies, of one-way connections, and of those with gaps."""
        connections = "connections", FEW_CONNECTIONS
        one_way = self._share("connections_one_way", *connections)
        return self._share("copies", "packets", FEW_PACKETS), one_way, self._share("connections_with_gaps", *connections)

    def _skewed(self) -> tuple[str, float]:
        """The source whose clock is furthest off, and by how many seconds it is ahead."""
        return max(self._offsets.copy().items(), key=lambda item: abs(item[1]), default=("", 0.0))

    @property
    def uptime_s(self) -> float:
        return self.clock() - self._since

    @property
    def _sheds(self) -> bool:
        return self.shedding is not None and self.shedding.on

    def gauges(self) -> Gauges:
        """How it is now."""
        waiting = self._waiting
        copies, one_way, gaps = self._shares()
        return Gauges(
            healthy=int(not self.reasons()),
            lag_seconds=round(self.lag_s, 3),
            lag_bytes=self.lag_bytes,
            sink_waiting_seconds=round(self.clock() - waiting[0], 3) if waiting else 0.0,
            quiet_seconds=round(self.clock() - self._moved, 3),
            last_packet_timestamp_seconds=self.last_packet,
            judged_timestamp_seconds=float(self.judged),
            files=self.backlog.files if self.backlog else 0,
            files_open=self.backlog.files_open if self.backlog else 0,
            copies_share=round(copies, 3),
            one_way_share=round(one_way, 3),
            gaps_share=round(gaps, 3),
            clock_offset_seconds=round(self._skewed()[1], 3),
            packets_held=self.packets_held,
            episodes_open=self.episodes_open,
            budget_used_share=round(self.budget_used, 3),
            dead_letter_bytes=sum(_size(path) for path in self.dead_letter_paths),
            disk_free_bytes=_free(self.state_dir),
            shedding=int(self._sheds),
        )

    def reasons(self) -> list[Reason]:
        """Why it is not well; empty where it is."""
        return list(self._reasons())

    def remarks(self) -> list[str]:
        """What is worth knowing and no fault."""
        return [printable(remark) for remark in self.backlog.remarks.copy().values()] if self.backlog else []

    def _reasons(self) -> Iterator[Reason]:
        config, waiting = self.config, self._waiting
        if self.stopping():
            yield Reason("stopping", "the sensor was asked to stop")
        if not self.started:
            yield Reason("starting", "the logs have not been read yet")
        waited_s = self.clock() - waiting[0] if waiting else 0.0
        if waiting and waited_s > config.max_wait_s:
            yield Reason("sink_waiting", f"for {waited_s:.0f} s nothing could be written: {waiting[1]}")
        quiet_s = self.clock() - self._moved
        if self.started and not waiting and quiet_s > STALLED_S:
            yield Reason("stalled", f"the pipeline has not moved for {quiet_s:.0f} s; look at the sensor's log and restart it")
        if self.lag_s > config.max_lag_s:
            unread = f"{self.lag_bytes} bytes of log are unread, the oldest line is {self.lag_s:.0f} s old"
            yield Reason("behind", f"{self.behind} is {self.lag_s:.0f} s behind" if self.behind else unread)
        if self._sheds:
            shed = f"{self.counters.shed_lines} lines and {self.counters.shed_packets} packets so far"
            yield Reason("shedding", f"load is shed by the rule limits.shed_load, {shed}")
        if self.backlog is not None:
            yield from (Reason(name, printable(message)) for name, message in self.backlog.blind)
        before, now = self._counted[0][1], self._counted[-1][1]
        lines, rejected = now.lines - before.lines, now.rejects - before.rejects
        if rejected and self.rejects is not None and rejected >= REJECTED_SHARE * max(lines, rejected):
            of = f"{rejected:,} of {max(lines, rejected):,} log lines of the last minutes were rejected"
            remedy = f"see {self.rejects.path}, and take the Zeek package of the sensor's own version"
            yield Reason("lines_rejected", f"{of}, the last: {printable(self.rejects.last)}; {remedy}")
        if dropped := now.flows_dropped - before.flows_dropped:
            yield Reason("flows_dropped", f"{dropped:,} flow rows of crowded seconds were dropped; documents may lack them")
        yield from self._reasons_of_the_link()
        if self.unsaved:
            yield Reason("state_unsaved", f"the place to restart from cannot be saved: {self.unsaved}")
        free = _free(self.state_dir)
        if free < MIN_FREE_BYTES:
            yield Reason("disk_full", f"{free >> 20} MiB are free at {self.state_dir}; make room")
        memory = memory_bytes()
        if memory > config.max_memory_bytes:
            yield Reason("memory", f"{memory >> 20} MiB of memory are held, above health.max_memory_bytes")

    def _reasons_of_the_link(self) -> Iterator[Reason]:
        """What the sensor sees is not what is there."""
        source, ahead_s = self._skewed()
        if abs(ahead_s) > SKEW_S:
            way = "ahead of" if ahead_s > 0 else "behind"
            words = f"fresh lines of {source} are {abs(ahead_s):.0f} s {way} this machine's clock"
            yield Reason("clock", f"{words}; set the clocks by NTP, or see why that Zeek lags")
        copies, one_way, gaps = self._shares()
        if copies >= MANY_COPIES:
            words = f"{copies:.0%} of the packets are copies and counted once"
            yield Reason("copies", f"{words}; let the mirror send one direction of each port, or one VLAN")
        if one_way >= MANY_ONE_WAY:
            words = f"of {one_way:.0%} of the TCP connections one side is not seen"
            yield Reason("one_way", f"{words}; give Zeek both directions of the link")
        if gaps >= MANY_GAPS:
            words = f"of {gaps:.0%} of the TCP connections bytes are missing"
            yield Reason("gaps", f"{words}; see Zeek's capture_loss.log, and give it more processors or less traffic")

    def as_json(self) -> tuple[bool, bytes]:
        """Whether it is well, and the text of `/health`."""
        reasons = self.reasons()
        gauges = self.gauges().as_dict()
        del gauges["healthy"]
        body = {
            "status": "failing" if reasons else "ok",
            "reasons": [reason._asdict() for reason in reasons],
            "remarks": self.remarks(),
            "sensor": self.sensor,
            "version": __version__,
            "model_version": self.model_version,
            "uptime_seconds": round(self.uptime_s, 1),
            "memory_bytes": memory_bytes(),
            **gauges,
            "totals": self.counters.as_dict(),
        }
        return not reasons, msgspec.json.format(msgspec.json.encode(body)) + b"\n"


def memory_bytes() -> int:
    """Resident memory of this process; 0 where /proc is not there."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _free(folder: Path) -> int:
    """Bytes that this user may still write where `folder` is; as if plenty where that cannot be words."""
    try:
        stat = os.statvfs(folder)
    except OSError:
        return 1 << 62
    return stat.f_bavail * stat.f_frsize
