"""Files that never come to a line: a line without end, a sparse file, a bomb in a .gz; others are read meanwhile."""

from __future__ import annotations

import gzip
import itertools
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from tailing import append, everything, packet, packets, uids, until_idle

from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.sources.logfile import ASTRAY_BYTES, LogFile
from packetclip_sensor.sources.tail import finite, follow

TERABYTE = 1 << 40
HUGE = 20 * ASTRAY_BYTES


def endless(path: Path) -> None:
    path.write_bytes(b'{"ts":1,"data":"' + b"A" * HUGE)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b'{"ts":1,"data":"')
        file.truncate(TERABYTE)


def bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(bytes(HUGE), 1))


def bomb_of_lines(path: Path) -> None:
    path.write_bytes(gzip.compress(b"\n" * HUGE, 1))


def sparse_padding(path: Path) -> None:
    path.write_bytes(gzip.compress(b""))
    os.truncate(path, TERABYTE)


HOSTILE = {
    "line without end": ("packetclip_packet.2026-01-01.log", endless),
    "sparse file": ("packetclip_packet.2026-01-01.log", sparse),
    "gzip bomb": ("packetclip_packet.2026-01-01.log.gz", bomb),
    "gzip bomb of empty lines": ("packetclip_packet.2026-01-01.log.gz", bomb_of_lines),
    "gzip with a terabyte of padding": ("packetclip_packet.2026-01-01.log.gz", sparse_padding),
}


@pytest.mark.parametrize(("name", "write"), HOSTILE.values(), ids=list(HOSTILE))
def test_other_logs_are_read_in_time_beside_a_file_that_brings_no_line(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[Path], None]
) -> None:
    """Each look at the files reads a bounded part of the hostile one, says `Idle`, and finds what the others have."""
    filled: list[int] = []
    fill = LogFile.fill

    def counted(self: LogFile, *, finished: bool = False) -> bool:
        stream = self._opened()
        before = stream.read_bytes
        ready = fill(self, finished=finished)
        filled.append(stream.read_bytes - before)
        return ready

    monkeypatch.setattr(LogFile, "fill", counted)
    write(tmp_path / name)
    log.write_bytes(packets(1, 2))
    blocks = follow([tmp_path], poll_s=0.01)
    tracemalloc.start()
    for i in itertools.count(3):
        got = until_idle(blocks)
        assert [u for u in uids(_timed(got)) if u] == ([f"C{i - 1}"] if i > 3 else ["C1", "C2"])
        if i == 8:
            break
        append(log, packet(i))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    blocks.close()
    assert max(read for read in filled if read < TERABYTE // 2) <= ASTRAY_BYTES + (1 << 20)  # a hole costs nothing
    assert peak < 64 << 20


def _timed(blocks: list) -> list:
    return [block for block in blocks if block.data.strip()]


@pytest.mark.parametrize(("name", "write"), HOSTILE.values(), ids=list(HOSTILE))
def test_a_replay_reads_other_logs_first_and_comes_to_its_end(
    tmp_path: Path, log: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    log.write_bytes(packets(1, 2))
    rejects = Rejects(None)
    got = everything(finite([tmp_path], rejects=rejects))
    assert uids(_timed(got)) == ["C1", "C2"]
    assert rejects.count == (0 if "lines" in write.__name__ or "padding" in write.__name__ else 1)


def test_what_follows_a_line_of_a_terabyte_is_read(log: Path) -> None:
    with log.open("wb") as file:
        file.write(packet(1) + b'{"ts":1,"data":"')
        file.truncate(TERABYTE)
    append(log, b'"}\n' + packets(2))
    rejects = Rejects(None)
    got = everything(finite([log], rejects=rejects))
    assert uids(got) == ["C1", "C2"]
    assert rejects.count == 1
    assert got[-1].end.offset == log.stat().st_size


def test_a_long_line_is_passed_over_in_several_looks_and_the_place_behind_it_is_kept(tmp_path: Path, log: Path) -> None:
    log.write_bytes(packet(1) + b"x" * (5 * ASTRAY_BYTES // 2) + b"\n" + packet(2))
    rejects = Rejects(None)
    blocks = follow([tmp_path], poll_s=0.01, rejects=rejects)
    looks = [until_idle(blocks) for _ in range(4)]
    blocks.close()
    assert [uids(_timed(got)) for got in looks] == [["C1"], [], ["C2"], []]
    assert rejects.count == 1
    found = looks[2]
    assert found[0].start.offset == len(packet(1))
    assert found[-1].end.offset == log.stat().st_size
