"""The sensor's own files: opened so that nobody else reads them or chooses where they lie, whole after a power failure, and
written with patience while a disk takes nothing."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path

import structlog

from packetclip_sensor.errors import SinkError

WAIT_S = 5.0
MODE = 0o640
"""The files hold bytes of packets, or names of hosts: they are not for everyone."""
APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors after which the same may succeed once there is room."""
BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses of HTTP after which the same request may succeed."""
Sleep = Callable[[float], None]
Waiting = Callable[[str | None], None]

log = structlog.get_logger()


def opened(path: Path, flags: int = APPEND, mode: int = MODE, *, own: bool = False) -> int:
    """Open a file of ours, made where it is missing; the descriptor.

    A symbolic link of this name is not followed: whoever may write in the folder would choose which file is written. A file of
    ours that more may read or write than `mode` says, from an older version, loses that.

    Args:
        own: in a folder that another user may write too: refuse a file of another user, and one that has a second name.
    Raises:
        OSError: as `os.open`, or what is there is a symbolic link, no regular file, or another user's.
    """
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as err:
        if err.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a symbolic link, which is not followed: name the file itself", str(path)) from err
        raise
    try:
        found, user = os.fstat(fd), os.geteuid()
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        if own and (found.st_uid != user or found.st_nlink > 1):
            what = f"belongs to user {found.st_uid}, not {user}" if found.st_uid != user else "has a second name (a hard link)"
            raise OSError(errno.EPERM, f"{what}: move it away", str(path))
        if found.st_uid == user and found.st_mode & 0o777 & ~mode:
            os.fchmod(fd, stat.S_IMODE(found.st_mode) & mode)
    except OSError:
        os.close(fd)
        raise
    return fd


def create(path: Path, mode: int = MODE) -> int:
    """Open a file that was not there; one of this name, or a link, that a crash or another hand left is taken away first.

    Raises:
        OSError: as `os.open`; FileExistsError where somebody put another there meanwhile.
    """
    path.unlink(missing_ok=True)
    return opened(path, APPEND | os.O_EXCL, mode)


def replace(path: Path, data: bytes, mode: int = MODE, *, before: Callable[[], object] = lambda: None) -> None:
    """Make `data` the file's content, all at once and on the disk; `path` with `.new` behind is used on the way.

    Args:
        before: called when the new file is whole and the old one still has its name.
    Raises:
        OSError: it cannot be written, or what is there is no regular file.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OSError(errno.EINVAL, "is no regular file: name another", str(path))
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(create(fresh, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    before()
    fresh.replace(path)
    sync_folder(path.parent)


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
