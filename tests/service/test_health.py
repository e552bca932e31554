"""How the sensor says how it is: reasons, the interval line, lag, and the pages from outside."""

from __future__ import annotations

import gzip
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import free_port
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from packetclip_sensor.common.metrics import Counters, Gauges, meanings
from packetclip_sensor.config.settings import HealthConfig, Limits
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.service import health_page
from packetclip_sensor.service.health import REASONS, Health
from packetclip_sensor.service.health_page import HealthPage
from packetclip_sensor.service.load_limits import Shedding
from packetclip_sensor.service.monitor import Monitor
from packetclip_sensor.sources.backlog import Backlog


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


class FixedReader:
    """A tailer that stands where the test says."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], int | None] = {}

    def at(self, path: Path, offset: int | None) -> None:
        stat = path.stat()
        self.known[(stat.st_dev, stat.st_ino)] = offset

    def offsets(self) -> dict[tuple[int, int], int | None]:
        return self.known

    def open_files(self) -> int:
        return 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock, tmp_path: Path) -> Health:
    return Health(HealthConfig(port=0), Counters(), sensor='say "hi"\\', state_dir=tmp_path, clock=clock, now=clock)


@pytest.fixture
def page(health: Health, monkeypatch: pytest.MonkeyPatch) -> Iterator[HealthPage]:
    monkeypatch.setattr(health_page, "PACE_S", 0.0)
    with HealthPage(health) as served:
        yield served


def talk(port: int, request: bytes, *, wait_s: float = 60.0) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=wait_s) as line:
        line.sendall(request)
        answer = b""
        while part := line.recv(65536):
            answer += part
    return answer


def get(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    head, _, body = talk(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:]), body


def ended(line: socket.socket) -> bool:
    """The other side hangs up without a word."""
    try:
        return line.recv(1) == b""
    except ConnectionResetError:
        return True


def row(ts: float) -> bytes:
    return f'{{"ts":{ts},"uid":"C1"}}\n'.encode()


def test_a_sensor_is_well_once_it_has_read_its_logs(health: Health) -> None:
    assert [reason.name for reason in health.reasons()] == ["starting"]
    health.moved()
    assert health.reasons() == []


def test_a_sink_that_waits_longer_than_allowed_is_a_reason_and_no_stall(health: Health, clock: Clock) -> None:
    health.moved()
    health.waiting("ConnectionError: refused")
    clock.at += 60.0
    assert health.reasons() == []
    clock.at += 30.0
    health.waiting("503 unavailable")
    assert health.reasons() == [("sink_waiting", "for 90 s nothing could be written: 503 unavailable")]
    assert health.gauges().sink_waiting_seconds == 90.0
    health.waiting(None)
    assert health.reasons() == []


def test_a_pipeline_that_stands_still_is_a_reason(health: Health, clock: Clock) -> None:
    health.moved()
    clock.at += 61.0
    assert [reason.name for reason in health.reasons()] == ["stalled"]


def test_a_process_that_was_stopped_for_a_minute_is_not_taken_for_a_stalled_pipeline(health: Health, clock: Clock) -> None:
    monitor = Monitor(health, clock=clock)
    health.moved()
    monitor.look()
    clock.at += 61.0
    with capture_logs() as logs:
        monitor.look()
        for _ in range(61):
            clock.at += 1.0
            monitor.look()
    assert [(entry["event"], entry.get("reason")) for entry in logs if entry["event"] != "interval"] == [("unhealthy", "stalled")]


def test_every_other_reason_is_told_by_name(health: Health, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    health.moved()
    health.backlog = Backlog()
    health.lag_s, health.lag_bytes = 61.0, 5_000
    health.unsaved = "No space left on device"
    health.stopping = lambda: True
    health.shedding = Shedding(Limits(shed_load="skip_old"), health.counters)
    health.shedding.on, health.counters.shed_lines = True, 7
    monkeypatch.setattr("packetclip_sensor.service.health.memory_bytes", lambda: 3 << 30)
    monkeypatch.setattr("packetclip_sensor.service.health._free", lambda folder: 5 << 20)
    found = health.reasons()
    assert [reason.name for reason in found] == [
        "stopping",
        "behind",
        "shedding",
        "no_logs",
        "state_unsaved",
        "disk_full",
        "memory",
    ]
    assert found[1].message == "5000 bytes of log are unread, the oldest line is 61 s old"
    assert found[2].message == "load is shed by the rule limits.shed_load, 7 lines and 0 packets so far"
    assert {reason.name for reason in found} | {"starting", "stalled", "sink_waiting"} == set(REASONS)


def test_lag_is_what_is_unread_and_the_age_of_its_first_line(tmp_path: Path) -> None:
    log = tmp_path / "packetclip_packet.log"
    log.write_bytes(row(900.0) + row(950.0) + row(990.0))
    other = tmp_path / "packetclip_packet.1.log"
    other.write_bytes(row(800.0))
    flows = tmp_path / "packetclip_flow.log"
    flows.write_bytes(b'{"ts":900.0,"duration":95.0}\n')
    reader, backlog = FixedReader(), Backlog()
    backlog.attach(reader, lambda: [(log, "packet"), (other, "packet"), (flows, "flow")])
    reader.at(log, len(row(900.0)))
    reader.at(other, None)
    reader.at(flows, 0)
    assert backlog.measure(1000.0) == (2 * len(row(950.0)) + len(flows.read_bytes()), 50.0)
    assert (backlog.files, backlog.files_open) == (2, 1)
    reader.at(log, log.stat().st_size)
    assert backlog.measure(1000.0) == (len(flows.read_bytes()), 5.0)
    reader.at(flows, flows.stat().st_size)
    assert backlog.measure(1000.0) == (0, 0.0)


def test_an_unread_gz_counts_with_its_text(tmp_path: Path) -> None:
    packed = tmp_path / "packetclip_packet.1.log.gz"
    packed.write_bytes(gzip.compress(row(5.0) * 1000))
    os.utime(packed, (900.0, 900.0))
    reader, backlog = FixedReader(), Backlog()
    backlog.attach(reader, lambda: [(packed, "packet")])
    assert backlog.measure(1000.0) == (1000 * len(row(5.0)), 100.0)
    reader.at(packed, 1000 * len(row(5.0)))
    assert backlog.measure(1000.0) == (0, 0.0)


def test_files_that_vanish_while_the_lag_is_measured_do_not_matter(tmp_path: Path) -> None:
    backlog = Backlog()
    assert backlog.measure(1.0) == (0, 0.0)
    backlog.attach(FixedReader(), lambda: [(tmp_path / "gone.log", "packet")])
    assert backlog.measure(1.0) == (0, 0.0)


def test_each_minute_has_one_interval_line_with_the_lag_and_every_counter(health: Health, clock: Clock) -> None:
    monitor = Monitor(health, clock=clock)
    health.counters.lines = 7
    health.lag_s = 1.5
    with capture_logs() as logs:
        for _ in range(180):
            clock.at += 1.0
            health.moved()
            monitor.look()
    intervals = [entry for entry in logs if entry["event"] == "interval"]
    assert len(intervals) == 3
    assert intervals[0]["lag_s"] == 1.5
    assert intervals[0]["lines"] == 7
    assert set(Counters().as_dict()) <= set(intervals[0])


def test_a_change_of_health_is_said_once_with_its_reason(health: Health, clock: Clock) -> None:
    monitor = Monitor(health, clock=clock)
    with capture_logs() as logs:
        monitor.look()
        health.moved()
        monitor.look()
        monitor.look()
        health.lag_s = 100.0
        monitor.look()
        monitor.look()
    assert [(entry["event"], entry.get("reason")) for entry in logs] == [("healthy", None), ("unhealthy", "behind")]


def test_health_documents_are_sent_in_their_rhythm(clock: Clock) -> None:
    sent: list[float] = []
    health = Health(HealthConfig(documents_s=30.0), Counters(), clock=clock)
    monitor = Monitor(health, send=lambda: sent.append(clock.at), clock=clock)
    for _ in range(65):
        clock.at += 1.0
        monitor.look()
    assert sent == [1005.0, 1035.0, 1065.0]


def test_metrics_are_what_prometheus_reads_and_each_has_its_meaning(page: HealthPage, health: Health) -> None:
    health.moved()
    health.counters.lines, health.lag_bytes, health.model_version = 12, 345, "2026.1"
    status, headers, body = get(page.port, "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert families["packetclip_lines"].samples[0].value == 12.0
    assert families["packetclip_lines"].documentation == "Log lines read."
    assert families["packetclip_lag_bytes"].samples[0].value == 345.0
    assert families["packetclip_sensor_info"].samples[0].labels["sensor"] == 'say "hi"\\'
    assert {s.labels["reason"] for s in families["packetclip_unhealthy"].samples} == set(REASONS)
    assert families["process_resident_memory_bytes"].samples[0].value > 1e6
    for kind in (Counters, Gauges):
        for name, meaning in meanings(kind).items():
            assert families[f"packetclip_{name}"].documentation == meaning
        assert set(meanings(kind)) == set(kind().as_dict())


def test_health_is_200_or_503_with_the_reasons(page: HealthPage, health: Health) -> None:
    status, _, body = get(page.port, "/health")
    assert status == 503
    said: dict[str, Any] = json.loads(body)
    assert said["status"] == "failing"
    assert said["reasons"] == [{"name": "starting", "message": "the logs have not been read yet"}]
    health.moved()
    page._made.clear()
    status, headers, body = get(page.port, "/health")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    said = json.loads(body)
    assert (said["status"], said["reasons"], said["lag_bytes"]) == ("ok", [], 0)
    assert said["totals"]["alerts_written"] == 0


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 200),
        (b"GET /health?x=1 HTTP/1.0\r\n\r\n", 503),
        (b"GET /etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        (b"DELETE /health HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
)
def test_only_small_get_and_head_requests_are_answered(page: HealthPage, request_: bytes, status: int) -> None:
    assert talk(page.port, request_).startswith(f"HTTP/1.1 {status} ".encode())


def test_head_has_the_headers_of_get_and_no_body(page: HealthPage) -> None:
    assert get(page.port, "/", "HEAD")[1:] == (get(page.port, "/")[1], b"")


def test_a_caller_who_says_nothing_is_dropped_at_the_deadline(page: HealthPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_page, "DEADLINE_S", 0.1)
    with socket.create_connection(("127.0.0.1", page.port), timeout=30) as line:
        line.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        assert ended(line)


def test_connections_are_bounded_and_given_back(page: HealthPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_page, "MAX_CONNECTIONS", 3)
    held = [socket.create_connection(("127.0.0.1", page.port), timeout=30) for _ in range(3)]
    for line in held:
        line.sendall(b"GET")
    deadline = time.monotonic() + 30
    while page._open < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    with socket.create_connection(("127.0.0.1", page.port), timeout=30) as line:
        assert ended(line)
    for line in held:
        line.close()
    while page._open and time.monotonic() < deadline:
        time.sleep(0.01)
    assert get(page.port, "/")[0] == 200


def test_who_asks_without_end_gets_few_answers(page: HealthPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_page, "PACE_S", 0.02)
    began = time.monotonic()
    for _ in range(11):
        assert get(page.port, "/")[0] == 200
    assert time.monotonic() - began >= 10 * 0.02


def test_pages_open_to_others_are_warned_of(health: Health) -> None:
    opened = Health(HealthConfig(port=0, address="0.0.0.0"), Counters())
    with capture_logs() as logs, HealthPage(opened) as page, HealthPage(health):
        assert get(page.port, "/")[0] == 200
    assert [entry["event"] for entry in logs] == ["health_page", "health_page_open", "health_page"]


def test_a_page_is_made_once_a_second_however_often_it_is_asked_for(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    made: list[str] = []
    with HealthPage(health, clock=clock) as page:
        make = page._make
        monkeypatch.setattr(page, "_make", lambda path: (made.append(path), make(path))[1])
        for _ in range(5):
            get(page.port, "/metrics")
        clock.at += 1.0
        get(page.port, "/metrics")
    assert made == ["/metrics", "/metrics"]


def test_a_port_in_use_is_a_bad_start_with_the_remedy(clock: Clock) -> None:
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        health = Health(HealthConfig(port=port), Counters())
        with (
            pytest.raises(ConfigError, match=rf"health.port {port}: cannot be listened on .*; set another port"),
            HealthPage(health),
        ):
            pass


def test_the_pages_end_with_their_context(health: Health) -> None:
    with HealthPage(health) as page:
        port = page.port
    assert not any(thread.name == "health-page" for thread in threading.enumerate())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=30)
