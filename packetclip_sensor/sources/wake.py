"""Wakes the tailer when a log changes: watchdog where the operating system can tell, the clock everywhere else."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

GATHER_S = 0.02
"""Wait after a change, so that a writer that flushes line by line does not make a block of each line."""


class _Handler(FileSystemEventHandler):
    """Only what writers do: opening and closing are done by the tailer too, and would wake it for ever."""

    def __init__(self, changed: threading.Event) -> None:
        self._changed = changed

    def _set(self, event: FileSystemEvent) -> None:
        self._changed.set()

    on_modified = on_created = on_moved = on_deleted = _set


class Wake:
    """Watches the folders of `paths`, those included that come later. Without inotify it is only a timer."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._changed = threading.Event()
        self._handler = _Handler(self._changed)
        self._observer: Any = None
        self._watched: dict[Path, tuple[int, int]] = {}
        self._times: dict[Path, tuple[int, int, int]] = {}

    def __enter__(self) -> Self:
        logging.getLogger("watchdog").setLevel(logging.CRITICAL)  # being stopped is an error to it; the rest the clock mends
        with contextlib.suppress(OSError, RuntimeError):
            observer = Observer()
            observer.start()
            self._observer = observer
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    def folders_changed(self) -> bool:
        """Whether an entry was added to, removed from or renamed in a folder since the last call."""
        times: dict[Path, tuple[int, int, int]] = {}
        for path in self._paths:
            folder = path if path.is_dir() else path.parent
            with contextlib.suppress(OSError):
                stat = folder.stat()
                times[folder] = (stat.st_dev, stat.st_ino, stat.st_mtime_ns)
                self._watch(folder, (stat.st_dev, stat.st_ino))
        changed, self._times = times != self._times, times
        return changed

    def _watch(self, folder: Path, key: tuple[int, int]) -> None:
        if self._observer is None or self._watched.get(folder) == key:
            return
        self._watched[folder] = key
        with contextlib.suppress(OSError, KeyError, RuntimeError):  # out of inotify watches: the clock does it
            self._observer.schedule(self._handler, str(folder), recursive=False)

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Return when something was written, at the latest after `seconds`, at once when `stop` is set."""
        until = time.monotonic() + seconds
        if self._changed.wait(seconds):
            stop.wait(max(0.0, min(GATHER_S, until - time.monotonic())))
            self._changed.clear()
