"""Following and reading logs: every line once and whole, whatever happens to the files."""

from __future__ import annotations

import gzip
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.records import Idle, Lines, Position
from packetclip_sensor.rejects import Rejects
from packetclip_sensor.sources import known, tail
from packetclip_sensor.sources.logfile import log_of
from packetclip_sensor.sources.tail import Unit, discover, finite, follow

Blocks = Iterator[Lines | Idle]


def packet(i: int, ts: float | None = None) -> bytes:
    when = 1000.0 + i if ts is None else ts
    return (
        f'{{"ts":{when},"uid":"C{i}","id.orig_h":"192.0.2.1","id.orig_p":40000,"id.resp_h":"192.0.2.2","id.resp_p":80,'
        f'"proto":"tcp","is_orig":true,"n":1,"len":60,"data":"RQAAPA=="}}\n'
    ).encode()


def flow(i: int, ts: float, duration: float) -> bytes:
    return f'{{"ts":{ts},"uid":"F{i}","proto":"tcp","duration":{duration},"final":true}}\n'.encode()


def packets(*numbers: int) -> bytes:
    return b"".join(packet(i) for i in numbers)


def uids(blocks: list[Lines]) -> list[str]:
    return [msgspec.json.decode(line)["uid"] for block in blocks for line in block.data.splitlines()]


def until_idle(blocks: Blocks) -> list[Lines]:
    got = []
    for block in blocks:
        if isinstance(block, Idle):
            return got
        got.append(block)
    raise AssertionError("ended without Idle")


def read(blocks: Blocks, count: int, wait_s: float = 6.0) -> list[Lines]:
    """Blocks until `count` lines have come, and whatever comes in the next few polls, so that one line too many is seen."""
    got: list[Lines] = []
    give_up = time.monotonic() + wait_s
    while sum(block.data.count(b"\n") for block in got) < count and time.monotonic() < give_up:
        got += until_idle(blocks)
    for _ in range(3):
        got += until_idle(blocks)
    return got


def last_positions(blocks: list[Lines]) -> list[Position]:
    """What `batches` remembers: a block's end takes the place of its start."""
    positions: dict[Position, None] = {}
    for block in blocks:
        positions.pop(block.start, None)
        positions[block.end] = None
    return list(positions)


def everything(blocks: Blocks) -> list[Lines]:
    return [block for block in blocks if isinstance(block, Lines)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "packetclip_packet.log"


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Blocks]:
    stop = threading.Event()
    blocks = follow([tmp_path], poll_s=0.02, stop=stop)
    yield blocks
    stop.set()
    assert [b for b in blocks if not isinstance(b, Idle)] == []


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


LINE = packet(7)
TURNS = st.sampled_from(["rename", "gzip", "append", "copytruncate"])


@pytest.mark.parametrize("cut", range(1, len(LINE)))
def test_half_written_line_is_held_back_until_its_newline_comes(tmp_path: Path, log: Path, cut: int) -> None:
    stop = threading.Event()
    blocks = follow([tmp_path], poll_s=0.001, stop=stop)
    log.write_bytes(packet(1) + LINE[:cut])
    assert uids(until_idle(blocks)) == ["C1"]
    append(log, LINE[cut:])
    got: list[Lines] = []
    while not got:
        got = until_idle(blocks)
    assert [block.data for block in got] == [LINE]
    assert got[0].start.offset == len(packet(1))
    assert got[0].end.offset == len(packet(1)) + len(LINE)
    stop.set()


def test_a_first_line_is_read_as_soon_as_it_is_whole(log: Path, following: Blocks) -> None:
    log.write_bytes(b"")
    assert until_idle(following) == []
    append(log, LINE[:20])
    assert until_idle(following) == []
    append(log, LINE[20:])
    began = time.monotonic()
    assert uids(read(following, 1)) == ["C7"]
    assert time.monotonic() - began < 1.0


def test_a_file_below_one_kibibyte_is_read_at_once(log: Path, following: Blocks) -> None:
    log.write_bytes(packet(1))
    assert log.stat().st_size < 1024
    assert uids(until_idle(following)) == ["C1"]


def test_logs_that_come_later_are_read_and_the_folder_too(tmp_path: Path) -> None:
    stop = threading.Event()
    folder = tmp_path / "spool" / "zeek"
    blocks = follow([folder], poll_s=0.02, stop=stop)
    assert until_idle(blocks) == []
    folder.mkdir(parents=True)
    assert until_idle(blocks) == []
    (folder / "packetclip_packet.log").write_bytes(packets(1))
    assert uids(read(blocks, 1)) == ["C1"]
    append(folder / "packetclip_flow.log", flow(1, 1.0, 1.0))
    assert uids(read(blocks, 1)) == ["F1"]
    stop.set()


def test_idle_comes_at_every_poll_while_quiet_and_is_not_final(log: Path, following: Blocks) -> None:
    log.write_bytes(packets(1))
    until_idle(following)
    began = time.monotonic()
    assert [next(following) for _ in range(3)] == [Idle(), Idle(), Idle()]
    assert time.monotonic() - began < 1.0


def test_a_new_line_wakes_the_tailer_long_before_the_poll(tmp_path: Path, log: Path) -> None:
    stop = threading.Event()
    blocks = follow([tmp_path], poll_s=5.0, stop=stop)
    log.write_bytes(packets(1))
    assert uids(until_idle(blocks)) == ["C1"]
    timer = threading.Timer(0.1, append, (log, packets(2)))
    timer.start()
    began = time.monotonic()
    assert uids([next(blocks)]) == ["C2"]
    assert time.monotonic() - began < 2.0
    timer.join()
    stop.set()


def test_stop_ends_the_iteration(tmp_path: Path, log: Path) -> None:
    log.write_bytes(packets(1))
    stop = threading.Event()
    blocks = follow([tmp_path], poll_s=0.02, stop=stop)
    assert uids([next(blocks)]) == ["C1"]
    stop.set()
    assert list(blocks) == []


@pytest.mark.parametrize(
    "name",
    [
        "packetclip_packet.2026-11-21-10-00-00.log",
        "packetclip_packet__2026-11-21-10-00-00__2026-11-21-11-00-00__.log",
        "packetclip_packet.log.1",
        "packetclip_packet.log-20261121",
    ],
)
def test_rotation_by_rename_loses_and_repeats_nothing(tmp_path: Path, log: Path, following: Blocks, name: str) -> None:
    log.write_bytes(packets(1, 2))
    assert uids(read(following, 2)) == ["C1", "C2"]
    append(log, packets(3))
    log.rename(tmp_path / name)
    append(tmp_path / name, packets(4))
    log.write_bytes(packets(5))
    got = read(following, 3)
    assert uids(got) == ["C3", "C4", "C5"]
    assert [Path(p.path).name for p in last_positions(got)] == [name, "packetclip_packet.log"]


def test_rename_then_gzip_then_move_is_one_log(tmp_path: Path, log: Path) -> None:
    archive = tmp_path / "2026-11-21"
    archive.mkdir()
    stop = threading.Event()
    blocks = follow([tmp_path, archive], poll_s=0.02, stop=stop)
    log.write_bytes(packets(1, 2))
    assert uids(read(blocks, 2)) == ["C1", "C2"]
    rotated = tmp_path / "packetclip_packet.10:00:00-11:00:00.log"
    log.rename(rotated)
    append(rotated, packets(3))
    packed = tmp_path / "packetclip_packet.10:00:00-11:00:00.log.gz"
    packed.write_bytes(gzip.compress(rotated.read_bytes()))
    rotated.unlink()
    log.write_bytes(packets(4))
    assert uids(read(blocks, 2)) == ["C3", "C4"]
    shutil.move(packed, archive / packed.name)
    append(log, packets(5))
    assert uids(read(blocks, 1)) == ["C5"]
    stop.set()


def test_lines_that_were_only_ever_seen_in_the_gz_are_read_from_there(tmp_path: Path, log: Path) -> None:
    """The sensor was stopped when the log was finished, renamed, compressed and removed."""
    log.write_bytes(packets(*range(20)))
    position = last_positions(until_idle(follow([tmp_path], poll_s=0.02)))
    append(log, packets(20, 21))
    (tmp_path / "packetclip_packet.10:00:00-11:00:00.log.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    log.write_bytes(packets(30))
    blocks = follow([tmp_path], position, poll_s=0.02)
    assert uids(read(blocks, 3)) == ["C20", "C21", "C30"]


def test_a_gz_that_is_still_being_written_is_read_as_it_grows(tmp_path: Path, following: Blocks) -> None:
    packed = tmp_path / "packetclip_packet.10:00:00-11:00:00.log.gz"
    rows = b"".join(packet(i, 1000 + i * 1e-3) for i in range(3000))
    whole = gzip.compress(rows)
    packed.write_bytes(whole[: len(whole) // 2])
    first = read(following, 1)
    assert 0 < len(uids(first)) < 3000
    append(packed, whole[len(whole) // 2 :])
    assert uids(first) + uids(read(following, 3000 - len(uids(first)))) == [f"C{i}" for i in range(3000)]


def test_copytruncate_continues_in_the_copy_and_then_in_the_log(tmp_path: Path, log: Path, following: Blocks) -> None:
    log.write_bytes(packets(1, 2))
    assert uids(read(following, 2)) == ["C1", "C2"]
    append(log, packets(3))
    shutil.copy(log, tmp_path / "packetclip_packet.log.1")
    os.truncate(log, 0)
    append(log, packets(4))
    assert sorted(uids(read(following, 2))) == ["C3", "C4"]


def test_a_log_written_anew_with_more_text_than_before_is_noticed(log: Path, following: Blocks) -> None:
    log.write_bytes(packets(1))
    assert uids(read(following, 1)) == ["C1"]
    log.write_bytes(packets(5, 6, 7))
    assert uids(read(following, 3)) == ["C5", "C6", "C7"]


def test_a_deleted_log_is_read_to_its_end_while_its_writer_has_it(log: Path, following: Blocks) -> None:
    with log.open("ab", buffering=0) as writer:
        writer.write(packets(1))
        assert uids(read(following, 1)) == ["C1"]
        log.unlink()
        writer.write(packets(2))
        assert uids(read(following, 1)) == ["C2"]
        log.write_bytes(packets(3))
        writer.write(packets(4))
        assert sorted(uids(read(following, 2))) == ["C3", "C4"]


def test_files_beyond_the_limit_of_open_ones_are_all_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "OPEN_FILES", 3)
    monkeypatch.setattr(tail, "RESCAN_S", 0.0)
    for i in range(12):
        (tmp_path / f"packetclip_packet.2026-11-21-{i:02}-00-00.log").write_bytes(packets(2 * i, 2 * i + 1))
    stop = threading.Event()
    blocks = follow([tmp_path], poll_s=0.02, stop=stop)
    assert uids(read(blocks, 24)) == [f"C{i}" for i in range(24)]
    append(tmp_path / "packetclip_packet.2026-11-21-00-00-00.log", packets(99))
    assert uids(read(blocks, 1)) == ["C99"]
    stop.set()


def test_every_descriptor_is_given_back(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"packetclip_packet.{i}.log").write_bytes(packets(i))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    blocks = follow([tmp_path], poll_s=0.02)
    until_idle(blocks)
    assert len(os.listdir("/proc/self/fd")) >= before + 5  # noqa: PTH208
    blocks.close()  # type: ignore[attr-defined]
    everything(finite([tmp_path]))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_too_few_descriptors_stop_the_sensor_instead_of_losing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(24, "Too many open files")

    (tmp_path / "packetclip_packet.log").write_bytes(packets(1))
    blocks = follow([tmp_path], poll_s=0.02)
    until_idle(blocks)
    monkeypatch.setattr("packetclip_sensor.sources.logfile.os.open", full)
    (tmp_path / "packetclip_packet.2.log").write_bytes(packets(2))
    with pytest.raises(ConfigError, match=r"no more files can be opened .* raise the limit of open files"):
        read(blocks, 1)


def test_a_restart_from_an_earlier_batch_repeats_lines_and_loses_none(tmp_path: Path, log: Path) -> None:
    """The pipeline goes back some seconds to rebuild its windows; meanwhile the log was rotated twice."""
    log.write_bytes(packets(*range(18)))
    first = everything(iter(until_idle(follow([tmp_path], poll_s=0.02))))
    log.rename(tmp_path / "packetclip_packet.1.log")
    log.write_bytes(packets(*range(18, 24)))
    log.rename(tmp_path / "packetclip_packet.2.log")
    log.write_bytes(packets(24))
    assert uids(first) == [f"C{i}" for i in range(18)]
    again = read(follow([tmp_path], [first[1].start], poll_s=0.02), 19)
    assert uids(again) == [f"C{i}" for i in range(6, 25)]


def test_two_files_with_equal_first_lines_are_both_read_and_kept_apart(tmp_path: Path) -> None:
    one, two = tmp_path / "packetclip_packet.a.log", tmp_path / "packetclip_packet.b.log"
    one.write_bytes(packets(1, 2))
    two.write_bytes(packets(1, 3))
    blocks = follow([tmp_path], poll_s=0.02)
    got = read(blocks, 4)
    assert sorted(uids(got)) == ["C1", "C1", "C2", "C3"]
    append(one, packets(4))
    append(two, packets(5))
    again = read(follow([tmp_path], last_positions(got), poll_s=0.02), 2)
    assert sorted(uids(again)) == ["C4", "C5"]


def test_a_copy_beside_its_original_is_not_read_twice(tmp_path: Path, log: Path, following: Blocks) -> None:
    log.write_bytes(packets(*range(12)))
    (tmp_path / "packetclip_packet.copy.log.gz").write_bytes(gzip.compress(packets(*range(12))))
    assert uids(read(following, 12)) == [f"C{i}" for i in range(12)]


@pytest.mark.parametrize("kept", range(1, 12))
def test_restart_in_the_middle_of_a_renamed_file_goes_on_there(tmp_path: Path, log: Path, kept: int) -> None:
    log.write_bytes(packets(*range(12)))
    first = follow([tmp_path], poll_s=0.02, block_bytes=len(packet(0)) * kept)
    done = [next(first)]
    assert isinstance(done[0], Lines)
    first.close()  # type: ignore[attr-defined]
    log.rename(tmp_path / "packetclip_packet.2026-11-21-10-00-00.log")
    log.write_bytes(packets(12))
    rest = read(follow([tmp_path], last_positions(done), poll_s=0.02), 13 - len(uids(done)))
    assert uids(done) + uids(rest) == [f"C{i}" for i in range(13)]


@settings(max_examples=25, deadline=None)
@given(
    stops=st.lists(st.integers(1, 5), max_size=6),
    turns=st.lists(TURNS, max_size=6),
)
def test_any_order_of_rotations_and_restarts_reads_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int], turns: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    log = folder / "packetclip_packet.log"
    positions: list[Position] = []
    seen: list[str] = []
    written = 0
    for turn, action in enumerate(turns):
        count = stops[turn % len(stops)] if stops else 2
        append(log, packets(*range(written, written + count)))
        written += count
        for block in follow([folder], positions, poll_s=0.001, block_bytes=700):
            if isinstance(block, Idle):
                break
            seen += uids([block])
            positions = last_positions([Lines("packet", b"", p, p) for p in positions] + [block])
            if action == "rename" and turn % 2:
                break  # restart in the middle of a file
        name = folder / f"packetclip_packet.{turn}.log"
        if action in ("rename", "gzip"):
            log.rename(name)
        if action == "gzip":
            Path(f"{name}.gz").write_bytes(gzip.compress(name.read_bytes()))
            name.unlink()
        if action == "copytruncate":
            shutil.copy(log, name)
            os.truncate(log, 0)
    seen += uids(until_idle(follow([folder], positions, poll_s=0.001)))
    assert sorted(seen) == sorted(f"C{i}" for i in range(written))


def test_positions_of_untouched_and_unreachable_files_are_handed_on(tmp_path: Path, log: Path) -> None:
    log.write_bytes(packets(1, 2))
    end = last_positions(until_idle(follow([tmp_path], poll_s=0.02)))[0]
    away = msgspec.structs.replace(end, path="/mnt/not-there/zeek/packetclip_packet.log", inode=1, prefix_sha256="00")
    gone = msgspec.structs.replace(end, path=str(tmp_path / "packetclip_packet.old.log"), inode=2, prefix_sha256="11")
    got = until_idle(follow([tmp_path], [end, away, gone], poll_s=0.02))
    assert [(block.data, block.start, block.end) for block in got] == [(b"", end, end), (b"", away, away)]


def test_an_overlong_line_is_skipped_and_rejected_in_bounded_memory(tmp_path: Path, log: Path) -> None:
    log.write_bytes(packet(1) + b'{"ts":1,"data":"' + b"A" * 10_000_000 + b'"}\n' + packet(2))
    rejects = Rejects(tmp_path / "rejects.ndjson")
    import tracemalloc

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
    assert entry["line"] == '{"ts":1,"data":"' + "A" * 184
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


def test_a_folder_without_our_logs_says_how_to_load_the_package(tmp_path: Path) -> None:
    with pytest.raises(LogFormatError, match=r"holds no packetclip_packet.log; .*`zkg install`.*`@load packetclip`.*by hand"):
        finite([tmp_path])


@pytest.mark.parametrize("text", ['{"ts":1,"uid":"C1"}\n', "#separator \\x09\n#set_separator\t,\n"])
def test_a_folder_with_only_the_sites_logs_says_that_the_package_is_not_loaded(tmp_path: Path, text: str) -> None:
    (tmp_path / "conn.log").write_text(text)
    with pytest.raises(LogFormatError, match=r"holds Zeek logs, but no packetclip_packet.log: the package is not loaded"):
        finite([tmp_path])


def test_a_sites_tsv_logs_beside_ours_do_not_matter(tmp_path: Path, log: Path) -> None:
    (tmp_path / "conn.log").write_text("#separator \\x09\n")
    log.write_bytes(packets(1))
    assert uids(everything(finite([tmp_path]))) == ["C1"]
    assert uids(until_idle(follow([tmp_path], poll_s=0.02))) == ["C1"]


def test_tsv_where_json_was_expected_is_refused_at_the_start(tmp_path: Path, log: Path) -> None:
    log.write_text("#separator \\x09\n#path\tpacketclip_packet\n")
    for start in (lambda: finite([tmp_path]), lambda: next(follow([tmp_path])), lambda: discover(log)):
        with pytest.raises(LogFormatError, match="is a TSV log, JSON lines are needed"):
            start()


def test_the_sites_tsv_conn_log_given_by_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "conn.log").write_text("#separator \\x09\n")
    with pytest.raises(LogFormatError, match=r"TSV log of the site's own, the sensor reads packetclip_packet.log"):
        finite([tmp_path / "conn.log"])


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


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogFormatError, match="nowhere does not exist"):
        finite([tmp_path / "nowhere"])
    with pytest.raises(LogFormatError, match="nowhere does not exist"):
        discover(tmp_path / "nowhere")


def no_right(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user who may not read the file; chmod does nothing for root, who runs tests in containers."""
    really = os.open

    def opened(name: str | Path, flags: int, *args: int) -> int:
        if Path(name) == path:
            raise PermissionError(13, "Permission denied", str(name))
        return really(name, flags, *args)

    monkeypatch.setattr("packetclip_sensor.sources.logfile.os.open", opened)


def test_an_unreadable_file_is_refused_at_the_start(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(packets(1))
    no_right(log, monkeypatch)
    for start in (lambda: finite([tmp_path]), lambda: next(follow([tmp_path]))):
        with pytest.raises(
            LogFormatError, match=r"packetclip_packet.log cannot be read \(Permission denied\); let the sensor's user"
        ):
            start()


def test_a_file_that_is_unreadable_later_is_counted_and_the_others_go_on(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejects = Rejects(None)
    blocks = follow([tmp_path], poll_s=0.02, rejects=rejects)
    log.write_bytes(packets(1))
    assert uids(read(blocks, 1)) == ["C1"]
    closed = tmp_path / "packetclip_packet.closed.log"
    no_right(closed, monkeypatch)
    closed.write_bytes(packets(9))
    append(log, packets(2))
    assert uids(read(blocks, 1)) == ["C2"]
    assert rejects.count == 1


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


PCAP = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")


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
