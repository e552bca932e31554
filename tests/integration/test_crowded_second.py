"""Cheap load: hundreds of host pairs of one packet a second cost a bounded number of windows, and hide no attack beside them."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import pytest

from benchmarks.common import DATA, tcp_line
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import Config, NdjsonConfig, SinkConfig
from packetclip_sensor.pipeline import replay
from packetclip_sensor.records import Alert

PAIRS, BEFORE_S = 300, 40


def times(lines: list[bytes]) -> list[float]:
    return [msgspec.json.decode(line)["ts"] for line in lines]


def crowd(begin: int, end: int) -> list[bytes]:
    """Lines of PAIRS host pairs that send one packet a second each, all as it is in a kept connection."""
    return [
        tcp_line(second + (i + 0.5) / PAIRS, f"C{i}", 0x0A000000 + i, 0xC0000000 + i, 40_000, flags=16, n=1 + second - begin)
        for second in range(begin, end)
        for i in range(PAIRS)
    ]


def told(folder: Path, lines: list[bytes]) -> tuple[list[tuple[str, int]], Counters]:
    """Title and second of each episode that opens."""
    folder.mkdir()
    (folder / "packetclip_packet.log").write_bytes(b"".join(lines))
    config = Config(sink=SinkConfig(ndjson=NdjsonConfig(path=folder / "alerts.ndjson")), state_dir=folder)
    alerts: list[Alert] = []
    counters = replay([[folder / "packetclip_packet.log"]], config, on_alert=alerts.append)
    return [(alert.title, alert.episode.opened) for alert in alerts if alert.state == "open"], counters


@pytest.mark.parametrize("capture", ["demo-dict-patator-ftp", "demo-slow-read", "demo-syn-trafgen"])
def test_cheap_load_costs_a_bounded_number_of_windows_and_hides_no_attack(tmp_path: Path, capture: str) -> None:
    attack = gzip.decompress((DATA / capture / "packetclip_packet.log.gz").read_bytes()).splitlines(keepends=True)
    begin, end = int(min(times(attack))) - BEFORE_S, int(max(times(attack))) + 1
    mixed = attack + crowd(begin, end)
    ordered = [line for _, line in sorted(zip(times(mixed), mixed, strict=True), key=lambda item: item[0])]
    alone, _ = told(tmp_path / "alone", attack)
    found, counters = told(tmp_path / "crowd", ordered)
    assert [title for title, _ in found] == [title for title, _ in alone]
    assert alone
    assert all(0 <= later - second <= 1 for (_, second), (_, later) in zip(alone, found, strict=True))
    limits = Config().limits
    most = limits.windows_per_second * (end - begin) + len(mixed) // 8
    assert counters.windows <= 3 * most  # a packet ends a window of each of the three views at most
    assert counters.windows_skipped > counters.windows
