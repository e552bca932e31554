"""How far the reader is behind its logs, as somebody outside measures it."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

from packetclip_sensor.sources.backlog import Backlog


class FixedReader:
    """A tailer that stands where the test says."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], int | None] = {}

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
