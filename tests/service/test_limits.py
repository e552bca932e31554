"""Shedding load: only by the rule that was asked for, at exact lines, counted, and over as soon as the sensor has caught up."""

from __future__ import annotations

import gzip
import threading
import time
from pathlib import Path
from typing import Literal

import pytest
from factories import packet, told
from structlog.testing import capture_logs

from packetclip_sensor import pipeline
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import Config, HealthConfig, Limits, NdjsonConfig, SinkConfig
from packetclip_sensor.records import Batch, Idle, Lines, Position
from packetclip_sensor.service.load_limits import Shedding

DATA = Path(__file__).parents[1] / "data"
NOW = 10_000.0


def block(ts: float, log: str = "packet", count: int = 3) -> Lines:
    row = f'{{"ts":{ts},"uid":"C"}}\n'.encode()
    start = Position("/l/packetclip_packet.log", 1, 2, 0, "", int(ts))
    return Lines(log, row * count, start, Position("/l/packetclip_packet.log", 1, 2, 0, "", int(ts) + 1))


def shedding(rule: Literal["none", "skip_old", "first_packets"]) -> tuple[Shedding, Counters]:
    counters = Counters()
    return Shedding(Limits(shed_load=rule, shed_after_s=300.0, packets_kept=2), counters, now=lambda: NOW), counters


@pytest.mark.parametrize("rule", ["none", "first_packets"])
def test_without_the_rule_old_lines_are_read_however_late(rule: Literal["none", "first_packets"]) -> None:
    shed, counters = shedding(rule)
    blocks: list[Lines | Idle] = [block(1.0), block(9000.0), Idle()]
    assert [shed.block(each) for each in blocks] == blocks
    assert told(counters) == {}


def test_skip_old_passes_over_old_packets_but_keeps_positions_and_flow_rows() -> None:
    shed, counters = shedding("skip_old")
    old, flow, half, fresh = block(NOW - 301), block(NOW - 301, "flow"), block(NOW - 151), block(NOW - 149)
    with capture_logs() as logs:
        got = [shed.block(each) for each in (block(NOW - 299), old, flow, half, fresh, block(NOW - 200))]
    assert [len(b.data) > 0 for b in got if isinstance(b, Lines)] == [True, False, True, False, True, True]
    assert [(b.start, b.end) for b in got if isinstance(b, Lines)][1] == (old.start, old.end)
    assert told(counters) == {"shed_lines": 6, "shed_bytes": len(old.data) + len(half.data)}
    assert [entry["event"] for entry in logs] == ["shedding_load", "shedding_ended"]
    assert not shed.on


def test_first_packets_keeps_the_beginning_of_each_connection_until_all_is_read() -> None:
    shed, counters = shedding("first_packets")
    late = Batch([packet(ts=NOW - 400, n=n) for n in (1, 2, 3, 4)], [], idle=False)
    got = [shed.batch(each) for each in (late, Batch([], [], idle=True), Batch([packet(ts=NOW - 200, n=9)], []))]
    assert [[p.n for p in batch.packets] for batch in got] == [[1, 2], [], [9]]
    assert told(counters) == {"shed_packets": 2}
    assert not shed.on


def stop_when_read(counters: Counters, lines: int, stop: threading.Event) -> None:
    end = time.monotonic() + 120
    while counters.packets + counters.shed_lines < lines and time.monotonic() < end:
        time.sleep(0.05)
    stop.set()


def test_a_whole_sensor_that_is_years_behind_sheds_only_where_it_may(tmp_path: Path) -> None:
    """The recorded attack is old; without a rule it is told all the same."""
    rows = gzip.decompress((DATA / "demo-icmp-t50" / "packetclip_packet.log.gz").read_bytes())
    found = {}
    for rule in ("none", "skip_old"):
        folder = tmp_path / rule
        (folder / "logs").mkdir(parents=True)
        (folder / "logs" / "packetclip_packet.log").write_bytes(rows.replace(b'"ts":17', b'"ts":15'))
        config = Config(
            logs=(folder / "logs",),
            state_dir=folder / "state",
            sink=SinkConfig(ndjson=NdjsonConfig(path=folder / "alerts.ndjson")),
            health=HealthConfig(documents_s=0),
            limits=Limits(shed_load=rule),  # type: ignore[arg-type]
        )
        stop = threading.Event()
        counters = Counters()
        watcher = threading.Thread(target=stop_when_read, args=(counters, rows.count(b"\n"), stop))
        watcher.start()
        pipeline.run(config, stop, counters)
        watcher.join()
        found[rule] = counters
    lines = rows.count(b"\n")
    assert (found["none"].packets, found["none"].shed_lines) == (lines, 0)
    assert (found["skip_old"].packets, found["skip_old"].shed_lines) == (0, lines)


def test_a_replay_keeps_the_limits_of_its_configuration(tmp_path: Path) -> None:
    """A line that is longer than limits.line_bytes is rejected in a replay as in a running sensor, and the rejects file turns."""
    log = gzip.decompress((DATA / "demo-icmp-fping" / "packetclip_packet.log.gz").read_bytes())
    long = log.split(b"\n", 1)[0].replace(b'"proto"', b'"note":"' + b"x" * 5000 + b'","proto"')
    (tmp_path / "packetclip_packet.log").write_bytes((long + b"\n") * 40 + log)
    config = Config(
        sink=SinkConfig(ndjson=NdjsonConfig(path=tmp_path / "alerts.ndjson")),
        limits=Limits(line_bytes=4096, rejects_bytes=4096),
        rejects_path=tmp_path / "rejects.jsonl",
    )
    counters = pipeline.replay([[tmp_path]], config)
    assert (counters.rejects, counters.packets) == (40, log.count(b"\n"))
    assert max(path.stat().st_size for path in tmp_path.glob("rejects*")) <= 4096
    assert (tmp_path / "rejects.jsonl.1").exists()
