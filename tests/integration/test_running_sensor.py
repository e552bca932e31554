"""A running sensor as a process: stopped, killed, beside another, its cluster away, its rules changed."""

from __future__ import annotations

import gzip
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from machine import free_port
from scripted_server import ScriptedServer
from sensor_process import SensorProcess

from packetclip_sensor.alerts.suppressor import read_counts
from packetclip_sensor.cli.app import main

TESTS = Path(__file__).parents[1]
SOON_S = 20.0
"""Five seconds, and what a busy machine adds; one that waited for its sink would take far longer."""
QUIET = "{logs: [logs], sink: {ndjson: {path: alerts.ndjson}}}"


def recorded(capture: str) -> bytes:
    return gzip.decompress((TESTS / capture / "packetclip_packet.log.gz").read_bytes())


def second_of(line: bytes) -> int:
    return int(json.loads(line)["ts"])


def to(port: int, more: str = "") -> str:
    """Settings of a sensor that writes into the cluster at this port; their last lines are `more`."""
    sink = f"sink: {{elasticsearch: {{hosts: ['http://127.0.0.1:{port}'], manage_templates: false}}}}"
    return f"sensor_name: test\n{sink}\n{more}\n"


def health(port: int) -> tuple[int, list[str]]:
    """Status of the health page and the reasons for it; 0 where there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status, []
    except urllib.error.HTTPError as err:
        return err.code, [reason["name"] for reason in json.loads(err.read())["reasons"]]
    except OSError:
        return 0, []


def test_a_sensor_whose_cluster_is_away_says_so_stops_at_once_and_delivers_after_the_next_start(tmp_path: Path) -> None:
    port, own = free_port(), free_port()
    log = recorded("data/demo-udp-hping")
    sensor = SensorProcess(tmp_path, to(port, f"logs: [logs]\nhealth: {{port: {own}, documents_s: 0, max_wait_s: 0.5}}"))
    (tmp_path / "logs" / "packetclip_packet.log").write_bytes(log)
    with sensor:
        sensor.until(lambda: health(own) == (503, ["starting", "sink_waiting"]))
        assert sensor.stop() < SOON_S
    with ScriptedServer(port) as server:
        with sensor:
            sensor.until(lambda: len(server.calls) >= 1)
            sensor.until(lambda: health(own) == (200, []))
            sensor.until(lambda: sensor.judged() >= second_of(log.splitlines()[-1]))
            assert sensor.stop() < SOON_S
        ids = [each for call in server.calls for each in call]
        assert len(ids) == len(set(ids)) >= 1
        server.calls.clear()
        with sensor:
            sensor.until(lambda: health(own) == (200, []))
            time.sleep(2.0)
            sensor.stop()
        assert {each for call in server.calls for each in call} <= set(ids)
        server.shutdown()


def test_a_sensor_says_what_it_reads_and_where_alerts_go_and_a_line_for_each_alert(tmp_path: Path) -> None:
    sensor = SensorProcess(tmp_path, "sensor_name: test\nlogs: [logs]\nsink: {ndjson: {path: alerts.ndjson}}\n")
    (tmp_path / "logs" / "packetclip_packet.log").write_bytes(recorded("data/demo-udp-hping"))
    with sensor:
        sensor.until(lambda: (tmp_path / "alerts.ndjson").exists() and (tmp_path / "alerts.ndjson").stat().st_size)
        time.sleep(1)
        sensor.stop()
    lines = [json.loads(line) for line in sensor.said().splitlines()]
    (started,) = (line for line in lines if line["event"] == "started")
    assert (started["sinks"], started["logs"]) == (["ndjson"], [str(tmp_path / "logs")])
    assert started["to"].endswith("alerts.ndjson")
    assert [(line["title"], line["severity"]) for line in lines if line["event"] == "alert"] == [
        ("UDP flood by 172.27.201.18 against 172.27.201.144", 73)
    ]


def test_a_request_that_hangs_does_not_hold_the_stop_and_is_sent_again(tmp_path: Path) -> None:
    with socket.socket() as silent:  # takes connections and requests, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        sensor = SensorProcess(tmp_path, to(silent.getsockname()[1], "logs: [logs]\nhealth: {documents_s: 0}"))
        (tmp_path / "logs" / "packetclip_packet.log").write_bytes(recorded("data/demo-udp-hping"))
        with sensor:
            connection, _ = silent.accept()
            assert connection.recv(10)
            assert sensor.stop() < SOON_S
        connection.close()
    assert json.loads((sensor.state / "state.json").read_bytes().splitlines()[0])["positions"] == []


def test_a_sensor_stops_while_it_waits_for_a_cluster_at_its_start(tmp_path: Path) -> None:
    """It has not put its templates yet."""
    with SensorProcess(tmp_path, "{logs: [logs], sink: {elasticsearch: {hosts: ['http://127.0.0.1:9']}}}") as sensor:
        sensor.until(lambda: "127.0.0.1:9" in sensor.said())
        assert sensor.stop() < SOON_S


def test_a_sensor_stopped_while_it_loads_ends_cleanly(tmp_path: Path) -> None:
    """SIGTERM is the first thing that it gets."""
    code = (
        "import os, signal, sys; from packetclip_sensor.config import config_file; load = config_file.load\n"
        "config_file.load = lambda path: (os.kill(os.getpid(), signal.SIGTERM), load(path))[1]\n"
        "from packetclip_sensor.cli.app import main; sys.exit(main(['run', '--config', sys.argv[1]]))"
    )
    sensor = SensorProcess(tmp_path, QUIET)
    done = subprocess.run([sys.executable, "-c", code, sensor.config], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_a_second_sensor_on_the_same_state_is_refused(tmp_path: Path) -> None:
    with SensorProcess(tmp_path, QUIET) as first:
        first.until((first.state / "state.json").exists)
        command = [sys.executable, "-m", "packetclip_sensor", "run", "--config", str(first.config)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert first.stop(signal.SIGINT) < SOON_S
    assert second.returncode == 2
    assert "is in use by another sensor" in second.stderr
    assert "Traceback" not in second.stderr


def hours() -> list[bytes]:
    """One log an hour, in the order of their packets."""
    first, second = recorded("data/demo-dns-resperf"), recorded("data/demo-slow-headers-tls")
    middle = second.index(b"\n", len(second) // 2) + 1
    return [first, second[:middle], second[middle:]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Ids of what a sensor writes of these hours whose cluster is there: the last episode is still open."""
    folder = tmp_path_factory.mktemp("calm")
    (folder / "packetclip_packet.log").write_bytes(b"".join(hours()))
    (folder / "sensor.yaml").write_text("sensor_name: test")
    assert main(["replay", str(folder), "--config", str(folder / "sensor.yaml"), "--out", str(folder / "alerts.ndjson")]) == 0
    events = [json.loads(line)["event"] for line in (folder / "alerts.ndjson").read_bytes().splitlines()]
    assert len(events) == 4
    return {event["id"] for event in events[:-1]}


@pytest.mark.parametrize("restart", [False, True])
def test_logs_packed_away_while_elasticsearch_was_away_are_judged_when_it_is_back(
    tmp_path: Path, undisturbed: set[str], restart: bool
) -> None:
    """Packed as by zeekctl's archive-log."""
    current, day = tmp_path / "logs" / "current", tmp_path / "logs" / "2026-11-21"
    with ScriptedServer(free_port()) as server:
        server.answers = [503] * 10_000
        sensor = SensorProcess(
            tmp_path, to(server.server_port, "logs: [logs/current]\nlimits: {open_files: 8}\nhealth: {documents_s: 0}")
        )
        current.mkdir()
        day.mkdir()
        log = current / "packetclip_packet.log"
        with sensor:
            for hour, text in enumerate(hours()):
                log.write_bytes(text)
                if not hour:
                    sensor.until(lambda: server.calls)  # it has read something, and now waits
                packed = day / f"packetclip_packet.{hour:02}:00:00-{hour + 1:02}:00:00.log.gz"
                packed.write_bytes(gzip.compress(text))
                log.unlink()
            if restart:
                sensor.kill()
                sensor.start()
            server.calls.clear()
            server.answers.clear()
            sensor.until(lambda: {each for call in server.calls for each in call} >= undisturbed)
            time.sleep(1.0)
            sensor.stop()
        assert {each for call in server.calls for each in call} == undisturbed
        server.shutdown()


RULE = "- {comment: scanner on duty, expires: never, source: 172.29.40.7, mission: Reconnaissance}"


def scan(later_s: int) -> bytes:
    """The recorded scan, so many seconds later."""
    lines = [json.loads(line) for line in recorded("scans/nmap-1000-ports").splitlines()]
    moved = [line | {"ts": line["ts"] + later_s, "uid": f"{line['uid']}{later_s}"} for line in lines]
    return b"".join(json.dumps(line).encode() + b"\n" for line in moved)


def test_rules_come_and_go_while_the_sensor_runs(tmp_path: Path) -> None:
    """Without a restart; what they suppressed is counted."""
    out, rules = tmp_path / "alerts.ndjson", tmp_path / "suppress.yaml"
    sensor = SensorProcess(tmp_path, "{logs: [logs], sink: {ndjson: {path: alerts.ndjson}}, policy: {suppress: suppress.yaml}}")
    log = tmp_path / "logs" / "packetclip_packet.log"
    log.write_bytes(scan(0))
    rules.write_text(RULE)
    with sensor:
        sensor.until(lambda: sensor.judged() >= 1_795_284_032)
        assert not out.exists() or not out.read_text()
        rules.write_text("- {source: 172.29.40.7}")  # a mistake: the old rule stays
        sensor.until(lambda: "suppressions_refused" in sensor.said())
        rules.write_text("")
        sensor.until(lambda: '"rules": 0' in sensor.said() or "rules=0" in sensor.said())
        with log.open("ab") as file:
            file.write(scan(600))
        sensor.until(lambda: out.exists() and out.read_text())
        sensor.stop()
    opening = json.loads(out.read_text().splitlines()[0])
    assert (opening["source"]["ip"], opening["packetclip"]["episode"]["state"]) == ("172.29.40.7", "open")
    (count,) = read_counts(sensor.state / "suppressed.json").values()
    assert 10 < count.verdicts < 100
    rules.write_text(RULE)
    assert main(["suppressions", "-c", str(sensor.config)]) == 0
