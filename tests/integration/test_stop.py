"""Stopping the real process: within five seconds whatever the sink does, with nothing lost and nothing twice."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import free_port
from scripted_server import ScriptedServer

DATA = Path(__file__).parents[1] / "data"
ATTACK = "demo-udp-hping"
SOON_S = 20.0
"""Five seconds, and what a busy machine adds; one that waited for its sink would take far longer."""


class Sensor:
    """One sensor process over a recorded attack."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "logs").mkdir()
        log = gzip.decompress((DATA / ATTACK / "packetclip_packet.log.gz").read_bytes())
        (folder / "logs" / "packetclip_packet.log").write_bytes(log)
        (folder / "sensor.yaml").write_text(
            f"logs: [logs]\nsensor_name: test\nhealth: {{port: {self.port}, documents_s: 0, max_wait_s: 0.5}}\n"
            f"sink: {{elasticsearch: {{hosts: ['{url}'], manage_templates: false}}}}\n"
        )
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "packetclip_sensor", "run", "--config", str(self.folder / "sensor.yaml")]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def stop(self) -> float:
        """Seconds that SIGTERM took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=60) == 0
        return time.monotonic() - began

    def health(self) -> tuple[int, list[str]]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                return answer.status, []
        except urllib.error.HTTPError as err:
            return err.code, [reason["name"] for reason in json.loads(err.read())["reasons"]]
        except OSError:
            return 0, []


def until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def sensors(tmp_path: Path) -> Iterator[Callable[[str], Sensor]]:
    made: list[Sensor] = []

    def make(url: str) -> Sensor:
        made.append(Sensor(tmp_path, url))
        return made[-1]

    yield make
    for sensor in made:
        sensor.process.kill()
        sensor.process.wait()


def test_a_sensor_whose_cluster_is_away_says_so_stops_at_once_and_delivers_after_the_next_start(
    sensors: Callable[[str], Sensor],
) -> None:
    port = free_port()
    sensor = sensors(f"http://127.0.0.1:{port}")
    until(lambda: sensor.health() == (503, ["starting", "sink_waiting"]))
    assert sensor.stop() < SOON_S
    with ScriptedServer(port) as server:
        sensor.process = sensor.start()
        until(lambda: len(server.calls) >= 1)
        until(lambda: sensor.health() == (200, []))
        time.sleep(5.0)  # the last second is judged when it has been quiet
        assert sensor.stop() < SOON_S
        ids = [each for call in server.calls for each in call]
        assert len(ids) == len(set(ids)) >= 1
        calls = len(server.calls)
        sensor.process = sensor.start()
        until(lambda: sensor.health() == (200, []))
        time.sleep(2.0)
        sensor.stop()
        assert [each for call in server.calls[calls:] for each in call if each not in ids] == []
        server.shutdown()


def test_a_request_that_hangs_does_not_hold_the_stop_and_is_sent_again(sensors: Callable[[str], Sensor]) -> None:
    with socket.socket() as silent:  # takes connections and requests, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        sensor = sensors(f"http://127.0.0.1:{silent.getsockname()[1]}")
        connection, _ = silent.accept()
        assert connection.recv(10)
        assert sensor.stop() < SOON_S
        connection.close()
    assert json.loads((sensor.folder / "state" / "state.json").read_bytes().splitlines()[0])["positions"] == []
    assert os.listdir(sensor.folder / "state") != []  # noqa: PTH208
