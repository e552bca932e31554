"""What a finding is, and what is looked at for several parts: whether a folder lets us write, and whether its disk has room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MIN_FREE_BYTES = 256 << 20
"""Less room than this and the sensor cannot go on for long."""
LOW_FREE_BYTES, LOW_FREE_SHARE = 2 << 30, 0.05
"""Less than either is worth a look."""

OK, WRONG, LOOK = True, False, None
Found = Iterator[tuple[bool | None, str]]
"""OK, WRONG or LOOK (a thing worth a look that stops nothing), and the words, with the remedy."""


def writable(folder: Path, words: str) -> Found:
    """The folder, or the nearest one above it that exists, must let us write; and there must be room."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir():
        yield WRONG, f"{there} is no folder; name another place than {folder}"
        return
    if not os.access(there, os.W_OK | os.X_OK):
        yield WRONG, f"{there} does not let this user write; make it writable for the sensor's user or set another place"
        return
    yield from room(there, True, "the sensor cannot go on")
    yield OK, words


def room(folder: Path, ours: bool, stops: str) -> Found:
    """Bytes and inodes that are left on a disk.

    Args:
        ours: whether a full disk stops the sensor, or somebody else.
        stops: what ends when there is none left.
    """
    disk = os.statvfs(folder)
    free, share = disk.f_bavail * disk.f_frsize, disk.f_bavail / max(1, disk.f_blocks)
    left = f"{free >> 20:,} MiB ({share:.1%}) free"
    if free < MIN_FREE_BYTES or (disk.f_files and not disk.f_favail):
        left = left if free < MIN_FREE_BYTES else "no inode free"
        yield WRONG if ours else LOOK, f"{folder}: {left}: {stops}; make room, or put it on another disk"
    elif free < LOW_FREE_BYTES or share < LOW_FREE_SHARE:
        yield LOOK, f"{folder}: only {left}; make room soon"
