"""Files that survive a power failure, content and name, and writing them with patience while a disk takes nothing."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import structlog

from packetclip_sensor.errors import SinkError

WAIT_S = 5.0
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors after which the same may succeed once there is room."""
Sleep = Callable[[float], None]
Waiting = Callable[[str | None], None]

log = structlog.get_logger()


def sync_folder(folder: Path) -> None:
    """Make names that were made, changed or taken away in a folder survive.

    Raises:
        OSError: the folder cannot be opened or synced.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def append(fd: int, data: bytes, folder: Path) -> None:
    """Put all of `data` behind what the file holds, on the disk, or leave the file as it was: a line begun and not ended would
    spoil the next one.

    Args:
        folder: where the file stands; its name is synced with its first bytes.
    Raises:
        OSError: it cannot be written or synced.
    """
    size = os.fstat(fd).st_size
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
        os.fsync(fd)
        if not size:
            sync_folder(folder)
    except OSError:
        os.ftruncate(fd, size)
        raise


def unfinished(fd: int, step: int = 1 << 16) -> bytes:
    """What stands behind a file's last newline: the line that a kill left half-written, or nothing."""
    start, tail = os.fstat(fd).st_size, b""
    while start > 0 and b"\n" not in tail:
        size = min(step, start)
        start -= size
        tail = os.pread(fd, size, start) + tail
    return tail[tail.rfind(b"\n") + 1 :]


def stands_at(fd: int, path: Path) -> bool:
    """Whether the open file is the one that has this name now; False where it was renamed, replaced or removed."""
    here = os.fstat(fd)
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def patiently(
    call: Callable[[], object],
    why: Callable[[OSError | SinkError], str],
    name: str,
    path: Path,
    sleep: Sleep,
    waiting: Waiting,
) -> None:
    """Call until it succeeds.

    Args:
        why: the error in words; raises where waiting would not help.
        name: of the events in the log, NAME_waiting and NAME_back.
    """
    for tries in itertools.count():
        try:
            call()
        except (OSError, SinkError) as err:
            reason = why(err)
            if not tries:
                log.warning(f"{name}_waiting", path=str(path), reason=reason)
            waiting(reason)
            sleep(WAIT_S)
        else:
            if tries:
                log.info(f"{name}_back", path=str(path), tries=tries, waited_s=tries * WAIT_S)
                waiting(None)
            return
