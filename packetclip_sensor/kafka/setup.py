"""Makes the topics, says which rights each role needs, and looks at what is there for `packetclip check`."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from packetclip_sensor.config.settings import Config
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.kafka import clients

DAY_MS = 24 * 3600 * 1000
RIGHTS = (
    ("route", "Read", "packet"), ("route", "Read", "flow"), ("route", "Read", "clock"), ("route", "Write", "clock"),
    ("route", "Write", "host"), ("judge", "Read", "host"), ("judge", "Write", "step"), ("judge", "Read", "state"),
    ("judge", "Write", "state"), ("alert", "Read", "flow"), ("alert", "Read", "step"), ("alert", "Read", "state"),
    ("alert", "Write", "state"),
)  # fmt: skip
"""Role, operation, topic. Beside these each may look at all topics, as `packetclip check` does."""


def topics(config: Config, partitions: int, raw: int, replication: int) -> list[NewTopic]:
    """The topics to make.

    Args:
        partitions: of the host topic; two to four times the judges, for it cannot be changed later: hosts would move.
        raw: of the packet and of the flow topic; at least the routers. replication: copies of each partition.
    """
    names = clients.topics(config)
    counts = dict.fromkeys(names, 1) | {names.packet: raw, names.flow: raw, names.host: partitions, names.state: partitions + 1}
    kept = {name: {"cleanup.policy": "delete", "retention.ms": str(DAY_MS)} for name in names}
    # States come every second: small segments are compacted soon, and who takes over reads little.
    kept[names.state] = {"cleanup.policy": "compact", "segment.ms": str(600_000), "min.cleanable.dirty.ratio": "0.1"}
    big = {"max.message.bytes": str(clients.MESSAGE_BYTES)}
    return [NewTopic(name, counts[name], replication, config=kept[name] | big) for name in names]


def make(config: Config, partitions: int, raw: int, replication: int) -> Iterator[str]:
    """Make the topics that are not there; says what was done.

    Raises:
        ConfigError: the brokers cannot be reached, or refuse.
    """
    client = AdminClient(clients.options(config.kafka))
    try:
        there = client.list_topics(timeout=clients.ASK_S).topics
        wanted = topics(config, partitions, raw, replication)
        missing = [topic for topic in wanted if topic.topic not in there]
        made = client.create_topics(missing) if missing else {}
        for topic in wanted:
            if (done := made.get(topic.topic)) is None:
                yield f"{topic.topic}: there already, {len(there[topic.topic].partitions)} partitions"
            else:
                done.result(clients.ASK_S)
                yield f"{topic.topic}: made, {topic.num_partitions} partitions"
    except KafkaException as err:
        raise ConfigError(f"kafka.brokers {', '.join(config.kafka.brokers)}: {err.args[0].str()}") from err


def acls(config: Config) -> Iterator[str]:
    """The commands that give each role its rights, for who administers Kafka; the user names are to be filled in."""
    names, prefix = clients.topics(config), config.kafka.prefix
    tool = f"kafka-acls.sh --bootstrap-server {config.kafka.brokers[0] if config.kafka.brokers else 'BROKER'} --add"
    for role, operation, topic in RIGHTS:
        yield f"{tool} --allow-principal User:{role.upper()} --operation {operation} --topic {getattr(names, topic)}"
    for role in ("route", "judge", "alert"):
        for what in ("Describe --topic", "Read --group"):
            yield f"{tool} --allow-principal User:{role.upper()} --operation {what} {prefix}. --resource-pattern-type prefixed"
    by_name = ("ALERT", f"{prefix}.alert"), ("JUDGE", f"{prefix}.judge. --resource-pattern-type prefixed")
    for role, writer in by_name:
        yield f"{tool} --allow-principal User:{role} --operation Write --operation Describe --transactional-id {writer}"


def check(config: Config) -> list[str]:
    """What is wrong with brokers and topics, a sentence each with the remedy; empty where nothing is."""
    names = clients.topics(config)
    try:
        counts = dict(zip(names._fields, clients.partitions(config.kafka, *names), strict=True))
    except ConfigError as err:
        return [str(err)]
    return [
        f"topic {getattr(names, name)} has {counts[name]} partitions, not {must}; delete it, then: packetclip setup kafka"
        for name, must in (("clock", 1), ("step", 1), ("state", counts["host"] + 1))
        if counts[name] != must
    ]
