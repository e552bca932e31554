"""The router: copies each packet line and flow row into the partitions of its two hosts, and says behind how far it has come.

No partition of raw lines is routed more than `ahead_s` seconds of event time ahead of the slowest, whoever routes that. Else, in
catching up, the judges would have to hold all that one shipper sent while another's lines are still unread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import structlog
from confluent_kafka import Consumer, TopicPartition

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import Config
from packetclip_sensor.kafka import clients
from packetclip_sensor.kafka.messages import LINES, ORIGIN, TICK, Place, Row, Tick, decode_tick, encode, partition_of
from packetclip_sensor.service.health import Health
from packetclip_sensor.sources import zeek

TICK_S = 0.1
STILL_S = 10.0
"""A router that stood still for so long, which is the session's time, is believed dead: its partitions are another's."""
COMMIT_S = 0.5
MOST_QUEUED = 4096
"""Lines of one raw partition that wait for the slowest one; beyond it the partition is read no further."""

log = structlog.get_logger()


class Head(msgspec.Struct, gc=False):
    """What a router looks at of a line."""

    ts: float
    orig_h: str = msgspec.field(name="id.orig_h")
    resp_h: str = msgspec.field(name="id.resp_h")
    duration: float | None = None


_head = msgspec.json.Decoder(Head)


class _Line(NamedTuple):
    time: float
    """Of a packet; of a flow row when it was written, or a row before it which was written later."""
    to: tuple[int, ...]
    key: bytes
    value: bytes
    behind: int
    """Offset behind it."""


@dataclass
class _Raw:
    """A partition of raw lines that this router reads."""

    newest: float = 0.0
    """Of the flow rows read."""
    given: float = 0.0
    """Time of the last line given out."""
    queue: deque[_Line] = field(default_factory=deque)
    clock: float = 0.0
    ended: bool = False
    next: int | None = None
    """Offset behind what was given out."""


class Router:
    """The stage, without Kafka: lines of raw partitions come in, lines for host partitions go out."""

    def __init__(
        self,
        partitions: int,
        hosts: int,
        ahead_s: float,
        counters: Counters,
        rejects: Rejects,
        *,
        flow: str = "packetclip.flow",
        unwrap: Callable[[bytes], bytes] = bytes,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Args:
        partitions: how many the raw topics have, together. hosts: how many the host topic has. flow: which of the raw topics
            has flow rows. unwrap: one of LINES. wall: this machine's clock, epoch seconds.
        """
        self._partitions, self._hosts, self._ahead_s, self._wall = partitions, hosts, ahead_s, wall
        self.ends = clients.EndClock(wall)
        self._counters, self._rejects, self._flow, self._unwrap = counters, rejects, flow, unwrap
        self.raw: dict[Place, _Raw] = {}
        self._others: dict[Place, float] = {}

    def take(self, message: clients.Message) -> None:
        """Take in a message of a raw partition, which may hold several lines, or its end."""
        value, behind = message.value, message.offset + 1
        raw = self.raw[message.place]
        raw.ended = value is None
        if value is None:
            return
        of_flow = message.topic == self._flow
        for number, line in enumerate(self._unwrap(value).split(b"\n")):
            if line and not line.isspace():
                self._counters.lines += 1
                try:
                    head = _head.decode(zeek.in_seconds(line))
                    ts = head.ts + (head.duration or 0.0)
                    reason = clients.wrong_time(ts, self._wall())
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
                    reason = str(err)
                if reason:
                    self._rejects.add(f"{message.topic}[{message.partition}]", message.offset, reason, line)
                    self._counters.rejects = self._rejects.count
                    continue
                to = tuple(sorted({partition_of(head.orig_h, self._hosts), partition_of(head.resp_h, self._hosts)}))
                if of_flow:
                    ts = raw.newest = max(raw.newest, ts)
                    line = encode(Row(ts, line))  # noqa: PLW2901
                origin = ORIGIN.pack(of_flow, message.partition, message.offset, number)
                raw.queue.append(_Line(ts, to, origin, line, behind))
        if not raw.queue:
            raw.next = behind

    @property
    def offsets(self) -> list[TopicPartition]:
        """For each raw partition the offset behind what was given out, with the time of that."""
        return [TopicPartition(*place, raw.next, str(raw.given)) for place, raw in self.raw.items() if raw.next is not None]

    def note_clock(self, tick: Tick) -> None:
        """The clock of a raw partition that another router reads."""
        self._others[tick.place] = tick.clock

    def clocks(self) -> list[Tick]:
        """How far each raw partition of this router's has come: to its next line, or where there is none, with the wall clock."""
        for raw in self.raw.values():
            if raw.queue:
                raw.clock = max(raw.clock, min(raw.queue[0].time, self._wall()))
            elif raw.ended:
                raw.clock = max(raw.clock, self.ends.time)
        return [Tick(place, raw.clock) for place, raw in self.raw.items()]

    def __call__(self) -> Iterator[tuple[int, bytes, bytes]]:
        """The lines that may go out now, each with its host partition and key."""
        known = self._others | {tick.place: tick.clock for tick in self.clocks()}
        if len(known) < self._partitions:
            return
        limit = min(known.values()) + self._ahead_s
        for raw in self.raw.values():
            while raw.queue and raw.queue[0].time <= limit:
                line = raw.queue.popleft()
                raw.given = line.time
                if not raw.queue or raw.queue[0].behind != line.behind:
                    raw.next = line.behind
                for partition in line.to:
                    yield partition, line.key, line.value


def run(config: Config, stop: threading.Event, counters: Counters | None = None) -> Counters:
    """Route until stopped."""
    with clients.role(config, stop, counters) as (health, rejects):
        member = _Member(config, health, rejects, stop)
        ticked = committed = time.monotonic()
        while not stop.is_set():
            member.route()
            now = time.monotonic()
            if now - member.turned > STILL_S:
                member.leave()
            member.turned = now
            if now - ticked >= TICK_S:
                ticked = now
                member.tick()
            if now - committed >= COMMIT_S:
                committed = now
                member.commit()
            health.moved()
        member.commit()
        member.close()
    return health.counters


class _Member:
    """The Kafka side: member of the group that has the raw topics."""

    def __init__(self, config: Config, health: Health, rejects: Rejects, stop: threading.Event) -> None:
        kafka, self._topics, self._health, self._stop = config.kafka, clients.topics(config), health, stop
        topics = self._topics
        packets, flows, self._hosts = clients.partitions(kafka, topics.packet, topics.flow, topics.host)
        self._router = Router(
            packets + flows,
            self._hosts,
            kafka.ahead_s,
            health.counters,
            rejects,
            flow=topics.flow,
            unwrap=LINES[kafka.format],
        )
        self._producer, self._others = clients.producer(kafka), clients.consumer(kafka, "clock")
        self._others.assign([TopicPartition(topics.clock, 0, clients.END)])
        self._consumer = clients.consumer(kafka, "route", **{"queued.max.messages.kbytes": 8192})
        self._paused: set[Place] = set()
        self.turned = time.monotonic()
        """When this member last went on."""
        self._subscribe()

    def _subscribe(self) -> None:
        topics = [self._topics.packet, self._topics.flow]
        self._consumer.subscribe(topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def _assigned(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        found = clients.patiently(lambda: consumer.committed(given, timeout=clients.ASK_S), self._stop)
        log.info("assigned", partitions=[f"{tp.topic}[{tp.partition}] {tp.offset}" for tp in found])
        for tp in found:
            until = float(tp.metadata or 0.0)
            self._router.raw[tp.topic, tp.partition] = _Raw(until, until)
        consumer.incremental_assign(found)
        clients.hold(consumer, set(), {(tp.topic, tp.partition) for tp in found})
        self.turned = time.monotonic()

    def _revoked(self, consumer: Consumer, taken: list[TopicPartition]) -> None:
        log.info("revoked", partitions=[f"{tp.topic}[{tp.partition}]" for tp in taken])
        self.commit()
        for tp in taken:
            self._router.raw.pop((tp.topic, tp.partition), None)
        consumer.incremental_unassign(taken)

    def route(self) -> None:
        """Route what is read now."""
        router, counters = self._router, self._health.counters
        router.ends.reading()
        for message in clients.read(self._consumer, 2000, 0.02):
            if message.place in router.raw:
                router.take(message)
        for message in clients.read(self._others, 1000, 0.0):
            if message.value and (tick := decode_tick(message.value)).place not in router.raw:
                router.note_clock(tick)
        for partition, key, value in router():
            clients.produce(self._producer, self._topics.host, value, key=key, partition=partition)
            counters.packets += 1
        full = {place for place, raw in router.raw.items() if len(raw.queue) > MOST_QUEUED}
        self._paused = clients.hold(self._consumer, full, self._paused & router.raw.keys())
        self._producer.poll(0)
        self._health.reached = clients.slowest({place: raw.clock for place, raw in router.raw.items()})

    def tick(self) -> None:
        """Say to the other routers, and behind the lines in every host partition, how far this one has come."""
        for tick in self._router.clocks():
            clients.produce(self._producer, self._topics.clock, encode(tick), partition=0)
            for partition in range(self._hosts):
                clients.produce(self._producer, self._topics.host, encode(tick), key=TICK, partition=partition)

    def commit(self) -> None:
        """Commit what is routed, once it is acknowledged."""
        if not self._producer.flush(30):
            clients.commit(self._consumer, self._router.offsets)

    def leave(self) -> None:
        """Give all partitions back, and stand in line again."""
        self._router.raw.clear()
        self._consumer.unsubscribe()
        self._subscribe()

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
