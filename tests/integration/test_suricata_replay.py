"""What Suricata saw is judged as what Zeek saw: the same episodes, under ids that every reading repeats."""

from __future__ import annotations

from pathlib import Path

import pytest
from suricata_run import DATA, suricata_of

from benchmarks.suricata_records import logs_of
from benchmarks.suricata_replay import by_suricata, by_zeek
from packetclip_sensor import pipeline
from packetclip_sensor.config.settings import Config, NdjsonConfig, SinkConfig
from packetclip_sensor.records import Alert


@pytest.mark.parametrize("major", [7, 8])
def test_episodes_are_those_of_zeeks_logs(major: int) -> None:
    suricata = suricata_of(major)
    for name in ("demo-dict-patator-ftp", "demo-os-nping", "demo-udp-t50", "demo-slow-read"):
        zeek = by_zeek(DATA / name / "capture.pcap.gz")
        assert len(zeek) == 1
        assert by_suricata(DATA / name / "capture.pcap.gz", suricata) == zeek, name
    assert by_suricata(DATA / "demo-b02-flash-slow" / "capture.pcap.gz", suricata) == []


def test_a_second_reading_gives_the_same_ids_though_suricata_numbers_its_flows_anew(tmp_path: Path) -> None:
    def alerts() -> list[Alert]:
        found: list[Alert] = []
        config = Config(sink=SinkConfig(ndjson=NdjsonConfig(path=tmp_path / "alerts.ndjson")))
        with logs_of(DATA / "demo-dict-patator-ftp" / "capture.pcap.gz", suricata_of(7)) as logs:
            pipeline.replay([[logs]], config, on_alert=found.append)
        return found

    first, second = alerts(), alerts()
    assert len(first) == 2
    assert [(a.id, a.episode.id) for a in first] == [(a.id, a.episode.id) for a in second]
    uids = [{evidence.packet.uid for a in found for evidence in a.why.evidence} for found in (first, second)]
    assert uids[0] != uids[1]
    assert len((tmp_path / "alerts.ndjson").read_bytes().splitlines()) == 2  # the second time nothing is written twice
