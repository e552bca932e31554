"""Logs that were rotated into the archive while the sensor was down or waited: found there, and read once."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest
from tailing import again, append, first_read, last_positions, no_right, packets, read, uids

from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.sources.backlog import Backlog
from packetclip_sensor.sources.discovery import archived, archives_of
from packetclip_sensor.sources.tail import follow


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
    no_right(goal, monkeypatch)
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
