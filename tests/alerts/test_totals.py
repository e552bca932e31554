"""An episode counts all of its packets, and the numbers of its sentence are fields of its document."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from factories import MISSIONS, POLICY, SENSOR, alert, episode, packet, verdict

from packetclip_sensor.alerts.episodes import EpisodeTracker
from packetclip_sensor.alerts.sentences import reason, title
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import Config, NdjsonConfig, SinkConfig
from packetclip_sensor.pipeline import replay
from packetclip_sensor.records import Batch, Episode, Packet, Verdict, VerdictBatch
from packetclip_sensor.sinks.documents import document

SCANS = Path(__file__).parents[1] / "scans"


def followed(verdicts: list[Verdict], packets: list[Packet], cuts: Sequence[int] = (), *, restart: bool = False) -> Episode:
    """The closed episode of verdicts and of all packets, fed in batches that end at the seconds of `cuts`."""
    restored: tuple[Episode, ...] = ()
    track = EpisodeTracker(POLICY, Counters(), sensor="s", model_version="1")
    for start, end in pairwise([0, *cuts, 1 << 40]):
        mine = [p for p in packets if start <= int(p.ts) < end]
        batch = VerdictBatch(
            [v for v in verdicts if start <= v.second < end], Batch([], [], final=end == 1 << 40), min(end - 1, 1000), (),
            packets=np.fromiter(mine, np.object_, len(mine)), seconds=np.array([int(p.ts) for p in mine], np.int64),
        )  # fmt: skip
        if restart:
            track = EpisodeTracker(POLICY, Counters(), sensor="s", model_version="1", restored=restored)
        done = track(batch)
        restored = msgspec.json.decode(msgspec.json.encode(done.open), type=tuple[Episode, ...])
    return done.events[-1].episode


def numbers(episode: Episode) -> tuple[float, ...]:
    e = episode
    return e.packets, e.sent_packets, e.bytes, e.ports, e.connections, e.source_count, e.destination_count, e.first, e.last


SCAN = [
    packet(
        ts=100 + i / 500, uid=f"C{i}", orig_h="a", resp_h="b", resp_p=1 + i, is_orig=sent, size_bytes=40 + 4 * sent, n=2 - sent
    )
    for i in range(1000)
    for sent in (True, False)
]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("cuts", [[], [101], [100, 101, 102, 130]])
def test_a_scan_is_counted_whole_however_it_is_read(cuts: list[int], restart: bool) -> None:
    found = followed([verdict(100), verdict(101)], SCAN, cuts, restart=restart)
    assert numbers(found) == (2000, 1000, 84000, 1000, 1000, 1, 1, 100.0, 100 + 999 / 500)


def test_a_flood_counts_each_spoofed_host() -> None:
    hosts = [f"10.0.{i // 250}.{i % 250}" for i in range(1500)]
    flood = [packet(ts=100 + i / 1500, uid=f"C{i}", orig_h=host, resp_h="b", proto="udp") for i, host in enumerate(hosts)]
    found = followed([verdict(100, tuple(hosts[:19]), view="destination", packets=30, proto="udp")], flood)
    assert (found.source_count, found.packets, found.connections, found.ports) == (1500, 1500, 1500, 1)
    assert title(found, MISSIONS["DoS"], "UDP Flood") == "UDP flood from 1,500 hosts against b"
    closed = alert(state="close", episode=found, facts={"proto": "udp", "distinct_resp_p": 1, "top_resp_p": 80})
    assert reason(closed).startswith("1,500 hosts (")
    assert "sent 1,500 UDP packets in 1.0 s to port 80" in reason(closed)


def test_traffic_between_two_verdicts_counts_and_that_after_the_last_does_not() -> None:
    later = [packet(ts=s + 0.5, uid=f"L{s}", orig_h="a", resp_h="b", resp_p=443) for s in (105, 110, 115)]
    found = followed([verdict(100), verdict(110)], [*SCAN, *later])
    assert (found.packets, found.ports, found.last) == (2002, 1000, 110.5)
    assert followed([verdict(100), verdict(110)], [*SCAN, *later], [103, 107, 112], restart=True) == found


def test_what_others_send_is_not_counted() -> None:
    others = [packet(ts=100.5, orig_h=a, resp_h=b, uid="O") for a, b in (("a", "c"), ("c", "b"), ("c", "d"))]
    assert followed([verdict(100), verdict(101)], sorted(SCAN + others, key=lambda p: p.ts)).packets == 2000


def test_every_number_of_a_sentence_is_a_field() -> None:
    random.seed(4)
    for _ in range(200):
        sent = random.choice((2, 999, 120_000))
        counted = {
            "packets": sent + random.choice((0, 7)), "sent_packets": sent, "bytes": random.randrange(1, 10**9),
            "ports": random.choice((1, 3, 1000, 40_000)), "connections": random.choice((1, 2, 1000, 70_100)),
            "connections_skipped": random.choice((0, 1, 4500)),
            "first": 100.0, "last": 100.0 + random.choice((12, 60, 4000)), "source_count": random.choice((1, 3, 1500)),
        }  # fmt: skip
        made = document(alert(state=random.choice(("open", "close")), episode=episode(**counted)), SENSOR)
        said = re.sub(r"\d+(\.\d+){3}", "", made["event"]["reason"]).replace(",", "")
        fields = made["packetclip"]["episode"]
        known = {round(v) for v in fields.values() if isinstance(v, int | float)} | {fields["packets"] - sent, 80}
        known |= {round(fields["rate_pps"], 1)}
        found = {float(n) for n in re.findall(r"\d+(?:\.\d+)?", said)}
        assert found <= known, (said, fields)
        assert {fields["packets"], fields["bytes"]} & found


def test_numbers_are_the_least_where_zeek_left_connections_out() -> None:
    said = reason(alert(state="close", episode=episode(connections=64, connections_skipped=4500, bytes=64)))
    assert said.endswith("These are the least numbers: Zeek left 4,500 more connections to 10.0.0.9 out of the log.")


def test_the_recorded_scan_of_1000_ports_says_1000_ports(tmp_path: Path) -> None:
    sink = SinkConfig(ndjson=NdjsonConfig(path=tmp_path / "alerts.ndjson"))
    replay([sorted((SCANS / "nmap-1000-ports").glob("*.log.gz"))], Config(sink=sink, state_dir=tmp_path))
    last = json.loads((tmp_path / "alerts.ndjson").read_text().splitlines()[-1])
    assert last["packetclip"]["episode"]["ports"] == 1000
    assert "to 1,000 ports of 172.29.40.90" in last["event"]["reason"]
