"""Rotated logs that are moved away, as zeekctl does it: found again and read on, or told by name where they cannot be."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tailing import again, append, first_read, last_positions, no_right, packers, packets, read, uids

from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.records import Lines
from packetclip_sensor.sources.backlog import Backlog
from packetclip_sensor.sources.discovery import archived, archives_of
from packetclip_sensor.sources.tail import follow

PACKED = packers()


def archive(log: Path, day: Path, *, pack: str = ".gz") -> Path:
    """As zeekctl's archive-log does: rename, pack into the day's folder, remove."""
    day.mkdir(exist_ok=True)
    rotated = log.with_name("packetclip_packet-26-11-21_10.00.00.log")
    log.rename(rotated)
    goal = day / "packetclip_packet.10:00:00-11:00:00.log"
    if not pack:
        shutil.move(rotated, goal)
        return goal
    goal = goal.with_name(goal.name + pack)
    goal.write_bytes(PACKED[pack](rotated.read_bytes()))
    rotated.unlink()
    return goal


@pytest.fixture
def current(tmp_path: Path) -> Path:
    """zeekctl's layout: logs/current points to the spool folder, the archive is logs/YYYY-MM-DD."""
    spool = tmp_path / "spool" / "zeek"
    spool.mkdir(parents=True)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "current").symlink_to(spool)
    return tmp_path / "logs" / "current"


def searching(current: Path, since: float = 0.0) -> dict[str, object]:
    return {"archives": archives_of([current], []), "archived_since": lambda: since}


@pytest.mark.parametrize("pack", ["", *PACKED])
@pytest.mark.parametrize("spool", [False, True])
def test_what_was_archived_while_the_sensor_was_down_is_found_and_read_on(current: Path, pack: str, spool: bool) -> None:
    """Also where the spool is named by its own path, and not by zeekctl's link `current` to it."""
    current = current.resolve() if spool else current
    log, day = current / "packetclip_packet.log", archives_of([current], [])[0] / "2026-11-21"
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
    no_right(goal, monkeypatch)
    rejects = Rejects(None)
    assert again(current, [], 1, rejects=rejects, **searching(current)) == ["C2"]
    assert rejects.count == 1


def test_an_archive_packed_in_a_way_that_nothing_unpacks_is_told_with_the_remedy(current: Path) -> None:
    """Read from the start on as soon as it is unpacked; the sensor starts nevertheless."""
    log, day = current / "packetclip_packet.log", current.parent / "2026-11-21"
    log.write_bytes(packets(1))
    goal = archive(log, day)
    odd = goal.with_name(goal.name.replace(".gz", ".lz4"))
    odd.write_bytes(bytes.fromhex("04224d18") + gzip.decompress(goal.read_bytes()))
    goal.unlink()
    shutil.copy(odd, current)
    log.write_bytes(packets(2))
    backlog, rejects = Backlog(), Rejects(None)
    blocks = follow([current], poll_s=0.02, backlog=backlog, rejects=rejects, **searching(current))  # type: ignore[arg-type]
    with capture_logs() as told:
        assert uids(read(blocks, 1)) == ["C2"]
    assert [(entry["event"], entry["reason"]) for entry in told] == [("log_unreadable", "packed by lz4; unpack it: lz4 -d")] * 2
    backlog.measure(2000.0)
    [(name, message)] = backlog.blind
    assert name == "unreadable"
    assert message.startswith("2 log files cannot be read: ")
    assert message.endswith("packetclip_packet.10:00:00-11:00:00.log.lz4 is packed by lz4; unpack it: lz4 -d")
    assert rejects.count == 2
    for path in (odd, current / odd.name):
        path.unlink()
    odd.with_suffix("").write_bytes(packets(1))
    assert uids(read(blocks, 1)) == ["C1"]
    backlog.measure(2000.0)
    assert backlog.blind == []


@pytest.mark.parametrize("kept", [True, False])
def test_a_log_that_the_state_knows_and_that_vanished_while_the_sensor_was_down_is_told(current: Path, kept: bool) -> None:
    """Not where it lies in the archive, however old: then it had been read, or is read on."""
    log, day = current / "packetclip_packet.log", current.parent / "2026-11-21"
    log.write_bytes(packets(1, 2))
    positions = first_read(current)
    goal = archive(log, day)
    os.utime(goal, (1000.0, 1000.0))
    if not kept:
        goal.unlink()
    log.write_bytes(packets(3))
    backlog = Backlog()
    blocks = follow([current], positions, poll_s=0.02, backlog=backlog, **searching(current, since=2000.0))  # type: ignore[arg-type]
    with capture_logs() as told:
        assert uids(read(blocks, 1)) == ["C3"]
    assert [(entry["event"], entry["path"]) for entry in told] == ([] if kept else [("log_gone", str(log))])
    backlog.measure(2000.0)
    assert [name for name, _ in backlog.blind] == ([] if kept else ["logs_gone"])


def test_a_log_that_vanishes_unread_while_the_sensor_runs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files beyond the limit of open ones are closed; one renamed meanwhile is not told."""
    monkeypatch.setattr("packetclip_sensor.sources.file_registry.LINGER_S", 0.0)
    files = [tmp_path / f"packetclip_packet.{i}.log" for i in range(12)]
    for i, file in enumerate(files):
        file.write_bytes(packets(i))
    blocks = follow([tmp_path], poll_s=0.02, open_files=8)
    with capture_logs() as told:
        first = next(blocks)
        assert isinstance(first, Lines)
        files[10].rename(tmp_path / "packetclip_packet.renamed.log")
        files[11].unlink()
        assert uids([first, *read(blocks, 10)]) == [f"C{i}" for i in range(11)]
    assert [(entry["event"], entry["path"], entry["read_bytes"]) for entry in told] == [("log_gone", str(files[11]), 0)]


@pytest.mark.parametrize("running", [True, False])
def test_the_log_of_a_killed_zeek_is_read_to_its_last_whole_line_as_zeekctl_puts_it_away(current: Path, running: bool) -> None:
    """zeekctl moves the spool aside (post-terminate-...-crash), packs what is in it into the archive, and starts Zeek again."""
    log, day = current / "packetclip_packet.log", current.parent / "2026-11-21"
    log.write_bytes(packets(1, 2))
    backlog, rejects = Backlog(), Rejects(None)
    options = {"poll_s": 0.02, "rejects": rejects, "backlog": backlog, **searching(current)}
    blocks = follow([current], **options)  # type: ignore[arg-type]
    positions = last_positions(got := read(blocks, 2))
    append(log, packets(3) + packets(4)[:-20])
    got += read(blocks, 1) if running else []
    crashed = current.resolve().parent / "tmp" / "post-terminate-standalone-2026-11-21-10-32-11-77-crash"
    crashed.mkdir(parents=True)
    log.rename(crashed / log.name)
    got += read(blocks, 0) if running else []
    archive(crashed / log.name, day)
    log.write_bytes(packets(5))
    if not running:
        blocks = follow([current], positions, **options)  # type: ignore[arg-type]
    got += read(blocks, 2 - running)
    assert uids(got) == ["C1", "C2", "C3", "C5"]
    assert rejects.count == 0
    assert backlog.measure(2000.0) == (0, 0.0)
    assert backlog.blind == []
