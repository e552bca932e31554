"""The judge: for each partition of the host topic one pipeline of its own, so that no assignment changes what it finds.

A pipeline's windows are rebuilt from the lines of the last T seconds: the checkpoint has the offset from which to read them
again, and the last judged second. The evidence of the partition's streams, which reaches back further, is saved with it, in one
transaction. Steps are acknowledged before; steps sent twice the alerter drops.
"""

from __future__ import annotations

import contextlib
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import structlog
from confluent_kafka import Consumer, TopicPartition

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import Config
from packetclip_sensor.kafka import clients
from packetclip_sensor.kafka.kept import Kept, TakenOverError
from packetclip_sensor.kafka.messages import (
    JUDGE,
    ORIGIN,
    TICK,
    Checkpoint,
    Place,
    Repeats,
    Seen,
    Step,
    decode_checkpoint,
    decode_row,
    decode_tick,
    encode,
    owns,
    partition_of,
    repeated_rows,
)
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.model.encoder import Encoder
from packetclip_sensor.normalize.direction import flow_sides
from packetclip_sensor.pipeline import Judging
from packetclip_sensor.records import Lines, Packet, Position, Verdict
from packetclip_sensor.service.checkpoint import State
from packetclip_sensor.service.health import Health
from packetclip_sensor.service.load_limits import Shedding
from packetclip_sensor.sources import zeek

SAVE_S = 2.0
MOST_VERDICTS = 300
"""In one message, about 20 kB each; of more, those before come in steps that end no second."""

log = structlog.get_logger()


class Partition:
    """The stage, without Kafka: lines and clocks of one host partition come in, steps go out."""

    def __init__(
        self,
        number: int,
        of: Sequence[int],
        bundle: Bundle,
        config: Config,
        counters: Counters,
        rejects: Rejects,
        kept: Mapping[bytes, bytes],
        encoder: Encoder | None = None,
    ) -> None:
        """Args:
        of: how many partitions the raw topics, together, and the host topic have.
        kept: what `changes` gave before a restart. encoder: as of `Judge`; most lines stand in two partitions.
        """
        self._number, (self._routed, self._hosts) = number, of
        self._counters, self._rejects, self._lateness_s = counters, rejects, config.kafka.lateness_s
        self._version = bundle.manifest.version
        streams = {key.decode("utf-8", "surrogatepass"): value for key, value in kept.items() if key != JUDGE}
        at = decode_checkpoint(kept[JUDGE]) if JUDGE in kept else Checkpoint(clients.BEGINNING, 0, 0, self._version)
        self.begin, self.judged = at.offset, at.judged
        state = State(judged=at.judged, model_version=at.model_version, evidence_streams=streams)
        self._judging = Judging(bundle, config, counters, state, rejects, owns(number, self._hosts), encoder=encoder)
        if self._judging.evidence is not None:
            self._judging.evidence.hands_on = False  # a save comes every few seconds, batches come more often
        self._changes = dict.fromkeys(streams, b"") if at.model_version != self._version else {}
        self._clocks: dict[Place, float] = {}
        self._read = {(of_flow, raw): (offset, line) for of_flow, raw, offset, line in at.read}
        """Of each raw partition its last line."""
        self._read_until = deque([(at.offset, dict(self._read))])
        """The same before an offset of this partition."""
        self._clock, self._repeats = 0.0, Repeats[Packet](lambda packet: (packet.uid, packet.n), lambda packet: packet.ts)
        self._repeated_rows = repeated_rows()
        self.shedding = Shedding(config.limits, counters)
        self._topic = f"{config.kafka.prefix}.host[{number}]"
        self._sent, self._behind = at.judged, at.rows
        self.resume: int | None = None
        """Offset from which to read after a restart."""

    @property
    def held(self) -> int:
        """Packets held now."""
        return self._judging.held

    def __call__(self, messages: Sequence[clients.Message]) -> list[Step]:
        """The steps that some messages complete."""
        lines = []
        for message in messages:
            if message.key == TICK:
                tick = decode_tick(message.value or b"")
                self._clocks[tick.place] = max(tick.clock, self._clocks.get(tick.place, 0.0))
                continue
            of_flow, raw, offset, line = ORIGIN.unpack(message.key or b"")
            if (offset, line) <= self._read.get((of_flow, raw), (-1, 0)):
                self._counters.repeats += 1
                continue
            self._read[of_flow, raw] = offset, line
            if of_flow:
                self._take_row(message)
            else:
                lines.append(message.value or b"")
        self._behind = max(self._behind, messages[-1].offset + 1)
        self._read_until.append((messages[-1].offset + 1, dict(self._read)))
        if len(self._clocks) == self._routed:
            self._clock = max(self._clock, min(self._clocks.values()) - self._lateness_s)
        start, end = self._position(messages[0].offset), self._position(messages[-1].offset + 1)
        block = Lines("packet", b"\n".join(lines) + b"\n", start, end)
        if self.shedding.block(block) is not block:
            block = Lines("packet", b"\n", start, end)
        read = self.shedding.batch(next(zeek.batches([block], self._rejects, self._counters)))
        packets = self._repeats(read.packets, self._clock)
        self._counters.repeats += len(read.packets) - len(packets)
        steps: list[Step] = []
        for found in self._judging(replace(read, packets=packets, start=(start,), end=(end,), clock=self._clock)):
            self.resume, self.judged = found.resume[0].offset, found.judged
            while len(self._read_until) > 1 and self._read_until[1][0] <= self.resume:
                self._read_until.popleft()
            if found.judged > self._sent:
                steps += self._steps(found.judged, found.verdicts, found.packets.tolist(), found.seconds.tolist())
                self._sent = found.judged
        return steps

    def _take_row(self, message: clients.Message) -> None:
        """Have a flow row as evidence. One that is none stands in the alerter's rejects."""
        if (evidence := self._judging.evidence) is None:
            return
        row = decode_row(message.value or b"")
        with contextlib.suppress(*zeek.BAD):
            new = self._repeated_rows([zeek.flow(row.line)], self._clock)
            if message.offset >= self._behind:
                evidence.take_flows("", [*map(flow_sides, new)], row.newest)

    def changes(self) -> dict[bytes, bytes]:
        """What is to be saved: the checkpoint, and the evidence that changed since `saved`. Empty before anything is judged."""
        if self.resume is None:
            return {}
        if (evidence := self._judging.evidence) is not None:
            more = evidence.changes()
            self._changes = {key: value for key, value in self._changes.items() if key not in more} | more
        streams = {key.encode("utf-8", "surrogatepass"): value for key, value in self._changes.items()}
        read = [(*raw, *line) for raw, line in self._read_until[0][1].items()]
        return streams | {JUDGE: encode(Checkpoint(self.resume, self.judged, self._behind, self._version, read))}

    def saved(self) -> None:
        """What `changes` gave is kept."""
        self._changes = {}

    def _steps(self, judged: int, verdicts: list[Verdict], packets: list[Packet], seconds: list[int]) -> Iterator[Step]:
        mine = [
            Seen.of(packet, second)
            for packet, second in zip(packets, seconds, strict=True)
            if partition_of(packet.resp_h, self._hosts) == self._number
        ]
        of = [verdict.second for verdict in verdicts]
        numbers = [i - bisect_left(of, second) for i, second in enumerate(of)]
        while len(verdicts) > MOST_VERDICTS:
            yield Step(self._number, self._sent, verdicts[:MOST_VERDICTS], numbers[:MOST_VERDICTS], [])
            verdicts, numbers = verdicts[MOST_VERDICTS:], numbers[MOST_VERDICTS:]
        yield Step(self._number, judged, verdicts, numbers, mine)

    def _position(self, offset: int) -> Position:
        return Position(self._topic, 0, self._number, 0, "", offset)


def run(config: Config, stop: threading.Event, counters: Counters | None = None) -> Counters:
    """Judge the partitions that are assigned, until stopped."""
    with clients.role(config, stop, counters) as (health, rejects):
        bundle = Bundle.open(config.model_path)
        health.model_version = bundle.manifest.version
        member = _Member(config, bundle, health, rejects, stop)
        saved = time.monotonic()
        while not stop.is_set():
            member.judge()
            if time.monotonic() - saved >= SAVE_S:
                member.save()
                saved = time.monotonic()
        member.save()
        member.close()
    return health.counters


class _Member:
    """The Kafka side: member of the group that has the host topic."""

    def __init__(self, config: Config, bundle: Bundle, health: Health, rejects: Rejects, stop: threading.Event) -> None:
        self._config, self._bundle, self._health, self._rejects, self._stop = config, bundle, health, rejects, stop
        self._topics, self._encoder = clients.topics(config), Encoder(bundle, health.counters)
        topics = self._topics
        packets, flows, hosts = clients.partitions(config.kafka, topics.packet, topics.flow, topics.host)
        self._sizes = packets + flows, hosts
        self._producer, self._consumer = clients.producer(config.kafka), clients.consumer(config.kafka, "judge")
        self._parts: dict[int, tuple[Partition, Kept]] = {}
        self._taken_over = set[int]()
        self._subscribe()

    def _subscribe(self) -> None:
        self._consumer.subscribe([self._topics.host], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def _assigned(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        begin, config, health = {}, self._config, self._health
        for number in (tp.partition for tp in given):
            kept = Kept(config, number + 1, f"judge.{number}", health, self._stop)
            options = health.counters, self._rejects, kept.found, self._encoder
            part = Partition(number, self._sizes, self._bundle, config, *options)
            self._parts[number], begin[number] = (part, kept), part.begin
            kept.found.clear()  # megabytes
        log.info("assigned", partitions=begin)
        consumer.incremental_assign([TopicPartition(self._topics.host, *each) for each in begin.items()])

    def _revoked(self, consumer: Consumer, taken: list[TopicPartition]) -> None:
        log.info("revoked", partitions=[tp.partition for tp in taken])
        self.save()
        for tp in taken:
            self._parts.pop(tp.partition, None)
            self._taken_over.discard(tp.partition)
        consumer.incremental_unassign(taken)

    def judge(self) -> None:
        """Judge what is read now."""
        got: dict[int, list[clients.Message]] = {}
        for message in clients.read(self._consumer, 4096, 0.05):
            if message.value is not None:
                got.setdefault(message.partition, []).append(message)
        if self._taken_over:  # this process was believed dead: it stands in line again
            self._taken_over.clear()
            self._consumer.unsubscribe()
            self._subscribe()
        mine, health, producer = {number: part for number, (part, _) in self._parts.items()}, self._health, self._producer
        for number in got.keys() & mine.keys():
            for step in mine[number](got[number]):
                clients.produce(producer, self._topics.step, encode(step), partition=0)
                health.judged = step.judged
        producer.poll(0)
        health.reached = clients.slowest({(self._topics.host, number): part.judged for number, part in mine.items()})
        health.shedding = next((part.shedding for part in mine.values() if part.shedding.on), None)
        health.packets_held = sum(part.held for part in mine.values())
        health.moved()

    def save(self) -> None:
        """Save all partitions, once their steps are acknowledged."""
        offsets = []
        for number, (part, kept) in self._parts.items() if not self._producer.flush(30) else ():
            try:
                if (values := part.changes()) and kept.save(values):
                    part.saved()
                    offsets.append(TopicPartition(self._topics.host, number, part.resume or 0))
            except TakenOverError:
                self._taken_over.add(number)
        for number in self._taken_over & self._parts.keys():
            del self._parts[number]
        clients.commit(self._consumer, offsets)  # says how far the group has come; a checkpoint says where it goes on

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
