"""The judge: for each partition of the host topic one pipeline of its own, so that no assignment changes what it finds.

A pipeline's state is rebuilt from the lines of the last T seconds: the offset committed is that from which to read them
again, and the last judged second is committed with it. Steps are acknowledged before; steps sent twice the alerter drops.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import structlog
from confluent_kafka import Consumer, TopicPartition

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import Config
from packetclip_sensor.kafka import clients
from packetclip_sensor.kafka.messages import TICK, Repeats, Seen, Step, decode_tick, encode, owns, partition_of
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.pipeline import Judging
from packetclip_sensor.records import Lines, Packet, Position, Verdict
from packetclip_sensor.service.checkpoint import State
from packetclip_sensor.service.load_limits import Shedding
from packetclip_sensor.sources import zeek

COMMIT_S = 0.5
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
        judged: int = 0,
    ) -> None:
        """Args:
        of: how many partitions the raw topic and the host topic have.
        judged: seconds up to this one were judged before a restart.
        """
        self._number, (self._routed, self._hosts) = number, of
        self._counters, self._rejects, self._lateness_s = counters, rejects, config.kafka.lateness_s
        self._judging = Judging(bundle, config, counters, State(judged=judged), rejects, owns(number, self._hosts))
        self._clocks: dict[int, float] = {}
        self._clock, self._repeats = 0.0, Repeats[Packet](lambda packet: (packet.uid, packet.n), lambda packet: packet.ts)
        self.shedding = Shedding(config.limits, counters)
        self._topic = f"{config.kafka.prefix}.host[{number}]"
        self.judged = self._sent = judged
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
                self._clocks[tick.partition] = max(tick.clock, self._clocks.get(tick.partition, 0.0))
            else:
                lines.append(message.value or b"")
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
            if found.judged > self._sent:
                steps += self._steps(found.judged, found.verdicts, found.packets.tolist(), found.seconds.tolist())
                self._sent = found.judged
        return steps

    def _steps(self, judged: int, verdicts: list[Verdict], packets: list[Packet], seconds: list[int]) -> Iterator[Step]:
        mine = [
            Seen.of(packet, second)
            for packet, second in zip(packets, seconds, strict=True)
            if partition_of(packet.resp_h, self._hosts) == self._number
        ]
        while len(verdicts) > MOST_VERDICTS:
            yield Step(self._number, self._sent, verdicts[:MOST_VERDICTS], [])
            verdicts = verdicts[MOST_VERDICTS:]
        yield Step(self._number, judged, verdicts, mine)

    def _position(self, offset: int) -> Position:
        return Position(self._topic, 0, self._number, 0, "", offset)


def run(config: Config, stop: threading.Event, counters: Counters | None = None) -> Counters:
    """Judge the partitions that are assigned, until stopped."""
    with clients.role(config, stop, counters) as (health, rejects):
        kafka, topics, counters = config.kafka, clients.topics(config), health.counters
        bundle = Bundle.open(config.model_path)
        health.model_version = bundle.manifest.version
        sizes = clients.partitions(kafka, topics.packet, topics.host)
        producer, consumer = clients.producer(kafka), clients.consumer(kafka, "judge")
        parts: dict[int, Partition] = {}

        def commit() -> None:
            if not producer.flush(30):
                offsets = {number: part.resume for number, part in parts.items() if part.resume is not None}
                clients.commit(consumer, topics.host, offsets, {number: str(part.judged) for number, part in parts.items()})

        def assigned(consumer: Consumer, given: list[TopicPartition]) -> None:
            found = clients.patiently(lambda: consumer.committed(given, timeout=clients.ASK_S), stop)
            log.info("assigned", partitions={tp.partition: (tp.offset, tp.metadata) for tp in found})
            for tp in found:
                judged = int(tp.metadata or 0) if tp.offset >= 0 else 0
                parts[tp.partition] = Partition(tp.partition, sizes, bundle, config, counters, rejects, judged)
            consumer.incremental_assign([TopicPartition(tp.topic, tp.partition, tp.offset) for tp in found])

        def revoked(consumer: Consumer, taken: list[TopicPartition]) -> None:
            log.info("revoked", partitions=[tp.partition for tp in taken])
            commit()
            for tp in taken:
                parts.pop(tp.partition, None)
            consumer.incremental_unassign(taken)

        consumer.subscribe([topics.host], on_assign=assigned, on_revoke=revoked, on_lost=revoked)
        committed = time.monotonic()
        while not stop.is_set():
            got: dict[int, list[clients.Message]] = {}
            for message in clients.read(consumer, 4096, 0.05):
                if message.value is not None:
                    got.setdefault(message.partition, []).append(message)
            for number, messages in got.items():
                if (part := parts.get(number)) is None:
                    continue
                for step in part(messages):
                    clients.produce(producer, topics.step, encode(step), partition=0)
                    health.judged = step.judged
            producer.poll(0)
            health.reached = clients.slowest(topics.host, {number: part.judged for number, part in parts.items()})
            health.shedding = next((part.shedding for part in parts.values() if part.shedding.on), None)
            health.packets_held = sum(part.held for part in parts.values())
            health.moved()
            if time.monotonic() - committed >= COMMIT_S:
                commit()
                committed = time.monotonic()
        commit()
        consumer.close()
    return counters
