"""What else happens to logs: folders replaced, links, inodes used again, clocks that jump, no inotify."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import msgspec
import pytest
from tailing import Blocks, again, append, first_read, last_positions, packet, packets, read, uids, until_idle

from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.sources import tail
from packetclip_sensor.sources.tail import follow

# --- the folder


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


# --- links


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


def test_a_log_that_is_a_link_is_read_once_also_beside_its_target(tmp_path: Path) -> None:
    real = tmp_path / "packetclip_packet.1.log"
    real.write_bytes(packets(1))
    (tmp_path / "packetclip_packet.log").symlink_to(real)
    (tmp_path / "packetclip_packet.hard.log").hardlink_to(real)
    blocks = follow([tmp_path], poll_s=0.02)
    assert uids(read(blocks, 1)) == ["C1"]
    append(real, packets(2))
    assert uids(read(blocks, 1)) == ["C2"]


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


# --- identity


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


def test_a_log_written_anew_in_the_same_length_is_noticed(log: Path, following: Blocks) -> None:
    log.write_bytes(packets(1, 2))
    assert uids(read(following, 2)) == ["C1", "C2"]
    log.write_bytes(packets(3, 4))
    assert uids(read(following, 2)) == ["C3", "C4"]


def test_a_log_replaced_by_a_rename_over_it_is_read_to_its_end_first(tmp_path: Path, log: Path, following: Blocks) -> None:
    log.write_bytes(packets(1))
    assert uids(read(following, 1)) == ["C1"]
    append(log, packets(2))
    fresh = tmp_path / "fresh"
    fresh.write_bytes(packets(3))
    fresh.replace(log)
    assert uids(read(following, 2)) == ["C2", "C3"]


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


def test_copytruncate_while_the_sensor_was_down_goes_on_in_the_copy(tmp_path: Path, log: Path) -> None:
    log.write_bytes(packets(*range(10)))
    positions = first_read(tmp_path)
    append(log, packets(10, 11))
    shutil.copy(log, tmp_path / "packetclip_packet.log.1")
    os.truncate(log, 0)
    append(log, packets(12))
    assert sorted(again(tmp_path, positions, 3)) == ["C10", "C11", "C12"]


# --- time


def test_file_times_far_off_do_not_matter(tmp_path: Path, log: Path, following: Blocks) -> None:
    log.write_bytes(packets(1))
    for number, when in enumerate((0.0, 4_000_000_000.0, 1.0), 2):
        os.utime(log, (when, when))
        append(log, packets(number))
        os.utime(log, (when, when))
        assert f"C{number}" in uids(read(following, 1))


def test_a_clock_that_jumps_back_in_the_log_loses_no_line(log: Path, following: Blocks) -> None:
    log.write_bytes(packet(1, 5000.0) + packet(2, 5001.0))
    assert uids(read(following, 2)) == ["C1", "C2"]
    append(log, packet(3, 1400.0) + packet(4, 9000.0) + packet(5, 1401.0))
    assert uids(read(following, 3)) == ["C3", "C4", "C5"]


def test_the_wall_clock_is_not_asked(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def jumps() -> float:
        raise AssertionError("the tailer asked for the time of day")

    monkeypatch.setattr(time, "time", jumps)
    log.write_bytes(packets(1))
    blocks = follow([tmp_path], poll_s=0.02)
    assert uids(read(blocks, 1)) == ["C1"]
    log.rename(tmp_path / "packetclip_packet.1.log")
    log.write_bytes(packets(2))
    assert uids(read(blocks, 1)) == ["C2"]


# --- the operating system


def test_without_inotify_the_clock_does_it(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_instance(*args: object) -> None:
        raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr("packetclip_sensor.sources.tail.Observer.start", no_instance)
    monkeypatch.setattr(tail, "RESCAN_S", 0.05)
    blocks = follow([tmp_path], poll_s=0.02)
    log.write_bytes(packets(1))
    assert uids(read(blocks, 1)) == ["C1"]
    log.rename(tmp_path / "packetclip_packet.1.log")
    log.write_bytes(packets(2))
    assert uids(read(blocks, 1)) == ["C2"]


def test_without_inotify_watches_left_the_clock_does_it(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_watch(*args: object, **named: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr("packetclip_sensor.sources.tail.Observer.schedule", no_watch)
    blocks = follow([tmp_path], poll_s=0.02)
    log.write_bytes(packets(1))
    assert uids(read(blocks, 1)) == ["C1"]
    append(log, packets(2))
    assert uids(read(blocks, 1)) == ["C2"]


def test_a_file_that_may_be_read_later_is_read_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "packetclip_packet.closed.log"
    really, forbidden = os.open, True

    def opened(name: str | Path, flags: int, *args: int) -> int:
        if Path(name) == closed and forbidden:
            raise PermissionError(13, "Permission denied", str(name))
        return really(name, flags, *args)

    monkeypatch.setattr("packetclip_sensor.sources.logfile.os.open", opened)
    monkeypatch.setattr(tail, "RESCAN_S", 0.0)
    rejects = Rejects(None)
    blocks = follow([tmp_path], poll_s=0.02, rejects=rejects)
    until_idle(blocks)
    closed.write_bytes(packets(1))
    assert uids(read(blocks, 0)) == []
    assert rejects.count == 1
    forbidden = False
    closed.chmod(0o640)
    assert uids(read(blocks, 1)) == ["C1"]


def test_a_file_that_is_renamed_between_listing_and_opening_at_the_start_is_no_error(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(packets(1))
    listed = tail._listing

    def renamed_after_listing(paths: list[Path]) -> object:
        found = listed(paths)
        if log.exists():
            log.rename(tmp_path / "packetclip_packet.1.log")
        return found

    monkeypatch.setattr(tail, "_listing", renamed_after_listing)
    assert again(tmp_path, [], 1) == ["C1"]


def test_zeros_that_a_power_failure_left_are_rejected_and_the_rest_is_read(tmp_path: Path, log: Path, following: Blocks) -> None:
    log.write_bytes(packets(1) + b"\0" * 5000 + b"\n" + packets(2))
    got = read(following, 3)
    assert b"".join(block.data for block in got).count(b"\n") == 3
    assert [line for block in got for line in block.data.splitlines()][-1] == packets(2).rstrip()
