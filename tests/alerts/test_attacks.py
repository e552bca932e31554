"""Scans and floods through the sensor's own stages with the shipped model: one episode each, whatever the number of packets."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from factories import told
from structlog.testing import capture_logs

from packetclip_sensor import pipeline
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import Config
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.records import Alert, Batch, Packet
from packetclip_sensor.service import checkpoint
from packetclip_sensor.service.checkpoint import State
from packetclip_sensor.sources import tail, zeek

SCAN = Path(__file__).parents[1] / "scans" / "nmap-1000-ports"
CONFIG = Config(sensor_name="s")


def alerts(batches: Sequence[Batch], bundle: Bundle, counters: Counters | None = None, state: State | None = None) -> list[Alert]:
    safes = pipeline.alerts(batches, bundle, CONFIG, counters or Counters(), state or State())
    return [alert for safe in safes for alert in safe.alerts]


def stopped(batches: Sequence[Batch], bundle: Bundle, folder: Path) -> tuple[list[Alert], State]:
    """The alerts of a sensor that stops after these batches, and the state that it is started again with."""
    done = list(pipeline.alerts(batches, bundle, CONFIG, Counters(), State()))
    checkpoint.save(folder / "state.json", State(judged=done[-1].judged, episodes=done[-1].episodes))
    return [alert for batch in done for alert in batch.alerts], checkpoint.load(folder / "state.json")


def syn(ts: float, source: int, victim: int = 80) -> Packet:
    """A lone SYN of 40 bytes from 198.18.x.y to port 80 of 192.0.2.80, as hping3 makes it."""
    host = bytes([198, 18, source >> 8 & 255, source & 255])
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, source & 65535, 0, 64, 6, 0, host, bytes([192, 0, 2, victim]))
    tcp = struct.pack(">HHIIBBHHH", 1024 + source % 60000, 80, source, 0, 0x50, 2, 512, 0, 0)
    text = ".".join(map(str, host))
    return Packet(ts, f"C{source}", text, 1024 + source % 60000, f"192.0.2.{victim}", 80, "tcp", True, 1, 40, ip + tcp)


def flood(sources: int = 10_000, rate: float = 500.0, start: float = 1_760_000_000.0) -> list[Packet]:
    return [syn(start + i / rate, i) for i in range(sources)]


def batched(packets: Sequence[Packet], size: int) -> list[Batch]:
    return [*(Batch(list(packets[i : i + size]), []) for i in range(0, len(packets), size)), Batch([], [], final=True)]


def content(found: list[Alert]) -> list[tuple[object, ...]]:
    """What the documents say, without embeddings' last digits."""
    return [
        (
            a.id,
            a.state,
            a.ts,
            a.title,
            a.why.reason,
            a.episode.verdicts,
            a.episode.packets,
            a.episode.source_count,
            a.episode.peak,
        )
        for a in found
    ]


@pytest.fixture(scope="module")
def scan() -> list[Batch]:
    with Rejects(None) as rejects:
        return list(zeek.batches(tail.finite([SCAN], rejects=rejects), rejects, Counters()))


def test_an_nmap_scan_of_1000_ports_is_one_episode(bundle: Bundle, scan: list[Batch]) -> None:
    found = alerts(scan, bundle)
    assert [a.state for a in found] == ["open", "close"]
    assert {a.title for a in found} == {"Port scan by 172.29.40.7 against 172.29.40.90"}
    assert len({a.episode.id for a in found}) == 1
    assert found[-1].episode.flows > 900  # those from a second before the first judged window on


def test_two_scanners_of_one_victim_are_two_episodes(bundle: Bundle, scan: list[Batch]) -> None:
    one = [p for batch in scan for p in batch.packets if p.orig_h == "172.29.40.7"]
    other = [msgspec.structs.replace(p, ts=p.ts + 0.002, uid=p.uid + "x", orig_h="172.29.40.8") for p in one]
    found = alerts(batched(sorted([*one, *other], key=lambda p: p.ts), 700), bundle)
    assert sorted((a.state, *a.episode.sources, *a.episode.destinations) for a in found) == [
        (state, source, "172.29.40.90") for state in ("close", "open") for source in ("172.29.40.7", "172.29.40.8")
    ]


def test_a_flood_from_10000_spoofed_sources_is_one_episode_that_says_so(bundle: Bundle) -> None:
    counters = Counters()
    found = alerts(batched(flood(), 2000), bundle, counters)
    assert [a.state for a in found] == ["open", "close"]
    assert {a.episode.mission for a in found} == {"DoS"}
    closing = found[-1].episode
    assert closing.scope == "destination"
    assert closing.destinations == ["192.0.2.80"]
    assert len(closing.sources) == 100
    assert closing.source_count == pytest.approx(10_000, rel=0.07)
    assert told(counters)["episodes"] == 1


@pytest.mark.parametrize("size", [97, 1000])
def test_documents_do_not_depend_on_how_the_log_was_read(bundle: Bundle, size: int) -> None:
    packets = flood(4000, 50.0)
    whole = content(alerts(batched(packets, 4000), bundle))
    assert [state for _, state, *_ in whole] == ["open", "update", "close"]
    assert content(alerts(batched(packets, size), bundle)) == whole


def test_a_restart_in_the_middle_gives_the_same_documents(bundle: Bundle, tmp_path: Path) -> None:
    packets = flood(4000, 50.0)
    whole = content(alerts(batched(packets, 500), bundle))
    for stop in (1, 3, 5, 7):
        first, state = stopped(batched(packets, 500)[:stop], bundle, tmp_path)
        again = [p for p in packets if p.ts > state.judged - 61]  # the log is read again from T seconds before
        assert content(first + alerts(batched(again, 400), bundle, state=state)) == whole


def test_a_clock_set_back_ends_what_was_and_judges_what_follows_by_its_own_time(bundle: Bundle) -> None:
    first, second = flood(1500, 100.0), flood(3000, 100.0, start=1_760_000_000.0 - 3600)
    counters = Counters()
    with capture_logs() as logs:
        found = alerts(batched(first + second, 500), bundle, counters)
    assert [(entry["event"], entry["by_s"]) for entry in logs] == [("clock_turned_back", 3615)]
    assert [a.state for a in found] == ["open", "close", "open", "close"]
    assert [a.ts < 1_760_000_000 - 3500 for a in found] == [False, False, True, True]
    assert found[0].episode.id == found[1].episode.id != found[2].episode.id == found[3].episode.id
    assert found[1].episode.source_count == pytest.approx(1500, rel=0.07)
    assert counters.late_packets == 0  # held back until it is sure


def test_no_second_waits_for_a_clock_to_catch_up(bundle: Bundle) -> None:
    first, second = flood(1500, 100.0), flood(6000, 100.0, start=1_760_000_000.0 - 3600)
    safes = list(pipeline.alerts(batched(first + second, 500)[:-1], bundle, CONFIG, Counters(), State()))
    assert [safe.judged - 1_760_000_000 for safe in safes[-3:]] == [-3552, -3547, -3542]
    assert [a.state for safe in safes for a in safe.alerts][:3] == ["open", "close", "open"]


def test_the_lines_of_a_slow_clock_among_others_end_nothing(bundle: Bundle) -> None:
    right, slow = flood(3000, 100.0), flood(3000, 100.0, start=1_760_000_000.0 - 3600)
    mixed = [p for i in range(0, 3000, 300) for p in (*right[i : i + 300], *slow[i : i + 300])]
    with capture_logs() as logs:
        found = alerts(batched(mixed, 300), bundle)
    assert logs == []
    assert [a.state for a in found] == ["open", "close"]


def test_a_restart_behind_a_clock_set_back_loses_nothing(bundle: Bundle, tmp_path: Path) -> None:
    packets = flood(1500, 100.0) + flood(6000, 100.0, start=1_760_000_000.0 - 3600)
    whole = content(alerts(batched(packets, 500), bundle))
    for stop in (2, 4, 5, 6, 9):
        done, state = stopped(batched(packets, 500)[:stop], bundle, tmp_path)
        again = packets if state.judged >= 1_760_000_000 else [p for p in packets[1500:] if p.ts > state.judged - 61]
        rest = alerts(batched(again, 500), bundle, state=state)
        assert {row[0] for row in whole} <= {row[0] for row in content(done + rest)}, stop
