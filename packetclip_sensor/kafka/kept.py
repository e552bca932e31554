"""What a role keeps in the state topic over a restart: one partition of it, which has one writer at a time.

Each save is one transaction. Who takes a partition over says so first: from then on the writer before can write no more, and what
it had begun is undone. So what is found is what one save left, whole.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from packetclip_sensor.config.settings import Config, KafkaConfig
from packetclip_sensor.kafka import clients
from packetclip_sensor.service.health import Health

log = structlog.get_logger()


class TakenOverError(Exception):
    """Another process writes this partition now."""


def latest(kafka: KafkaConfig, partition: int) -> dict[bytes, bytes]:
    """The last value of each key in a partition of the state topic, in the order in which they were written."""
    topic, found = f"{kafka.prefix}.state", dict[bytes, bytes]()
    reader = clients.consumer(kafka, "look", **{"isolation.level": "read_committed"})
    reader.assign([TopicPartition(topic, partition, clients.BEGINNING)])
    try:
        while True:
            for message in clients.read(reader, 1000, 1.0):
                if message.value is None:
                    return found
                key = message.key or b""
                found.pop(key, None)
                if message.value:
                    found[key] = message.value
    finally:
        reader.close()


class Kept:
    """A partition of the state topic, taken over by this process; `found` is what stood there."""

    def __init__(self, config: Config, partition: int, writer: str, health: Health, stop: threading.Event) -> None:
        """`writer`: a name that all have that may write this partition."""
        kafka = config.kafka
        self._partition, self._topic, self._health, self._stop = partition, f"{kafka.prefix}.state", health, stop
        self._producer = clients.producer(kafka, **{"transactional.id": f"{kafka.prefix}.{writer}"})
        clients.patiently(lambda: self._producer.init_transactions(clients.ASK_S), stop)
        self.found = latest(kafka, partition)

    def save(self, values: Mapping[bytes, bytes], offsets: Sequence[TopicPartition] = (), group: Consumer | None = None) -> bool:
        """Write values, and commit a group's offsets with them. Returns whether it was done; what was not is to come with the
        next save.

        Raises:
            TakenOverError: this process can write no more, as when another one has taken the partition over.
        """
        producer, stop = self._producer, self._stop
        try:
            producer.begin_transaction()
            for key, value in values.items():
                clients.produce(producer, self._topic, value, key=key, partition=self._partition)
            if group is not None:
                member = group.consumer_group_metadata()
                clients.patiently(lambda: producer.send_offsets_to_transaction([*offsets], member), stop)
            clients.patiently(lambda: producer.commit_transaction(clients.ASK_S), stop)
        except KafkaException as err:
            self._health.counters.state_unsaved += 1
            self._health.unsaved = str(err)
            log.warning("state_unsaved", reason=str(err))
            try:
                if not err.args[0].txn_requires_abort():
                    raise
                clients.patiently(lambda: producer.abort_transaction(clients.ASK_S), stop)
            except KafkaException as final:
                raise TakenOverError from final
            return False
        self._health.unsaved = None
        return True
