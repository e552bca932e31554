"""Finished logs in cuts of time, each with the place from which to read so that its windows are those of one pass over all.

A cut is the seconds from `begin` to `end`. Its reader begins earlier, by what stages remember: windows reach back by T, the first
packet of a connection in them, which says who began it, by T once more, and what a link's copies were, by `MIRRORED_S`. What it
reads before `begin` gives no window.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from packetclip_sensor.common import durable
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.normalize.copies import MIRRORED_S
from packetclip_sensor.records import Batch, Idle, Lines, Position
from packetclip_sensor.sources import pcap, tail, zeek
from packetclip_sensor.sources.discovery import Unit, check_log
from packetclip_sensor.sources.logfile import FAR_S, SPAN_S, first_ts

CUT_S = 1800
"""Long against what is read twice, short against a day."""
FOREVER = 1 << 40
"""Behind every second of a packet."""
PART = ".new"
"""End of the names of files that are being written."""


class Cut(msgspec.Struct, frozen=True):
    """Some seconds of a unit. The cuts of a unit follow each other without a gap, from 0 to FOREVER."""

    unit: str
    paths: tuple[str, ...]
    capture: bool = False
    """Whether the paths are captures, which are read in one cut."""
    turned_back: bool = False
    """Whether the clock was set back in it, so that seconds come twice; a unit of which that holds is one cut."""
    begin: int = 0
    end: int = FOREVER
    since: tuple[Position, ...] = ()
    """Where to begin to read."""

    @property
    def judged(self) -> int:
        """The second before it."""
        return self.begin - 1

    def name(self, *made_with: Any) -> str:
        """A file name for what is made of the cut, in the order of time; another one for other logs or another `made_with`."""
        logs = (Path(p) for p in self.paths)
        files = [file for path in logs for file in ([path] if self.capture else [log for log, _ in check_log(path)])]
        stats = [(str(file), stat.st_size, stat.st_mtime_ns) for file in files if (stat := file.stat())]
        digest = hashlib.sha256(msgspec.json.encode((self, stats, made_with), order="sorted")).hexdigest()[:12]
        unit = "".join(char if char.isalnum() or char in "-." else "-" for char in self.unit)[-100:].lstrip(".-")
        return f"{unit}-{self.begin:012d}-{digest}"


def cuts_of(unit: Unit, *, memory_s: float, lateness_s: float = 0.0, length_s: int = CUT_S) -> list[Cut]:
    """The cuts of a unit, which is read once for it and not decoded.

    Args:
        memory_s: T of the windows. lateness_s: how late its lines come.
    Raises:
        LogFormatError: it cannot be read.
    """
    whole = Cut(unit.name, tuple(str(path.absolute()) for path in unit.paths), unit.kind == "pcap")
    if whole.capture:
        return [whole]
    lead_s = 2 * memory_s + lateness_s + 2 * MIRRORED_S + SPAN_S
    positions, marks = zeek.Positions(), deque[tuple[float, tuple[Position, ...]]]()
    starts, newest = [whole], 0.0
    for block in tail.finite(unit.paths):
        if isinstance(block, Idle):
            break
        before, _ = positions.move(block)
        ts = first_ts(block.data, 0, "packet") if block.log == "packet" and block.data else 0.0
        if ts <= 0.0:
            continue
        if ts < newest - FAR_S:
            return [msgspec.structs.replace(whole, turned_back=True)]
        while len(marks) > 1 and marks[1][0] <= newest - lead_s:
            marks.popleft()
        marks.append((max(newest, ts), before))
        begin = int(ts // length_s) * length_s
        if begin > newest > 0.0:
            while len(marks) > 1 and marks[1][0] <= begin - lead_s:
                marks.popleft()
            starts.append(msgspec.structs.replace(whole, begin=begin, since=marks[0][1]))
        newest = max(newest, ts)
    ends = [cut.begin for cut in starts[1:]] + [FOREVER]
    return [msgspec.structs.replace(cut, end=end) for cut, end in zip(starts, ends, strict=True)]


@contextmanager
def packets_of(cut: Cut, counters: Counters, rejects: Rejects, lateness_s: float = 0.0) -> Iterator[Iterator[Batch]]:
    """The packets of a cut, and those before it that its windows rest on, as lines have them.

    Args:
        rejects: counts the lines of the cut that cannot be read, and not those before it.
    Raises:
        LogFormatError: the logs, or the capture, cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="packetclip-") as folder:
        paths = [Path(path) for path in cut.paths]
        if cut.capture:
            made = pcap.logs_of(paths, Path(folder))
            if made.problem:
                rejects.add(cut.paths[0], 0, made.problem, b"")
            paths = [made.folder]

        def blocks() -> Iterator[Lines | Idle]:
            before = True
            for block in tail.finite(paths, cut.since, rejects=rejects):
                if isinstance(block, Lines) and block.data:
                    if block.log != "packet":
                        continue
                    ts = first_ts(block.data, 0, "packet")
                    if ts >= cut.end + lateness_s + 1:
                        break
                    if before and ts >= cut.begin:
                        before, rejects.count, rejects.first = False, 0, ""
                yield block
            yield Idle(final=True)

        yield zeek.batches(blocks(), rejects, counters)


@contextmanager
def written(out: Path) -> Iterator[Path]:
    """A path at which to write what `out` is to hold: that is there, on the disk, once the block has ended well."""
    part = out.with_name(f"{out.name}.{uuid.uuid4().hex[:8]}{PART}")
    try:
        os.close(durable.create(part))
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(out)
        durable.sync_folder(out.parent)
    finally:
        part.unlink(missing_ok=True)


def folder_of_cuts(folder: Path, option: str) -> None:
    """Make a folder for files of cuts, and take away what workers that were killed left in it. Raises ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"*{PART}"):
            left.unlink(missing_ok=True)
    except OSError as err:
        raise ConfigError(f"{folder}: {err.strerror}; name a folder for the files of cuts by {option}") from err
