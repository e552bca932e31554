"""The roles on a real broker, as threads: what befalls them without a kill gives the documents of one sensor."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka_broker import Site, merged, replayed, site
from machine import free_port, until
from scripted_server import ScriptedServer

pytest.importorskip("confluent_kafka")

from packetclip_sensor.kafka.messages import partition_of

pytestmark = pytest.mark.xdist_group("kafka")
CAPTURES = "demo-dict-patator-ftp", "demo-icmp-fping", "demo-udp-hping", "demo-port-zmap"
PARTITIONS, RAW = 4, 3
Logs = dict[str, list[bytes]]


@pytest.fixture(scope="module")
def logs() -> Logs:
    return {log: merged(log, *CAPTURES) for log in ("packet", "flow")}


@pytest.fixture
def live(kafka: str, tmp_path: Path) -> Iterator[Site]:
    with site(kafka, tmp_path, "live", partitions=PARTITIONS, raw=RAW) as running:
        yield running


def alone(folder: Path, logs: Logs) -> dict[str, bytes]:
    """What one sensor finds."""
    (folder / "alone").mkdir()
    found = replayed(folder / "alone", logs["packet"], logs["flow"])
    assert len(found) > 2
    return found


def moved(lines: list[bytes], names: dict[str, str]) -> list[bytes]:
    """Lines with other addresses for some hosts."""
    out = []
    for line in lines:
        for old, new in names.items():
            line = line.replace(f'"{old}"'.encode(), f'"{new}"'.encode())  # noqa: PLW2901
        out.append(line)
    return out


def busiest(capture: str) -> tuple[str, str]:
    """The pair of hosts with most packets of a capture."""
    heads = (json.loads(line) for line in merged("packet", capture))
    return Counter((head["id.orig_h"], head["id.resp_h"]) for head in heads).most_common(1)[0][0]


def test_silent_partitions_blocks_sent_again_and_hosts_of_one_partition(
    live: Site, tmp_path: Path, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packetclip_sensor.kafka.judge.MOST_VERDICTS", 1)
    one, other = busiest("demo-dict-patator-ftp")
    near = next(f"10.9.9.{i}" for i in range(256) if partition_of(f"10.9.9.{i}", PARTITIONS) == partition_of(one, PARTITIONS))
    itself = busiest("demo-udp-hping")
    names = {other: near, itself[0]: itself[1]}
    sent = {log: moved(lines, names) for log, lines in logs.items()}
    expected = alone(tmp_path, sent)
    for log, lines in sent.items():  # partition 2 has no line at all, partition 1 none of the second half
        half = len(lines) // 2
        live.ship(log, [*lines[:200], *lines[100:half]], shippers=2)
        live.ship(log, [*lines[half:], *lines[-50:]], shippers=1)
    judge, alerter, _ = [live.thread(role) for role in ("judge", "alert", "route")]
    live.await_all(time.time())
    assert live.documents() == expected
    assert alerter.counters.repeats == 150
    assert 150 <= judge.counters.repeats <= 300  # each line has one copy or two
    assert judge.counters.late_packets == 0


def test_lines_of_a_shipper_that_was_away_are_judged_late_and_counted(live: Site, tmp_path: Path, logs: Logs) -> None:
    for log, lines in logs.items():
        live.ship(log, lines, shippers=1)
    judge, *_ = [live.thread(role) for role in ("judge", "alert", "route")]
    live.await_all(time.time())
    assert live.documents() == alone(tmp_path, logs)
    before = judge.counters.packets
    live.ship("packet", merged("packet", "demo-os-nping"), shippers=1)
    live.await_all(time.time())
    late = judge.counters.packets - before
    assert late > len(merged("packet", "demo-os-nping"))
    assert (judge.counters.late_packets, judge.counters.repeats, judge.counters.rejects) == (late, 0, 0)


@pytest.mark.skipif(not os.environ.get("PACKETCLIP_SLOW"), reason="the cluster is away for a minute: `make kafka` runs it")
def test_a_cluster_that_is_away_a_second_alerter_and_judges_that_come_and_go(kafka: str, tmp_path: Path, logs: Logs) -> None:
    expected, port = alone(tmp_path, logs), free_port()
    servers = [ScriptedServer(port)]
    sink = {"elasticsearch": {"hosts": [servers[0].url], "timeout_s": 3, "manage_templates": False}}
    with site(kafka, tmp_path, "away", partitions=PARTITIONS, raw=RAW, sink=sink) as running:
        first = running.thread("alert")
        until(lambda: running.members("alert") == 1)
        servers[0].shutdown()
        servers[0].server_close()
        for log, lines in logs.items():
            running.ship(log, lines)
        since = time.time()
        judges = [running.thread("judge", 1), running.thread("judge", 2)]
        routers = [running.thread("route", 1), running.thread("route", 2)]
        second = running.thread("alert", 2)
        until(lambda: first.counters.es_retries > 0 and running.members("judge") == running.members("route") == 2)
        judges[0].end()
        routers[0].end()
        time.sleep(60)
        judges.append(running.thread("judge", 3))
        with ScriptedServer(port) as back:
            running.await_all(since)
            assert second.counters.alerts_written == 0  # it waits
            first.end()
            running.await_all(time.time())  # it has taken over
            back.shutdown()
        assert back.sources == expected
        assert first.counters.alerts_written == len(expected)
