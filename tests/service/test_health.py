"""How the sensor says how it is: reasons, the interval line, and health documents in their rhythm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from factories import packet
from structlog.testing import capture_logs

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import HealthConfig, Limits
from packetclip_sensor.records import Batch
from packetclip_sensor.service.health import REASONS, Health
from packetclip_sensor.service.load_limits import Shedding
from packetclip_sensor.service.monitor import Monitor
from packetclip_sensor.sources.backlog import Backlog


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock, tmp_path: Path) -> Health:
    return Health(HealthConfig(port=0), Counters(), sensor='say "hi"\\', state_dir=tmp_path, clock=clock, now=clock)


def test_a_sensor_is_well_once_it_has_read_its_logs(health: Health) -> None:
    assert [reason.name for reason in health.reasons()] == ["starting"]
    health.moved()
    assert health.reasons() == []


def test_a_remark_is_shown_and_is_no_reason(health: Health) -> None:
    health.moved()
    health.backlog = Backlog()
    health.backlog.remarks = {Path("/zeek"): "/zeek: nothing was\nlogged since"}
    well, text = health.as_json()
    assert (well, json.loads(text)["remarks"], json.loads(text)["reasons"]) == (True, ["/zeek: nothing was\\nlogged since"], [])


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
    health.backlog.blind = [(name, "look") for name in ("no_logs", "unreadable", "logs_gone")]
    health.rejects = Rejects(None)
    health.rejects.add("a\x1b.log", 0, "not JSON", b"")
    health.counters.lines, health.counters.rejects, health.counters.flows_dropped = 100, 1, 5
    health.measure()
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
        "unreadable",
        "logs_gone",
        "lines_rejected",
        "flows_dropped",
        "state_unsaved",
        "disk_full",
        "memory",
    ]
    assert found[1].message == "5000 bytes of log are unread, the oldest line is 61 s old"
    assert found[2].message == "load is shed by the rule limits.shed_load, 7 lines and 0 packets so far"
    assert "1 of 100 log lines of the last minutes were rejected, the last: a\\x1b.log, byte 0: not JSON;" in found[6].message
    of_the_link = {"clock", "copies", "one_way", "gaps"}
    assert {reason.name for reason in found} | {"starting", "stalled", "sink_waiting"} | of_the_link == set(REASONS)


def test_a_role_on_kafka_names_the_partition_that_is_furthest_behind(tmp_path: Path, clock: Clock) -> None:
    health = Health(HealthConfig(), Counters(), state_dir=tmp_path, clock=clock, now=lambda: 1000.0)
    for reached, message in ((("p.host[3]", 925.0), ["p.host[3] is 75 s behind"]), (("p.host[3]", 990.0), []), (None, [])):
        health.reached = reached
        health.measure()
        assert [reason.message for reason in health.reasons() if reason.name == "behind"] == message


@pytest.mark.parametrize(("ahead_s", "told"), [(0.0, None), (-5.0, None), (61.0, "61 s ahead of"), (-3600.0, "3600 s behind")])
def test_a_source_with_another_clock_is_named_by_its_fresh_lines(
    health: Health, clock: Clock, ahead_s: float, told: str | None
) -> None:
    def read(source: str, ts: float) -> None:
        health.read(Batch([packet(ts=ts)], [], source=source), 1)

    read("/zeek/old", 1.0)  # what was there before says nothing of a clock
    for source in ("/zeek/old", "/zeek/one", "/zeek/two"):
        health.read(Batch([], [], idle=True, source=source), 1)
    clock.at += 1.0
    read("/zeek/one", clock.at - 0.5)
    read("/zeek/two", clock.at + ahead_s)
    clock.at += 600.0
    read("/zeek/old", 2.0)  # nobody has looked for a while
    found = [f"fresh lines of /zeek/two are {told} this machine's clock; set the clocks by NTP, or see why that Zeek lags"]
    assert [reason.message for reason in health.reasons() if reason.name == "clock"] == (found if told else [])
    assert health.gauges().clock_offset_seconds == (ahead_s or -0.5)


def test_copies_one_way_connections_and_gaps_are_reasons_where_they_are_many(health: Health, clock: Clock) -> None:
    def five_minutes(copies: int, one_way: int, gaps: int) -> list[str]:
        for _ in range(61):
            clock.at += 5.0
            health.moved()
            counters.packets, counters.copies = counters.packets + 100, counters.copies + copies
            counters.connections, counters.connections_one_way = counters.connections + 10, counters.connections_one_way + one_way
            counters.connections_with_gaps += gaps
            health.measure()
        return [reason.name for reason in health.reasons()]

    counters = health.counters
    assert five_minutes(9, 4, 1) == []
    assert five_minutes(50, 6, 3) == ["copies", "one_way", "gaps"]
    assert health.gauges().copies_share == 0.5
    assert "50% of the packets are copies" in next(reason.message for reason in health.reasons())
    assert five_minutes(0, 0, 0) == []


def test_few_packets_say_nothing_of_a_link(health: Health) -> None:
    health.moved()
    health.counters.packets, health.counters.copies, health.counters.connections = 900, 450, 40
    health.counters.connections_one_way = 40
    health.measure()
    assert health.reasons() == []


@pytest.mark.parametrize(("rejected", "told"), [(9, []), (10, ["lines_rejected"]), (2000, ["lines_rejected"])])
def test_lines_rejected_are_a_reason_by_their_share_of_the_last_minutes(
    health: Health, clock: Clock, rejected: int, told: list[str]
) -> None:
    """Also where none was a whole line: a line too long is rejected and not counted as read."""
    health.moved()
    health.rejects = Rejects(None)
    health.counters.lines, health.counters.rejects = 50_000, 0
    health.measure()
    clock.at += 400.0
    health.measure()
    health.moved()
    health.counters.lines += 1000
    health.counters.rejects += rejected
    health.measure()
    assert [reason.name for reason in health.reasons()] == told
    clock.at += 299.0
    health.moved()
    health.measure()
    assert [reason.name for reason in health.reasons()] == told
    clock.at += 1.0
    health.moved()
    health.measure()
    assert health.reasons() == []


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
