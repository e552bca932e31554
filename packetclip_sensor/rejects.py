"""The rejects file: every line that could not be used, with its place and the reason, so that no loss is silent.

NDJSON, one object per bad line: `ts` (when it was written), `path`, `offset` (bytes of plain text before the line), `reason`,
`line` (its first bytes, undecodable ones as \\xNN). A broken writer can make bad lines as fast as good ones, so the file is
bounded: when full it is renamed to `.1`, which replaces an older `.1`.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from packetclip_sensor.errors import ConfigError

SHOWN_BYTES = 200


class Rejects:
    """Writes bad lines to `path`, or only counts them where `path` is None. `count` is the number since the start."""

    def __init__(self, path: Path | None, *, max_bytes: int = 16 << 20) -> None:
        """Nothing is opened before the first bad line.

        Args:
            path: the file, made with its folder when needed.
            max_bytes: size at which the file is renamed to `.1`; the two together stay below twice this.
        """
        self.path = path
        self.count = 0
        self._max_bytes = max_bytes
        self._file: BinaryIO | None = None
        self._size_bytes = 0

    def add(self, path: str, offset: int, reason: str, line: bytes) -> None:
        """Count one bad line and write it down.

        Raises:
            ConfigError: the rejects file cannot be written.
        """
        self.count += 1
        if self.path is None:
            return
        shown = line[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
        entry = {"ts": time.time(), "path": path, "offset": offset, "reason": reason, "line": shown}
        row = msgspec.json.encode(entry) + b"\n"
        try:
            self._open(len(row)).write(row)
        except OSError as err:
            raise ConfigError(
                f"rejects file {self.path} cannot be written ({err.strerror}); give another path or make its folder writable"
            ) from err
        self._size_bytes += len(row)

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Flush and close; a later `add` opens the file again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self, room_bytes: int) -> BinaryIO:
        assert self.path is not None
        if self._file is not None and self._size_bytes + room_bytes > self._max_bytes:
            self.close()
            self.path.replace(f"{self.path}.1")
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
            self._size_bytes = self._file.tell()
            if self._size_bytes and self._size_bytes + room_bytes > self._max_bytes:
                return self._open(room_bytes)
        return self._file
