"""The rejects file: every line that could not be used, with its place and the reason, so that no loss is silent.

NDJSON, one object per bad line: `ts` (when it was written), `path`, `offset` (bytes of plain text before the line), `reason`,
`line` (its first bytes, undecodable ones as \\xNN, without a packet's bytes, which may hold a password). A broken writer can make
bad lines as fast as good ones, so the file is bounded: when full it is renamed to `.1`, which replaces an older `.1`.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import structlog

from packetclip_sensor.common import durable

SHOWN_BYTES = 200
_PACKET_BYTES = re.compile(rb'("data"\s*:\s*")[^"]*|\A[A-Za-z0-9+/]{4,}=*(?=")')
"""Of a packet's row, or of the rest of one whose beginning is lost."""

log = structlog.get_logger()


class Rejects:
    """Writes bad lines to `path`, or only counts them where `path` is None. `count` is the number since the start,
    `unwritten` how many of them the file could not take."""

    def __init__(self, path: Path | None, *, max_bytes: int = 16 << 20) -> None:
        """Nothing is opened before the first bad line.

        Args:
            path: the file, made with its folder when needed.
            max_bytes: size at which the file is renamed to `.1`; the two together stay below twice this.
        """
        self.path = path
        self.count = 0
        self.unwritten = 0
        self.first = self.last = ""
        """Place and reason of the first and of the last one."""
        self._max_bytes = max_bytes
        self._fd: int | None = None
        self._size_bytes = 0

    def add(self, path: str, offset: int, reason: str, line: bytes) -> None:
        """Count one bad line and write it down; where that cannot be done it is counted in `unwritten`, and reading goes on."""
        self.count += 1
        self.last = f"{path}, byte {offset:,}: {reason}"
        self.first = self.first or self.last
        if self.path is None:
            return
        shown = _PACKET_BYTES.sub(rb"\1...", line[:SHOWN_BYTES]).decode("utf-8", "backslashreplace")
        entry = {"ts": time.time(), "path": path, "offset": offset, "reason": reason, "line": shown}
        row = msgspec.json.encode(entry) + b"\n"
        try:
            left = memoryview(row)
            fd = self._open(len(row))
            while left:
                left = left[os.write(fd, left) :]
        except OSError as err:
            if not self.unwritten:
                log.error("rejects_unwritten", path=str(self.path), reason=err.strerror, remedy="make room or mend the rights")
            self.unwritten += 1
            self.close()
        else:
            self._size_bytes += len(row)

    def close(self) -> None:
        """Close; a later `add` opens the file again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self, room_bytes: int) -> int:
        assert self.path is not None
        if self._fd is not None and self._size_bytes + room_bytes > self._max_bytes:
            self.close()
            self.path.replace(f"{self.path}.1")
        if self._fd is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = durable.opened(self.path)
            self._size_bytes = os.fstat(self._fd).st_size
            if self._size_bytes and os.pread(self._fd, 1, self._size_bytes - 1) != b"\n":
                self._size_bytes += os.write(self._fd, b"\n")  # a kill or a full disk left half a line
            if self._size_bytes and self._size_bytes + room_bytes > self._max_bytes:
                return self._open(room_bytes)
        return self._fd
