"""Elasticsearch is away while Zeek's logs are rotated and packed away: afterwards every alert is there, once."""

from __future__ import annotations

import gzip
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import free_port
from scripted_server import ScriptedServer

DATA = Path(__file__).parents[1] / "data"
CAPTURES = ["demo-dns-resperf", "demo-slow-headers-tls"]  # in the order of their packets; each makes alerts


def until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


class Sensor:
    """A sensor process that is gone at the end of its block in any case."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.process = start(folder, port)

    def __enter__(self) -> Sensor:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def killed_and_started(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = start(self.folder, self.port)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=60)


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    (folder / "sensor.yaml").write_text(
        f"logs: [logs/current]\nsensor_name: test\nhealth: {{documents_s: 0}}\nlimits: {{open_files: 8}}\n"
        f"sink: {{elasticsearch: {{hosts: ['http://127.0.0.1:{port}'], manage_templates: false}}}}\n"
    )
    command = [sys.executable, "-m", "packetclip_sensor", "run", "--config", str(folder / "sensor.yaml")]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def hours() -> list[bytes]:
    """One log an hour, in the order of their packets."""
    first, second = (gzip.decompress((DATA / name / "packetclip_packet.log.gz").read_bytes()) for name in CAPTURES)
    middle = second.index(b"\n", len(second) // 2) + 1
    return [first, second[:middle], second[middle:]]


def pack_away(log: Path, day: Path, hour: int) -> None:
    """As zeekctl's archive-log."""
    day.mkdir(exist_ok=True)
    packed = day / f"packetclip_packet.{hour:02}:00:00-{hour + 1:02}:00:00.log.gz"
    packed.write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Ids that a sensor writes whose cluster is there."""
    folder = tmp_path_factory.mktemp("calm")
    (folder / "logs" / "current").mkdir(parents=True)
    for hour, text in enumerate(hours()):
        (folder / "logs" / "current" / f"packetclip_packet.{hour}.log").write_bytes(text)
    with ScriptedServer(free_port()) as server:
        with Sensor(folder, server.server_port) as sensor:
            until(lambda: len({each for call in server.calls for each in call}) >= 3)
            quiet = [time.monotonic(), 0.0]
            while time.monotonic() - quiet[0] < 4.0:
                time.sleep(0.1)
                if len(server.calls) != quiet[1]:
                    quiet = [time.monotonic(), len(server.calls)]
            assert sensor.stop() == 0
        server.shutdown()
        return {each for call in server.calls for each in call}


@pytest.mark.parametrize("restart", [False, True])
def test_logs_packed_away_while_elasticsearch_was_away_are_judged_when_it_is_back(
    tmp_path: Path, undisturbed: set[str], restart: bool
) -> None:
    current = tmp_path / "logs" / "current"
    current.mkdir(parents=True)
    log = current / "packetclip_packet.log"
    with ScriptedServer(free_port()) as server:
        server.answers = [503] * 10_000
        with Sensor(tmp_path, server.server_port) as sensor:
            for hour, text in enumerate(hours()):
                log.write_bytes(text)
                if not hour:
                    until(lambda: len(server.calls) > 0)  # it has read something, and now waits
                pack_away(log, tmp_path / "logs" / "2026-11-21", hour)
            if restart:
                sensor.killed_and_started()
            server.calls.clear()
            server.answers.clear()
            until(lambda: {each for call in server.calls for each in call} >= undisturbed)
            time.sleep(1.0)
            assert sensor.stop() == 0
        assert {each for call in server.calls for each in call} == undisturbed
        assert len(undisturbed) == 3  # the last episode is still open
        server.shutdown()
