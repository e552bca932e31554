"""How far the reader is behind its logs, in bytes and in seconds, and what it cannot see, measured from outside the pipeline.

While the sink waits nobody reads, and that is just when one wants to know. So another thread looks at the folders, and asks the
registry only how far each file was read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from math import inf
from pathlib import Path

from packetclip_sensor.common.text import counted
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.sources.discovery import check_log, no_rights, nothing_since
from packetclip_sensor.sources.file_registry import FileRegistry, Key
from packetclip_sensor.sources.logfile import first_ts
from packetclip_sensor.sources.plaintext import Plain, plain_bytes, stream

LINE_BYTES = 4096
"""Enough to find the time in the first unread line: it stands in front."""
ROTATION_S = 900.0
"""A folder that had a log may be without one for so long: after a rotation Zeek makes the next log with the next packet."""
GONE_S = 3600.0
"""A log that is gone is reported for so long: there is nothing to be done about it."""


class Backlog:
    """Filled in by `tail.follow`, measured by another thread."""

    def __init__(self) -> None:
        self.files = self.files_open = 0
        self.blind: list[tuple[str, str]] = []
        """Why logs are not read, as name and message with the remedy: see `service.health.REASONS`."""
        self.remarks: dict[Path, str] = {}
        """What is worth knowing of a log folder and no fault."""
        self._paths: Sequence[Path] = ()
        self._archives: Sequence[Path] = ()
        self._seen: dict[Path, float] = {}  # when a folder last had a log, monotonic
        self._reader: FileRegistry | None = None
        self._listing: Callable[[], Sequence[tuple[Path, str]]] = list

    def attach(
        self,
        reader: FileRegistry,
        listing: Callable[[], Sequence[tuple[Path, str]]],
        paths: Sequence[Path] = (),
        archives: Sequence[Path] = (),
    ) -> None:
        """`listing` gives the files that are to be read now, each with its log; `paths` are those that were asked for, and
        `archives` the folders into which their rotated logs are moved."""
        self._reader, self._listing, self._paths, self._archives = reader, listing, paths, archives

    def measure(self, now: float) -> tuple[int, float]:
        """Bytes not yet read, and the age in seconds of the oldest line among them (0 where there are none).

        A .gz counts with the size of its text, other packed files with their own size until they are begun, and an unread one
        is as old as its file.
        """
        if self._reader is None:
            return 0, 0.0
        remarks = {path: nothing_since(path, self._paths, self._archives) for path in self._paths}
        self.remarks = {path: remark for path, remark in remarks.items() if remark}
        self.blind = list(self._blind(self._reader))
        offsets = self._reader.offsets()
        unread_bytes, oldest = 0, inf
        count = 0
        seen: set[Key] = set()
        for path, log in self._listing():
            try:
                stat = path.stat()
                key = (stat.st_dev, stat.st_ino)
                if key in seen:
                    continue
                seen.add(key)
                offset = offsets.get(key, 0)
                if offset is None:
                    continue
                count += 1
                size, ts = _rest(path, log, offset, stat)
            except OSError:
                continue
            if size > 0:
                unread_bytes += size
                oldest = min(oldest, ts)
        self.files, self.files_open = count, self._reader.open_files()
        return unread_bytes, max(0.0, now - oldest) if oldest < inf else 0.0

    def _blind(self, reader: FileRegistry) -> Iterator[tuple[str, str]]:
        now = time.monotonic()
        for path in self._paths:
            try:
                check_log(path)
                self._seen[path] = now
            except LogFormatError as err:
                if no_rights(err):
                    yield "unreadable", str(err)
                elif path in self.remarks:
                    self._seen[path] = now
                elif not path.exists() or now - self._seen.get(path, -inf) > ROTATION_S:
                    yield "no_logs", str(err)
        if unread := list(reader.unread.copy().values()):
            yield "unreadable", f"{counted(len(unread), 'log file')} cannot be read: {unread[0].error}"
        if gone := [path for since, path in reader.gone if now - since < GONE_S]:
            what = f"{counted(len(gone), 'log')} vanished within an hour before being read to the end, the last is {gone[-1]}"
            yield "logs_gone", f"{what}; keep rotated logs until they are read, and name their folder in `archives`"


def _rest(path: Path, log: str, offset: int, stat: os.stat_result) -> tuple[int, float]:
    """Bytes behind `offset`, and the event time of the line there, inf where none can be read."""
    if stat.st_size == offset:
        return 0, inf
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not isinstance(stream(fd), Plain):
            size = plain_bytes(fd) or (0 if offset else stat.st_size)
            return size - offset, stat.st_mtime
        if stat.st_size <= offset:
            return 0, inf
        rest = os.pread(fd, LINE_BYTES, offset)
    finally:
        os.close(fd)
    if b"\n" not in rest and len(rest) < LINE_BYTES:
        return 0, inf  # half a line: its writer is still at it, or is gone for ever
    ts = first_ts(rest, 0, log)
    return stat.st_size - offset, ts if ts > 0 else inf
