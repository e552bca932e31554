"""The dead-letter file: documents that a receiver refused for good, with the reason, until somebody sends them again.

JSON lines, on the disk before the reader's position moves. The files are bounded: at half the limit the file becomes `.1`, in
place of an older `.1`, whose letters are counted as dropped. A running sensor and `packetclip redeliver` may use them at once:
each holds a lock on the open file, so that a letter is either taken or left, never lost between.
"""

from __future__ import annotations

import fcntl
import glob
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from packetclip_sensor.common import durable
from packetclip_sensor.common.durable import FULL
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.errors import SinkError

log = structlog.get_logger()


class Letter(msgspec.Struct, omit_defaults=True):
    """One line of the dead-letter file."""

    id: str
    status: int
    type: str
    reason: str
    document: msgspec.Raw
    stream: str = ""
    """Data stream that it was meant for; empty for the alerts'."""


class DeadLetters:
    """Appends letters to `path`."""

    def __init__(self, path: Path, max_bytes: int, counters: Counters, wait: Callable[[str], None]) -> None:
        """`wait` is called with the reason while the disk is full, and returns when it is time to try again."""
        self.path, self._max_bytes, self._counters, self._wait = path, max_bytes, counters, wait

    def add(self, letters: Sequence[Letter]) -> None:
        """Append and sync; waits while the disk is full.

        Raises:
            SinkError: the file cannot be written for another reason.
        """
        data = b"".join(msgspec.json.encode(letter) + b"\n" for letter in letters)
        while True:
            try:
                self._append(data)
                break
            except OSError as err:
                words = f"dead letters {self.path}: {err.strerror}"
                if err.errno not in FULL:
                    raise SinkError(f"{words}; name a file that this user may write") from err
                self._wait(words)
        self._counters.dead_letters += len(letters)

    def _append(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = self._open()
        try:
            size = os.fstat(fd).st_size
            if size and size + len(data) > self._max_bytes // 2:
                self._rotate()
                os.close(fd)
                fd = self._open()
            if half := durable.unfinished(fd):
                os.ftruncate(fd, os.fstat(fd).st_size - len(half))
            durable.append(fd, data, self.path.parent)
        finally:
            os.close(fd)

    def _open(self) -> int:
        """The file of this name, locked; opened anew where somebody took it away meanwhile."""
        while True:
            fd = durable.opened(self.path)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if durable.stands_at(fd, self.path):
                return fd
            os.close(fd)

    def _rotate(self) -> None:
        older = rotated(self.path)
        if older.exists():
            lost = sum(1 for _ in older.open("rb"))
            self._counters.dead_letters_dropped += lost
            log.error("dead_letters_dropped", count=lost, path=str(older), remedy="repair what is refused; packetclip redeliver")
        self.path.replace(older)


def rotated(path: Path) -> Path:
    """The older of the two dead-letter files."""
    return path.with_name(path.name + ".1")


@contextmanager
def taken(path: Path) -> Iterator[list[Path]]:
    """Take the dead-letter files out of the sensor's reach, oldest first; each is to be removed once its letters are delivered.

    They are renamed to `*.resending` first, so that stopping half-way loses nothing: the next call begins with those left over.

    Raises:
        SinkError: another `packetclip redeliver` is at work.
    """
    folder = path.parent
    if not folder.is_dir():
        yield []
        return
    guard = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise SinkError(f"{path}: another packetclip redeliver is sending it; wait for its end") from err
        files = sorted(folder.glob(glob.escape(path.name) + ".*.resending"))
        for source in (rotated(path), path):
            if source.exists():
                files.append(path.with_name(f"{path.name}.{time.time_ns()}.resending"))
                source.rename(files[-1])
        yield files
    finally:
        os.close(guard)


def read(path: Path) -> Iterator[Letter]:
    """The letters of a taken file; a last line that a kill left half-written was never acknowledged and is passed over.

    Raises:
        SinkError: another line is damaged.
    """
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until a sensor that has it open still has written
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield msgspec.json.decode(line, type=Letter)
            except (msgspec.DecodeError, UnicodeDecodeError) as err:
                raise SinkError(f"{path}:{number}: {err}; repair or remove the line") from err
