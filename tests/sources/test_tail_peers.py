"""Cases that Filebeat's and Vector's own tests know, as far as the other files of tailing tests do not hold them already.

Sources, for the cases and not the code: elastic/beats, filebeat/tests/integration/filestream_*_test.go; vectordotdev/vector,
src/sources/file.rs. docs/reliability.md names the test for each of their cases.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from tailing import Blocks, append, everything, last_positions, packet, packets, read, uids, until_idle

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.records import Lines
from packetclip_sensor.sources import zeek
from packetclip_sensor.sources.tail import finite, follow

GZ = "packetclip_packet.10:00:00-11:00:00.log.gz"


def logs(folder: Path, *names: str) -> list[Path]:
    return [folder / f"packetclip_packet.{name}.log" for name in names]


def test_small_files_that_begin_alike_are_told_apart_as_they_grow(tmp_path: Path, following: Blocks) -> None:
    """Filebeat: growing fingerprint. While they are equal they are one log; each line after that is read, of whichever file."""
    files = logs(tmp_path, "a", "b", "c")
    for file in files:
        file.write_bytes(packets(0))
    assert uids(read(following, 1)) == ["C0"]
    for number, file in enumerate(files, 1):
        append(file, packets(number, number + 10))
    assert set(uids(read(following, 6))) - {"C0"} == {"C1", "C2", "C3", "C11", "C12", "C13"}


def test_files_that_begin_alike_are_not_mixed_up_over_a_restart(tmp_path: Path) -> None:
    """Filebeat: growing fingerprint, do not mix up files. The second file grows first."""
    one, two = logs(tmp_path, "a", "b")
    one.write_bytes(packets(1))
    two.write_bytes(packets(1))
    blocks = follow([tmp_path], poll_s=0.02)
    got = read(blocks, 1)
    append(two, packets(2, 3))
    got += read(blocks, 2)
    append(one, packets(4))
    got += read(blocks, 1)
    assert uids(got) == ["C1", "C2", "C3", "C4"]
    append(one, packets(5))
    append(two, packets(6))
    assert sorted(uids(read(follow([tmp_path], last_positions(got), poll_s=0.02), 2))) == ["C5", "C6"]


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


def test_empty_lines_carriage_returns_and_odd_encodings_cost_only_themselves(tmp_path: Path, log: Path) -> None:
    """Vector: empty lines, other line delimiters, files that are not UTF-8."""
    log.write_bytes(
        packets(1) + b"\n\n" + packets(2).replace(b"\n", b"\r\n") + '{"ts":1}\n'.encode("utf-16") + b"\n" + packets(3)
    )
    rejects = Rejects(tmp_path / "rejects")
    batches = list(zeek.batches(finite([log]), rejects, Counters()))
    assert [p.uid for batch in batches for p in batch.packets] == ["C1", "C2", "C3"]
    assert rejects.count == 2


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


def test_a_closed_file_that_grows_while_nobody_reads_loses_nothing(tmp_path: Path) -> None:
    """Filebeat: closed for inactivity and opened again behind a slow output."""
    files = logs(tmp_path, *"abcd")
    for number, file in enumerate(files):
        file.write_bytes(packets(number))
    blocks = follow([tmp_path], poll_s=0.02, open_files=1)
    assert sorted(uids(read(blocks, 4))) == ["C0", "C1", "C2", "C3"]
    for number, file in enumerate(files):
        append(file, packets(10 + number))
    files[0].rename(tmp_path / "packetclip_packet.moved.log")
    append(tmp_path / "packetclip_packet.moved.log", packets(20))
    assert sorted(uids(read(blocks, 5))) == ["C10", "C11", "C12", "C13", "C20"]


def test_files_that_come_and_go_by_hundreds_are_all_read_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filebeat: registry size with batches of files created and deleted."""
    monkeypatch.setattr("packetclip_sensor.sources.file_registry.LINGER_S", 0.0)
    blocks = follow([tmp_path], poll_s=0.01, open_files=16)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    seen: list[str] = []
    for batch in range(5):
        files = logs(tmp_path, *(f"{batch}-{number}" for number in range(40)))
        for number, file in enumerate(files):
            file.write_bytes(packets(100 * batch + number))
        seen += uids(read(blocks, 40))
        for file in files:
            file.unlink()
        until_idle(blocks)
    until_idle(blocks)
    assert len(seen) == len(set(seen)) == 200
    assert len(os.listdir("/proc/self/fd")) <= before + 18  # noqa: PTH208


def test_a_reader_that_gets_one_byte_at_a_time_makes_the_same_lines(log: Path) -> None:
    """Vector: split reads, fair reads."""
    log.write_bytes(packets(1, 2, 3))
    got = everything(finite([log], block_bytes=1))
    assert uids(got) == ["C1", "C2", "C3"]
    assert all(isinstance(block, Lines) and block.data.endswith(b"\n") for block in got)
