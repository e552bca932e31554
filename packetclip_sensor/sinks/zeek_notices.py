"""Verdicts back into Zeek: a file that `zeek_scripts/verdicts.zeek` reads through the Input framework and raises notices from.

One line when an episode opens, one more each time its severity rises. The sensor alone writes in the file's folder, Zeek reads
there and remembers what it raised in a folder of its own; files are opened so that even in a folder that others may write no link
of theirs is followed and no file of theirs is taken for ours. The form is Zeek's ASCII log format, read in mode STREAM,
whose reader (Zeek 8.0.6, src/input/readers/ascii, measured in tests/integration/test_zeek_feedback.py) asks for three things:

- It takes the start of a line for a line if it looks while the line is written. A file grows page by page, so no line here
  crosses a page (empty lines fill up to the next, the reader skips them), and a line without its last column `end` is void.
- It keeps its file open for ever, and beyond a truncation waits where it stood. So the file is never truncated: rotation makes a
  new file under the name, and a last line of state `moved` in the old one tells Zeek to open the name again.
- It undoes `\\xHH` and nothing else, takes a lone `-` for unset, and a tab or line end for what it is. See `escaped`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from packetclip_sensor.alerts import sentences
from packetclip_sensor.alerts.severity import over_budget, severity_and_risk
from packetclip_sensor.common import durable
from packetclip_sensor.common.durable import FULL, Sleep, Waiting, patiently, stands_at
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.common.text import printable
from packetclip_sensor.errors import SinkError
from packetclip_sensor.records import Alert, AlertBatch
from packetclip_sensor.records.addresses import address

COLUMNS = (
    "ts", "identifier", "state", "mission", "severity", "probability", "packets",
    "src", "dst", "p", "uid", "episode", "msg", "sub", "end",
)  # fmt: skip
"""As in the record PacketCLIP::Verdict of verdicts.zeek, which finds them by name."""
HEADER = ("#fields\t" + "\t".join(COLUMNS) + "\n").encode()
END = "."
PAGE_BYTES = 4096
MAX_MSG_CHARS, MAX_SUB_CHARS = 160, 600
"""A character is at most four bytes, escaped or not, so that a line of these fits a page."""
KNOWN_BYTES = 64 << 20
"""Of the end of each file, what is read at a start for the severity that Zeek knows."""
MAX_EPISODES = 100_000
"""Episodes whose severity is remembered, newest first to stay."""
_MOVED = {"ts": "0", "state": "moved", "end": END}
MOVED = ("\t".join(_MOVED.get(column, "-") for column in COLUMNS) + "\n").encode()
"""The last line of a file that another follows."""

log = structlog.get_logger()


def write(
    batches: Iterable[AlertBatch],
    path: Path,
    counters: Counters,
    missions: Missions,
    *,
    max_bytes: int,
    sleep: Sleep = time.sleep,
    waiting: Waiting = lambda why: None,
) -> Iterator[AlertBatch]:
    """Append what is new to Zeek of each alert, and yield its `AlertBatch` once that is on the disk.

    On a full disk it holds the batch and tries again, for as long as it takes; once the file was opened also after any other
    error of the disk or its rights.

    Args:
        batches: those that the main sink has acknowledged.
        path: the file, made where it is missing; `path` with `.1` behind is the one before.
        counters: `verdicts_fed` rises.
        max_bytes: size from which a new file is begun.
    Raises:
        SinkError: the file cannot be opened or locked, or is not of our form.
    """
    with closing(_File(path, counters, missions, max_bytes, sleep, waiting)) as file:
        for safe in batches:
            file.append(safe.alerts)
            yield safe


def shared(folder: Path) -> str:
    """Why others than the sensor may write in the file's folder, with the remedy; empty where none may."""
    try:
        found = folder.stat()
    except OSError:
        return ""
    if found.st_uid not in (0, os.geteuid()):
        return f"{folder} belongs to user {found.st_uid}; give it to the sensor's user, Zeek's own file has a folder of its own"
    if found.st_mode & 0o022:
        return f"{folder} can be written by others (mode {stat.S_IMODE(found.st_mode):04o}); chmod 2750, Zeek only reads there"
    return ""


def line(alert: Alert, identifier: str, severity: int) -> bytes:
    """One verdict as a line of COLUMNS, at most a page long.

    A notice has one address on each side: the side of which an episode has many stays unset. The uid is that of the packet that
    weighs most.
    """
    episode = alert.episode
    heaviest = max(alert.why.evidence, key=lambda evidence: evidence.weight, default=None)
    fields = (
        f"{alert.ts:.6f}",
        identifier,
        alert.state,
        episode.mission,
        str(severity),
        f"{alert.why.probability:.6f}",
        str(episode.packets),
        _address(episode.sources, episode.source_count),
        _address(episode.destinations, episode.destination_count),
        _port(alert),
        escaped(heaviest.packet.uid[:64]) if heaviest else "-",
        episode.id,
        escaped(printable(alert.title, MAX_MSG_CHARS)),
        escaped(printable(sentences.reason(alert), MAX_SUB_CHARS)),
        END,
    )
    return ("\t".join(fields) + "\n").encode("utf-8", "replace")


def escaped(text: str) -> str:
    r"""`text` so that Zeek's ASCII reader gives it back: control characters and backslash as `\xHH`, a lone `-` as `\x2d`.

    Source: Zeek 8.0.6, src/threading/formatters/Ascii.cc, ParseValue, and src/util.cc, get_unescaped_string.
    """
    if text == "-":
        return "\\x2d"
    return "".join(f"\\x{ord(char):02x}" if char < " " or char in "\\\x7f" else char for char in text)


def _address(hosts: list[str], count: int) -> str:
    """The one host of a side; what is no address, or none that a notice could be about, is unset."""
    host = address(hosts[0]) if count == len(hosts) == 1 else None
    return "-" if host is None or host.is_unspecified else str(host)


def _port(alert: Alert) -> str:
    """The responder's port where the window has one only. ICMP's type and code are none."""
    ends = {(evidence.packet.resp_p, evidence.packet.proto) for evidence in alert.why.evidence}
    if len(ends) != 1 or alert.why.facts.get("distinct_resp_p", 1) != 1:
        return "-"
    port, proto = ends.pop()
    return f"{port}/{proto}" if proto in ("tcp", "udp") and 0 <= port < 65536 else "-"


@dataclass
class _File:
    """The open file, locked against a second sensor, and the severity that Zeek knows of each episode."""

    path: Path
    counters: Counters
    missions: Missions
    max_bytes: int
    sleep: Sleep
    waiting: Waiting
    opened: bool = False
    known: dict[str, int] = field(default_factory=dict)
    fd: int = -1
    size: int = 0
    """Bytes that we left in the file; fewer there means that someone cut it."""
    torn: bool = False
    """Whether a full disk left half a line at the end."""

    def __post_init__(self) -> None:
        self.before = self.path.with_name(self.path.name + ".1")
        self._patiently(self._open)
        self.opened = True

    def append(self, alerts: list[Alert]) -> None:
        """Write what is new to Zeek, and sync."""
        fresh = []
        for alert in alerts:
            severity, _ = severity_and_risk(alert, self.missions[alert.episode.mission])
            episode = alert.episode.id
            if over_budget(alert.episode, severity):
                continue
            if severity <= self.known.get(episode, 0) or (alert.state == "open" and episode in self.known):
                continue
            self.known[episode] = severity
            fresh.append(line(alert, episode if alert.state == "open" else f"{episode}-{severity}", severity))
        if not fresh:
            return
        self._forget()
        self._patiently(self._follow_name)
        for one in fresh:
            self._patiently(partial(self._put, one))
        self._patiently(lambda: os.fsync(self.fd))
        self.counters.verdicts_fed += len(fresh)
        if self.size >= self.max_bytes:
            self._patiently(self._begin_anew)

    def _put(self, one: bytes) -> None:
        """Append one line inside one page. What a full disk cut off stays behind as a void line."""
        data = b"\n" + one if self.torn else one
        left = PAGE_BYTES - self.size % PAGE_BYTES
        if len(data) > left:
            data = b"\n" * left + one
        written = os.write(self.fd, data)
        self.size += written
        self.torn = written < len(data)
        if self.torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if words := shared(self.path.parent):
            log.warning("zeek_feedback_shared_folder", reason=words)
        self._finish_before()
        try:
            fd = durable.opened(self.path, os.O_RDWR | os.O_APPEND, own=True)
        except FileNotFoundError:
            self._begin_anew()
        else:
            self._take(fd)
            if not self.size or _is_left(fd):
                self._begin_anew()
            else:
                self._repair()
        for path in (self.before, self.path):
            self._read_known(path)

    def _take(self, fd: int) -> None:
        """Make an open file ours."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            os.close(fd)
            raise SinkError(f"{self.path}: another process writes it; stop that one or set another zeek_feedback.path") from err
        self.close()
        self.fd, self.size, self.torn = fd, os.fstat(fd).st_size, False

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _repair(self) -> None:
        """Whatever stands there must be ours; a line that a crash left half-written is ended, and void."""
        if os.pread(self.fd, len(HEADER), 0) != HEADER:
            self.close()
            raise SinkError(f"{self.path}: does not begin as our verdicts do; move it away or set another zeek_feedback.path")
        if os.pread(self.fd, 1, self.size - 1) != b"\n":
            self.size += os.write(self.fd, b"\n")

    def _follow_name(self) -> None:
        """Someone moved, removed or cut the file: go on in a new one."""
        if not stands_at(self.fd, self.path) or os.fstat(self.fd).st_size < self.size:
            log.warning("zeek_feedback_new_file", path=str(self.path), reason="moved, removed or cut by another hand")
            self._begin_anew()

    def _begin_anew(self) -> None:
        """A new file under the name, the old one under `.1`, and in the old one the word that Zeek must open the name again.

        A crash at any point leaves either the old order, or what `_finish_before` completes at the next start.
        """
        new = self.path.with_name(self.path.name + ".new")
        fd = durable.create(new)
        try:
            if os.write(fd, HEADER) < len(HEADER):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
            if self.path.is_file() and not self.path.is_symlink():
                self.path.replace(self.before)
            new.replace(self.path)
        except BaseException:
            os.close(fd)
            raise
        if self.fd >= 0:
            _say_moved(self.fd, self.size)
        self._take(fd)
        log.debug("zeek_feedback_begun", path=str(self.path))

    def _finish_before(self) -> None:
        """A crash may have come between the new file and the old one's last word."""
        try:
            fd = durable.opened(self.before, os.O_RDWR | os.O_APPEND, own=True)
        except FileNotFoundError:
            return
        try:
            if not _is_left(fd):
                _say_moved(fd, 0)
        finally:
            os.close(fd)

    def _read_known(self, path: Path) -> None:
        try:
            fd = durable.opened(path, os.O_RDONLY, own=True)
        except FileNotFoundError:
            return
        with os.fdopen(fd, "rb") as file:
            file.seek(max(0, os.fstat(fd).st_size - KNOWN_BYTES))
            lines = file.read(KNOWN_BYTES).split(b"\n")
        for text in lines:
            fields = dict(zip(COLUMNS, text.decode("utf-8", "replace").split("\t"), strict=False))
            if fields.get("end") == END and re.fullmatch("[0-9]{1,3}", fields["severity"]):
                self.known[fields["episode"]] = max(int(fields["severity"]), self.known.get(fields["episode"], 0))
        self._forget()

    def _forget(self) -> None:
        while len(self.known) > MAX_EPISODES:
            del self.known[next(iter(self.known))]

    def _patiently(self, call: Callable[[], object]) -> None:
        """Call until there is room; a SinkError where waiting would not help."""

        def why(err: OSError | SinkError) -> str:
            if isinstance(err, SinkError):
                raise err
            other = f" ({err.filename})" if err.filename not in (None, str(self.path)) else ""
            words = f"zeek_feedback.path {self.path}: {err.strerror}{other}"
            if err.errno not in FULL and not self.opened:
                raise SinkError(f"{words}; correct the rights or the disk and start again, nothing is lost") from err
            return words

        patiently(call, why, "zeek_feedback", self.path, self.sleep, self.waiting)


def _is_left(fd: int) -> bool:
    """Whether the file has had its last word."""
    return os.pread(fd, len(MOVED), max(0, os.fstat(fd).st_size - len(MOVED))) == MOVED


def _say_moved(fd: int, size: int) -> None:
    """Behind a line's end, so that it is a line of its own whatever stood last. Best effort: Zeek also looks at the size.

    Args:
        size: bytes that the file once had. Zeek's reader waits there where someone cut the file, so it gets its length back.
    """
    try:
        size = max(size, os.fstat(fd).st_size)
        os.ftruncate(fd, size)
        gap = PAGE_BYTES - (size + 1) % PAGE_BYTES
        os.write(fd, b"\n" * (1 + (gap if len(MOVED) > gap else 0)) + MOVED)
        os.fsync(fd)
    except OSError as err:
        log.warning("zeek_feedback_mark_missing", reason=err.strerror)
