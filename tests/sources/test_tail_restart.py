"""Restarts: reading goes on where it stopped, whatever became of the files meanwhile."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tailing import (
    append,
    everything,
    last_positions,
    packet,
    packets,
    read,
    uids,
    until_idle,
)

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
