"""The pages /metrics and /health from outside: what they say, and that who asks can do no harm."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine import free_port
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from packetclip_sensor.common.metrics import Counters, Gauges, meanings
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.service import health_page
from packetclip_sensor.service.health import REASONS, Health, HealthConfig
from packetclip_sensor.service.health_page import HealthPage


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_page, "PACE_S", 0.0)
    monkeypatch.setattr(health_page, "LOOK_S", 0.01)


@pytest.fixture
def health(tmp_path: Path) -> Health:
    return Health(HealthConfig(port=0), Counters(), sensor='say "hi"\\', state_dir=tmp_path)


@pytest.fixture
def page(health: Health) -> Iterator[HealthPage]:
    with HealthPage(health) as served:
        yield served


def connect(page: HealthPage) -> socket.socket:
    return socket.create_connection(("127.0.0.1", page.port), timeout=60)


def talk(page: HealthPage, request: bytes) -> bytes:
    with connect(page) as line:
        line.sendall(request)
        return b"".join(iter(lambda: line.recv(65536), b""))


def get(page: HealthPage, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    head, _, body = talk(page, f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:]), body


def ended(line: socket.socket) -> bool:
    """The other side hangs up without a word."""
    try:
        return line.recv(1) == b""
    except ConnectionResetError:
        return True


def test_metrics_are_what_prometheus_reads_and_each_has_its_meaning(page: HealthPage, health: Health) -> None:
    health.moved()
    health.counters.lines, health.lag_bytes, health.model_version = 12, 345, "2026.1"
    status, headers, body = get(page, "/metrics")
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


def test_health_is_200_or_503_with_the_reasons(page: HealthPage, health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_page, "FRESH_S", 0.0)
    status, _, body = get(page, "/health")
    assert status == 503
    said: dict[str, Any] = json.loads(body)
    assert said["status"] == "failing"
    assert said["reasons"] == [{"name": "starting", "message": "the logs have not been read yet"}]
    health.moved()
    status, headers, body = get(page, "/health")
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
    assert talk(page, request_).startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:9758", 200),
        ("[::1]:9758", 200),
        ("192.0.2.7", 200),
        ("LocalHost:9758", 200),
        ("localhost.", 200),
        ("zeek-1.example.org:9758", 200),
        (socket.gethostname(), 200),
        ("attacker.example", 403),
        ("attacker.example:9758", 403),
        ("127.0.0.1.attacker.example", 403),
        ("localhost.attacker.example", 403),
        ("attacker.example@127.0.0.1", 403),
        ("", 403),
        ("127.0.0.1\r\nHost: attacker.example", 403),
        ("attacker.example\r\nhost : 127.0.0.1", 403),
        ("\x1b]0;owned\x07", 403),
    ],
)
def test_a_name_that_is_not_ours_is_not_answered(host: str, status: int) -> None:
    """DNS rebinding: a browser that a name of the attacker's leads here says that name."""
    with HealthPage(Health(HealthConfig(port=0, names=("Zeek-1.example.org",)), Counters())) as page:
        said = talk(page, f"GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert said.startswith(f"HTTP/1.1 {status} ".encode())
    assert (b"packetclip_lines" in said) == (status == 200)


def test_idle_connections_make_room_for_one_that_asks(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds all connections and says nothing keeps nobody from the pages."""
    monkeypatch.setattr(health_page, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(health_page, "DEADLINE_S", 60.0)
    with HealthPage(health) as page:
        held = [connect(page) for _ in range(3)]
        for line in held[::2]:
            line.sendall(b"GET / HTTP/1.1\r\nHost:")
        began = time.monotonic()
        for _ in range(4):
            assert get(page, "/")[0] == 200
        assert time.monotonic() - began < 20
        assert ended(held[0])
        assert sum(thread.name.startswith("Thread-") for thread in threading.enumerate()) <= 4
        for line in held:
            line.close()


def test_head_has_the_headers_of_get_and_no_body(page: HealthPage) -> None:
    assert get(page, "/", "HEAD")[1:] == (get(page, "/")[1], b"")


def test_a_caller_who_says_nothing_is_dropped_at_the_deadline(page: HealthPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_page, "DEADLINE_S", 0.1)
    with connect(page) as line:
        line.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        assert ended(line)


def test_connections_are_bounded_and_given_back(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_page, "MAX_CONNECTIONS", 3)
    with HealthPage(health) as page:
        held = [connect(page) for _ in range(3)]
        for line in held:
            line.sendall(b"GET")
        with connect(page) as line:
            assert ended(line)
        for line in held:
            line.close()
        answer, deadline = b"", time.monotonic() + 30
        while not answer and time.monotonic() < deadline:
            with contextlib.suppress(ConnectionError):  # hung up on, until the server has seen that the others are gone
                answer = talk(page, b"GET / HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_two_requests_in_one_connection_get_one_answer(page: HealthPage) -> None:
    """Nothing is read behind the first request, so nothing can be smuggled in its body."""
    body = b"GET /health HTTP/1.1\r\n\r\n"
    said = talk(page, b"GET / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert said.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in said


def test_who_asks_without_end_gets_few_answers(page: HealthPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_page, "PACE_S", 0.02)
    began = time.monotonic()
    for _ in range(11):
        assert get(page, "/")[0] == 200
    assert time.monotonic() - began >= 10 * 0.02


def test_pages_open_to_others_are_warned_of(health: Health) -> None:
    opened = Health(HealthConfig(port=0, address="0.0.0.0"), Counters())
    with capture_logs() as logs, HealthPage(opened) as page, HealthPage(health):
        assert get(page, "/")[0] == 200
    assert [entry["event"] for entry in logs] == ["health_page", "health_page_open", "health_page"]


def test_a_page_is_made_once_a_second_however_often_it_is_asked_for(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    at, made, really = [1000.0], [], health.as_json
    monkeypatch.setattr(health, "as_json", lambda: (made.append(at[0]), really())[1])
    with HealthPage(health, clock=lambda: at[0]) as page:
        for _ in range(5):
            get(page, "/health")
        at[0] += 1.0
        get(page, "/health")
    assert made == [1000.0, 1001.0]


def test_a_port_in_use_is_a_bad_start_with_the_remedy() -> None:
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
