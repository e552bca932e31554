"""What a path given by the user holds; what is none of ours is refused with the remedy."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from tailing import everything, flow, packets

from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.records import log_of
from packetclip_sensor.sources.discovery import Unit, archived, archives_of, discover
from packetclip_sensor.sources.tail import finite, follow

PCAP = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("packetclip_packet.log", "packet"),
        ("packetclip_flow.log", "flow"),
        ("packetclip_flow.2026-11-21-10-00-00.log", "flow"),
        ("packetclip_packet.10:00:00-11:00:00.log.gz", "packet"),
        ("packetclip_packet__2026-11-21-10-00-00__2026-11-21-11-00-00__.log", "packet"),
        ("packetclip_packet.log.2.gz", "packet"),
        ("packetclip_packet.log.gz.tmp", None),
        ("packetclip_packets.log", None),
        ("conn.log", None),
        ("packetclip_packet.txt", None),
    ],
)
def test_our_logs_are_known_by_name(name: str, kind: str | None) -> None:
    assert log_of(name) == kind


def test_a_path_is_expanded_into_what_is_replayed_on_its_own(tmp_path: Path) -> None:
    for folder in ("b", "a", "deep/c"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "packetclip_packet.log").write_bytes(packets(1))
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.pcap").write_bytes(PCAP)
    (tmp_path / "a.pcap").write_bytes(PCAP)
    (tmp_path / "y.pcapng.gz").write_bytes(gzip.compress(bytes.fromhex("0a0d0d0a1c000000")))
    (tmp_path / "notes.txt").write_text("no capture")
    root = tmp_path.name
    assert discover(tmp_path) == [
        Unit(f"{root}/a", "logs", (tmp_path / "a",)),
        Unit(f"{root}/b", "logs", (tmp_path / "b",)),
        Unit(f"{root}/deep/c", "logs", (tmp_path / "deep" / "c",)),
        Unit(f"{root}/x", "pcap", (tmp_path / "x.pcap",)),
        Unit(f"{root}/y", "pcap", (tmp_path / "y.pcapng.gz",)),
    ]
    assert discover(tmp_path / "a") == [Unit("a", "logs", (tmp_path / "a",))]
    assert discover(tmp_path / "x.pcap") == [Unit("x", "pcap", (tmp_path / "x.pcap",))]


def test_a_log_under_another_name_is_known_by_its_lines_and_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "part1.json").write_bytes(packets(1))
    assert discover(tmp_path / "part1.json") == [Unit("part1.json", "logs", (tmp_path / "part1.json",))]
    assert [block.log for block in everything(finite([tmp_path / "part1.json"]))] == ["packet"]
    (tmp_path / "flows").write_bytes(flow(1, 5.0, 1.0))
    assert [block.log for block in everything(finite([tmp_path / "flows"]))] == ["flow"]
    (tmp_path / "notes.txt").write_text("hello\n")
    with pytest.raises(LogFormatError, match="no log of ours and no pcap"):
        discover(tmp_path / "notes.txt")
    with pytest.raises(LogFormatError, match="no log of ours and no pcap"):
        finite([tmp_path / "notes.txt"])


def test_a_folder_without_our_logs_says_how_to_load_the_package(tmp_path: Path) -> None:
    with pytest.raises(LogFormatError, match=r"holds no packetclip_packet.log; .*`zkg install`.*`@load packetclip`.*by hand"):
        finite([tmp_path])


@pytest.mark.parametrize("text", ['{"ts":1,"uid":"C1"}\n', "#separator \\x09\n#set_separator\t,\n"])
def test_a_folder_with_only_the_sites_logs_says_that_the_package_is_not_loaded(tmp_path: Path, text: str) -> None:
    (tmp_path / "conn.log").write_text(text)
    with pytest.raises(LogFormatError, match=r"holds Zeek logs, but no packetclip_packet.log: the package is not loaded"):
        finite([tmp_path])


def test_tsv_where_json_was_expected_is_refused_at_the_start(tmp_path: Path, log: Path) -> None:
    log.write_text("#separator \\x09\n#path\tpacketclip_packet\n")
    for start in (lambda: finite([tmp_path]), lambda: next(follow([tmp_path])), lambda: discover(log)):
        with pytest.raises(LogFormatError, match="is a TSV log, JSON lines are needed"):
            start()


def test_the_sites_tsv_conn_log_given_by_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "conn.log").write_text("#separator \\x09\n")
    with pytest.raises(LogFormatError, match=r"TSV log of the site's own, the sensor reads packetclip_packet.log"):
        finite([tmp_path / "conn.log"])


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogFormatError, match="nowhere does not exist"):
        finite([tmp_path / "nowhere"])
    with pytest.raises(LogFormatError, match="nowhere does not exist"):
        discover(tmp_path / "nowhere")


def test_only_folders_named_by_date_are_searched_and_others_may_be_named(tmp_path: Path) -> None:
    for name in ("2026-11-21", "stats", "packetclip"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "packetclip_packet.log").write_bytes(packets(1))
    assert [path.parent.name for path, _ in archived([tmp_path], 0.0)] == ["2026-11-21"]
    assert archives_of([tmp_path / "zeek"], []) == []
    assert archives_of([tmp_path / "current"], []) == [tmp_path]
    assert archives_of([tmp_path / "current"], [tmp_path / "stats"]) == [tmp_path / "stats"]
