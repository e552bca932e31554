"""The alerter: puts the judges' steps together by second, gathers verdicts into episodes and writes alerts; one is active.

A second is taken once every partition is judged up to it, and flow rows are read as far. So what is written depends neither on
who judged nor on when. What is acknowledged is remembered with the offsets in one transaction; after a kill, documents that come
again have the ids that they had before.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np
import structlog
from confluent_kafka import Consumer, TopicPartition

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import Config
from packetclip_sensor.kafka import clients
from packetclip_sensor.kafka.kept import Kept, TakenOverError
from packetclip_sensor.kafka.messages import ALERTER, LINES, Repeats, Seen, Step, Topics, decode_step, encode, repeated_rows
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.normalize.direction import flow_sides
from packetclip_sensor.normalize.quality import count_connections
from packetclip_sensor.pipeline import Alerting, StoppedError, say_alerts, sink
from packetclip_sensor.records import AlertBatch, Batch, Flow, Lines, Position, Verdict, VerdictBatch
from packetclip_sensor.service.checkpoint import State
from packetclip_sensor.service.health import Health
from packetclip_sensor.sources import zeek
from packetclip_sensor.windows.windows import VIEWS

FAR = 1 << 62
"""Behind every time."""
SAVE_S = 1.0
"""The state is saved at most so often where nothing was written."""

MOST_ROWS = 10_000
"""Flow rows of one second that are kept of a partition. Where so many wait for the judges, it is read no further."""

log = structlog.get_logger()
_state = msgspec.msgpack.Decoder(State)


class Steps:
    """The steps of all partitions, put together by second."""

    def __init__(self, partitions: int, done: int) -> None:
        """`done`: seconds up to this one were taken before a restart."""
        self.done, self.judged_by = done, dict.fromkeys(range(partitions), done)
        self._held: dict[int, tuple[dict[tuple[int, int], Verdict], list[Seen], int]] = {}
        """By second: verdicts by partition and number, for parts of a step may come again; packets; offset of the first step."""
        self._next: int | None = None

    def take(self, step: Step, offset: int) -> None:
        """Take in a step; what was taken before is dropped."""
        self._next = offset + 1
        if step.partition not in self.judged_by:
            return
        known = self.judged_by[step.partition]
        for verdict, number in zip(step.verdicts, step.numbers, strict=True):
            if verdict.second > known:
                self._held.setdefault(verdict.second, ({}, [], offset))[0][step.partition, number] = verdict
        for seen in step.seen:
            if seen.second > known:
                self._held.setdefault(seen.second, ({}, [], offset))[1].append(seen)
        self.judged_by[step.partition] = max(known, step.judged)

    @property
    def judged(self) -> int:
        """The second up to which all partitions are judged."""
        return min(self.judged_by.values())

    @property
    def resume(self) -> int | None:
        """Offset of the oldest step that is held, or behind all."""
        return min((offset for _, _, offset in self._held.values()), default=self._next)

    @property
    def first(self) -> int:
        """The first second not yet taken in which something was."""
        return min(self._held, default=FAR)

    def pop(self, second: int) -> tuple[list[Verdict], list[Seen]]:
        """What was in a second, in the order in which one sensor would have found it."""
        verdicts, seen, _ = self._held.pop(second, ({}, [], 0))
        return sorted(verdicts.values(), key=_place), seen


def _place(verdict: Verdict) -> tuple[int, float, str, int]:
    last = verdict.packets[-1]
    return VIEWS.index(verdict.view), last.ts, last.uid, last.n


@dataclass
class _Rows:
    queue: deque[tuple[float, Flow, int]] = field(default_factory=deque)
    """Time at which it counts, row, and the offset behind it."""
    time: float = 0.0
    """Of the last row: that of its writing, or of a row before it which was written later."""
    of_second: int = 0
    """Rows of its second."""
    ended: bool = False
    next: int = 0
    repeats: Repeats[Flow] = field(default_factory=repeated_rows)


class Flows:
    """The flow rows of all partitions, each partition in its own order."""

    def __init__(self, next_: dict[int, int], counters: Counters, wall: Callable[[], float] = time.time) -> None:
        """`next_`: for each partition the offset from which it is read. `wall`: this machine's clock, epoch seconds."""
        self.rows = {partition: _Rows(next=offset) for partition, offset in next_.items()}
        self._counters, self.ends = counters, clients.EndClock(wall)

    def take(self, partition: int, flow: Flow | None, offset: int) -> None:
        """Take in a row; None for a line that was none."""
        rows = self.rows[partition]
        rows.ended = False
        if flow is not None and not rows.repeats([flow], rows.time):
            self._counters.repeats += 1
        elif flow is not None:
            before, rows.time = rows.time, max(rows.time, flow.written)
            rows.of_second = rows.of_second + 1 if int(before) == int(rows.time) else 1
            if rows.of_second <= MOST_ROWS:
                rows.queue.append((rows.time, flow, offset + 1))
            else:
                self._counters.flows_dropped += 1
        if not rows.queue:
            rows.next = offset + 1

    @property
    def read(self) -> float:
        """The time up to which all rows are read, epoch seconds."""
        return min(self.clocks().values())

    def clocks(self) -> dict[int, float]:
        """The same of each partition."""
        now = self.ends.time
        return {number: max(rows.time, now) if rows.ended else rows.time for number, rows in self.rows.items()}

    @property
    def full(self) -> set[int]:
        """Partitions of which enough rows wait for the judges. Two seconds are read of each in any case, so that seconds end."""
        of = self.rows.items()
        return {number for number, rows in of if len(rows.queue) > MOST_ROWS and rows.time - rows.queue[0][0] > 2}

    @property
    def first(self) -> int:
        """The second of the first row that waits."""
        return min((int(rows.queue[0][0]) for rows in self.rows.values() if rows.queue), default=FAR)

    def pop(self, before: float) -> list[Flow]:
        """The rows written before a time, by time."""
        found = []
        for rows in self.rows.values():
            while rows.queue and rows.queue[0][0] < before:
                _, flow, rows.next = rows.queue.popleft()
                found.append(flow)
        return sorted(found, key=lambda flow: (flow.written, flow.uid))


class Alerter:
    """The stage, without Kafka: `steps` and `flows` are filled by who reads them, alerts go out."""

    def __init__(self, partitions: int, alerting: Alerting, state: State, flows: Flows) -> None:
        self.steps, self.flows, self._alerting = Steps(partitions, state.judged), flows, alerting

    def __call__(self) -> AlertBatch | None:
        """The alerts of all seconds that are complete; None where no second is."""
        steps, flows, out, last = self.steps, self.flows, AlertBatch(), None
        complete = int(min(steps.judged, flows.read - 1))
        while steps.done < complete:
            second = min(complete, steps.first, max(flows.first, steps.done + 1))
            # What was quiet before closes first, so that no row of this second depends on how far was read at once.
            for found in (_batch([], [], [], second - 1), _batch(*steps.pop(second), flows.pop(second + 1), second)):
                last = self._alerting(found)
                out.alerts += last.alerts
            steps.done = second
        if last is None:
            return None
        out.judged, out.episodes, out.spent = steps.done, last.episodes, last.spent
        return out

    def slowest(self, topics: Topics) -> tuple[str, float] | None:
        """The partition for which all others wait, and the time that it has come to, epoch seconds."""
        rows = {(topics.flow, number): clock for number, clock in self.flows.clocks().items()}
        return clients.slowest(rows | {(topics.host, number): judged for number, judged in self.steps.judged_by.items()})


def _batch(verdicts: list[Verdict], seen: list[Seen], flows: list[Flow], judged: int) -> VerdictBatch:
    packets = np.empty(len(seen), np.object_)
    packets[:] = seen
    seconds = np.array([each.second for each in seen], np.int64)
    return VerdictBatch(verdicts, Batch([], flows), judged, (), packets, seconds)


def run(config: Config, stop: threading.Event, counters: Counters | None = None) -> Counters:
    """Write alerts, or wait while another alerter does, until stopped."""
    with clients.role(config, stop, counters) as (health, rejects):
        bundle = Bundle.open(config.model_path)
        health.model_version = bundle.manifest.version
        active = _Active(config, bundle, health, rejects, stop)
        while not stop.is_set():
            if not active.given():
                continue  # the sink is opened by the one that is active alone: a file has one writer
            with contextlib.suppress(StoppedError, TakenOverError):
                for batch in sink(active.batches(), config, health.counters, bundle.manifest.missions, stop=stop, health=health):
                    active.save(batch)
                    say_alerts(batch, bundle.manifest.missions)
        active.close()
    return health.counters


class _Active:
    """The Kafka side: member of the group that has the step topic, and, while it is given to this one, reader of the rows."""

    def __init__(self, config: Config, bundle: Bundle, health: Health, rejects: Rejects, stop: threading.Event) -> None:
        self._config, self._bundle, self._health, self._rejects, self._stop = config, bundle, health, rejects, stop
        self._topics = clients.topics(config)
        self._flow_partitions, self._partitions = clients.partitions(config.kafka, self._topics.flow, self._topics.host)
        self._given = False
        # While a sink waits nothing is read; that is no reason to give the topic to another alerter, whose sink would wait too.
        options = {"max.poll.interval.ms": 24 * 3600 * 1000, "isolation.level": "read_committed"}
        self._steps = clients.consumer(config.kafka, "alert", **options)
        self._rows = clients.consumer(config.kafka, "alert-flows")
        self._subscribe()
        self._saved_at = 0.0

    def _subscribe(self) -> None:
        self._steps.subscribe([self._topics.step], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def _assigned(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        # `given` is what is new: it is empty where another alerter comes or goes and this one keeps the topic.
        consumer.incremental_assign([TopicPartition(tp.topic, tp.partition, self._begin()) for tp in given])
        self._given |= bool(given)

    def _revoked(self, consumer: Consumer, taken: list[TopicPartition]) -> None:
        if taken:
            log.info("alerter_waits")
            self._given, self._health.reached = False, None
        consumer.incremental_unassign(taken)

    def _begin(self) -> int:
        """Take over from the alerter before; returns the offset from which to read steps."""
        config, topics = self._config, self._topics
        self._kept = Kept(config, 0, "alert", self._health, self._stop)
        saved = self._kept.found.get(ALERTER)
        state = _state.decode(saved) if saved else State()
        offsets = {(p.path, p.inode): p.offset for p in state.positions}
        count = self._flow_partitions
        flows = {number: offsets.get((topics.flow, number), clients.BEGINNING) for number in range(count)}
        alerting = self._alerting = Alerting(self._bundle, config, self._health.counters, state, counts_kept=True)
        self._alerter = Alerter(self._partitions, alerting, state, Flows(flows, self._health.counters))
        self._rows.assign([TopicPartition(topics.flow, number, offset) for number, offset in flows.items()])
        self._paused = clients.hold(self._rows, set(), {(topics.flow, number) for number in flows})
        log.info("alerter_active", judged=state.judged, episodes=len(state.episodes))
        return offsets.get((topics.step, 0), clients.BEGINNING)

    def given(self) -> bool:
        """Whether the step topic is this one's now; waits a moment where it is not."""
        if not self._given:
            for message in clients.read(self._steps, 1, 0.2):
                if message.value is not None:
                    self._alerter.steps.take(decode_step(message.value), message.offset)
            self._health.moved()
        return self._given

    def batches(self) -> Iterator[AlertBatch]:
        """Alerts, with the offsets from which a restart goes on as positions.

        Raises:
            StoppedError: the alerter was asked to stop. TakenOverError: another one has the step topic now.
        """
        unwrap, topics = LINES[self._config.kafka.format], self._topics
        while True:
            if self._stop.is_set():
                raise StoppedError
            messages = list(clients.read(self._steps, 64, 0.05))
            if not self._given:
                raise TakenOverError
            self._health.moved()
            alerter = self._alerter
            alerter.flows.ends.reading()
            for message in messages:
                if message.value is not None:
                    alerter.steps.take(decode_step(message.value), message.offset)
            for message in clients.read(self._rows, 4096, 0.0):
                if message.value is None:
                    alerter.flows.rows[message.partition].ended = True
                else:
                    self._take_rows(message.partition, message.offset, unwrap(message.value))
            batch = alerter()
            self._paused = clients.hold(self._rows, {(topics.flow, number) for number in alerter.flows.full}, self._paused)
            self._health.reached = alerter.slowest(topics)
            if batch is not None:
                found = [Position(topics.flow, 0, number, 0, "", rows.next) for number, rows in alerter.flows.rows.items()]
                if alerter.steps.resume is not None:
                    found.append(Position(topics.step, 0, 0, 0, "", alerter.steps.resume))
                batch.positions = tuple(found)
                yield batch

    def _take_rows(self, partition: int, offset: int, value: bytes) -> None:
        place = Position(f"{self._topics.flow}[{partition}]", 0, partition, 0, "", offset)
        flows = next(zeek.batches([Lines("flow", value + b"\n", place, place)], self._rejects, self._health.counters)).flows
        count_connections(flows, self._health.counters)
        for flow in flows or (None,):
            reason = clients.wrong_time(flow.written) if flow else ""
            if reason:
                self._rejects.add(place.path, offset, reason, value)
            self._alerter.flows.take(partition, flow_sides(flow) if flow and not reason else None, offset)

    def save(self, batch: AlertBatch) -> None:
        """Remember what is acknowledged, with the offsets.

        Raises:
            TakenOverError: another alerter is active; this one stands in line again.
        """
        self._health.judged, self._health.episodes_open = batch.judged, len(batch.episodes)
        self._health.budget_used = self._alerting.budget_used
        if not batch.alerts and time.monotonic() - self._saved_at < SAVE_S:
            return
        state = State(
            positions=batch.positions,
            judged=batch.judged,
            episodes=batch.episodes,
            spent=batch.spent,
            model_version=self._bundle.manifest.version,
            saved=time.time(),
        )
        steps = [TopicPartition(p.path, p.inode, p.offset) for p in batch.positions if p.path == self._topics.step]
        try:
            if self._kept.save({ALERTER: encode(state)}, steps, self._steps):
                self._saved_at = time.monotonic()
        except TakenOverError:
            self._leave()
            raise

    def _leave(self) -> None:
        """Give the topic back, and ask for it anew: who gets it begins at the state that was saved last."""
        self._given = False
        self._steps.unsubscribe()
        self._subscribe()

    def close(self) -> None:
        """Leave the group, so that a waiting alerter goes on at once."""
        self._steps.close()
        self._rows.close()
