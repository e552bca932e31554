"""Shared fixtures: a real Elasticsearch node, started once for all tests and workers of a run."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from elasticsearch_node import NodeUnavailableError, locked, shared_node
from kafka_broker import Broker, BrokerUnavailableError
from machine import GIB, disk, unavailable
from scripted_server import ScriptedServer
from sink_run import Run
from tailing import Blocks

from packetclip_sensor.common.resources import resource
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.records import Idle
from packetclip_sensor.sources.tail import follow


@pytest.fixture(autouse=True)
def _structlog_as_it_comes() -> Iterator[None]:
    """The command line sets structlog up for a whole process; a test that calls it must not do so for the next one."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _memory_of_a_sensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of tests may hold torch and much else; what a sensor says of its memory is not about that."""
    monkeypatch.setattr("packetclip_sensor.service.health.memory_bytes", lambda: 200 << 20)


@pytest.fixture(autouse=True)
def _room_on_every_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check`, `run` and the lab look at what is free on a disk; how full this machine's is must decide no test."""
    disk(monkeypatch, free=100 * GIB)


@pytest.fixture(autouse=True)
def _a_terminal_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer's shell or a CI's says of time zone, language, colours and width must decide no test."""
    for name in ("TZ", "LANG", "LC_ALL", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "IST-5:30")  # as nobody expects it, so that what is local time by mistake shows
    time.tzset()


@pytest.fixture(autouse=True)
def _secrets_of_this_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test logs in with is masked in its own output, not in that of the next."""
    monkeypatch.setattr("packetclip_sensor.common.text._secrets", set())


@pytest.fixture
def elasticsearch_url(elasticsearch_node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the real node, for one test at a time: templates are the cluster's, and a test may spoil them for a while."""
    with locked(_shared(tmp_path_factory) / "elasticsearch-test.lock"):
        yield elasticsearch_node


@pytest.fixture(scope="session")
def elasticsearch_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real node. PACKETCLIP_TEST_ELASTICSEARCH names one that runs already.

    Skips with the reason where none can be started, and fails instead where the environment variable CI is set. Workers of
    pytest-xdist share one node: the first starts it, the last stops it.
    """
    running = os.environ.get("PACKETCLIP_TEST_ELASTICSEARCH")
    if running:
        yield running
        return
    try:
        with shared_node(_shared(tmp_path_factory)) as url:
            yield url
    except NodeUnavailableError as err:
        unavailable(str(err))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real broker. PACKETCLIP_TEST_KAFKA names one that runs already; without one it skips or fails."""
    if running := os.environ.get("PACKETCLIP_TEST_KAFKA"):
        yield running
        return
    pytest.importorskip("confluent_kafka")
    try:
        broker = Broker(tmp_path_factory.mktemp("kafka"))
    except BrokerUnavailableError as err:
        unavailable(str(err))
    yield broker.address
    broker.kill()


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """The shipped model."""
    return Bundle.open(resource("model/shipped"))


@pytest.fixture
def namespace() -> str:
    """A data stream namespace of the test's own, so that tests on one node do not see each other's alerts."""
    return "t" + uuid.uuid4().hex[:12]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Answers as Elasticsearch does, by a script."""
    with ScriptedServer() as running:
        yield running
        running.shutdown()


@pytest.fixture
def run(server: ScriptedServer, tmp_path: Path) -> Run:
    """The Elasticsearch sink against that server."""
    return Run(server.url, tmp_path)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where Zeek would write the packet log; not there yet."""
    return tmp_path / "packetclip_packet.log"


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Blocks]:
    """What a tailer of `tmp_path` gives out; at the end nothing more may come."""
    stop = threading.Event()
    blocks = follow([tmp_path], poll_s=0.02, stop=stop)
    yield blocks
    stop.set()
    assert [b for b in blocks if not isinstance(b, Idle)] == []


def _shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
