"""One log file, plain or gzipped, read forward as whole lines, with the position after each block.

Zeek renames, compresses, copies and truncates its logs while they are read, so a file is known by what it contains (its first
bytes), not by its name. Offsets count plain text, so they hold for the log and for its .gz alike.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from math import inf
from pathlib import Path

import msgspec

from packetclip_sensor.common.rejects import SHOWN_BYTES, Rejects
from packetclip_sensor.records import Lines, Position
from packetclip_sensor.sources.plaintext import GZIP_MAGIC, HEAD_BYTES, Gzip, Plain

SPAN_S = 5.0
"""Event time that one block may cover, so that packets and flows of finished logs stay close together."""

_TS = re.compile(rb'"ts":\s*([0-9.eE+-]+)')
_EVE_TIME = re.compile(rb'{"timestamp":"([^"]*)"')
"""When Suricata wrote a row of its event log."""
_DURATION = re.compile(rb'"duration":\s*([0-9.eE+-]+)')


class LogFile:
    """A log file and how far it has been read. Opened when needed; `release` gives the descriptor back and keeps the place."""

    def __init__(self, path: Path, log: str, rejects: Rejects, *, block_bytes: int, max_line_bytes: int) -> None:
        """Open the file and look at its first bytes.

        Raises:
            OSError: it cannot be opened or read.
        """
        self.path = path
        self.log = log
        self.more = True
        """False once everything now there has been read."""
        self.active_at = 0.0
        """Monotonic time at which lines were last found, seconds."""
        self._rejects = rejects
        self._max_line_bytes = max_line_bytes
        self._chunk_bytes = min(block_bytes, max_line_bytes)
        self._stream: Plain | Gzip | None = None
        self.head = b""
        self.offset = 0
        self._lines, self._at = b"", 0  # whole lines, and how many of their bytes were given out
        self._partial, self._dropped_bytes = b"", 0  # the beginning of a line, and how much of it was not kept: it is too long
        self._unended = 0
        self._next_ts: float | None = None
        self._mtime_ns = 0
        self._open()
        self.head = self._opened().head()
        self.last = self.position(0)
        """The position up to which blocks were given out."""

    def _open(self) -> None:
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            stat = os.fstat(fd)
            self.device, self.inode = stat.st_dev, stat.st_ino
            self.gzipped = os.pread(fd, 2, 0) == GZIP_MAGIC
            self._stream = Gzip(fd) if self.gzipped else Plain(fd)
        except OSError:
            os.close(fd)
            raise

    def _opened(self) -> Plain | Gzip:
        if self._stream is None:
            key = self.key
            self._open()
            stream = self._opened()
            if self.key != key or not stream.head().startswith(self.head) or not stream.seek(self.offset):
                self.release()
                raise FileNotFoundError(f"{self.path} is no longer the file that was to be read")
        assert self._stream is not None
        return self._stream

    @property
    def key(self) -> tuple[int, int]:
        """Device and inode."""
        return self.device, self.inode

    @property
    def is_open(self) -> bool:
        return self._stream is not None

    def release(self) -> None:
        """Close the descriptor. Reading may go on later: the file is opened again by its path."""
        if self._stream is not None:
            os.close(self._stream.fd)
            self._stream = None
        self._lines, self._at, self._partial, self._dropped_bytes, self._unended = b"", 0, b"", 0, 0

    def stat(self) -> os.stat_result:
        return os.fstat(self._opened().fd)

    def position(self, offset: int) -> Position:
        prefix = self.head[: min(offset, HEAD_BYTES)]
        return Position(str(self.path), self.device, self.inode, len(prefix), hashlib.sha256(prefix).hexdigest(), offset)

    def resume(self, last: Position) -> bool:
        """Go on after `last`. False, and at the start, where the text does not reach it or no line ends there."""
        self._lines, self._at, self._partial, self._next_ts = b"", 0, b"", None
        self.more = True
        if self._opened().seek(last.offset):
            self.offset, self.last = last.offset, last
            return True
        self._opened().seek(0)
        self.offset, self.last = 0, self.position(0)
        return False

    def replaced(self) -> bool:
        """Whether other text now stands in this file (copytruncate, a rewrite). Notes growth in `more`."""
        stream = self._opened()
        if isinstance(stream, Gzip):
            self.more = True
            return False
        stat = os.fstat(stream.fd)
        if stat.st_size < stream.read_bytes:
            return True
        self.more |= stat.st_size > stream.read_bytes
        if stat.st_mtime_ns == self._mtime_ns:
            return False
        self._mtime_ns = stat.st_mtime_ns  # of the same size it may be another text
        return stream.head()[: len(self.head)] != self.head

    def fill(self, *, finished: bool = False) -> bool:
        """Have at least one whole line ready, if there is one.

        Args:
            finished: nothing more will be written: a last line without newline counts if it is whole JSON.
        Raises:
            OSError: the file cannot be read, or is gone.
        """
        if self._at < len(self._lines):
            return True
        stream = self._opened()
        while chunk := stream.read(self._chunk_bytes):
            if not (finished or self.gzipped) and self._is_other(stream):
                # Truncated since the last look, and perhaps written anew: then this is the middle of the new text.
                raise FileNotFoundError(f"{self.path} is no longer the file that was to be read")
            end = chunk.rfind(b"\n") + 1
            if not end:
                self._hold(chunk)
                continue
            lines, self._partial = self._partial + chunk[:end], b""
            first = lines.find(b"\n") + 1
            if self._dropped_bytes + first > self._max_line_bytes:  # later lines are within the chunk
                self._reject_overlong(lines[:first])
                lines = lines[first:]
            self._hold(chunk[end:])
            if lines:
                return self._ready(lines)
        self.more = False
        return finished and self._finish(stream)

    def _is_other(self, stream: Plain | Gzip) -> bool:
        return os.fstat(stream.fd).st_size < stream.read_bytes or not stream.head().startswith(self.head)

    def _ready(self, lines: bytes) -> bool:
        self._lines, self._at, self._next_ts = lines, 0, None
        self.active_at = time.monotonic()
        if len(self.head) < HEAD_BYTES:
            head = self._opened().head()
            if head.startswith(self.head):
                self.head = head
        return True

    def _hold(self, part: bytes) -> None:
        """Keep the beginning of a line; of one that is too long only its first bytes and its length."""
        self._partial += part
        if self._dropped_bytes + len(self._partial) > self._max_line_bytes:
            self._dropped_bytes += max(0, len(self._partial) - SHOWN_BYTES)
            self._partial = self._partial[:SHOWN_BYTES]

    def _reject_overlong(self, line: bytes) -> None:
        size = self._dropped_bytes + len(line)
        reason = f"line of {size} bytes, longer than the {self._max_line_bytes} allowed"
        self._rejects.add(str(self.path), self.offset, reason, line)
        self.offset += size
        self._dropped_bytes = 0

    def _finish(self, stream: Plain | Gzip) -> bool:
        last, self._partial = self._partial, b""
        if self._dropped_bytes + len(last) > self._max_line_bytes:
            self._reject_overlong(last)
        elif last:
            try:
                msgspec.json.decode(last)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self._rejects.add(str(self.path), self.offset, "last line is half-written: no newline, and not whole JSON", last)
            else:
                self._unended = 1
                self.more = True
                return self._ready(last + b"\n")
        if damage := stream.damage():
            self._rejects.add(str(self.path), self.offset, f"{damage}; what follows is lost", b"")
        return False

    @property
    def event_ts(self) -> float:
        """Event time of the next line, epoch seconds, as far as known without reading; -inf where it must be read to know."""
        if self._next_ts is None:
            if self._at < len(self._lines):
                self._next_ts = first_ts(self._lines, self._at, self.log)
            elif self.offset == 0:
                self._next_ts = first_ts(self.head, 0, self.log)
            else:
                return -inf
        return self._next_ts

    def take(self, until: float) -> Iterator[Lines]:
        """The ready lines up to event time `until`, at least one of them. After skipped lines an empty block comes first."""
        if self.last.offset != self.offset:
            here = self.position(self.offset)
            yield Lines(self.log, b"", self.last, here)
            self.last = here
        cut = _cut(self._lines, self._at, min(until, self.event_ts + SPAN_S), self.log)
        data = self._lines[self._at : cut]
        self._at, self._next_ts = cut, None
        self.offset += len(data)
        if self._unended and cut == len(self._lines):
            self.offset, self._unended = self.offset - 1, 0
        start, self.last = self.last, self.position(self.offset)
        yield Lines(self.log, data, start, self.last)


def _line_ts(data: bytes, start: int, end: int, log: str) -> float | None:
    match = _TS.search(data, start, end)
    try:
        if event := _EVE_TIME.match(data, start, end):
            return datetime.fromisoformat(event[1].decode()).timestamp()
        if not match:
            return None
        ts = float(match[1])
        if log == "flow" and (duration := _DURATION.search(data, start, end)):
            ts += float(duration[1])  # a flow row is written when the flow is over
    except ValueError:
        return None
    return ts


def first_ts(data: bytes, at: int, log: str) -> float:
    """Event time of the first readable line from `at` on; -inf where none of the first few is."""
    for _ in range(5):
        end = data.find(b"\n", at)
        ts = _line_ts(data, at, len(data) if end < 0 else end, log)
        if ts is not None:
            return ts
        if end < 0:
            break
        at = end + 1
    return -inf


def _cut(data: bytes, at: int, until: float, log: str) -> int:
    """Index after the last line not later than `until`, at least one line on. Binary search: lines are nearly in order."""
    size = len(data)
    last = _line_ts(data, data.rfind(b"\n", at, size - 1) + 1 or at, size, log)
    if last is not None and last <= until:
        return size
    low, high = data.find(b"\n", at) + 1, size
    while low < high:
        middle = (low + high) // 2
        start = max(data.rfind(b"\n", low, middle) + 1, low)
        ts = _line_ts(data, start, data.find(b"\n", start), log)
        if ts is None or ts <= until:
            low = data.find(b"\n", start) + 1
        else:
            high = start
    return low
