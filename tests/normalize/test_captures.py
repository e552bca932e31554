"""Captures as worse sensors would have got them, read by Zeek: what is detected stays, and nobody else is accused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import altered_captures
import pytest
from altered_captures import Capture

from packetclip_sensor import pipeline
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import Config
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.records import Alert
from packetclip_sensor.service.checkpoint import State
from packetclip_sensor.sources import pcap, tail, zeek

DATA = Path(__file__).parents[1] / "data"
with_zeek = pytest.mark.skipif(pcap.find_zeek() is None, reason="zeek is not installed")


def opened(capture: Capture, folder: Path, bundle: Bundle) -> tuple[list[tuple[str, list[str], list[str], float]], Counters]:
    """Mission, hosts and first packet of each episode that a capture opens."""
    counters, rejects = Counters(), Rejects(None)
    logs = pcap.logs_of(altered_captures.write(folder / "in.pcap", capture), folder / "logs").folder
    batches = zeek.batches(tail.finite([logs], rejects=rejects), rejects, counters)
    steps = pipeline.alerts(batches, bundle, Config(sensor_name="s"), counters, State(), rejects=rejects)
    alerts: list[Alert] = [alert for step in steps for alert in step.alerts if alert.state == "open"]
    return [(a.episode.mission, a.episode.sources, a.episode.destinations, a.episode.first) for a in alerts], counters


@with_zeek
@pytest.mark.parametrize("name", ["demo-icmp-fping", "demo-port-zmap"])
@pytest.mark.parametrize("kind", ["each packet twice", "each packet twice, one hop apart"])
def test_a_capture_with_each_packet_twice_opens_the_episodes_of_the_single_one(
    kind: str, name: str, bundle: Bundle, tmp_path: Path
) -> None:
    """Zeek's limits count copies, so its script doubles them where the link is mirrored twice."""
    capture = altered_captures.read(DATA / name / "capture.pcap.gz")
    single, before = opened(capture, tmp_path / "single", bundle)
    assert len(single) == 1
    assert before.copies == 0
    double, after = opened(altered_captures.CAPTURES[kind](capture), tmp_path / "double", bundle)
    assert [episode[:3] for episode in double] == [episode[:3] for episode in single]
    assert after.copies == pytest.approx(after.packets / 2, rel=0.02)


@pytest.mark.parametrize("alter", [lambda c: c, altered_captures.disordered, altered_captures.jittered])
def test_no_packet_is_lost_or_changed_by_a_new_order(alter: Callable[[Capture], Capture], tmp_path: Path) -> None:
    capture = altered_captures.read(DATA / "demo-icmp-fping" / "capture.pcap.gz")
    again = altered_captures.read(altered_captures.write(tmp_path / "out.pcap", alter(capture)))
    assert sorted(r.frame for r in again.records) == sorted(r.frame for r in capture.records)
    assert again.header == capture.header


def test_parts_cut_by_time_are_the_capture() -> None:
    capture = altered_captures.read(DATA / "demo-icmp-fping" / "capture.pcap.gz")
    parts = altered_captures.rotated(capture)
    assert len(parts) > 3
    assert capture.of(r for part in parts for r in part.records) == capture
    assert all(part.records[-1].time - part.records[0].time < capture.ticks(2.0) for part in parts)
