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
from tailing import (
    Blocks,
    again,
    append,
    first_read,
    last_positions,
    packers,
    packet,
    packets,
    read,
    uids,
    until_idle,
)  # fmt: skip

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
