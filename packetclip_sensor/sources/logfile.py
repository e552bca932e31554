"""One log file, plain or packed, read forward as whole lines, with the position after each block.

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
import structlog

from packetclip_sensor.common.rejects import SHOWN_BYTES, Rejects
from packetclip_sensor.common.time_parsing import epoch_seconds
from packetclip_sensor.records import Lines, Position
from packetclip_sensor.sources.plaintext import HEAD_BYTES, Packed, Plain, stream

SPAN_S = 5.0
"""Event time that one block may cover, so that packets and flows of finished logs stay close together."""
ASTRAY_BYTES = 16 << 20
"""Plain text without a line, or without a time in its lines, after which other files have their turn: a line without end, a bomb
in a .gz."""

log = structlog.get_logger()

LOOKED_AT = 5
"""Lines from which the time of a block is taken: one of them may have a wrong time."""
FAR_S = 60.0
"""So far from its neighbours a line has a wrong time: T of the windows that ship, so it stands in no window with them."""
LAST_LINES = 3
"""Lines at a block's end that have to be of its time, for the same reason."""

_TS = re.compile(rb'"ts":\s*("[^"]*"|[0-9.eE+-]+)')
_EVE_TIME = re.compile(rb'{"timestamp":"([^"]*)"')
"""When Suricata wrote a row of its event log."""
_DURATION = re.compile(rb'"duration":\s*([0-9.eE+-]+)')


class LogFile:
    """A log file and how far it has been read. Opened when needed; `release` gives the descriptor back and keeps the place."""

    def __init__(
        self, path: Path, log: str, rejects: Rejects, *, block_bytes: int, max_line_bytes: int, source: str = ""
    ) -> None:
        """Open the file and look at its first bytes.

        Args:
            source: as in `Position`.
        Raises:
            OSError: it cannot be opened, read or unpacked.
        """
        self.path = path
        self.log = log
        self.source = source
        self.more = True
        """False once everything now there has been read."""
        self.astray = False
        """Whether ASTRAY_BYTES brought nothing, so that others come first. It may go on at the next look."""
        self.active_at = 0.0
        """Monotonic time at which lines were last found, seconds."""
        self._rejects = rejects
        self._max_line_bytes = max_line_bytes
        self._chunk_bytes = min(block_bytes, max_line_bytes)
        self._stream: Plain | Packed | None = None
        self.head = b""
        self.offset = 0
        self._lines, self._at = b"", 0  # whole lines, and how many of their bytes were given out
        self._partial, self._dropped_bytes = b"", 0  # the beginning of a line, and how much of it was not kept: it is too long
        self._unended = self._untimed_bytes = 0
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
            self._stream = stream(fd)
            self.packed = isinstance(self._stream, Packed)
        except OSError:
            os.close(fd)
            raise

    def _opened(self) -> Plain | Packed:
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
        known_by = hashlib.sha256(prefix).hexdigest()
        return Position(str(self.path), self.device, self.inode, len(prefix), known_by, offset, self.source)

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
        if self.astray:
            self.more, self.astray, self._untimed_bytes = True, False, 0
        if isinstance(stream, Packed):
            self.more |= stream.grown()
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
        """Have at least one whole line ready, if there is one among the next ASTRAY_BYTES.

        Args:
            finished: nothing more will be written: a last line without newline counts if it is whole JSON.
        Raises:
            OSError: the file cannot be read, or is gone.
        """
        if self._at < len(self._lines):
            return True
        stream = self._opened()
        self.astray, left = False, ASTRAY_BYTES
        while chunk := stream.read(self._chunk_bytes):
            left -= len(chunk)
            if not (finished or self.packed) and self._is_other(stream):
                # Truncated since the last look, and perhaps written anew: then this is the middle of the new text.
                raise FileNotFoundError(f"{self.path} is no longer the file that was to be read")
            end = chunk.rfind(b"\n") + 1
            if not end:
                self._hold(chunk)
                if self._dropped_bytes and isinstance(stream, Plain):
                    self._dropped_bytes += stream.pass_hole()
                if left > 0:
                    continue
                self.astray = True
                return False
            lines, self._partial = self._partial + chunk[:end], b""
            first = lines.find(b"\n") + 1
            if self._dropped_bytes + first > self._max_line_bytes:  # later lines are within the chunk
                self._reject_overlong(lines[:first])
                lines = lines[first:]
            self._hold(chunk[end:])
            if lines:
                return self._ready(lines)
            if left <= 0:
                self.astray = True
                return False
        self.more = False
        return finished and self._finish(stream)

    def _is_other(self, stream: Plain | Packed) -> bool:
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
            if not self._dropped_bytes:
                log.warning("overlong_line", path=str(self.path), offset=self.offset, longer_than=self._max_line_bytes)
            self._dropped_bytes += max(0, len(self._partial) - SHOWN_BYTES)
            self._partial = self._partial[:SHOWN_BYTES]

    def _reject_overlong(self, line: bytes) -> None:
        size = self._dropped_bytes + len(line)
        reason = f"line of {size} bytes, longer than the {self._max_line_bytes} allowed"
        self._rejects.add(str(self.path), self.offset, reason, line)
        self.offset += size
        self._dropped_bytes = 0

    def _finish(self, stream: Plain | Packed) -> bool:
        last, self._partial = self._partial, b""
        if self._dropped_bytes + len(last) > self._max_line_bytes:
            self._reject_overlong(last)
        elif last:
            try:
                msgspec.json.decode(last)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                reason = "last line is half-written, no newline and not whole JSON: its writer was killed, or is still at it"
                self._rejects.add(str(self.path), self.offset, reason, last)
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
        self._untimed_bytes = self._untimed_bytes + len(data) if self.event_ts == -inf else 0
        self.astray = self._untimed_bytes >= ASTRAY_BYTES
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
        ts = epoch_seconds(match[1])
        if log == "flow" and (duration := _DURATION.search(data, start, end)):
            ts += float(duration[1])  # a flow row is written when the flow is over
    except (ValueError, OverflowError):
        return None
    return ts


def times(data: bytes, at: int, log: str) -> list[float]:
    """Event times of the first few lines from `at` on, of those that are readable."""
    found: list[float] = []
    for _ in range(LOOKED_AT):
        end = data.find(b"\n", at)
        if end < 0 and found:
            break  # half a line may have half a time
        ts = _line_ts(data, at, len(data) if end < 0 else end, log)
        if ts is not None:
            found.append(ts)
        if end < 0:
            break
        at = end + 1
    return found


def first_ts(data: bytes, at: int, log: str) -> float:
    """Event time of the first readable line from `at` on, or of a later one where the first is far ahead of it, so that a wrong
    time holds nothing up; -inf where none of the first few is readable."""
    found = times(data, at, log) or [-inf]
    earliest = min(found)
    return earliest if found[0] > earliest + FAR_S else found[0]


def _cut(data: bytes, at: int, until: float, log: str) -> int:
    """Index after the last line not later than `until`, at least one line on. Binary search: lines are nearly in order."""
    size = low = len(data)
    for _ in range(LAST_LINES):
        low = data.rfind(b"\n", at, max(low - 1, at)) + 1 or at
    last = times(data, low, log) or [inf]
    if (max(last) if last[-1] < max(last) - FAR_S else last[-1]) <= until:
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
