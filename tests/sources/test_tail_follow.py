"""Following growing logs: every line once and whole, woken early, with few descriptors, whatever the clocks and rights are."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from tailing import LINE, Blocks, again, append, everything, flow, logs, no_right, packet, packets, read, uids, until_idle

from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.records import Idle, Lines
from packetclip_sensor.sources import tail
from packetclip_sensor.sources.backlog import Backlog
from packetclip_sensor.sources.discovery import nearest
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


def test_a_folder_that_was_replaced_is_watched_anew(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with closing(tail.Wake([folder])) as wake:
        assert wake.folders_changed()
        folder.rename(tmp_path / "old")
        folder.mkdir()
        assert wake.folders_changed()
        wake.wait(0.3, threading.Event())  # whatever the replacing itself wakes
        (folder / "packetclip_packet.log").write_bytes(packets(1))
        began = time.monotonic()
        wake.wait(30.0, threading.Event())
        assert time.monotonic() - began < 15.0


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


def test_too_few_descriptors_stop_the_sensor_instead_of_losing_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, following: Blocks
) -> None:
    def full(*args: object) -> int:
        raise OSError(24, "Too many open files")

    (tmp_path / "packetclip_packet.log").write_bytes(packets(1))
    until_idle(following)
    monkeypatch.setattr("packetclip_sensor.sources.logfile.os.open", full)
    (tmp_path / "packetclip_packet.2.log").write_bytes(packets(2))
    with pytest.raises(ConfigError, match=r"no more files can be opened .* raise the limit of open files"):
        read(following, 1)


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


def test_the_wall_clock_is_not_asked(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, following: Blocks) -> None:
    def jumps() -> float:
        raise AssertionError("the tailer asked for the time of day")

    monkeypatch.setattr(time, "time", jumps)
    log.write_bytes(packets(1))
    assert uids(read(following, 1)) == ["C1"]
    log.rename(tmp_path / "packetclip_packet.1.log")
    log.write_bytes(packets(2))
    assert uids(read(following, 1)) == ["C2"]


@pytest.mark.parametrize("lacking", ["start", "schedule"])
def test_without_inotify_or_its_watches_the_clock_does_it(
    lacking: str, tmp_path: Path, log: Path, following: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limit_reached(*args: object, **named: object) -> None:
        raise OSError(28, "inotify instance or watch limit reached")

    monkeypatch.setattr(f"packetclip_sensor.sources.tail.Observer.{lacking}", limit_reached)
    monkeypatch.setattr(tail, "RESCAN_S", 0.05)
    log.write_bytes(packets(1))
    assert uids(read(following, 1)) == ["C1"]
    append(log, packets(2))
    assert uids(read(following, 1)) == ["C2"]
    log.rename(tmp_path / "packetclip_packet.1.log")
    log.write_bytes(packets(3))
    assert uids(read(following, 1)) == ["C3"]


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

    def renamed_after_listing(paths: list[Path], *more: object) -> object:
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


@pytest.mark.parametrize("wrong", [4_294_967_295.0, 1600.0, 1.0])
def test_a_line_with_a_wrong_time_keeps_flows_and_packets_together(tmp_path: Path, log: Path, wrong: float) -> None:
    lines = [packet(i) for i in range(400)]
    lines[200] = packet(200, wrong)
    log.write_bytes(b"".join(lines))
    flows = [flow(i, 1000.0 + i, 0.0) for i in range(400)]
    flows[100] = flow(100, wrong, 0.0)
    (tmp_path / "packetclip_flow.log").write_bytes(b"".join(flows))
    read_so_far = {"C": 0, "F": 0}
    for uid in uids(everything(finite([tmp_path], block_bytes=4096))):
        read_so_far[uid[0]] += 1
        assert abs(read_so_far["C"] - read_so_far["F"]) <= 60, read_so_far
    assert read_so_far == {"C": 400, "F": 400}


@pytest.mark.parametrize(
    ("archive", "folder"),
    [("zeek/logs", "zeek/logs/current"), ("two/logs", "two/logs/current"), ("elsewhere", "zeek/logs/current")],
)
def test_an_archive_belongs_to_the_log_folder_next_to_it(tmp_path: Path, archive: str, folder: str) -> None:
    paths = [tmp_path / "zeek/logs/current", tmp_path / "two/logs/current"]
    assert nearest(tmp_path / archive, paths) == str(tmp_path / folder)


def test_a_rotated_log_stays_of_its_source(tmp_path: Path) -> None:
    current = tmp_path / "logs" / "current"
    archive = tmp_path / "logs" / "2026-11-30"
    current.mkdir(parents=True)
    archive.mkdir()
    blocks = follow([current], poll_s=0.0, archives=[tmp_path / "logs"], archived_since=lambda: 0.0)
    (current / "packetclip_packet.log").write_bytes(packets(1))
    assert uids(read(blocks, 1)) == ["C1"]
    append(current / "packetclip_packet.log", packets(2))
    (current / "packetclip_packet.log").rename(archive / "packetclip_packet.10:00:00-11:00:00.log")
    (archive / "packetclip_packet.09:00:00-10:00:00.log").write_bytes(packets(3))
    found = read(blocks, 2)
    assert sorted(uids(found)) == ["C2", "C3"]
    assert {block.end.source for block in found} == {str(current)}
