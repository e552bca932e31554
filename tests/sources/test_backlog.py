"""How far the reader is behind its logs, as somebody outside measures it."""

from __future__ import annotations

import bz2
import gzip
import os
import time
from pathlib import Path

import pytest

from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.sources.backlog import Backlog
from packetclip_sensor.sources.file_registry import Unread


class FixedReader:
    """A tailer that stands where the test says."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], int | None] = {}
        self.unread: dict[tuple[int, int], Unread] = {}
        self.gone: list[tuple[float, str]] = []

    def at(self, path: Path, offset: int | None) -> None:
        stat = path.stat()
        self.known[(stat.st_dev, stat.st_ino)] = offset

    def offsets(self) -> dict[tuple[int, int], int | None]:
        return self.known

    def open_files(self) -> int:
        return 1


def row(ts: float) -> bytes:
    return f'{{"ts":{ts},"uid":"C1"}}\n'.encode()


def test_lag_is_what_is_unread_and_the_age_of_its_first_line(tmp_path: Path) -> None:
    log = tmp_path / "packetclip_packet.log"
    log.write_bytes(row(900.0) + row(950.0) + row(990.0))
    other = tmp_path / "packetclip_packet.1.log"
    other.write_bytes(row(800.0))
    flows = tmp_path / "packetclip_flow.log"
    flows.write_bytes(b'{"ts":900.0,"duration":95.0}\n')
    reader, backlog = FixedReader(), Backlog()
    backlog.attach(reader, lambda: [(log, "packet"), (other, "packet"), (flows, "flow")])
    reader.at(log, len(row(900.0)))
    reader.at(other, None)
    reader.at(flows, 0)
    assert backlog.measure(1000.0) == (2 * len(row(950.0)) + len(flows.read_bytes()), 50.0)
    assert (backlog.files, backlog.files_open) == (2, 1)
    reader.at(log, log.stat().st_size)
    assert backlog.measure(1000.0) == (len(flows.read_bytes()), 5.0)
    reader.at(flows, flows.stat().st_size)
    assert backlog.measure(1000.0) == (0, 0.0)


def test_an_unread_gz_counts_with_its_text(tmp_path: Path) -> None:
    packed = tmp_path / "packetclip_packet.1.log.gz"
    packed.write_bytes(gzip.compress(row(5.0) * 1000))
    os.utime(packed, (900.0, 900.0))
    reader, backlog = FixedReader(), Backlog()
    backlog.attach(reader, lambda: [(packed, "packet")])
    assert backlog.measure(1000.0) == (1000 * len(row(5.0)), 100.0)
    reader.at(packed, 1000 * len(row(5.0)))
    assert backlog.measure(1000.0) == (0, 0.0)


def test_files_that_vanish_while_the_lag_is_measured_do_not_matter(tmp_path: Path) -> None:
    backlog = Backlog()
    assert backlog.measure(1.0) == (0, 0.0)
    backlog.attach(FixedReader(), lambda: [(tmp_path / "gone.log", "packet")])
    assert backlog.measure(1.0) == (0, 0.0)


def test_a_bz2_whose_text_has_no_known_size_counts_with_its_own_until_it_is_begun(tmp_path: Path) -> None:
    packed = tmp_path / "packetclip_packet.1.log.bz2"
    packed.write_bytes(bz2.compress(row(5.0) * 1000))
    os.utime(packed, (900.0, 900.0))
    reader, backlog = FixedReader(), Backlog()
    backlog.attach(reader, lambda: [(packed, "packet")])
    assert backlog.measure(1000.0) == (packed.stat().st_size, 100.0)
    reader.at(packed, 1000 * len(row(5.0)))
    assert backlog.measure(1000.0) == (0, 0.0)


def test_a_folder_whose_logs_are_all_rotated_gets_a_remark_for_as_long_as_nothing_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a sensor that starts then; but not where Zeek logs connections without our package."""
    current, rotated = tmp_path / "current", tmp_path / "2026-11-30" / "packetclip_packet.10:00:00-11:00:00.log.gz"
    for folder in (current, rotated.parent):
        folder.mkdir()
    rotated.write_bytes(gzip.compress(row(5.0)))
    os.utime(rotated, (1796036400.0, 1796036400.0))
    backlog = Backlog()
    backlog.attach(FixedReader(), list, [current], [tmp_path])
    told = (
        f"{current}: the last packet log was rotated, and nothing was logged since 2026-11-30 11:00:00 UTC ({rotated}); "
        "if there is traffic on Zeek's interface, see whether Zeek runs"
    )
    for later_s in (0.0, 1e6):
        monkeypatch.setattr(time, "monotonic", lambda later_s=later_s: 1000.0 + later_s)
        backlog.measure(1000.0)
        assert (backlog.blind, list(backlog.remarks.values())) == ([], [told])
    (current / "conn.log").write_text("{}\n")
    monkeypatch.setattr(time, "monotonic", lambda: 2e6)
    backlog.measure(1000.0)
    assert ([name for name, _ in backlog.blind], backlog.remarks) == (["no_logs"], {})
    (current / "packetclip_packet.log").write_bytes(row(900.0))
    backlog.measure(1000.0)
    assert (backlog.blind, backlog.remarks) == ([], {})


def test_folders_without_our_logs_unreadable_files_and_lost_logs_are_told_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, log = tmp_path / "zeek", tmp_path / "zeek" / "packetclip_packet.log"
    reader, backlog = FixedReader(), Backlog()
    backlog.attach(reader, list, [folder])

    def blind(later_s: float = 0.0) -> list[tuple[str, str]]:
        monkeypatch.setattr(time, "monotonic", lambda: 1000.0 + later_s)
        backlog.measure(1000.0)
        return backlog.blind

    assert blind() == [("no_logs", f"{folder} does not exist; give a Zeek log folder, a log file or a pcap")]
    folder.mkdir()
    (folder / "conn.log").write_text("{}")
    [(name, message)] = blind()
    assert name == "no_logs"
    assert message.startswith(f"{folder} holds Zeek logs, but no packetclip_packet.log: the package is not loaded; ")
    log.write_bytes(row(900.0))
    assert blind() == []
    log.unlink()
    assert blind(800.0) == [], "just rotated: Zeek makes the next log with the next packet"
    assert [name for name, _ in blind(1000.0)] == ["no_logs"]
    log.write_bytes(row(900.0))
    reader.unread[(1, 2)] = Unread(Path("a.log"), "no", LogFormatError("a.log cannot be read (Permission denied)"))
    reader.gone = [(1000.0, "b.log")]
    assert [(name, message.partition(":")[2].partition(" that")[0]) for name, message in blind(3000.0)][:1] == [
        ("unreadable", " a.log cannot be read (Permission denied)")
    ]
    assert "the last is b.log; keep rotated logs" in blind(3000.0)[1][1]
    assert [name for name, _ in blind(5000.0)] == ["unreadable"]
