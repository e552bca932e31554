"""Suricata in Zeek's place: rows of eve.json as flow records, captures as logs where there is no Zeek."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from captures import packets, pcap
from suricata_run import DATA, suricata_of, unpacked

from packetclip_sensor.cli.app import main
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.evidence.flow_counts import FLOWS, FlowCounts
from packetclip_sensor.records import Flow, Packet, log_of
from packetclip_sensor.sources import pcap as source
from packetclip_sensor.sources import zeek
from packetclip_sensor.sources.discovery import logs_in
from packetclip_sensor.sources.suricata import capture, eve
from packetclip_sensor.sources.tail import finite, follow

COUNTS = {
    "pkts_toserver": 8,
    "pkts_toclient": 5,
    "bytes_toserver": 741,
    "bytes_toclient": 342,
    "start": "2026-11-21T12:41:56.325283+0000",
    "end": "2026-11-21T13:41:56.341960+0100",
    "state": "closed",
}
ROW = {
    "timestamp": "2026-11-21T12:42:07.036216+0000",
    "flow_id": 1397081985311353,
    "event_type": "flow",
    "src_ip": "192.0.2.1",
    "src_port": 33131,
    "dest_ip": "192.0.2.2",
    "dest_port": 443,
    "proto": "TCP",
    "app_proto": "tls",
    "flow": COUNTS,
    "community_id": "1:aQKhwfI9acKnD7BIHEtAmSFR0ng=",
    "tcp": {"tcp_flags": "1b", "tcp_flags_ts": "1b", "tcp_flags_tc": "1b"},
}


def line(**changes: Any) -> bytes:
    row = {**ROW, **changes}
    return json.dumps({key: value for key, value in row.items() if value is not None}, separators=(",", ":")).encode()


def made(**changes: Any) -> Flow:
    found = eve.flow(line(**changes))
    assert found is not None
    return found


def test_a_row_becomes_a_flow_and_what_it_does_not_say_stays_unset() -> None:
    assert made() == Flow(
        ts=1795264916.325283,
        uid="1397081985311353",
        orig_h="192.0.2.1",
        orig_p=33131,
        resp_h="192.0.2.2",
        resp_p=443,
        proto="tcp",
        final=True,
        service="ssl",
        duration=0.016677,
        conn_state="SF",
        orig_pkts=8,
        orig_ip_bytes=741 - 8 * 14,
        resp_pkts=5,
        resp_ip_bytes=342 - 5 * 14,
        ip_proto=6,
        community_id="1:aQKhwfI9acKnD7BIHEtAmSFR0ng=",
    )


def test_vlan_tags_count_as_link_header_and_addresses_are_written_as_zeek_does() -> None:
    flow = made(vlan=[10, 20], src_ip="2001:0db8:0000:0000:0000:0000:0000:0001", app_proto="failed", community_id=None)
    assert (flow.vlan, flow.orig_ip_bytes, flow.orig_h) == (10, 741 - 8 * 22, "2001:db8::1")
    assert (flow.service, flow.community_id) == (None, None)


def test_icmp_has_type_and_answer_or_code_as_ports() -> None:
    ping = {"proto": "ICMP", "src_port": None, "dest_port": None, "tcp": None}
    echo, unreachable = made(**ping, icmp_type=8, icmp_code=0), made(**ping, icmp_type=3, icmp_code=1)
    assert (echo.proto, echo.orig_p, echo.resp_p, echo.conn_state) == ("icmp", 8, 0, "OTH")
    assert (unreachable.orig_p, unreachable.resp_p) == (3, 1)
    solicitation = made(**ping | {"proto": "IPv6-ICMP"}, icmp_type=133, icmp_code=0)
    assert (solicitation.proto, solicitation.ip_proto, solicitation.resp_p) == ("icmp", 58, 134)


@pytest.mark.parametrize(
    ("orig", "resp", "word"),
    [
        ("02", "00", "S0"), ("02", "14", "REJ"), ("06", "00", "RSTOS0"), ("03", "00", "SH"), ("12", "12", "S1"),
        ("02", "12", "S0"), ("13", "12", "S2"), ("12", "13", "S3"), ("1b", "1b", "SF"), ("16", "12", "RSTO"),
        ("12", "16", "RSTR"), ("00", "16", "RSTRH"), ("00", "13", "SHR"), ("10", "10", "OTH"),
    ],
)  # fmt: skip
def test_the_flags_of_both_sides_say_how_a_connection_ended(orig: str, resp: str, word: str) -> None:
    counts = COUNTS | {"pkts_toclient": 0 if resp == "00" else 5}
    assert made(flow=counts, tcp={"tcp_flags_ts": orig, "tcp_flags_tc": resp}).conn_state == word


def test_other_events_and_short_flows_are_passed_over() -> None:
    assert eve.flow(line(event_type="dns")) is None
    assert eve.flow(line(event_type="dns", app_proto='"event_type":"flow"')) is None
    assert eve.flow(line(flow=COUNTS | {"pkts_toserver": 2, "pkts_toclient": 1})) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"src_port": 70000}, {"flow_id": "x"}, {"flow": {}}, {"flow": COUNTS | {"start": "yesterday"}},
        {"flow": COUNTS | {"pkts_toserver": 1 << 63}}, {"src_ip": "::zz"}, {"tcp": {"tcp_flags_ts": "zz"}},
    ],
)  # fmt: skip
def test_a_row_with_a_bad_value_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(eve.ROW_ERRORS):
        eve.flow(line(**changes))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("eve.json", "flow"), ("eve.3.json", "flow"), ("eve.json.1", "flow"), ("eve.json.2.gz", "flow"),
        ("eve.json-20261121", "flow"), ("eve.3.json-20261121.gz", "flow"), ("eve-2026-11-21-10:00.json", "flow"),
        ("eve.jsonl", None), ("steve.json", None),
        ("eve.json.swp", None), ("eve.log", None),
    ],
)  # fmt: skip
def test_suricatas_event_log_is_known_by_its_names(name: str, kind: str | None) -> None:
    assert log_of(name) == kind


PACKET = {"ts": 1795264920.0, "uid": "1", "id.orig_h": "192.0.2.1", "id.orig_p": 1, "id.resp_h": "192.0.2.2", "id.resp_p": 2}
PACKET |= {"proto": "udp", "is_orig": True, "n": 1, "len": 28, "data": ""}


def batches(folder: Path) -> tuple[list[Packet | Flow], Counters]:
    """What a folder's logs hold, in the order of reading."""
    rejects, counters = Rejects(None), Counters()
    found = zeek.batches(finite([folder], rejects=rejects), rejects, counters)
    return [record for batch in found for record in (*batch.flows, *batch.packets)], counters


def test_flows_are_read_beside_the_packet_log_by_time_whatever_else_happened(tmp_path: Path) -> None:
    packets = [json.dumps({**PACKET, "ts": ts}) + "\n" for ts in (1795264920.0, 1795264930.0)]
    (tmp_path / "packetclip_packet.log").write_text("".join(packets))
    early, late = "2026-11-21T12:41:50.000000+0000", "2026-11-21T12:42:07.036216+0000"
    rows = [line(event_type="dns", timestamp=early), *(line(flow_id=uid, timestamp=late) for uid in (2, "x")), b"{", b""]
    (tmp_path / "eve.json").write_bytes(b"\n".join(rows))
    (tmp_path / "eve.2.json").write_bytes(line(flow_id=3, timestamp=late) + b"\n")
    (tmp_path / "eve.json-20261120.gz").write_bytes(gzip.compress(line(flow_id=4, timestamp=early) + b"\n"))
    found, counters = batches(tmp_path)
    kinds = [int(record.uid) if isinstance(record, Flow) else record.ts for record in found]
    assert kinds in ([4, 1795264920.0, 2, 3, 1795264930.0], [4, 1795264920.0, 3, 2, 1795264930.0])
    read = counters.flows, counters.packets, counters.rejects
    assert read == (3, 2, 1)  # half a line of another event is not our concern


def test_a_folder_with_suricatas_events_alone_is_no_log_folder(tmp_path: Path) -> None:
    (tmp_path / "eve.json").write_bytes(line() + b"\n")
    assert logs_in(tmp_path) == []
    with pytest.raises(LogFormatError, match=r"holds Suricata's eve.json, but no packetclip_packet.log; load packetclip.lua"):
        batches(tmp_path)


def test_rotation_of_the_event_log_while_it_is_followed_loses_and_doubles_no_flow(tmp_path: Path) -> None:
    (tmp_path / "packetclip_packet.log").write_text(json.dumps(PACKET) + "\n")
    log, stop = tmp_path / "eve.json", threading.Event()
    rejects, counters = Rejects(None), Counters()
    log.write_bytes(line(flow_id=1) + b"\n")
    read = zeek.batches(follow([tmp_path], poll_s=0.02, stop=stop, rejects=rejects), rejects, counters)
    seen: list[str] = []

    def until_there(count: int) -> None:
        while len(seen) < count:
            seen.extend(flow.uid for flow in next(read).flows)

    until_there(1)
    with log.open("ab") as still_open:
        log.rename(tmp_path / "eve.json.1")
        still_open.write(line(flow_id=2) + b"\n")
    log.write_bytes(line(flow_id=3) + b"\n" + line(event_type="tls") + b"\n")
    until_there(3)
    (tmp_path / "eve.json.2.gz").write_bytes(gzip.compress((tmp_path / "eve.json.1").read_bytes()))
    (tmp_path / "eve.json.1").unlink()
    with log.open("ab") as file:
        file.write(line(flow_id=4) + b"\n")
    until_there(4)
    stop.set()
    assert sorted(seen) == ["1", "2", "3", "4"]
    assert counters.rejects == 0


@pytest.mark.parametrize("major", [7, 8])
def test_flows_of_a_capture_are_zeeks(major: int, tmp_path: Path) -> None:
    """Rows of four packets and more, but for a few in a hundred; they stand by their ends, and evidence counts much the same."""
    name = "demo-b02-flash-slow"
    capture.run(suricata_of(major), unpacked(name, tmp_path), tmp_path)
    decoder = msgspec.json.Decoder(Flow)
    zeek = decoder.decode_lines(gzip.decompress((DATA / name / "packetclip_flow.log.gz").read_bytes()))
    suricata = [row for text in (tmp_path / "eve.json").read_bytes().splitlines() if (row := eve.flow(text))]

    def facts(flows: list[Flow]) -> set[tuple[Any, ...]]:
        names = ("orig_h", "orig_p", "resp_h", "resp_p", "proto", "orig_pkts", "resp_pkts", "orig_ip_bytes", "resp_ip_bytes")
        known = (*names, "conn_state", "community_id")
        whole = (flow for flow in flows if flow.final and (flow.orig_pkts or 0) + (flow.resp_pkts or 0) >= eve.MIN_PACKETS)
        return {tuple(getattr(flow, name) for name in known) for flow in whole}

    expected = facts(zeek)
    assert len(expected) > 100
    assert len(expected & facts(suricata)) >= 0.98 * len(expected)
    assert [flow.written for flow in suricata] == sorted(flow.written for flow in suricata)

    def evidence(flows: list[Flow]) -> dict[str, float]:
        counts = FlowCounts(Counters())
        counts.take([flow for flow in flows if flow.final and (flow.orig_pkts or 0) + (flow.resp_pkts or 0) >= eve.MIN_PACKETS])
        return dict(zip(FLOWS, np.sum([one.values for one in counts.until(math.inf)], axis=0), strict=True))

    ours, theirs = evidence(suricata), evidence(zeek)
    assert all(ours[name] == pytest.approx(theirs[name], rel=0.05) for name in ("flows", "data", "resp_bytes", "duration"))


@pytest.fixture
def without_zeek(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Suricata alone is on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "suricata").symlink_to(suricata_of(7).program)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(source, "USUAL_ZEEK", tmp_path / "none" / "zeek")


@pytest.mark.usefixtures("without_zeek")
class TestWithoutZeek:
    @pytest.mark.parametrize("packed", [False, True])
    def test_suricata_reads_a_capture(self, tmp_path: Path, packed: bool) -> None:
        file = tmp_path / ("a.pcap.gz" if packed else "a.pcap")
        file.write_bytes(gzip.compress(pcap(packets(3))) if packed else pcap(packets(3)))
        work = tmp_path / "work"
        assert source.logs_of(file, work) == (work, "")
        assert sorted(path.name for path in work.iterdir()) == ["eve.json", "packetclip_packet.log"]
        rows = [json.loads(row) for row in (work / "packetclip_packet.log").read_text().splitlines()]
        assert [(row["ts"], row["id.orig_h"], row["id.orig_p"], row["n"], row["len"]) for row in rows] == [
            (1700000000.0, "192.0.2.1", 40000, 1, 32),
            (1700000001.0, "192.0.2.1", 40001, 1, 32),
            (1700000002.0, "192.0.2.1", 40002, 1, 32),
        ]

    def test_pairs_have_the_labels_beside_the_capture(self, tmp_path: Path) -> None:
        name, out = "demo-dict-patator-ftp", tmp_path / "pairs.parquet"
        unpacked(name, tmp_path)
        shutil.copy(DATA / name / "labels.json", tmp_path)
        assert main(["pairs", str(tmp_path / f"{name}.pcap"), "--out", str(out)]) == 0
        labels = pq.read_table(out)["label"].to_pylist()
        assert set(labels) >= {"Benign", "Dictionary Attack"}

    def test_what_is_no_capture_or_empty_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "a.pcap"
        file.write_bytes(pcap(packets(0)))
        with pytest.raises(LogFormatError, match=r"a.pcap holds no packet; give another capture"):
            source.logs_of(file, tmp_path / "work")
        file.write_bytes(pcap([(1700000000.0, bytes(60))]))
        with pytest.raises(LogFormatError, match=r"a.pcap gave no packetclip_packet.log: Suricata saw no IP packet"):
            source.logs_of(file, tmp_path / "work")

    def test_what_a_cut_capture_holds_is_read_and_named(self, tmp_path: Path) -> None:
        file = tmp_path / "a.pcap"
        file.write_bytes(pcap(packets(3))[:-10])
        made = source.logs_of(file, tmp_path / "work")
        assert (made.folder / "packetclip_packet.log").read_bytes().count(b"\n") == 2
        assert made.problem.endswith("cut in the middle of packet 3")


def test_a_suricata_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    broken = capture.Suricata(tmp_path / "suricata", "7.0.10")
    with pytest.raises(ConfigError, match=r"suricata cannot be started \(No such file or directory\); install Suricata again"):
        capture.run(broken, tmp_path / "a.pcap", tmp_path)
