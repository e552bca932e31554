"""How far the reader is behind its logs, in bytes and in seconds, measured from outside the pipeline.

While the sink waits nobody reads, and that is just when one wants to know. So another thread looks at the folders, and asks the
registry only how far each file was read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path

from packetclip_sensor.sources.file_registry import FileRegistry, Key
from packetclip_sensor.sources.logfile import first_ts
from packetclip_sensor.sources.plaintext import GZIP_MAGIC

LINE_BYTES = 4096
"""Enough to find the time in the first unread line: it stands in front."""


class Backlog:
    """Filled in by `tail.follow`, measured by another thread."""

    def __init__(self) -> None:
        self.files = self.files_open = 0
        self._reader: FileRegistry | None = None
        self._listing: Callable[[], Sequence[tuple[Path, str]]] = list

    def attach(self, reader: FileRegistry, listing: Callable[[], Sequence[tuple[Path, str]]]) -> None:
        """`listing` gives the paths that are to be read now, each with its log."""
        self._reader, self._listing = reader, listing

    def measure(self, now: float) -> tuple[int, float]:
        """Bytes not yet read, and the age in seconds of the oldest line among them (0 where there are none).

        A .gz counts with the size of its text (RFC 1952 2.3.1), and an unread one as being as old as its file.
        """
        if self._reader is None:
            return 0, 0.0
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


def _rest(path: Path, log: str, offset: int, stat: os.stat_result) -> tuple[int, float]:
    """Bytes behind `offset`, and the event time of the line there, inf where none can be read."""
    if stat.st_size == offset:
        return 0, inf
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.pread(fd, 2, 0) == GZIP_MAGIC:
            size = struct.unpack("<I", os.pread(fd, 4, max(0, stat.st_size - 4)))[0] if stat.st_size >= 18 else 0
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
