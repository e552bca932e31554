"""Stands in for Zeek's log writer: appends a workload line by line, and rotates its logs as Zeek, zeekctl and logrotate do."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from . import workload
from .workload import BURSTS, LOGS, NAME

HELD_WAIT_S = 20.0
"""How long a rotation that takes files away waits for the sensor to open them first."""
GZIP_S = 0.3
"""zeekctl's archive-log runs beside Zeek: the renamed log stays this long."""


class Zeek:
    """Writes bursts from a thread of its own until it is told that it is enough and the round is over."""

    def __init__(
        self,
        folder: Path,
        *,
        pause_s: float = 1.0,
        rotate: Callable[[Zeek], None] | None = None,
        rotations: int = 0,
        holder: Callable[[], int | None] = lambda: None,
        seed: int = 1,
    ) -> None:
        """Open empty logs.

        Args:
            folder: where the logs lie.
            pause_s: wall time of a burst.
            rotate: one of ROTATIONS, called once in each burst behind a random second until `rotations` are done.
            holder: the sensor's process.
        """
        self.folder, self.pause_s, self.rotate, self.rotations, self.holder = folder, pause_s, rotate, rotations, holder
        self.beside = folder.parent
        self.rounds = self.rotated = self.lines = 0
        self.unheld = 0
        """Files taken away before the sensor had opened them."""
        self.enough, self.writing = threading.Event(), threading.Event()
        self.writing.set()
        self.random = random.Random(seed)
        self.jobs: list[threading.Thread] = []
        self.failure: BaseException | None = None
        self.fds: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.open()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Zeek:
        self._thread.start()
        return self

    def path(self, log: str) -> Path:
        return self.folder / NAME.format(log)

    def open(self) -> None:
        for log in LOGS:
            self.fds[log] = os.open(self.path(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def close(self) -> None:
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}

    def finish(self, timeout_s: float = 900.0) -> None:
        """Wait for the end of the round and the last packets."""
        self.enough.set()
        for thread in (self._thread, *self.jobs):
            thread.join(timeout_s)
            assert not thread.is_alive(), "the workload did not end"
        if self.failure:
            raise self.failure

    def _run(self) -> None:
        try:
            number = 0
            while not (number and number % BURSTS == 0 and self.enough.is_set() and self.rotated >= self.rotations):
                self.writing.wait()
                began = time.monotonic()
                self._write(workload.burst(number))
                number += 1
                self.rounds = -(-number // BURSTS)
                time.sleep(max(0.0, began + self.pause_s - time.monotonic()))
            self._write(workload.last_burst(self.rounds))
        except BaseException as err:
            self.failure = err
        finally:
            self.close()

    def _write(self, burst: workload.Burst) -> None:
        turn = self.random.choice(workload.turns(burst)) if burst and self.rotated < self.rotations else -1
        for number, (log, _, line) in enumerate(burst):
            os.write(self.fds[log], line)
            if number == turn and self.rotate:
                self.rotate(self)
                self.rotated += 1
        self.lines += len(burst)

    def await_held(self) -> None:
        """Wait until the sensor has the current files open: who takes a file away sooner may take its lines along."""
        for log in LOGS:
            until = time.monotonic() + HELD_WAIT_S
            while os.fstat(self.fds[log]).st_size and not self._held(self.fds[log]):
                if time.monotonic() > until:
                    self.unheld += 1
                    break
                time.sleep(0.02)

    def _held(self, fd: int) -> bool:
        mine = os.fstat(fd)
        try:
            theirs = [os.stat(entry.path) for entry in os.scandir(f"/proc/{self.holder()}/fd")]  # noqa: PTH116
        except OSError:
            return False
        return any((each.st_dev, each.st_ino) == (mine.st_dev, mine.st_ino) for each in theirs)

    def stamp(self) -> str:
        return time.strftime("%Y-%m-%d-%H-%M-%S", time.gmtime(workload.BASE_S + self.rotated))


def rename(zeek: Zeek) -> None:
    """Zeek's own: a new name in the same folder, then a new file."""
    zeek.close()
    for log in LOGS:
        zeek.path(log).rename(zeek.folder / f"packetclip_{log}.{zeek.stamp()}.log")
    zeek.open()


def compress(zeek: Zeek) -> None:
    """logrotate with `compress`: as above, and soon a .gz in its place."""
    zeek.close()
    renamed = []
    for log in LOGS:
        renamed.append(zeek.path(log).rename(zeek.folder / f"packetclip_{log}.{zeek.stamp()}.log"))
    zeek.open()
    _later(zeek, lambda: [_gzip(path, path.with_name(path.name + ".gz")) for path in renamed])


def archive(zeek: Zeek) -> None:
    """zeekctl's archive-log: a new name, then gzip into the folder of the day above the log folder, then removed."""
    zeek.close()
    day = zeek.beside / time.strftime("%Y-%m-%d", time.gmtime(workload.BASE_S))
    day.mkdir(exist_ok=True)
    stamp = zeek.stamp()  # now: when the thread packs, Zeek may have rotated again, and one archive would replace another
    renamed = [(log, zeek.path(log).rename(zeek.folder / f"packetclip_{log}-{stamp}.log")) for log in LOGS]
    zeek.open()
    _later(zeek, lambda: [_gzip(path, day / f"packetclip_{log}.{stamp}.log.gz") for log, path in renamed])


def copytruncate(zeek: Zeek) -> None:
    """logrotate with `copytruncate`, with no line written between copy and truncation: those it loses itself."""
    for log in LOGS:
        shutil.copy2(zeek.path(log), zeek.folder / f"packetclip_{log}.log.{zeek.rotated + 1}")
        os.truncate(zeek.path(log), 0)


def delete(zeek: Zeek) -> None:
    """Deleted while open, and a new file under the name."""
    zeek.await_held()
    zeek.close()
    for log in LOGS:
        zeek.path(log).unlink()
    zeek.open()


def replace_folder(zeek: Zeek) -> None:
    """The whole folder is moved away, and a new one made."""
    zeek.await_held()
    zeek.close()
    zeek.folder.rename(zeek.beside / f"logs-{zeek.rotated}")
    zeek.folder.mkdir()
    zeek.open()


def relink(zeek: Zeek) -> None:
    """`current` is a symbolic link: it points to a folder of its own for each rotation."""
    zeek.await_held()
    zeek.close()
    target, link = zeek.beside / f"day-{zeek.rotated}", zeek.beside / "current.new"
    target.mkdir()
    link.symlink_to(target)
    if zeek.folder.is_dir() and not zeek.folder.is_symlink():
        zeek.folder.rename(zeek.beside / f"day-before-{zeek.rotated}")
    link.replace(zeek.folder)
    zeek.open()


ROTATIONS = (rename, compress, archive, copytruncate, delete, replace_folder, relink)


def _later(zeek: Zeek, work: Callable[[], object]) -> None:
    def run() -> None:
        time.sleep(GZIP_S)
        try:
            work()
        except OSError as err:
            zeek.failure = err

    zeek.jobs.append(threading.Thread(target=run))
    zeek.jobs[-1].start()


def _gzip(path: Path, to: Path) -> None:
    with path.open("rb") as plain, to.open("xb") as raw, gzip.open(raw, "wb", compresslevel=1) as packed:
        shutil.copyfileobj(plain, packed)
    path.unlink()
