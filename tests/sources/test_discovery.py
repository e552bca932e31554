"""What a path given by the user holds; what is none of ours is refused with the remedy."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from captures import packets as frames
from captures import pcap, pcapng, rotated
from tailing import everything, flow, packet, packets

from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.records import log_of
from packetclip_sensor.sources.discovery import PassedOver, Unit, archived, archives_of, check_folder, discover, discover_all
from packetclip_sensor.sources.tail import finite, follow


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("packetclip_packet.log", "packet"),
        ("packetclip_flow.log", "flow"),
        ("packetclip_flow.2026-11-21-10-00-00.log", "flow"),
        ("packetclip_packet.10:00:00-11:00:00.log.gz", "packet"),
        ("packetclip_packet__2026-11-21-10-00-00__2026-11-21-11-00-00__.log", "packet"),
        ("packetclip_packet.log.2.gz", "packet"),
        ("packetclip_packet.10:00:00-11:00:00.log.zst", "packet"),
        ("packetclip_flow.log.lz4", "flow"),
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
    (tmp_path / "x.pcap").write_bytes(pcap([]))
    (tmp_path / "y.pcapng.gz").write_bytes(gzip.compress(pcapng([])))
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


@pytest.mark.parametrize("ts", [b"1700000000.0", b'"2023-11-14T22:13:20.000000Z"', b"1700000000000"])
def test_a_capture_beside_logs_is_left_out_where_these_were_made_from_it_and_judged_otherwise(tmp_path: Path, ts: bytes) -> None:
    """By the times of its packets: that of the log's first packet is among them."""
    for folder in ("a", "a/b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "packetclip_packet.log").write_bytes(packet(1).replace(b"1001.0", ts))
    own = [tmp_path / "a" / "capture.pcap.gz", tmp_path / "a.pcap", tmp_path / "a" / "b.pcap"]
    other = [tmp_path / "a" / "tuesday.pcap", tmp_path / "b.pcap"]
    for paths, start in ((own, 1700000000.0), (other, 1700000000.25)):
        for path in paths:
            path.write_bytes(pcap(frames(3, start - 1.0)))
    passed = PassedOver()
    found = discover(tmp_path, passed=passed)
    assert [unit.paths[0] for unit in found if unit.kind == "pcap"] == other
    assert [unit.paths[0] for unit in found if unit.kind == "logs"] == [tmp_path / "a", tmp_path / "a" / "b"]
    assert sorted(passed.origins) == sorted(own)
    assert passed.unread == []


def test_captures_that_follow_each_other_are_one_unit(tmp_path: Path) -> None:
    """Named by numbers, as tcpdump and dumpcap do; not later ones, nor those of another interface at the same time."""

    def put(*files: tuple[str, bytes]) -> None:
        for name, data in files:
            (tmp_path / name).write_bytes(data)

    parts = rotated(pcap(frames(20)), 5.0)
    put(*((f"g-{1700000000 + n * 5}.pcap", part) for n, part in enumerate(parts)))
    put(*(zip(("c.pcap", "c.pcap1", "c.pcap2", "c.pcap10"), parts, strict=True)))
    put(*((f"z_{n:05}.pcap.gz", gzip.compress(part)) for n, part in enumerate(parts)))
    put(*((f"w_{n:05}_20261121.pcapng", pcapng((0, *f) for f in frames(3, 1000.0 + n * 3))) for n in range(2)))
    put(*((f"eth{n}.pcap", pcap(frames(5))) for n in range(2)))
    put(*((f"attack{n}.pcap", pcap(frames(5, 1000.0 * n))) for n in range(2)))
    put(*((f"link{n}.pcap", pcap(frames(5, 1000.0 + 5 * n), link=1 + 112 * n)) for n in range(2)))
    put(
        ("d1.pcap", pcap(frames(5))),
        ("d2.pcap", pcap([])),
        ("d3.pcap", b"\xd4\xc3\xb2\xa1"),
        ("d4.pcap", pcap(frames(5, 1700000005.0))),
    )
    found = {unit.name.partition("/")[2]: [path.name for path in unit.paths] for unit in discover(tmp_path, join=True)}
    assert found == {
        "g-1700000000 +3": [f"g-{1700000000 + n * 5}.pcap" for n in range(4)],
        "c +3": ["c.pcap", "c.pcap1", "c.pcap2", "c.pcap10"],
        "z_00000 +3": [f"z_{n:05}.pcap.gz" for n in range(4)],
        "w_00000_20261121 +1": [f"w_{n:05}_20261121.pcapng" for n in range(2)],
        "d1 +1": ["d1.pcap", "d4.pcap"],
        **{name: [f"{name}.pcap"] for name in ("eth0", "eth1", "attack0", "attack1", "link0", "link1", "d2", "d3")},
    }
    assert len(discover(tmp_path)) == len(list(tmp_path.iterdir())), "without `join` each by itself"


def test_captures_named_one_by_one_are_joined_too_and_a_bad_one_ends_nothing(tmp_path: Path) -> None:
    """As a shell's `dump-*.pcap` names them."""
    for number, part in enumerate(rotated(pcap(frames(9)), 3.0)):
        (tmp_path / f"dump-{number}.pcap").write_bytes(part)
    (tmp_path / "dump-9.pcap").write_bytes(b"")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "dump-3.pcap").write_bytes(pcap(frames(3, 1700000009.0)))
    units, passed = discover_all([*sorted(tmp_path.glob("*.pcap")), tmp_path / "other" / "dump-3.pcap"])
    assert [(unit.name, len(unit.paths)) for unit in units] == [("dump-0 +2", 3), ("dump-3", 1)]
    assert [str(err).partition(";")[0] for err in passed.unread] == [f"{tmp_path}/dump-9.pcap is empty"]
    with pytest.raises(LogFormatError, match="is empty"):
        discover_all([tmp_path / "dump-9.pcap"])
    with pytest.raises(LogFormatError, match="does not exist"):
        discover_all([tmp_path / "dump-0.pcap", tmp_path / "none"])


def test_what_is_called_a_capture_or_cannot_be_read_is_named_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "good.pcap").write_bytes(pcap(frames(1)))
    (tmp_path / "notes.txt").write_text("none of ours")
    (tmp_path / "empty.pcap").write_bytes(b"")
    (tmp_path / "old.cap").write_bytes(b"RTSS" + bytes(40))
    (tmp_path / "day.pcap.lz4").write_bytes(bytes.fromhex("04224d18") + bytes(40))
    passed = PassedOver()
    assert [unit.paths[0].name for unit in discover(tmp_path, passed=passed)] == ["good.pcap"]
    foreign = "is called a capture, but does not begin like a pcap or pcapng; convert it by editcap"
    assert [str(err).replace(f"{tmp_path}/", "") for err in passed.unread] == [
        "day.pcap.lz4 is packed by lz4; unpack it: lz4 -d",
        f"empty.pcap {foreign}",
        f"old.cap {foreign}",
    ]
    (tmp_path / "good.pcap").unlink()
    passed = PassedOver()
    assert discover(tmp_path, passed=passed) == []
    assert len(passed.unread) == 3
    with pytest.raises(LogFormatError, match="packed by lz4"):
        discover(tmp_path)


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


def test_zeekctls_log_folder_named_in_place_of_current_is_answered_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    (tmp_path / "current" / "packetclip_packet.log").write_bytes(packets(1))
    with pytest.raises(LogFormatError, match=r"holds no packetclip_packet.log, but its `current` does: name .*/current$"):
        check_folder(tmp_path)


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
