"""A real Kafka broker, put together from Maven artifacts by tests/servers, and the three roles against it."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml
from machine import free_port, until

from packetclip_sensor import pipeline
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config import config_file
from packetclip_sensor.config.settings import Config

TESTS = Path(__file__).parents[1]
HOME = TESTS / ".servers" / "kafka"
START_TIMEOUT_S = 300


class BrokerUnavailableError(Exception):
    """The broker cannot be started here."""


class Broker:
    """One broker; `address` stays the same for as long as it lives."""

    def __init__(self, folder: Path, properties: str = "") -> None:
        """`properties` of its own may have {port} and {controller} in them. Raises BrokerUnavailableError: there is no Java, no
        Maven, or it ended."""
        if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
            raise BrokerUnavailableError("Kafka needs a Java of 17 or newer: none on PATH or in JAVA_HOME")
        if not (shutil.which("mvn") or (HOME / ".assembled").exists()):
            raise BrokerUnavailableError("the real Kafka is put together by Maven: no mvn on PATH")
        self.folder, self.port, self.controller = folder, free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        (folder / "more.properties").write_text(properties.format(port=self.port, controller=self.controller))
        self.start()

    def start(self) -> None:
        """Start it on the same data and port, and wait until it answers."""
        start = str(TESTS / "servers" / "kafka" / "start.sh")
        with (self.folder / "kafka.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["sh", start, HOME, str(self.port), str(self.controller), self.folder / "kafka", self.folder / "more.properties"],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise BrokerUnavailableError(f"Kafka did not start: {(self.folder / 'kafka.log').read_text()[-2000:]}")
            time.sleep(0.2)

    def answers(self) -> bool:
        """Whether it takes connections."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def merged(log: str, *captures: str) -> list[bytes]:
    """The lines of captures of tests/data, or of all, as one site would write them, in the order of time."""
    lines = []
    for path in sorted(path for name in captures or "*" for path in (TESTS / "data").glob(f"{name}/packetclip_{log}.log.gz")):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            record = json.loads(line)
            lines.append((record["ts"] + (record.get("duration") or 0.0 if log == "flow" else 0.0), line))
    return [line for _, line in sorted(lines, key=lambda each: each[0])]


def replayed(folder: Path, packets: Iterable[bytes], flows: Iterable[bytes], **settings: object) -> dict[str, bytes]:
    """What one sensor writes of these lines, by id."""
    logs = []
    for log, lines in (("packet", packets), ("flow", flows)):
        logs.append(folder / f"packetclip_{log}.log")
        logs[-1].write_bytes(b"".join(line + b"\n" for line in lines))
    out = folder / "replayed.ndjson"
    own = {"sensor_name": "site", "lateness_s": 1.0, "state_dir": str(folder), "sink": {"ndjson": {"path": str(out)}}}
    (folder / "replay.yaml").write_text(yaml.safe_dump(own | settings))
    pipeline.replay([logs], config_file.load(folder / "replay.yaml"))
    return by_id(out.read_bytes().splitlines())


def by_id(documents: Iterable[bytes]) -> dict[str, bytes]:
    """Documents by their ids."""
    return {json.loads(document)["event"]["id"]: document for document in documents}


class Site:
    """Topics of its own on a broker, a configuration, and roles as processes."""

    def __init__(self, address: str, folder: Path, name: str, *, partitions: int = 4, raw: int = 3, **settings: object) -> None:
        from packetclip_sensor.kafka import clients, setup

        self.address, self.folder, self.partitions, self.raw = address, folder, partitions, raw
        self.name = f"{name}-{uuid.uuid4().hex[:8]}"  # a broker may outlive a run
        self.processes: list[subprocess.Popen[bytes]] = []
        self.threads: list[RoleThread] = []
        self._settings: dict[str, Any] = {
            "sensor_name": "site",
            "kafka": {"brokers": [address], "prefix": self.name},
            "health": {"documents_s": 0},
            **settings,
        }
        for _ in setup.make(self.config("setup")[0], partitions, raw, 1):
            pass
        self.producer = clients.producer(self.config("setup")[0].kafka)

    def config(self, role: str) -> tuple[Config, Path]:
        """The configuration of one process, which has a state folder and a file of alerts of its own."""
        path = self.folder / f"{role}.yaml"
        sink = {"ndjson": {"path": str(self.folder / f"{role}.ndjson")}}
        path.write_text(yaml.safe_dump({"sink": sink, **self.settings(role), "state_dir": str(self.folder / role)}))
        return config_file.load(path), path

    def settings(self, role: str) -> dict[str, Any]:
        """What is set for a process beside its folders."""
        return self._settings

    def ship(self, log: str, lines: Iterable[bytes], shippers: int = 3) -> None:
        """Send lines as that many shippers do, each to a partition of its own: of a connection all to one."""
        for line in lines:
            uid = json.loads(line)["uid"]
            partition = sum(uid.encode()) % min(shippers, self.raw)
            while True:
                try:
                    self.producer.produce(f"{self.name}.{log}", line, partition=partition)
                    break
                except BufferError:
                    self.producer.poll(0.1)
        self.producer.flush()

    def start(self, role: str, number: int = 1) -> subprocess.Popen[bytes]:
        """Start a role."""
        _, path = self.config(f"{role}{number}")
        with (self.folder / f"{role}{number}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "packetclip_sensor", role, "--config", str(path)], stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def thread(self, role: str, number: int = 1) -> RoleThread:
        """Start a role as a thread of this process: as good as a process where nothing is killed, and started at once."""
        self.threads.append(RoleThread(role, self.config(f"{role}{number}")[0]))
        return self.threads[-1]

    def documents(self) -> dict[str, bytes]:
        """What was written, by id."""
        return by_id(line for path in self.folder.glob("alert*.ndjson") for line in path.read_bytes().splitlines() if line)

    def counted(self, topic: str, partitions: int = 0) -> int:
        """How many messages a topic holds; without `partitions` it is one of lines."""
        from confluent_kafka import KafkaException, TopicPartition

        from packetclip_sensor.kafka import clients

        reader, ends = clients.consumer(self.config("setup")[0].kafka, "count"), []
        with contextlib.closing(reader), contextlib.suppress(KafkaException):  # a topic that was just made has no leader yet
            for number in range(partitions or self.raw):
                ends.append(reader.get_watermark_offsets(TopicPartition(f"{self.name}.{topic}", number)))
        return sum(end[1] for end in ends if end)

    def members(self, role: str) -> int:
        """How many processes or threads of a role have joined."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        client, group = AdminClient({"bootstrap.servers": self.address}), f"{self.name}.{role}"
        with contextlib.suppress(KafkaException):  # a broker that has just been started does not know yet
            return len(client.describe_consumer_groups([group], request_timeout=5)[group].result().members)
        return 0

    def judged(self) -> int:
        """Up to which second of event time the alerter has come."""
        from packetclip_sensor.kafka.kept import latest
        from packetclip_sensor.kafka.messages import ALERTER
        from packetclip_sensor.service.checkpoint import State

        config, _ = self.config("setup")
        saved = latest(config.kafka, 0).get(ALERTER)
        return msgspec.msgpack.decode(saved, type=State).judged if saved else 0

    def await_all(self, since: float, limit_s: float = 600) -> None:
        """Wait until all that was shipped before `since`, epoch seconds, is alerted: the clocks follow this machine's then."""
        until(lambda: self.judged() > since, seconds=limit_s)

    def stop(self) -> None:
        for thread in self.threads:
            thread.end()
        for process in self.processes:
            process.kill()
            process.wait()


class RoleThread(threading.Thread):
    """A role that runs in this process."""

    def __init__(self, role: str, config: Config) -> None:
        super().__init__(name=role, daemon=True)
        self._role, self._config = importlib.import_module(f"packetclip_sensor.kafka.{role}"), config
        self.stop, self.counters = threading.Event(), Counters()
        self.start()

    def run(self) -> None:
        self._role.run(self._config, self.stop, self.counters)

    def end(self) -> None:
        """Stop it, and wait until it has left."""
        self.stop.set()
        self.join(60)
        assert not self.is_alive()


@contextlib.contextmanager
def site(address: str, folder: Path, name: str, *, kind: type[Site] = Site, **options: object) -> Iterator[Site]:
    """A `Site` whose processes end with the block."""
    made = kind(address, folder, name, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.stop()
