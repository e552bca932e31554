"""Reading finished logs: lines of any length, in the order of event time."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from tailing import LINE, everything, flow, last_positions, no_right, packet, packets, uids, until_idle

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.records import Idle, Lines
from packetclip_sensor.sources import zeek
from packetclip_sensor.sources.tail import finite, follow


def test_an_overlong_line_is_skipped_and_rejected_in_bounded_memory(tmp_path: Path, log: Path) -> None:
    log.write_bytes(packet(1) + b'{"ts":1,"data":"' + b"A" * 10_000_000 + b'"}\n' + packet(2))
    rejects = Rejects(tmp_path / "rejects.ndjson")

    tracemalloc.start()
    got = everything(finite([log], rejects=rejects))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rejects.close()
    assert uids(got) == ["C1", "C2"]
    assert peak < 8_000_000
    entry = msgspec.json.decode((tmp_path / "rejects.ndjson").read_bytes())
    assert entry["offset"] == len(packet(1))
    assert entry["reason"] == "line of 10000019 bytes, longer than the 1048576 allowed"
    assert entry["line"] == '{"ts":1,"data":"...'
    assert got[-1].start.offset == len(packet(1)) + 10_000_019
    assert [block.start for block in got[1:]] == [block.end for block in got[:-1]]


@pytest.mark.parametrize("block_bytes", [1, 64, 4096])
def test_an_overlong_line_is_skipped_whatever_the_block(log: Path, block_bytes: int) -> None:
    log.write_bytes(packet(1) + b"x" * 700 + b"\n" + packet(2) + b"y" * 400)
    rejects = Rejects(None)
    got = everything(finite([log], block_bytes=block_bytes, max_line_bytes=300, rejects=rejects))
    assert uids(got) == ["C1", "C2"]
    assert rejects.count == 2


def test_finished_logs_end_with_one_final_idle(tmp_path: Path, log: Path) -> None:
    log.write_bytes(packets(1))
    blocks = list(finite([tmp_path]))
    assert [block for block in blocks if isinstance(block, Idle)] == [Idle(final=True)]
    assert blocks[-1] == Idle(final=True)


@pytest.mark.parametrize("cut", range(1, len(LINE) - 1))
def test_a_half_written_last_line_of_a_finished_log_is_rejected(log: Path, cut: int) -> None:
    log.write_bytes(packet(1) + LINE[:cut])
    rejects = Rejects(None)
    assert uids(everything(finite([log], rejects=rejects))) == ["C1"]
    assert rejects.count == 1


def test_a_whole_last_line_without_newline_counts(log: Path) -> None:
    log.write_bytes(packet(1) + LINE.rstrip())
    rejects = Rejects(None)
    got = everything(finite([log], rejects=rejects))
    assert uids(got) == ["C1", "C7"]
    assert got[-1].end.offset == log.stat().st_size
    assert rejects.count == 0
    assert everything(finite([log], last_positions(got), rejects=rejects))[0].data == b""


def test_packets_and_flows_come_in_event_time_order(tmp_path: Path) -> None:
    (tmp_path / "packetclip_packet.log").write_bytes(b"".join(packet(i, 100.0 + i) for i in range(30)))
    (tmp_path / "packetclip_flow.log").write_bytes(flow(1, 100.0, 1.0) + flow(2, 100.0, 13.0) + flow(3, 101.0, 30.0))
    order = uids(everything(finite([tmp_path])))
    assert len(order) == 33
    assert order.index("F1") < order.index("C11")
    assert order.index("C6") < order.index("F2") < order.index("C24")
    assert order[-1] == "F3"


def test_rotated_files_of_a_folder_come_in_the_order_of_their_packets(tmp_path: Path) -> None:
    (tmp_path / "packetclip_packet.z.log").write_bytes(packets(1, 2))
    (tmp_path / "packetclip_packet.m.log.gz").write_bytes(gzip.compress(packets(3, 4)))
    (tmp_path / "packetclip_packet.log").write_bytes(packets(5, 6))
    assert uids(everything(finite([tmp_path]))) == ["C1", "C2", "C3", "C4", "C5", "C6"]


def test_files_that_overlap_in_time_are_interleaved(tmp_path: Path) -> None:
    (tmp_path / "packetclip_packet.w1.log").write_bytes(packets(*range(0, 40, 2)))
    (tmp_path / "packetclip_packet.w2.log").write_bytes(packets(*range(1, 40, 2)))
    assert uids(everything(finite([tmp_path]))) == [f"C{i}" for i in range(40)]


def test_a_block_covers_at_most_five_seconds_of_event_time(log: Path) -> None:
    log.write_bytes(packets(*range(12)))
    assert [block.data.count(b"\n") for block in everything(finite([log]))] == [6, 6]


def test_finished_logs_go_on_after_their_positions_plain_or_gz(tmp_path: Path, log: Path) -> None:
    log.write_bytes(packets(*range(12)))
    first = everything(finite([log]))[0]
    packed = tmp_path / "other" / "packetclip_packet.log.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(log.read_bytes()))
    for path in (log, packed):
        rest = everything(finite([path], [first.end]))
        assert uids(rest) == ["C6", "C7", "C8", "C9", "C10", "C11"]


def test_members_of_a_gz_are_one_text_and_a_cut_one_is_rejected_after_its_lines(tmp_path: Path) -> None:
    packed = tmp_path / "packetclip_packet.log.gz"
    packed.write_bytes(gzip.compress(packets(1)) + gzip.compress(packets(2)))
    assert uids(everything(finite([packed]))) == ["C1", "C2"]
    packed.write_bytes(gzip.compress(packets(1)) + gzip.compress(packets(2))[:-6])
    rejects = Rejects(None)
    assert uids(everything(finite([packed], rejects=rejects))) == ["C1", "C2"]
    assert rejects.count == 1


def test_a_sites_tsv_logs_beside_ours_do_not_matter(tmp_path: Path, log: Path) -> None:
    (tmp_path / "conn.log").write_text("#separator \\x09\n")
    log.write_bytes(packets(1))
    assert uids(everything(finite([tmp_path]))) == ["C1"]
    assert uids(until_idle(follow([tmp_path], poll_s=0.02))) == ["C1"]


def test_an_empty_log_is_refused_at_the_start_of_finished_input_only(tmp_path: Path, log: Path) -> None:
    log.write_bytes(b"")
    with pytest.raises(LogFormatError, match="the log is empty; did Zeek see any packets"):
        finite([log])
    with pytest.raises(LogFormatError, match="the log is empty"):
        finite([tmp_path])
    assert until_idle(follow([tmp_path], poll_s=0.02)) == []


def test_an_empty_flow_log_beside_packets_is_fine(tmp_path: Path, log: Path) -> None:
    log.write_bytes(packets(1))
    (tmp_path / "packetclip_flow.log").write_bytes(b"")
    assert uids(everything(finite([tmp_path]))) == ["C1"]


def test_a_reader_that_gets_one_byte_at_a_time_makes_the_same_lines(log: Path) -> None:
    """Vector: split reads, fair reads."""
    log.write_bytes(packets(1, 2, 3))
    got = everything(finite([log], block_bytes=1))
    assert uids(got) == ["C1", "C2", "C3"]
    assert all(isinstance(block, Lines) and block.data.endswith(b"\n") for block in got)


def test_empty_lines_carriage_returns_and_odd_encodings_cost_only_themselves(tmp_path: Path, log: Path) -> None:
    """Vector: empty lines, other line delimiters, files that are not UTF-8."""
    log.write_bytes(
        packets(1) + b"\n\n" + packets(2).replace(b"\n", b"\r\n") + '{"ts":1}\n'.encode("utf-16") + b"\n" + packets(3)
    )
    rejects = Rejects(tmp_path / "rejects")
    batches = list(zeek.batches(finite([log]), rejects, Counters()))
    assert [p.uid for batch in batches for p in batch.packets] == ["C1", "C2", "C3"]
    assert rejects.count == 2


def test_a_file_of_finished_logs_that_cannot_be_read_is_rejected_and_the_others_are_read(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(packets(1))
    (tmp_path / "packetclip_packet.1.log").write_text("#separator \\x09\n#path\tpacketclip_packet\n")
    (tmp_path / "packetclip_packet.2.log.lz4").write_bytes(bytes.fromhex("04224d18") + bytes(9))
    (tmp_path / "packetclip_packet.3.log.gz").write_bytes(gzip.compress(packets(3))[:20])
    closed = tmp_path / "packetclip_packet.4.log"
    closed.write_bytes(packets(4))
    no_right(closed, monkeypatch)
    rejects = Rejects(tmp_path / "rejects")
    assert uids(everything(finite([tmp_path], rejects=rejects))) == ["C1"]
    rows = [msgspec.json.decode(line) for line in (tmp_path / "rejects").read_bytes().splitlines()]
    assert sorted((Path(row["path"]).name[18:], row["reason"].partition(",")[0].partition(" (")[0]) for row in rows) == [
        ("1.log", "is a TSV log"),
        ("2.log.lz4", "file cannot be read: packed by lz4; unpack it: lz4 -d"),
        ("3.log.gz", "gzip ends before its end mark; what follows is lost"),
        ("4.log", "file cannot be read: Permission denied"),
    ]
