"""Rotation: whatever renames, compresses, archives, copies, truncates or deletes a log, no line is lost or read twice.

"Filebeat" and "Vector" mark cases of their own tests: elastic/beats, filebeat/tests/integration/filestream_*_test.go, and
vectordotdev/vector, src/sources/file.rs. docs/reliability.md names the test for each of their cases.
"""

from __future__ import annotations

import gzip
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tailing import (
    Blocks,
    again,
    append,
    first_read,
    last_positions,
    no_right,
    packers,
    packet,
    packets,
    read,
    uids,
    until_idle,
)  # fmt: skip

from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.records import Lines
from packetclip_sensor.sources.backlog import Backlog
from packetclip_sensor.sources.discovery import archived, archives_of
from packetclip_sensor.sources.file_registry import FileRegistry
from packetclip_sensor.sources.tail import follow

PACKED = packers()
GZ = "packetclip_packet.10:00:00-11:00:00.log.gz"


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


@pytest.mark.parametrize("suffix", PACKED)
def test_rename_then_gzip_then_move_is_one_log(tmp_path: Path, log: Path, suffix: str) -> None:
    archive = tmp_path / "2026-11-21"
    archive.mkdir()
    stop = threading.Event()
    blocks = follow([tmp_path, archive], poll_s=0.02, stop=stop)
    log.write_bytes(packets(1, 2))
    assert uids(read(blocks, 2)) == ["C1", "C2"]
    rotated = tmp_path / "packetclip_packet.10:00:00-11:00:00.log"
    log.rename(rotated)
    append(rotated, packets(3))
    packed = tmp_path / f"packetclip_packet.10:00:00-11:00:00.log{suffix}"
    packed.write_bytes(PACKED[suffix](rotated.read_bytes()))
    rotated.unlink()
    log.write_bytes(packets(4))
    assert uids(read(blocks, 2)) == ["C3", "C4"]
    shutil.move(packed, archive / packed.name)
    append(log, packets(5))
    assert uids(read(blocks, 1)) == ["C5"]
    stop.set()


@pytest.mark.parametrize("suffix", PACKED)
def test_a_gz_that_is_still_being_written_is_read_as_it_grows(tmp_path: Path, following: Blocks, suffix: str) -> None:
    packed = tmp_path / f"packetclip_packet.10:00:00-11:00:00.log{suffix}"
    rows = b"".join(packet(i, 1000 + i * 1e-3) for i in range(3000))
    whole = PACKED[suffix](rows)
    packed.write_bytes(whole[: len(whole) // 2])
    first = read(following, 1 if suffix in (".gz", ".xz") else 0)  # the others unpack blocks as a whole
    assert len(uids(first)) < 3000
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


def after_the_next_look(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """What happens between a look at the files and the reading of them."""
    look = FileRegistry.look

    def first_look(logs: FileRegistry) -> None:
        look(logs)
        monkeypatch.setattr(FileRegistry, "look", look)
        happens()

    monkeypatch.setattr(FileRegistry, "look", first_look)


def test_two_copytruncates_between_two_looks_are_read_in_their_order(
    tmp_path: Path, log: Path, following: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(packets(1, 2, 3))
    assert uids(read(following, 3)) == ["C1", "C2", "C3"]
    append(log, packets(4))
    shutil.copy(log, tmp_path / "packetclip_packet.log.1")

    def truncated_twice() -> None:
        os.truncate(log, 0)
        append(log, packets(5))
        shutil.copy(log, tmp_path / "packetclip_packet.log.2")
        os.truncate(log, 0)
        append(log, packets(6))

    after_the_next_look(monkeypatch, truncated_twice)
    assert uids(read(following, 3)) == ["C4", "C5", "C6"]


def test_a_log_truncated_and_regrown_just_before_it_is_read_is_not_read_from_its_middle(
    tmp_path: Path, log: Path, following: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(packets(1))
    assert uids(read(following, 1)) == ["C1"]
    append(log, packets(2))

    def truncated() -> None:
        shutil.copy(log, tmp_path / "packetclip_packet.log.1")
        os.truncate(log, 0)
        append(log, packets(3, 4, 5))

    after_the_next_look(monkeypatch, truncated)
    assert uids(read(following, 4)) == ["C2", "C3", "C4", "C5"]


@pytest.mark.parametrize("fresh", [(5, 6), (5, 6, 7)])
def test_a_log_written_anew_in_the_same_length_or_longer_is_noticed(log: Path, following: Blocks, fresh: tuple[int, ...]) -> None:
    log.write_bytes(packets(1, 2))
    assert uids(read(following, 2)) == ["C1", "C2"]
    log.write_bytes(packets(*fresh))
    assert uids(read(following, len(fresh))) == [f"C{i}" for i in fresh]


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


def test_two_files_with_equal_first_lines_are_both_read_and_kept_apart(tmp_path: Path, following: Blocks) -> None:
    one, two = tmp_path / "packetclip_packet.a.log", tmp_path / "packetclip_packet.b.log"
    one.write_bytes(packets(1, 2))
    two.write_bytes(packets(1, 3))
    got = read(following, 4)
    assert sorted(uids(got)) == ["C1", "C1", "C2", "C3"]
    append(one, packets(4))
    append(two, packets(5))
    again = read(follow([tmp_path], last_positions(got), poll_s=0.02), 2)
    assert sorted(uids(again)) == ["C4", "C5"]


def test_a_copy_beside_its_original_is_not_read_twice(tmp_path: Path, log: Path, following: Blocks) -> None:
    log.write_bytes(packets(*range(12)))
    (tmp_path / "packetclip_packet.copy.log.gz").write_bytes(gzip.compress(packets(*range(12))))
    assert uids(read(following, 12)) == [f"C{i}" for i in range(12)]


def test_a_log_replaced_by_a_rename_over_it_is_read_to_its_end_first(tmp_path: Path, log: Path, following: Blocks) -> None:
    log.write_bytes(packets(1))
    assert uids(read(following, 1)) == ["C1"]
    append(log, packets(2))
    fresh = tmp_path / "fresh"
    fresh.write_bytes(packets(3))
    fresh.replace(log)
    assert uids(read(following, 2)) == ["C2", "C3"]


def test_copytruncate_while_the_sensor_was_down_goes_on_in_the_copy(tmp_path: Path, log: Path) -> None:
    log.write_bytes(packets(*range(10)))
    positions = first_read(tmp_path)
    append(log, packets(10, 11))
    shutil.copy(log, tmp_path / "packetclip_packet.log.1")
    os.truncate(log, 0)
    append(log, packets(12))
    assert sorted(again(tmp_path, positions, 3)) == ["C10", "C11", "C12"]


@pytest.mark.parametrize("cut", [1, 5, -20, -8, -1])
@pytest.mark.parametrize("restart", [False, True])
def test_a_gz_found_half_written_is_read_to_its_end(tmp_path: Path, cut: int, restart: bool) -> None:
    """Filebeat: incomplete header, data, footer; with a restart between."""
    lines = b"".join(packet(i, 1000 + i * 0.001) for i in range(100))
    packed = gzip.compress(lines)
    file = tmp_path / GZ
    file.write_bytes(packed[:cut])
    blocks = follow([tmp_path], poll_s=0.02)
    got = read(blocks, 0)
    if restart:
        blocks.close()  # type: ignore[attr-defined]
        blocks = follow([tmp_path], last_positions(got), poll_s=0.02)
    append(file, packed[cut:])
    got += read(blocks, 100 - len(uids(got)))
    assert uids(got) == [f"C{i}" for i in range(100)]


def test_a_gz_read_to_its_end_is_not_read_again_after_a_restart(tmp_path: Path) -> None:
    """Filebeat: GZIP EOF."""
    (tmp_path / GZ).write_bytes(gzip.compress(packets(*range(50))))
    positions = last_positions(until_idle(follow([tmp_path], poll_s=0.02)))
    assert uids(read(follow([tmp_path], positions, poll_s=0.02), 0)) == []


def test_rotation_into_a_gz_with_lines_unread_while_the_log_is_rewritten_shorter(tmp_path: Path, log: Path) -> None:
    """Filebeat: GZIP log rotation, one rotated file; the sensor was down."""
    log.write_bytes(packets(*range(10)))
    positions = last_positions(until_idle(follow([tmp_path], poll_s=0.02)))
    (tmp_path / "packetclip_packet.log.1.gz").write_bytes(gzip.compress(packets(*range(20))))
    log.write_bytes(packets(*range(30, 35)))
    expected = [f"C{i}" for i in (*range(10, 20), *range(30, 35))]
    assert uids(read(follow([tmp_path], positions, poll_s=0.02), 15)) == expected


def test_a_truncation_seen_before_anything_new_is_written_starts_the_log_anew(log: Path, following: Blocks) -> None:
    """Filebeat: live truncation; Vector: file_truncate."""
    log.write_bytes(packets(1, 2, 3))
    assert uids(read(following, 3)) == ["C1", "C2", "C3"]
    os.truncate(log, 0)
    assert uids(read(following, 0)) == []
    append(log, packets(4))
    assert uids(read(following, 1)) == ["C4"]


@pytest.mark.parametrize("lines", [2, 5, 9])
def test_a_log_truncated_while_the_sensor_was_down_is_read_from_its_start(tmp_path: Path, log: Path, lines: int) -> None:
    """Filebeat: offline truncation, to less, the same and more than was read."""
    log.write_bytes(packets(*range(5)))
    positions = last_positions(until_idle(follow([tmp_path], poll_s=0.02)))
    os.truncate(log, 0)
    append(log, packets(*range(10, 10 + lines)))
    assert uids(read(follow([tmp_path], positions, poll_s=0.02), lines)) == [f"C{i}" for i in range(10, 10 + lines)]


def test_a_truncation_just_before_the_stop_is_seen_after_the_start(tmp_path: Path, log: Path) -> None:
    """Filebeat: live truncation, stopped before the next scan."""
    log.write_bytes(packets(*range(5)))
    blocks = follow([tmp_path], poll_s=0.02)
    positions = last_positions(until_idle(blocks))
    os.truncate(log, 0)
    until_idle(blocks)
    blocks.close()  # type: ignore[attr-defined]
    append(log, packets(7))
    assert uids(read(follow([tmp_path], positions, poll_s=0.02), 1)) == ["C7"]


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
