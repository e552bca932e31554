"""Following growing logs: every line once and whole, woken early, with few descriptors."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from tailing import (
    LINE,
    Blocks,
    append,
    everything,
    flow,
    no_right,
    packet,
    packets,
    read,
    uids,
    until_idle,
)

from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.records import Idle, Lines
from packetclip_sensor.sources import tail
from packetclip_sensor.sources.tail import finite, follow


@pytest.mark.parametrize("cut", range(1, len(LINE)))
def test_half_written_line_is_held_back_until_its_newline_comes(tmp_path: Path, log: Path, cut: int) -> None:
    stop = threading.Event()
    blocks = follow([tmp_path], poll_s=0.001, stop=stop)
    log.write_bytes(packet(1) + LINE[:cut])
    assert uids(until_idle(blocks)) == ["C1"]
    append(log, LINE[cut:])
    got: list[Lines] = []
    while not got:
        got = until_idle(blocks)
    assert [block.data for block in got] == [LINE]
    assert got[0].start.offset == len(packet(1))
    assert got[0].end.offset == len(packet(1)) + len(LINE)
    stop.set()


def test_a_first_line_is_read_as_soon_as_it_is_whole(log: Path, following: Blocks) -> None:
    log.write_bytes(b"")
    assert until_idle(following) == []
    append(log, LINE[:20])
    assert until_idle(following) == []
    append(log, LINE[20:])
    began = time.monotonic()
    assert uids(read(following, 1)) == ["C7"]
    assert time.monotonic() - began < 10.0


def test_a_file_below_one_kibibyte_is_read_at_once(log: Path, following: Blocks) -> None:
    log.write_bytes(packet(1))
    assert log.stat().st_size < 1024
    assert uids(until_idle(following)) == ["C1"]


def test_logs_that_come_later_are_read_and_the_folder_too(tmp_path: Path) -> None:
    stop = threading.Event()
    folder = tmp_path / "spool" / "zeek"
    blocks = follow([folder], poll_s=0.02, stop=stop)
    assert until_idle(blocks) == []
    folder.mkdir(parents=True)
    assert until_idle(blocks) == []
    (folder / "packetclip_packet.log").write_bytes(packets(1))
    assert uids(read(blocks, 1)) == ["C1"]
    append(folder / "packetclip_flow.log", flow(1, 1.0, 1.0))
    assert uids(read(blocks, 1)) == ["F1"]
    stop.set()


def test_idle_comes_at_every_poll_while_quiet_and_is_not_final(log: Path, following: Blocks) -> None:
    log.write_bytes(packets(1))
    until_idle(following)
    began = time.monotonic()
    assert [next(following) for _ in range(3)] == [Idle(), Idle(), Idle()]
    assert time.monotonic() - began < 10.0


def test_a_new_line_wakes_the_tailer_long_before_the_poll(tmp_path: Path, log: Path) -> None:
    stop = threading.Event()
    blocks = follow([tmp_path], poll_s=60.0, stop=stop)
    log.write_bytes(packets(1))
    assert uids(until_idle(blocks)) == ["C1"]
    timer = threading.Timer(0.1, append, (log, packets(2)))
    timer.start()
    began = time.monotonic()
    assert uids([next(blocks)]) == ["C2"]
    assert time.monotonic() - began < 20.0
    timer.join()
    stop.set()


def test_stop_ends_the_iteration(tmp_path: Path, log: Path) -> None:
    log.write_bytes(packets(1))
    stop = threading.Event()
    blocks = follow([tmp_path], poll_s=0.02, stop=stop)
    assert uids([next(blocks)]) == ["C1"]
    stop.set()
    assert list(blocks) == []


def test_files_beyond_the_limit_of_open_ones_are_all_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "RESCAN_S", 0.0)
    for i in range(12):
        (tmp_path / f"packetclip_packet.2026-11-21-{i:02}-00-00.log").write_bytes(packets(2 * i, 2 * i + 1))
    stop = threading.Event()
    blocks = follow([tmp_path], poll_s=0.02, stop=stop, open_files=3)
    assert uids(read(blocks, 24)) == [f"C{i}" for i in range(24)]
    append(tmp_path / "packetclip_packet.2026-11-21-00-00-00.log", packets(99))
    assert uids(read(blocks, 1)) == ["C99"]
    stop.set()


def test_every_descriptor_is_given_back(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"packetclip_packet.{i}.log").write_bytes(packets(i))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    blocks = follow([tmp_path], poll_s=0.02)
    until_idle(blocks)
    assert len(os.listdir("/proc/self/fd")) >= before + 5  # noqa: PTH208
    blocks.close()  # type: ignore[attr-defined]
    everything(finite([tmp_path]))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_too_few_descriptors_stop_the_sensor_instead_of_losing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(24, "Too many open files")

    (tmp_path / "packetclip_packet.log").write_bytes(packets(1))
    blocks = follow([tmp_path], poll_s=0.02)
    until_idle(blocks)
    monkeypatch.setattr("packetclip_sensor.sources.logfile.os.open", full)
    (tmp_path / "packetclip_packet.2.log").write_bytes(packets(2))
    with pytest.raises(ConfigError, match=r"no more files can be opened .* raise the limit of open files"):
        read(blocks, 1)


def test_an_unreadable_file_is_refused_at_the_start(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(packets(1))
    no_right(log, monkeypatch)
    for start in (lambda: finite([tmp_path]), lambda: next(follow([tmp_path]))):
        with pytest.raises(
            LogFormatError, match=r"packetclip_packet.log cannot be read \(Permission denied\); let the sensor's user"
        ):
            start()


def test_a_file_that_is_unreadable_later_is_counted_and_the_others_go_on(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejects = Rejects(None)
    blocks = follow([tmp_path], poll_s=0.02, rejects=rejects)
    log.write_bytes(packets(1))
    assert uids(read(blocks, 1)) == ["C1"]
    closed = tmp_path / "packetclip_packet.closed.log"
    no_right(closed, monkeypatch)
    closed.write_bytes(packets(9))
    append(log, packets(2))
    assert uids(read(blocks, 1)) == ["C2"]
    assert rejects.count == 1
