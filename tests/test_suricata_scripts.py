"""What Suricata writes with our script: Zeek's records of the same captures, whole, within the limits, whatever goes wrong."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from suricata_run import DATA, suricata_of, unpacked

from benchmarks.suricata_records import UNKNOWN, compared, records
from packetclip_sensor.sources.suricata import capture
from packetclip_sensor.sources.suricata.capture import Suricata


@pytest.fixture(params=[7, 8], ids=["7.0", "8.0"])
def suricata(request: pytest.FixtureRequest) -> Suricata:
    return suricata_of(request.param)


def test_records_are_zeeks_and_the_cause_of_every_difference_is_known(suricata: Suricata) -> None:
    """Attacks over TCP, UDP and ICMP, probes with odd flags, and every kind of benign traffic, IPv6 among it."""
    names = ("demo-b02-flash-slow", "demo-os-nmap-ports", "demo-os-nping", "demo-udp-t50", "demo-icmp-fping", "demo-port-zmap")
    found = compared([DATA / name for name in names], suricata)
    assert found.zeek == found.suricata == 12_043
    assert {item: found.equal[item] for item in ("order", "bytes", "len", "proto")} == dict.fromkeys(
        ("order", "bytes", "len", "proto"), found.zeek
    )
    assert {item: found.zeek - found.equal[item] for item in ("flow", "hosts", "is_orig", "n")} == {
        "flow": 3, "hosts": 9, "is_orig": 9, "n": 53,
    }  # fmt: skip
    assert UNKNOWN not in {why for _, why in found.causes}


def test_flows_beyond_the_limit_of_a_second_are_left_out_whole_and_counted(suricata: Suricata, tmp_path: Path) -> None:
    pcap = unpacked("demo-syn-hping", tmp_path)
    capture.run(suricata, pcap, tmp_path, MAX_NEW_FLOWS=0)
    whole = records(tmp_path / "packetclip_packet.log")
    (tmp_path / "packetclip_packet.log").unlink()
    capture.run(suricata, pcap, tmp_path)
    kept = records(tmp_path / "packetclip_packet.log")
    begun = Counter((p.resp_h, int(p.ts)) for p in kept if p.n == 1)
    assert max(begun.values()) == 500
    left_out = sum(p.n == 1 for p in whole) - sum(p.n == 1 for p in kept)
    assert left_out == sum(p.skipped for p in kept) == 665
    flows = {p.uid for p in kept if p.n == 1}
    assert {p.uid for p in kept} == flows  # of a flow that is left out no later packet comes


def test_the_first_packets_and_bytes_are_recorded_up_to_the_options(suricata: Suricata, tmp_path: Path) -> None:
    pcap = unpacked("demo-dict-patator-ftp", tmp_path)
    capture.run(suricata, pcap, tmp_path, MAX_PACKETS=3, MAX_BYTES=30)
    found = records(tmp_path / "packetclip_packet.log")
    assert {p.n for p in found} == {1, 2, 3}
    assert max(len(p.data) for p in found) == 30
    assert len({(p.uid, p.n) for p in found}) == len(found)


def test_a_log_that_cannot_be_written_costs_suricata_nothing_and_is_told_once(suricata: Suricata, tmp_path: Path) -> None:
    pcap = unpacked("demo-dict-patator-ftp", tmp_path)
    (tmp_path / "packetclip_packet.log").mkdir()
    done = subprocess.run(capture.command(suricata, pcap, tmp_path), capture_output=True, check=True, text=True)
    told = [line for line in (done.stderr + done.stdout).splitlines() if "PacketCLIP" in line]
    assert len(told) == 1
    assert told[0].endswith("/packetclip_packet.log: Is a directory; tried again every 5 s")
    rows = [json.loads(line) for line in (tmp_path / "eve.json").read_text().splitlines()]
    assert sum(row["flow"]["pkts_toserver"] + row["flow"]["pkts_toclient"] for row in rows) == 1135  # of 1165, the others are ARP
