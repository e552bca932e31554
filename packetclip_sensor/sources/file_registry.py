"""Which files are which log: finds a log again after a rename, compression, copy, truncation or restart of the sensor.

A file is matched first by device and inode, then by its first bytes. Whatever matches nothing is a new log, read from its start.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.common.text import printable
from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.records import Lines, Position
from packetclip_sensor.sources.discovery import content_log, refuse_tsv
from packetclip_sensor.sources.logfile import LogFile
from packetclip_sensor.sources.plaintext import HEAD_BYTES, unreadable

OPEN_FILES = 64
"""Files kept open; of more, those longest read to their end are closed and opened again when they grow."""
LINGER_S = 60.0
"""A deleted or moved file is kept open this long after its last line: its writer may still have it."""
ORPHANS = 256
"""Logs remembered whose file was truncated or deleted, to know their copies by."""

log = structlog.get_logger()

ACTIVE = {"packet": "packetclip_packet.log", "flow": "packetclip_flow.log"}
"""What Zeek calls a log that it is writing."""

Key = tuple[int, int]
"""Device and inode."""


class Found(NamedTuple):
    """A file of a folder."""

    path: Path
    log: str
    """"" where its name does not say."""
    asked: bool
    """False where it is only looked at to find a known log again."""
    source: str
    """As in `Position`."""


class Unread(NamedTuple):
    """A file that cannot be read, why, and the same as an error with the remedy."""

    path: Path
    reason: str
    error: LogFormatError


class FileRegistry:
    """The logs being read."""

    def __init__(
        self, since: Sequence[Position], rejects: Rejects, *, block_bytes: int, max_line_bytes: int, open_files: int = OPEN_FILES
    ) -> None:
        self.rescan = False
        """A file was truncated or lost: list the folders at once, before saying that there is nothing to read."""
        self.replaced = False
        """A file holds other text now: find the copy of the old one before newer lines are read."""
        self.incomplete = False
        """A file has no whole line yet: list the folders at the next poll."""
        self._rejects = rejects
        self._open_files = open_files
        self._block_bytes, self._max_line_bytes = block_bytes, max_line_bytes
        self._files: dict[Key, LogFile] = {}
        self._restored = [p for p in since if p.offset]
        self._orphans: list[LogFile] = []
        self._ignored: dict[Key, tuple[int, int]] = {}  # size and ctime at which a file was found to be of no use
        self._copies: dict[Key, set[Key]] = {}  # of a file that is still there
        self._signs: dict[Key, tuple[int, int]] = {}
        self._present: set[Key] = set()
        self._kept: list[Position] = []
        self._newest = {p.path: p for p in since}
        self._lost: list[tuple[float, LogFile]] = []  # gone before they were read, and since when
        self.unread: dict[Key, Unread] = {}
        """Files that are there now and cannot be read. May be read by any thread."""
        self.gone: list[tuple[float, str]] = []
        """When (monotonic) a log that was not read to its end was given up, and its path. May be read by any thread."""

    def files(self) -> list[LogFile]:
        """Every file that may have lines to read."""
        return [file for file in self._files.values() if file.more]

    def offsets(self) -> dict[Key, int | None]:
        """Bytes of plain text given out of each file, None for one that is not to be read. May be called by any thread.

        Of a packed file that was unpacked to its end everything was given out: half a line is what a killed Zeek has left.
        """
        ignored: dict[Key, int | None] = dict.fromkeys(self._ignored.copy())
        files = self._files.copy().values()
        return ignored | {file.key: sys.maxsize if file.packed and not file.more else file.offset for file in files}

    def open_files(self) -> int:
        """Descriptors held for logs. May be called by any thread."""
        return sum(file.is_open for file in self._files.copy().values())

    def restored(self) -> Iterator[Lines]:
        """After the first scan, once: an empty block per position that still counts, so that later stages know it."""
        for p in self._kept:
            yield Lines(p.log, b"", p, p)
        self._kept = []

    def missing(self) -> list[Position]:
        """Logs that were being written when the state was saved, and are not among the files scanned since.

        Files rotated before that had been read; of a folder that is not there nothing is known.
        """
        left = [(p, Path(p.path)) for p in self._newest.values() if p in self._restored]
        return [p for p, path in left if path.name in ACTIVE.values() and path.parent.is_dir()]

    def give_up(self, path: str, offset: int) -> None:
        """Say that a log is gone before it was read to its end."""
        remedy = "keep rotated logs until they are read, and name their folder in `archives`"
        log.warning("log_gone", path=printable(path), read_bytes=offset, remedy=remedy)
        self.gone = [*self.gone[-ORPHANS:], (time.monotonic(), path)]

    def scan(self, found: Sequence[Found], *, strict: bool = False, finished: bool = False) -> None:
        """Look at the files that are there now and take up those not known yet.

        Args:
            found: what the folders hold.
            strict: this is the start: a file that cannot be read or is TSV is an error, unless nothing here unpacks it.
            finished: nothing more will be written, so a file need not have a whole line yet; one that cannot be read is passed
                over and stands in `unread`.
        Raises:
            LogFormatError: see strict.
        """
        self.rescan = self.replaced = self.incomplete = False
        fresh = self._fresh(found, strict, finished)
        for key in [k for k in self._copies if k not in self._present]:
            self._free_copies(key)
        opened = []
        for item in fresh:
            if file := self._open(item, strict, finished):
                opened.append(file)
                if len(fresh) > self._open_files:
                    file.release()
        # Plain before packed and long before short: of two copies the one that can be read on comes first.
        opened.sort(key=lambda f: (f.packed, -self._signs[f.key][0]))
        wanted = {item.path for item in found if item.asked}
        rest = [file for file in opened if not self._placed(file, self._resume_same_inode)]
        for file in rest:
            self._placed(file, lambda f: self._place(f, f.path in wanted))
        if strict:
            # A folder that is not mounted yet must not cost the place in its files.
            away = [p for p in self._restored if (path := Path(p.path)).exists() or not path.parent.exists()]
            self._kept = [file.last for file in self._files.values() if file.last.offset] + away
        self._limit_open()

    def _fresh(self, found: Sequence[Found], strict: bool, finished: bool) -> list[Found]:
        fresh: dict[Key, Found] = {}
        self._present = set()
        for item in found:
            try:
                stat = item.path.stat()
            except OSError as err:
                if strict and item.asked and (finished or not isinstance(err, FileNotFoundError)):
                    raise unreadable(item.path, err) from err
                continue  # rotated away since the folder was listed
            key, sign = _key_and_sign(stat)
            self._present.add(key)
            if (file := self._files.get(key)) is not None:
                file.path = item.path
                if not file.is_open and self._signs.get(key) != sign:
                    file.more = True
            elif stat.st_size == 0:
                self.incomplete |= item.asked
            elif self._ignored.get(key) != sign:
                fresh.setdefault(key, item)
            self._signs[key] = sign
        tables: tuple[dict[Key, Any], ...] = (self._ignored, self._signs, self.unread)
        for table in tables:
            for key in table.keys() - self._present:
                del table[key]
        return list(fresh.values())

    def _open(self, item: Found, strict: bool, finished: bool) -> LogFile | None:
        path, log, asked, source = item
        sizes = {"block_bytes": self._block_bytes, "max_line_bytes": self._max_line_bytes}
        try:
            file = LogFile(path, log, self._rejects, **sizes, source=source)
        except FileNotFoundError:
            return None
        except OSError as err:
            _refuse_crowd(err)
            if strict and asked and not finished and err.errno != errno.ENOTSUP:
                raise unreadable(path, err) from err
            with contextlib.suppress(OSError):
                key, sign = _key_and_sign(path.stat())
                self._ignored[key] = sign
                self._unread(path, 0, err, key, warn=not finished)
            return None
        self.unread.pop(file.key, None)
        try:
            if strict and asked:
                refuse_tsv(path, file.head)
        except LogFormatError as err:
            file.release()
            if not finished:
                raise
            self.unread[file.key] = Unread(path, str(err).removeprefix(f"{path} "), err)
            return None
        if not finished and b"\n" not in file.head and len(file.head) < HEAD_BYTES:
            file.release()
            self.incomplete |= asked  # its first line is half-written: neither to be read nor to be recognised yet
            return None
        if not file.log:
            file.log = content_log(path, file.head)
        return file

    def _placed(self, file: LogFile, place: Callable[[LogFile], bool]) -> bool:
        """What `place` says; a file that was renamed or removed meanwhile is left for the next scan."""
        try:
            return place(file)
        except OSError as err:
            _refuse_crowd(err)
            file.release()
            self.rescan = True
            return True

    def _resume_same_inode(self, file: LogFile) -> bool:
        for position in self._restored:
            if (position.device, position.inode) == file.key and _begins(file, position):
                if file.resume(position):
                    self._restored.remove(position)
                self._take_up(file)  # where it is shorter than what was read, it was truncated since, and written anew
                return True
        return False

    def _place(self, file: LogFile, asked: bool) -> bool:
        restored = next((p for p in self._restored if _begins(file, p)), None)
        live = next((f for f in self._files.values() if _same_log(f, file)), None)
        orphan = next((f for f in self._orphans if _same_log(f, file)), None)
        if restored and file.resume(restored):
            self._restored.remove(restored)
            self._take_up(file)
        elif live and not restored:
            self._place_copy(file, live)
        elif orphan and not restored and file.resume(orphan.last):
            file.source = orphan.source
            self._orphans.remove(orphan)
            self._take_up(file)
        elif asked and not restored and (not orphan or orphan.key == file.key):
            self._take_up(file)
        else:
            self._ignore(file)
        return True

    def _place_copy(self, file: LogFile, live: LogFile) -> None:
        """A copy is read from where its original ended, once the original is gone; while it is there, only if it has more."""
        if live.key not in self._present:
            if live.more:
                self.rescan = True
                file.release()
            elif file.resume(live.last):
                file.source = live.source
                self._drop(live)
                self._take_up(file)
            else:
                self._ignore(file)
        elif not file.packed and not live.packed and file.stat().st_size > live.stat().st_size:
            file.source = live.source
            file.resume(file.position(live.offset))
            self._take_up(file)
        else:
            self._ignore(file)
            self._copies.setdefault(live.key, set()).add(file.key)

    def _unread(self, path: Path, offset: int, err: OSError, key: Key, *, warn: bool) -> None:
        """Note, and with `warn` log, that a file cannot be read: once, for its packer may still be at it."""
        reason = err.strerror or str(err)
        if key not in self.unread and warn:
            self._rejects.add(str(path), offset, f"file cannot be read: {reason}", b"")
            log.warning("log_unreadable", path=printable(str(path)), reason=reason)
        self.unread[key] = Unread(path, f"file cannot be read: {reason}", unreadable(path, err))

    def _take_up(self, file: LogFile) -> None:
        self._lost = [(since, lost) for since, lost in self._lost if lost.key != file.key and not _same_log(lost, file)]
        self._files[file.key] = file
        file.active_at = time.monotonic()
        if len(self._files) > self._open_files:
            file.release()

    def _ignore(self, file: LogFile) -> None:
        self._ignored[file.key] = self._signs[file.key]
        file.release()

    def _drop(self, file: LogFile) -> None:
        self._files.pop(file.key, None)
        file.release()
        file.more = False
        self._free_copies(file.key)

    def _free_copies(self, key: Key) -> None:
        for copy in self._copies.pop(key, ()):
            self._ignored.pop(copy, None)
            self.rescan = True

    def _orphan(self, file: LogFile) -> None:
        self._drop(file)
        if file.last.offset:
            self._orphans = [*self._orphans[-ORPHANS:], file]

    def lost(self, file: LogFile, err: OSError, finished: bool = False) -> None:
        """A file turned out to be unreadable or replaced while it was read; `finished` as for `scan`."""
        _refuse_crowd(err)
        if isinstance(err, FileNotFoundError):
            self._lost.append((time.monotonic(), file))  # perhaps only renamed: `tidy` gives it up
            if finished or file.path.exists():
                self._rejects.add(str(file.path), file.offset, "file is gone before it was read", b"")
        else:
            self._unread(file.path, file.offset, err, file.key, warn=True)
        self._orphan(file)
        self.rescan = True
        self.replaced |= isinstance(err, FileNotFoundError)

    def drained(self, file: LogFile, finished: bool) -> None:
        """A file was read to its end: among too many open ones, close it."""
        if finished or (not _is_active(file) and sum(f.is_open for f in self._files.values()) > self._open_files):
            file.release()

    def look(self) -> None:
        """See which open files have grown, and which hold other text now: copytruncate, a rewrite."""
        for file in [f for f in self._files.values() if f.is_open]:
            try:
                replaced = file.replaced()
            except OSError as err:
                self.lost(file, err)
                continue
            if replaced:
                self._orphan(file)
                self.rescan = self.replaced = True

    def close(self) -> None:
        """Close every file."""
        for file in self._files.values():
            file.release()

    def tidy(self) -> None:
        """Let go of files that are gone for good, and of descriptors beyond the limit."""
        now = time.monotonic()
        while self._lost and now - self._lost[0][0] > LINGER_S:
            file = self._lost.pop(0)[1]
            self.give_up(str(file.path), file.offset)
        for file in list(self._files.values()):
            if file.key not in self._present and not file.more and now - file.active_at > LINGER_S:
                self._orphan(file)
        self._limit_open()

    def _limit_open(self) -> None:
        held = [f for f in self._files.values() if f.is_open]
        if len(held) > self._open_files:
            held = [f for f in held if f.key in self._present and not f.astray and not _is_active(f)]
            held.sort(key=lambda f: (f.more, f.active_at), reverse=True)
            for file in held[self._open_files :]:
                file.release()


def _key_and_sign(stat: os.stat_result) -> tuple[Key, tuple[int, int]]:
    """What a file is known by, and what changes whenever it is written, renamed or given other rights (tools set mtime back)."""
    return (stat.st_dev, stat.st_ino), (stat.st_size, stat.st_ctime_ns)


def _begins(file: LogFile, position: Position) -> bool:
    """Whether the file begins with the bytes that the position's file began with."""
    prefix = file.head[: position.prefix_bytes]
    return len(prefix) == position.prefix_bytes and hashlib.sha256(prefix).hexdigest() == position.prefix_sha256


def _is_active(file: LogFile) -> bool:
    """Whether this is the file that Zeek is writing now."""
    return file.path.name == ACTIVE[file.log]


def _refuse_crowd(err: OSError) -> None:
    """Raises ConfigError where no descriptor was left: a file passed over for that would be lost."""
    if err.errno in (errno.EMFILE, errno.ENFILE):
        raise ConfigError(
            f"no more files can be opened ({err.strerror}); raise the limit of open files to 1024 (`ulimit -n`, LimitNOFILE)"
        ) from err


def _same_log(one: LogFile, other: LogFile) -> bool:
    """Whether one of them begins with all that is known of the other's beginning."""
    size = min(len(one.head), len(other.head))
    return one.log == other.log and size > 0 and one.head[:size] == other.head[:size]
