"""A log is known again after a restart, a rename, behind links and in folders that come and go.

"Filebeat" and "Vector" as in test_rotation.py.
"""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tailing import Blocks, again, append, everything, first_read, last_positions, logs, packet, packets, read, uids, until_idle

from packetclip_sensor.records import Idle, Lines, Position
from packetclip_sensor.sources.tail import follow

TURNS = st.sampled_from(["rename", "gzip", "append", "copytruncate"])


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


def test_small_files_that_begin_alike_are_told_apart_as_they_grow(tmp_path: Path, following: Blocks) -> None:
    """Filebeat: growing fingerprint. While they are equal they are one log; each line after that is read, of whichever file."""
    files = logs(tmp_path, "a", "b", "c")
    for file in files:
        file.write_bytes(packets(0))
    assert uids(read(following, 1)) == ["C0"]
    for number, file in enumerate(files, 1):
        append(file, packets(number, number + 10))
    assert set(uids(read(following, 6))) - {"C0"} == {"C1", "C2", "C3", "C11", "C12", "C13"}


def test_files_that_begin_alike_are_not_mixed_up_over_a_restart(tmp_path: Path, following: Blocks) -> None:
    """Filebeat: growing fingerprint, do not mix up files. The second file grows first."""
    one, two = logs(tmp_path, "a", "b")
    one.write_bytes(packets(1))
    two.write_bytes(packets(1))
    got = read(following, 1)
    append(two, packets(2, 3))
    got += read(following, 2)
    append(one, packets(4))
    got += read(following, 1)
    assert uids(got) == ["C1", "C2", "C3", "C4"]
    append(one, packets(5))
    append(two, packets(6))
    assert sorted(uids(read(follow([tmp_path], last_positions(got), poll_s=0.02), 2))) == ["C5", "C6"]


def test_a_restart_where_nothing_was_acknowledged_reads_everything_again(tmp_path: Path, log: Path) -> None:
    """Vector: restart, unfinalized."""
    log.write_bytes(packets(1, 2))
    for _ in range(2):
        assert uids(until_idle(follow([tmp_path], [], poll_s=0.02))) == ["C1", "C2"]


def test_a_second_restart_repeats_nothing_that_was_acknowledged(tmp_path: Path, log: Path) -> None:
    """Vector: duplicate processing after restart, with lines added each time and none added at last."""
    positions = []
    for number in range(4):
        append(log, packets(number))
        got = until_idle(follow([tmp_path], positions, poll_s=0.02))
        assert uids(got) == [f"C{number}"]
        positions = last_positions(got)
    assert uids(until_idle(follow([tmp_path], positions, poll_s=0.02))) == []


def test_a_log_folder_that_is_replaced_is_read_from_both(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = folder / "packetclip_packet.log"
    blocks = follow([folder], poll_s=0.02)
    with log.open("ab", buffering=0) as writer:
        writer.write(packets(1))
        assert uids(read(blocks, 1)) == ["C1"]
        folder.rename(tmp_path / "logs.old")
        folder.mkdir()
        log.write_bytes(packets(2))
        writer.write(packets(3))
        assert sorted(uids(read(blocks, 2))) == ["C2", "C3"]
    append(log, packets(4))
    assert uids(read(blocks, 1)) == ["C4"]


def test_a_folder_that_is_away_for_a_while_is_gone_on_with(tmp_path: Path) -> None:
    """An unmounted disk: the same files come back."""
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "packetclip_packet.log").write_bytes(packets(1, 2))
    blocks = follow([folder], poll_s=0.02)
    assert uids(read(blocks, 2)) == ["C1", "C2"]
    folder.rename(tmp_path / "away")
    assert uids(read(blocks, 0)) == []
    (tmp_path / "away").rename(folder)
    append(folder / "packetclip_packet.log", packets(3))
    assert uids(read(blocks, 1)) == ["C3"]


def test_a_folder_away_at_the_start_keeps_the_place_in_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "mount" / "logs"
    folder.mkdir(parents=True)
    (folder / "packetclip_packet.log").write_bytes(packets(1, 2))
    positions = first_read(folder)
    (tmp_path / "mount").rename(tmp_path / "away")
    blocks = follow([folder], positions, poll_s=0.02)
    assert last_positions(until_idle(blocks)) == positions
    (tmp_path / "away").rename(tmp_path / "mount")
    append(folder / "packetclip_packet.log", packets(3))
    assert uids(read(blocks, 1)) == ["C3"]


def test_a_folder_that_is_a_link_is_followed_to_where_it_points_next(tmp_path: Path) -> None:
    """`current` of zeekctl points to the spool folder, and may be pointed elsewhere."""
    one, two, current = tmp_path / "spool1", tmp_path / "spool2", tmp_path / "current"
    for folder in (one, two):
        folder.mkdir()
    current.symlink_to(one)
    (one / "packetclip_packet.log").write_bytes(packets(1))
    blocks = follow([current], poll_s=0.02)
    assert uids(read(blocks, 1)) == ["C1"]
    current.unlink()
    current.symlink_to(two)
    (two / "packetclip_packet.log").write_bytes(packets(2))
    append(one / "packetclip_packet.log", packets(3))
    assert sorted(uids(read(blocks, 2))) == ["C2", "C3"]


def test_a_log_that_is_a_link_is_read_once_also_beside_its_target(tmp_path: Path, following: Blocks) -> None:
    real = tmp_path / "packetclip_packet.1.log"
    real.write_bytes(packets(1))
    (tmp_path / "packetclip_packet.log").symlink_to(real)
    (tmp_path / "packetclip_packet.hard.log").hardlink_to(real)
    assert uids(read(following, 1)) == ["C1"]
    append(real, packets(2))
    assert uids(read(following, 1)) == ["C2"]


def test_a_link_that_is_pointed_to_the_next_file_is_followed(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "files", tmp_path / "logs"
    for made in (elsewhere, folder):
        made.mkdir()
    log = folder / "packetclip_packet.log"
    (elsewhere / "a").write_bytes(packets(1))
    (elsewhere / "b").write_bytes(packets(2))
    log.symlink_to(elsewhere / "a")
    blocks = follow([folder], poll_s=0.02)
    assert uids(read(blocks, 1)) == ["C1"]
    append(elsewhere / "a", packets(3))
    log.unlink()
    log.symlink_to(elsewhere / "b")
    assert sorted(uids(read(blocks, 2))) == ["C2", "C3"]


def test_links_that_lead_nowhere_or_in_a_circle_are_passed_over(tmp_path: Path, log: Path) -> None:
    (tmp_path / "packetclip_packet.a.log").symlink_to(tmp_path / "nothing")
    (tmp_path / "packetclip_packet.b.log").symlink_to(tmp_path / "packetclip_packet.b.log")
    (tmp_path / "packetclip_packet.c.log").symlink_to(tmp_path)
    log.write_bytes(packets(1))
    assert again(tmp_path, [], 1) == ["C1"]


@pytest.mark.parametrize("longer", [False, True])
def test_an_inode_used_again_by_another_log_is_read_from_its_start(tmp_path: Path, log: Path, longer: bool) -> None:
    log.write_bytes(packets(*range(10)))
    position = first_read(tmp_path)[0]
    log.unlink()
    log.write_bytes(packets(*range(20, 40 if longer else 22)))
    stat = log.stat()
    reused = msgspec.structs.replace(position, device=stat.st_dev, inode=stat.st_ino)
    assert again(tmp_path, [reused], 20 if longer else 2)[:2] == ["C20", "C21"]


def test_an_inode_used_again_while_the_file_was_closed_is_noticed(tmp_path: Path) -> None:
    old = tmp_path / "packetclip_packet.1.log"
    old.write_bytes(packets(1, 2))
    blocks = follow([tmp_path], poll_s=0.02, open_files=0)
    assert uids(read(blocks, 2)) == ["C1", "C2"]
    old.write_bytes(packets(5, 6, 7))  # the same inode, another text
    assert uids(read(blocks, 3)) == ["C5", "C6", "C7"]


def test_the_prefix_that_identifies_a_file_grows_with_it(tmp_path: Path, log: Path) -> None:
    sizes = []
    for number in range(9):
        append(log, packets(number))
        sizes.append(first_read(tmp_path)[0].prefix_bytes)
    length = len(packet(0))
    assert sizes == [min(1024, length * (number + 1)) for number in range(9)]


def test_a_file_known_by_a_short_prefix_is_found_again_after_it_grew(tmp_path: Path, log: Path) -> None:
    log.write_bytes(packets(1))
    positions = first_read(tmp_path)
    append(log, packets(*range(2, 30)))
    log.rename(tmp_path / "packetclip_packet.1.log")
    assert again(tmp_path, positions, 28) == [f"C{i}" for i in range(2, 30)]
