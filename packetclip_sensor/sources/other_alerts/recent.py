"""The newest alerts of other engines, by host and in bounded memory, and the thread that follows their logs.

Verdicts never wait for them: a document names what has been read when it is written. Rows of one rule between the same hosts in
a minute are one entry, so that a scan that fires a thousand times takes the place of one.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import structlog

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.records import Episode, Fired, Idle, Lines, OtherAlert, Position
from packetclip_sensor.sources import tail
from packetclip_sensor.sources.logfile import LogFile
from packetclip_sensor.sources.other_alerts import rows
from packetclip_sensor.sources.plaintext import readable, reading

NAMES = ("notice.log", "eve.json")
MOST = 10_000
"""Entries kept, of about a kB each; the oldest go first."""
LISTED = 10
"""Rules named of an episode, those that fired most."""
SLACK_S = 5.0
"""A row's time may be so far outside of the episode's: Zeek raises a notice when a connection has ended."""
UNREAD_BYTES = 64 << 20
"""Of a longer file only the last part is read at a start: what is older belongs to no open episode."""
BLOCK_BYTES = 1 << 20

log = structlog.get_logger()
Key = tuple[str, str, str, str, int]


class RecentAlerts:
    """Filled by one thread and asked by another."""

    def __init__(self, counters: Counters, most: int = MOST) -> None:
        self._counters, self._most, self._lock = counters, most, threading.Lock()
        self._entries: dict[Key, Fired] = {}
        self._of: dict[str, dict[Key, None]] = {}

    def take(self, blocks: Iterable[Lines | Idle]) -> None:
        """Read blocks of the logs."""
        for block in blocks:
            if isinstance(block, Idle):
                continue
            for line in block.data.splitlines():
                try:
                    found = rows.row(line)
                except rows.ROW_ERRORS:
                    self._counters.other_alerts_unread += 1
                else:
                    if found is not None:
                        self.add(found)

    def add(self, row: OtherAlert) -> None:
        """Keep a row."""
        key = (row.engine, row.rule, row.orig_h, row.resp_h, int(row.ts) // 60)
        with self._lock:
            self._counters.other_alerts += 1
            if (known := self._entries.get(key)) is not None:
                known.count += 1
                known.first, known.last = min(known.first, row.ts), max(known.last, row.ts)
                return
            self._entries[key] = Fired(row=row, count=1, first=row.ts, last=row.ts)
            for host in (row.orig_h, row.resp_h):
                self._of.setdefault(host, {})[key] = None
            if len(self._entries) > self._most:
                self._forget(next(iter(self._entries)))

    def _forget(self, key: Key) -> None:
        self._counters.other_alerts_forgotten += 1
        row = self._entries.pop(key).row
        for host in {row.orig_h, row.resp_h}:
            del self._of[host][key]
            if not self._of[host]:
                del self._of[host]

    def of(self, episode: Episode) -> tuple[Fired, ...]:
        """What fired on connections between the episode's hosts while it lasted, one for each rule, most often first."""
        source = episode.sources[0] if episode.scope in ("pair", "source") else None
        target = episode.destinations[0] if episode.scope in ("pair", "destination") else None
        found: dict[tuple[str, str], Fired] = {}
        with self._lock:
            for key in self._of.get(source or target or "", ()):
                fired, row = self._entries[key], self._entries[key].row
                if (
                    source in (None, row.orig_h)
                    and (target in (None, row.resp_h) or (source and not row.resp_h))
                    and fired.first <= episode.last + SLACK_S
                    and episode.first - SLACK_S <= fired.last
                ):
                    both = found.get((row.engine, row.rule))
                    found[row.engine, row.rule] = fired.copy() if both is None else both.with_(fired)
        return tuple(sorted(found.values(), key=lambda fired: (-fired.count, fired.row.engine, fired.row.rule))[:LISTED])


def files(paths: Sequence[Path]) -> list[Path]:
    """The logs in folders, and files as they are.

    Raises:
        ConfigError: one is TSV.
    """
    found = [file for path in paths for file in ([path / name for name in NAMES] if path.is_dir() else [path])]
    for path in found:
        with contextlib.suppress(LogFormatError), readable(path), reading(path) as text:
            if text.head().startswith(b"#separator"):
                raise ConfigError(
                    f"other_alerts {path}: is a TSV log; JSON is read: `redef LogAscii::use_json = T;` in local.zeek"
                )
    return found


def inspect(paths: Sequence[Path]) -> Iterator[tuple[bool | None, str]]:
    """For `packetclip check`: of each path whether it is a log of alerts, and the words; None is worth a look.

    Raises:
        ConfigError, LogFormatError: one is TSV, or cannot be read.
    """
    for path in paths:
        there = [file for file in files([path]) if file.exists()]
        if not there:
            what = "neither notice.log nor eve.json is in it" if path.is_dir() else "is not there"
            yield None, f"{path}: {what}; alerts of other engines are not named until it is"
        for file in there:
            with readable(file), reading(file) as text:
                line, end, _ = text.head().partition(b"\n")
            try:
                if end:
                    rows.row(line)
                yield True, f"{file}: {'alerts of another engine' if line else 'empty so far'}"
            except rows.ROW_ERRORS:
                yield None, f"{file}: its first line is of neither notice.log nor eve.json; name these logs, or their folder"


@contextlib.contextmanager
def followed(paths: Sequence[Path], counters: Counters) -> Iterator[RecentAlerts | None]:
    """What other engines write from now on, and their last files; None where no path is named."""
    if not paths:
        yield None
        return
    recent, stop, logs = RecentAlerts(counters), threading.Event(), files(paths)

    def follow() -> None:
        try:
            recent.take(tail.follow(logs, [_late(path) for path in logs if _is_long(path)], stop=stop, log="flow"))
        except Exception as err:  # it must never end the sensor
            log.exception("other_alerts_failed", reason=str(err))

    thread = threading.Thread(target=follow, name="other-alerts", daemon=True)
    thread.start()
    try:
        yield recent
    finally:
        stop.set()
        thread.join(2.0)


def finished(paths: Sequence[Path], counters: Counters) -> RecentAlerts | None:
    """As `followed`, of finished logs, read at once.

    Raises:
        LogFormatError: one is missing or cannot be read.
    """
    if not paths:
        return None
    recent = RecentAlerts(counters)
    there = [path for path in files(paths) if path in paths or path.exists()]
    if logs := [path for path in there if not path.exists() or path.stat().st_size]:
        recent.take(tail.finite(logs, log="flow"))
    return recent


def _is_long(path: Path) -> bool:
    try:
        return path.stat().st_size > UNREAD_BYTES
    except OSError:
        return False


def _late(path: Path) -> Position:
    """The place behind which a long file is read: a line's end UNREAD_BYTES before its own."""
    file = LogFile(path, "flow", Rejects(None), block_bytes=BLOCK_BYTES, max_line_bytes=BLOCK_BYTES)
    file.release()
    with path.open("rb") as text:
        text.seek(path.stat().st_size - UNREAD_BYTES)
        text.readline(BLOCK_BYTES)
        return file.position(text.tell())
