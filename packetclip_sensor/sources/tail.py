"""Follows growing and rotated logs, or reads finished ones; yields blocks of whole lines with positions, and `Idle` when quiet.

Zeek's log files are the sensor's queue, so nothing in them may be lost or read twice, whatever rotates them: a rename keeps the
inode, a .gz or a copy keeps the first bytes, a truncation changes them. Two files with equal first bytes are one log; the copy is
read only where its original is gone, from the place at which reading of the original ended.

Blocks of one source come in event-time order; sources take turns, since each has a clock of its own. A source is a log folder of
the site, with what was moved from it into the archives: the logs of one Zeek.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from math import inf
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.records import Idle, Lines, Position, log_of
from packetclip_sensor.sources.backlog import Backlog
from packetclip_sensor.sources.discovery import all_empty, archived, check_folder, logs_in, nearest, source_of
from packetclip_sensor.sources.file_registry import OPEN_FILES, FileRegistry, Found
from packetclip_sensor.sources.logfile import LogFile

RESCAN_S = 2.0
"""Folders are listed again when they change, and at least this often."""
GATHER_S = 0.02
"""Wait after a change, so that a writer that flushes line by line does not make a block of each line."""
OVERLAP_S = 0.1
"""Files that overlap in time are interleaved in steps of at least this much event time."""
QUIET_S = 1.5
"""A packet log that stands at its end for so long, beside the lateness of its lines, has none to come for the last second."""
QUIET_STEP_S = 0.5
"""Most that the time between two looks counts towards quiet: in a longer one the machine or its sink stood still, and Zeek
perhaps with it. Files are looked at more often."""
TURN = 16
"""Blocks of one source before the others come, and before all files are looked at again."""


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
    quiet_s: float = QUIET_S,
    clock: Callable[[], float] = time.monotonic,
    log: str | None = None,
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
        backlog: is given where this reader stands.
        archives: folders into which rotated logs are moved; their dated subfolders are searched as well.
        archived_since: time (epoch seconds) since which a file there must have been written to be looked at.
        quiet_s: how long a source has stood at its end when `Idle` names it as quiet.
        log: what each file is, whatever its name.
    Raises:
        LogFormatError: at the start, a log is TSV or cannot be read. Later such a file is rejected and counted.
    """
    stop = stop or threading.Event()
    logs = FileRegistry(
        since, rejects or Rejects(None), block_bytes=block_bytes, max_line_bytes=max_line_bytes, open_files=open_files
    )

    def moved(since_s: float, *, asked: bool = True) -> list[Found]:
        return [Found(*found, asked, nearest(place, paths)) for place in archives for found in archived([place], since_s)]

    def listing() -> list[Found]:
        return [*_listing(paths, log), *moved(archived_since())]

    if backlog is not None:
        backlog.attach(logs, lambda: [(found.path, found.log) for found in listing() if found.asked], paths, archives)
    quiet = Quiet(quiet_s, clock)
    with closing(logs), closing(Wake(paths)) as wake:
        first, scanned_at = True, -inf
        while not stop.is_set():
            if logs.rescan or logs.incomplete or wake.folders_changed() or time.monotonic() - scanned_at > RESCAN_S:
                if first:  # what cannot be read in the log folders ends the start, in the archives it is reported and passed over
                    logs.scan(_listing(paths, log), strict=True)
                logs.scan(listing())
                if first and logs.missing():  # an archive that is older than all that was judged had been read, or not
                    logs.scan([*listing(), *moved(0.0, asked=False)])
                    for position in logs.missing():
                        logs.give_up(position.path, position.offset)
                first, scanned_at = False, time.monotonic()
                yield from logs.restored()
            quiet.look()
            logs.look()
            for block in _in_turns(logs):
                quiet.read(block)
                yield block
                if stop.is_set():
                    return
            unread = logs.files()
            quiet.looked({file.source for file in unread})
            if logs.rescan or unread:
                continue
            yield Idle(quiet=quiet.sources())
            logs.tidy()
            wake.wait(poll_s, stop)


def finite(
    paths: Sequence[Path],
    since: Sequence[Position] = (),
    *,
    block_bytes: int = 1 << 20,
    max_line_bytes: int = 1 << 20,
    rejects: Rejects | None = None,
    log: str | None = None,
) -> Iterator[Lines | Idle]:
    """Read finished logs once: folders (their own files, plain or .gz, rotated or not) or log files; then `Idle(final=True)`.

    A last line without newline counts if it is whole JSON. A file among others that cannot be read is rejected. Arguments as for
    `follow`.

    Raises:
        LogFormatError: at once, where a path is missing, TSV or holds none of our logs, or all of them are unreadable or empty.
    """
    found: list[Found] = []
    for path in paths:
        files = check_folder(path) if path.is_dir() else [(path, log or "")]
        found += [Found(file, kind, True, source_of(path)) for file, kind in files]
    rejects = rejects or Rejects(None)
    logs = FileRegistry(since, rejects, block_bytes=block_bytes, max_line_bytes=max_line_bytes)
    logs.scan(found, strict=True, finished=True)
    if not logs.files():
        raise next((unread.error for unread in logs.unread.values()), all_empty(paths))
    for unread in logs.unread.values():
        rejects.add(str(unread.path), 0, unread.reason, b"")
    return _finite(logs)


def _finite(logs: FileRegistry) -> Iterator[Lines | Idle]:
    with closing(logs):
        yield from logs.restored()
        while logs.files():
            yield from _in_turns(logs, finished=True)
    yield Idle(final=True)


class Quiet:
    """For how long each source has stood at the end of its packet logs: from the end of a look that found nothing more to the
    beginning of a later one that found nothing either. So a reader that is held up ends no second: what was written meanwhile is
    found by its next look."""

    def __init__(self, quiet_s: float, clock: Callable[[], float]) -> None:
        self._quiet_s, self._clock = quiet_s, clock
        self._stood: dict[str, tuple[float, float]] = {}  # for how long, up to when; inf while there is more to read

    def look(self) -> None:
        """The files are looked at now."""
        now = self._clock()
        for source, (for_s, at) in self._stood.items():
            if at < inf:
                self._stood[source] = for_s + min(now - at, QUIET_STEP_S), now

    def read(self, block: Lines) -> None:
        """A block was found."""
        if block.data and block.log == "packet":
            self._stood[block.end.source] = 0.0, inf

    def looked(self, unread: set[str]) -> None:
        """The look is over; these sources have more to read."""
        now = self._clock()
        for source, (_, at) in self._stood.items():
            if at == inf and source not in unread:
                self._stood[source] = 0.0, now

    def sources(self) -> tuple[str, ...]:
        """Those that have stood so long enough."""
        return tuple(source for source, (for_s, _) in self._stood.items() if for_s >= self._quiet_s)


def _listing(paths: Sequence[Path], log: str | None = None) -> list[Found]:
    """A single file's rotated siblings are only looked at to find one again."""
    found: list[Found] = []
    for path in paths:
        source = source_of(path)
        if path.is_dir():
            found += [Found(file, kind, True, source) for file, kind in logs_in(path)]
            continue
        if path.exists():
            found.append(Found(path, log or log_of(path.name) or "", True, source))
        if log is None and path.parent.is_dir() and (own := log_of(path.name)):
            others = (file for file, kind in logs_in(path.parent) if kind == own and file != path)
            found += [Found(file, own, False, source) for file in others]
    return found


def _in_turns(logs: FileRegistry, *, finished: bool = False) -> Iterator[Lines]:
    """At most TURN blocks of each source that has some now."""
    for source in dict.fromkeys(file.source for file in logs.files()):
        yield from islice(_merged(logs, source, finished=finished), None if finished else TURN)


def _merged(logs: FileRegistry, source: str, *, finished: bool = False) -> Iterator[Lines]:
    """All of a source that can be read now, in event-time order at block granularity: flows up to the next packet, then
    packets."""
    packets = [file for file in logs.files() if file.log == "packet" and file.source == source]
    flows = [file for file in logs.files() if file.log == "flow" and file.source == source]
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
    """The file whose next line is the oldest, with that line read, and the time up to which no other file has any. Files that
    bring nothing are left to the next look; in finished logs they come last."""
    while True:
        for astray in (f for f in files if f.astray and not finished):
            astray.more = False
        files[:] = [f for f in files if f.more]
        if not files:
            return None, inf
        file = min(files, key=lambda f: (f.astray, f.event_ts))
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
            others = min((f.event_ts for f in files if f is not file and not f.astray), default=inf)
            if before <= others:
                return file, max(others, before + OVERLAP_S)


class Wake(FileSystemEventHandler):
    """Ends a wait when a log in the folders of `paths` was written; without notice from the operating system, after a time."""

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
