"""Rotation: whatever renames, compresses, copies, truncates or deletes a log, no line is lost or read twice."""

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
    append,
    last_positions,
    packet,
    packets,
    read,
    uids,
)

from packetclip_sensor.sources.file_registry import FileRegistry
from packetclip_sensor.sources.tail import follow


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
