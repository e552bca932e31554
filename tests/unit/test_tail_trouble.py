"""What else happens to logs: folders replaced, links, inodes used again, clocks that jump, no inotify, archives."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from pathlib import Path

import msgspec
import pytest
from tailing import Blocks, append, last_positions, packet, packets, read, uids, until_idle

from packetclip_sensor.records import Position
from packetclip_sensor.rejects import Rejects
from packetclip_sensor.sources import tail
from packetclip_sensor.sources.archive import archived, archives_of
from packetclip_sensor.sources.backlog import Backlog
from packetclip_sensor.sources.tail import follow


def again(folder: Path, positions: list[Position], count: int, **options: object) -> list[str]:
    """What a restarted tailer reads, until `count` lines have come and a little longer."""
    return uids(read(follow([folder], positions, poll_s=0.02, **options), count))  # type: ignore[arg-type]


def first_read(folder: Path) -> list[Position]:
    return last_positions(until_idle(follow([folder], poll_s=0.02)))


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
    class Broken:
        def start(self) -> None:
            raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr("packetclip_sensor.sources.wake.Observer", Broken)
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

    monkeypatch.setattr("packetclip_sensor.sources.wake.Observer.schedule", no_watch)
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


# --- the archive


def archive(log: Path, day: Path, *, pack: bool = True) -> Path:
    """As zeekctl's archive-log does: rename, pack into the day's folder, remove."""
    day.mkdir(exist_ok=True)
    rotated = log.with_name("packetclip_packet-26-11-21_10.00.00.log")
    log.rename(rotated)
    goal = day / "packetclip_packet.10:00:00-11:00:00.log"
    if not pack:
        shutil.move(rotated, goal)
        return goal
    goal = goal.with_name(goal.name + ".gz")
    goal.write_bytes(gzip.compress(rotated.read_bytes()))
    rotated.unlink()
    return goal


@pytest.fixture
def current(tmp_path: Path) -> Path:
    """zeekctl's layout: logs/current points to the spool folder, the archive is logs/YYYY-MM-DD."""
    spool = tmp_path / "spool"
    spool.mkdir()
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "current").symlink_to(spool)
    return tmp_path / "logs" / "current"


def searching(current: Path, since: float = 0.0) -> dict[str, object]:
    return {"archives": archives_of([current], []), "archived_since": lambda: since}


@pytest.mark.parametrize("pack", [True, False])
def test_what_was_archived_while_the_sensor_was_down_is_found_and_read_on(current: Path, pack: bool) -> None:
    log, day = current / "packetclip_packet.log", current.parent / "2026-11-21"
    log.write_bytes(packets(*range(10)))
    positions = first_read(current)
    append(log, packets(10, 11))
    archive(log, day, pack=pack)
    log.write_bytes(packets(12))
    assert again(current, positions, 3, **searching(current)) == ["C10", "C11", "C12"]


def test_hours_of_rotation_while_the_sink_waits_are_read_when_it_goes_on(current: Path) -> None:
    """Nobody reads meanwhile, so files come and go that the sensor has never opened."""
    log = current / "packetclip_packet.log"
    log.write_bytes(packets(0))
    blocks = follow([current], poll_s=0.02, **searching(current))  # type: ignore[arg-type]
    assert uids(read(blocks, 1)) == ["C0"]
    append(log, packets(1))
    for hour in range(2, 8):
        goal = archive(log, current.parent / f"2026-11-2{hour % 2}")
        goal.rename(goal.with_name(f"packetclip_packet.{hour:02}:00:00-{hour:02}:59:59.log.gz"))
        log.write_bytes(packets(hour))
    assert uids(read(blocks, 7)) == [f"C{i}" for i in range(1, 8)]


def test_what_the_sensor_has_read_itself_is_not_read_again_in_the_archive(current: Path) -> None:
    log, day = current / "packetclip_packet.log", current.parent / "2026-11-21"
    log.write_bytes(packets(*range(10)))
    blocks = follow([current], poll_s=0.02, **searching(current))  # type: ignore[arg-type]
    got = read(blocks, 10)
    archive(log, day)
    log.write_bytes(packets(10))
    got += read(blocks, 1)
    assert uids(got) == [f"C{i}" for i in range(11)]
    assert again(current, last_positions(got), 0, **searching(current)) == []


def test_archives_from_before_the_last_acknowledged_second_are_not_looked_at(current: Path) -> None:
    log, day = current / "packetclip_packet.log", current.parent / "2026-11-21"
    log.write_bytes(packets(1))
    old = archive(log, day)
    os.utime(old, (1000.0, 1000.0))
    log.write_bytes(packets(2))
    assert again(current, [], 1, **searching(current, since=2000.0)) == ["C2"]
    assert list(archived([current.parent], since=1100.0)) == [(old, "packet")]


def test_an_archive_that_cannot_be_read_does_not_end_the_start(current: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, day = current / "packetclip_packet.log", current.parent / "2026-11-21"
    log.write_bytes(packets(1))
    goal = archive(log, day)
    log.write_bytes(packets(2))
    really = os.open

    def opened(name: str | Path, flags: int, *args: int) -> int:
        if Path(name) == goal:
            raise PermissionError(13, "Permission denied", str(name))
        return really(name, flags, *args)

    monkeypatch.setattr("packetclip_sensor.sources.logfile.os.open", opened)
    rejects = Rejects(None)
    assert again(current, [], 1, rejects=rejects, **searching(current)) == ["C2"]
    assert rejects.count == 1


def test_only_folders_named_by_date_are_searched_and_others_may_be_named(tmp_path: Path) -> None:
    for name in ("2026-11-21", "stats", "packetclip"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "packetclip_packet.log").write_bytes(packets(1))
    assert [path.parent.name for path, _ in archived([tmp_path], 0.0)] == ["2026-11-21"]
    assert archives_of([tmp_path / "zeek"], []) == []
    assert archives_of([tmp_path / "current"], []) == [tmp_path]
    assert archives_of([tmp_path / "current"], [tmp_path / "stats"]) == [tmp_path / "stats"]


# --- the lag as the tailer itself tells it


def test_the_backlog_of_a_tailer_that_stands_still_grows_and_goes(tmp_path: Path, log: Path) -> None:
    backlog = Backlog()
    log.write_bytes(packets(1))
    blocks = follow([tmp_path], poll_s=0.02, backlog=backlog)
    assert uids(read(blocks, 1)) == ["C1"]
    assert backlog.measure(2000.0) == (0, 0.0)
    append(log, packets(2, 3))
    log.rename(tmp_path / "packetclip_packet.1.log")
    log.write_bytes(packets(4) + packets(5)[:40])
    (tmp_path / "packetclip_packet.0.log").write_bytes(b"")
    assert backlog.measure(2000.0) == (len(packets(2, 3, 4)) + 40, 2000.0 - 1002.0)
    assert uids(read(blocks, 3)) == ["C2", "C3", "C4"]
    assert backlog.measure(2000.0) == (0, 0.0)
    assert backlog.files_open == 2
