"""How a log is known: by device and inode while it lies still, by its first bytes whatever happens to it."""

from __future__ import annotations

import errno
import hashlib
import os

from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records import Position
from packetclip_sensor.sources.logfile import LogFile

Key = tuple[int, int]
"""Device and inode."""


def key_and_sign(stat: os.stat_result) -> tuple[Key, tuple[int, int]]:
    """What a file is known by, and what changes whenever it is written, renamed or given other rights (tools set mtime back)."""
    return (stat.st_dev, stat.st_ino), (stat.st_size, stat.st_ctime_ns)


def begins(file: LogFile, position: Position) -> bool:
    """Whether the file begins with the bytes that the position's file began with."""
    prefix = file.head[: position.prefix_bytes]
    return len(prefix) == position.prefix_bytes and hashlib.sha256(prefix).hexdigest() == position.prefix_sha256


def is_active(file: LogFile) -> bool:
    """Whether this is the file that Zeek is writing now."""
    return file.path.name == f"packetclip_{file.log}.log"


def refuse_crowd(err: OSError) -> None:
    """Raises ConfigError where no descriptor was left: a file passed over for that would be lost."""
    if err.errno in (errno.EMFILE, errno.ENFILE):
        raise ConfigError(
            f"no more files can be opened ({err.strerror}); raise the limit of open files to 1024 (`ulimit -n`, LimitNOFILE)"
        ) from err


def same_log(one: LogFile, other: LogFile) -> bool:
    """Whether one of them begins with all that is known of the other's beginning."""
    size = min(len(one.head), len(other.head))
    return one.log == other.log and size > 0 and one.head[:size] == other.head[:size]
