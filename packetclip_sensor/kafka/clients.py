"""Kafka's clients with the settings that all roles share, the topics, and what every role has beside them.

Source: librdkafka's CONFIGURATION.md.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import structlog
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config import secrets
from packetclip_sensor.config.settings import Config, KafkaConfig
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.kafka.messages import Place, Topics
from packetclip_sensor.service import checkpoint, systemd
from packetclip_sensor.service.health import Health
from packetclip_sensor.service.monitor import watched

BEGINNING, END = OFFSET_BEGINNING, OFFSET_END
MESSAGE_BYTES = 16 << 20
"""A step of a crowded second, or a state with many open episodes, has megabytes."""
SECRET_BYTES = 4096
END_S = 2.0
"""Where all lines are read, so long ago is the time that none is before, by this machine's clock."""
FUTURE_S = 60.0
"""A line so far ahead of this machine's clock has a wrong time; believed, it would make all others late."""
ASK_S = 30.0
AWAY = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR)  # fmt: skip
"""Errors of brokers that are away, or have just come back."""

Result = TypeVar("Result")

log = structlog.get_logger()


def topics(config: Config) -> Topics:
    """The names of the topics."""
    return Topics.of(config.kafka.prefix)


def options(kafka: KafkaConfig, **more: Any) -> dict[str, Any]:
    """What every client needs: where the brokers are, and how to log in.

    Raises:
        ConfigError: no broker is named, or a secret's file cannot be read or is readable by others.
    """
    if not kafka.brokers:
        raise ConfigError("kafka.brokers is empty; name the brokers, for example [kafka-1.example.org:9092]")
    own = {
        key: secrets.from_file(path, f"kafka.secrets {key}:", "the secret", SECRET_BYTES)[0]
        for key, path in kafka.secrets.items()
    }
    common = {"bootstrap.servers": ",".join(kafka.brokers), "logger": logging.getLogger("kafka")}
    return {**common, **more, **kafka.client, **own}


def consumer(kafka: KafkaConfig, role: str, **more: Any) -> Consumer:
    """A reader of the role's group; nothing is committed by itself."""
    ours = {
        "group.id": f"{kafka.prefix}.{role}",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": 10_000,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 50,
        "fetch.message.max.bytes": MESSAGE_BYTES,
    }
    return Consumer(options(kafka, **ours, **more))


def producer(kafka: KafkaConfig, **more: Any) -> Producer:
    """A writer that loses and doubles nothing while it lives: where brokers are away it waits, and what they refuse for good ends
    the role, before anything is committed."""
    ours = {"enable.idempotence": True, "linger.ms": 5, "compression.type": "lz4", "message.max.bytes": MESSAGE_BYTES}
    if not more:  # a transaction says itself what became of its messages
        ours |= {"message.timeout.ms": 0, "delivery.report.only.error": True, "on_delivery": _undelivered}
    return Producer(options(kafka, **ours, **more))


def _undelivered(error: KafkaError, message: object) -> None:
    raise KafkaException(error)


def wrong_time(ts: float, wall: float | None = None) -> str:
    """Why a line's time cannot be believed; empty where it can."""
    ahead = ts - (time.time() if wall is None else wall) > FUTURE_S
    return "a wrong time, ahead of this machine's clock; set it by NTP" if ahead else ""


class EndClock:
    """The time before which no line is to come from a partition that is read to its end: END_S before one of the last readings
    began, by this machine's clock. A process that stood still has not read at once what came meanwhile."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall, self._began = wall, deque([wall()] * 3, 3)

    def reading(self) -> None:
        """Reading begins now."""
        self._began.append(self._wall())

    @property
    def time(self) -> float:
        """Epoch seconds."""
        return self._began[0] - END_S


def slowest(clocks: Mapping[Place, float]) -> tuple[str, float] | None:
    """The partition that is furthest behind, by its clock, epoch seconds."""
    found = ((f"{topic}[{number}]", float(clock)) for (topic, number), clock in clocks.items())
    return min(found, key=lambda each: each[1], default=None)


def hold(of: Consumer, full: set[Place], paused: set[Place]) -> set[Place]:
    """Read the `full` partitions of those that are `paused` no further, and the others again; returns what is paused now."""
    if more := full - paused:
        of.pause([TopicPartition(*place) for place in more])
    if fewer := paused - full:
        of.resume([TopicPartition(*place) for place in fewer])
    return full


def produce(to: Producer, topic: str, value: bytes, *, partition: int, key: bytes | None = None) -> None:
    """Hand over a message, waiting while the writer's queue is full. An empty value takes the key out of a compacted topic."""
    while True:
        try:
            to.produce(topic, value or None, key=key, partition=partition)
        except BufferError:
            to.poll(0.1)
        else:
            return


class Message(NamedTuple):
    """What a role reads."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    """None at the end of the partition."""
    topic: str = ""

    @property
    def place(self) -> Place:
        """The partition with its topic."""
        return self.topic, self.partition


def read(of: Consumer, most: int, wait_s: float) -> Iterator[Message]:
    """Messages, and the ends of partitions; an error of the connection is logged, and librdkafka goes on by itself."""
    for found in of.consume(most, wait_s):
        partition, offset, error, topic = found.partition(), found.offset(), found.error(), found.topic() or ""
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            log.warning("kafka", reason=error.str())
        elif partition is not None and offset is not None:
            key, value = (None, None) if error else (found.key(), found.value() or b"")
            yield Message(partition, offset, key, value, topic)


def commit(of: Consumer, offsets: list[TopicPartition]) -> None:
    """Commit; one that fails is made up for by the next, or the lines are read again."""
    try:
        if offsets:
            of.commit(offsets=offsets, asynchronous=False)
    except KafkaException as err:
        log.warning("commit", reason=str(err))


def partitions(kafka: KafkaConfig, *names: str) -> list[int]:
    """How many partitions each topic has.

    Raises:
        ConfigError: the brokers cannot be reached, or a topic is not there.
    """
    said: list[KafkaError] = []
    client = AdminClient(options(kafka, error_cb=said.append))
    try:
        found = client.list_topics(timeout=ASK_S).topics
    except KafkaException as err:
        client.poll(0)  # calls `said`
        refused = [each for each in said if each.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL)]
        error, remedy = (
            (refused[-1], "are kafka.client and kafka.secrets right?") if refused else (err.args[0], "is the address right?")
        )
        raise ConfigError(f"kafka.brokers {', '.join(kafka.brokers)}: {error.str()}; {remedy}") from err
    if missing := [name for name in names if name not in found]:
        raise ConfigError(f"Kafka has no topic {', '.join(missing)}; make the topics: packetclip setup kafka --config FILE")
    return [len(found[name].partitions) for name in names]


def patiently(ask: Callable[[], Result], stop: threading.Event) -> Result:
    """What brokers answer, asked again while they are away: a role that is given a partition has nothing else to do.

    Raises:
        KafkaException: an error that no waiting mends, or the role was asked to stop.
    """
    while True:
        try:
            return ask()
        except KafkaException as err:
            if not err.args[0].retriable() and err.args[0].code() not in AWAY:
                raise
            log.warning("kafka", reason=str(err))
            if stop.wait(1.0):
                raise


@contextlib.contextmanager
def role(config: Config, stop: threading.Event, counters: Counters | None) -> Iterator[tuple[Health, Rejects]]:
    """What every role has: its state folder, its rejects file, its health page."""
    counters = counters or Counters()
    health = Health(config.health, counters, sensor=config.sensor_name, state_dir=config.state_dir, stopping=stop.is_set)
    with contextlib.ExitStack() as open_till_end:
        enter = open_till_end.enter_context
        enter(checkpoint.lock(config.state_dir))
        health.rejects = enter(Rejects(config.rejects, max_bytes=config.limits.rejects_bytes))
        enter(watched(config, health))
        systemd.notify("READY=1")
        yield health, health.rejects
        systemd.notify("STOPPING=1")
