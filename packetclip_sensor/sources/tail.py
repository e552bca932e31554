"""Follows growing and rotated logs, or reads finished ones; yields blocks of whole lines with positions, and `Idle` when quiet.

Zeek's log files are the sensor's queue, so nothing in them may be lost or read twice, whatever rotates them: a rename keeps the
inode, a .gz or a copy keeps the first bytes, a truncation changes them. Two files with equal first bytes are one log; the copy is
read only where its original is gone, from the place at which reading of the original ended. Blocks come in event-time order.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from math import inf
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.records import Idle, Lines, Position, log_of
from packetclip_sensor.sources.backlog import Backlog
from packetclip_sensor.sources.discovery import all_empty, archived, check_folder, logs_in
from packetclip_sensor.sources.file_registry import OPEN_FILES, FileRegistry, Found
from packetclip_sensor.sources.logfile import LogFile

RESCAN_S = 2.0
"""Folders are listed again when they change, and at least this often."""
GATHER_S = 0.02
"""Wait after a change, so that a writer that flushes line by line does not make a block of each line."""
OVERLAP_S = 0.1
"""Files that overlap in time are interleaved in steps of at least this much event time."""


def follow(
    paths: Sequence[Path],
    since: Sequence[Position] = (),
    *,
    block_bytes: int = 1 << 20,
    max_line_bytes: int = 1 << 20,
    open_files: int = OPEN_FILES,
    poll_s: float = 0.25,
    stop: threading.Event | None = None,
    rejects: Rejects | None = None,
    backlog: Backlog | None = None,
    archives: Sequence[Path] = (),
    archived_since: Callable[[], float] = lambda: inf,
) -> Iterator[Lines | Idle]:
    """Follow the packet and flow logs of folders, or single files, for ever.

    Folders and files may come later. Rotated logs that are already there are read first, oldest first.

    Args:
        paths: log folders or log files.
        since: positions up to which the files were read before, from the last batch's `end`.
        block_bytes: most plain text in one block; `max_line_bytes` bounds it too.
        max_line_bytes: a longer line is skipped to its newline and rejected.
        open_files: files kept open at most, but for those that are being written or are read still.
        poll_s: longest wait between two looks at the files; changes seen by the operating system end it early.
        stop: set it to end the iteration.
        rejects: where bad lines go.
        backlog: is told where this reader stands.
        archives: folders into which rotated logs are moved; their dated subfolders are searched as well.
        archived_since: time (epoch seconds) since which a file there must have been written to be looked at.
    Raises:
        LogFormatError: at the start, a log is TSV or cannot be read. Later such a file is rejected and counted.
    """
    stop = stop or threading.Event()
    logs = FileRegistry(
        since, rejects or Rejects(None), block_bytes=block_bytes, max_line_bytes=max_line_bytes, open_files=open_files
    )

    def listing() -> list[Found]:
        return [*_listing(paths), *((path, log, True) for path, log in archived(archives, archived_since()))]

    if backlog is not None:
        backlog.attach(logs, lambda: [(path, log) for path, log, asked in listing() if asked], paths)
    with closing(logs), closing(Wake(paths)) as wake:
        first, scanned_at = True, -inf
        while not stop.is_set():
            if logs.rescan or logs.incomplete or wake.folders_changed() or time.monotonic() - scanned_at > RESCAN_S:
                if first:  # what cannot be read in the log folders ends the start, in the archives it is told and passed over
                    logs.scan(_listing(paths), strict=True)
                logs.scan(listing())
                if first and logs.missing():  # an archive that is older than all that was judged had been read, or not
                    logs.scan([*listing(), *((path, log, False) for path, log in archived(archives, 0.0))])
                    for position in logs.missing():
                        logs.give_up(position.path, position.offset)
                first, scanned_at = False, time.monotonic()
                yield from logs.restored()
            logs.look()
            for block in _merged(logs):
                yield block
                if stop.is_set():
                    return
            if logs.rescan:
                continue
            yield Idle()
            logs.tidy()
            wake.wait(poll_s, stop)


def finite(
    paths: Sequence[Path],
    since: Sequence[Position] = (),
    *,
    block_bytes: int = 1 << 20,
    max_line_bytes: int = 1 << 20,
    rejects: Rejects | None = None,
) -> Iterator[Lines | Idle]:
    """Read finished logs once: folders (their own files, plain or .gz, rotated or not) or log files; then `Idle(final=True)`.

    A last line without newline counts if it is whole JSON. A file among others that cannot be read is rejected. Arguments as for
    `follow`.

    Raises:
        LogFormatError: at once, where a path is missing, TSV or holds none of our logs, or all of them are unreadable or empty.
    """
    found: list[tuple[Path, str]] = []
    for path in paths:
        found += check_folder(path) if path.is_dir() else [(path, "")]
    rejects = rejects or Rejects(None)
    logs = FileRegistry(since, rejects, block_bytes=block_bytes, max_line_bytes=max_line_bytes)
    logs.scan([(path, log, True) for path, log in found], strict=True, finished=True)
    if not logs.files():
        raise next((unread.error for unread in logs.unread.values()), all_empty(paths))
    for unread in logs.unread.values():
        rejects.add(str(unread.path), 0, unread.reason, b"")
    return _finite(logs)


def _finite(logs: FileRegistry) -> Iterator[Lines | Idle]:
    with closing(logs):
        yield from logs.restored()
        yield from _merged(logs, finished=True)
    yield Idle(final=True)


def _listing(paths: Sequence[Path]) -> list[Found]:
    """Path, log, and whether it was asked for: a single file's rotated siblings are only looked at to find one again."""
    found: list[Found] = []
    for path in paths:
        if path.is_dir():
            found += [(file, log, True) for file, log in logs_in(path)]
            continue
        if path.exists():
            found.append((path, log_of(path.name) or "", True))
        if path.parent.is_dir() and (log := log_of(path.name)):
            found += [(file, kind, False) for file, kind in logs_in(path.parent) if kind == log and file != path]
    return found


def _merged(logs: FileRegistry, *, finished: bool = False) -> Iterator[Lines]:
    """All that can be read now, in event-time order at block granularity: flows up to the next packet, then packets."""
    packets = [file for file in logs.files() if file.log == "packet"]
    flows = [file for file in logs.files() if file.log == "flow"]
    while finished or not logs.replaced:
        packet, packet_until = _earliest(packets, logs, finished)
        flow, flow_until = _earliest(flows, logs, finished)
        if logs.replaced and not finished:
            return
        if flow is not None and (packet is None or flow.event_ts <= packet.event_ts):
            yield from flow.take(flow_until if packet is None else min(flow_until, packet.event_ts))
        elif packet is not None:
            yield from packet.take(packet_until)
        else:
            return


def _earliest(files: list[LogFile], logs: FileRegistry, finished: bool) -> tuple[LogFile | None, float]:
    """The file whose next line is the oldest, with that line read, and the time up to which no other file has any."""
    while True:
        files[:] = [f for f in files if f.more]
        if not files:
            return None, inf
        file = min(files, key=lambda f: f.event_ts)
        try:
            ready = file.fill(finished=finished)
        except OSError as err:
            file.more = False
            logs.lost(file, err, finished)
            continue
        if not file.more:
            logs.drained(file, finished)
        if ready:
            before = file.event_ts
            others = min((f.event_ts for f in files if f is not file), default=inf)
            if before <= others:
                return file, max(others, before + OVERLAP_S)


class Wake(FileSystemEventHandler):
    """Ends a wait when a log in the folders of `paths` was written; where the operating system cannot tell, the clock does."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths, self._written = paths, threading.Event()
        self._folders: dict[Path, tuple[int, int, int]] = {}
        self._observer = Observer()
        logging.getLogger("watchdog").setLevel(logging.CRITICAL)  # being stopped is an error to it; the rest the clock mends
        with suppress(OSError, RuntimeError):
            self._observer.start()

    def _wake(self, event: FileSystemEvent) -> None:
        self._written.set()

    on_modified = on_created = on_moved = on_deleted = _wake  # not opening and closing, which the reader does too

    def folders_changed(self) -> bool:
        """Whether an entry of a folder was added, removed or renamed since the last call; folders that are new are watched."""
        before, self._folders = self._folders, {}
        for path in self._paths:
            folder = path if path.is_dir() else path.parent
            with suppress(OSError):
                stat = folder.stat()
                self._folders[folder] = stat.st_dev, stat.st_ino, stat.st_mtime_ns
        if [(folder, key[:2]) for folder, key in before.items()] != [(folder, key[:2]) for folder, key in self._folders.items()]:
            self._observer.unschedule_all()
            for folder in self._folders:
                with suppress(OSError, RuntimeError):  # out of inotify watches
                    self._observer.schedule(self, str(folder))
        return self._folders != before

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Return when something was written, at the latest after `seconds`, at once when `stop` is set."""
        until = time.monotonic() + seconds
        if self._written.wait(seconds):
            stop.wait(max(0.0, min(GATHER_S, until - time.monotonic())))
            self._written.clear()

    def close(self) -> None:
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
