"""Alerts to a file of JSON lines: the embedded default, which needs no server.

One document per line, the same as Elasticsearch gets, its id in `event.id`. A batch comes back only after its documents are on
the disk. After a crash the reader repeats a minute of log; documents that the file has already are then not written again.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import structlog

from packetclip_sensor.common import durable
from packetclip_sensor.common.durable import Sleep, Waiting, patiently
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.errors import SinkError
from packetclip_sensor.records import Alert, AlertBatch
from packetclip_sensor.sinks.documents import SensorInfo, document

TAIL_BYTES = 256 << 20
"""How much of an existing file's end is read for ids: some 30,000 documents, while start-up stays within seconds."""
MAX_IDS = 1_000_000
"""Ids remembered, newest first to stay: about 150 MB at most, reached after half a day at the highest rate of documents."""

log = structlog.get_logger()


class _Event(msgspec.Struct):
    id: str


class _Written(msgspec.Struct):
    """The one part of a written document that is read again."""

    event: _Event


def write(
    batches: Iterable[AlertBatch],
    path: Path | None,
    sensor: SensorInfo,
    counters: Counters,
    *,
    sleep: Sleep | None = None,
    waiting: Waiting = lambda why: None,
) -> Iterator[AlertBatch]:
    """Append each alert as one line, and yield its `AlertBatch` once the line is on the disk.

    Args:
        path: the file, made where it is missing, or None for standard output (which is flushed, not synced, and not deduplicated
            over restarts).
        counters: `alerts_written` and `alerts_duplicate` rise.
        sleep: as of every sink; None to end with an error when the file cannot be written, as a replay does.
    Raises:
        SinkError: the file cannot be opened, locked or written, or holds something else than JSON lines.
    """
    if path is None:
        yield from _write_stdout(batches, sensor, counters)
        return
    with closing(_File(path, sensor, counters)) as file:

        def why(err: OSError | SinkError) -> str:
            if sleep is None:
                raise err
            return str(err)

        for safe in batches:
            patiently(partial(file.append, safe.alerts), why, "ndjson", path, sleep or time.sleep, waiting)
            yield safe


class _File:
    """The open file, locked against a second sensor, and the ids that it holds."""

    def __init__(self, path: Path, sensor: SensorInfo, counters: Counters) -> None:
        self.path, self.sensor, self.counters = path, sensor, counters
        self.ids: dict[str, None] = {}
        self.fd = -1
        self._open()

    def append(self, alerts: list[Alert]) -> None:
        """Write the alerts that the file does not hold yet, in one write, and sync."""
        new = {alert.id: alert for alert in alerts if alert.id not in self.ids}
        if new:
            try:
                if self.fd < 0 or not durable.stands_at(self.fd, self.path):
                    self.close()  # logrotate has renamed the file: go on in a new one of the same name
                    self._open()
                lines = [msgspec.json.encode(document(alert, self.sensor)) + b"\n" for alert in new.values()]
                durable.append(self.fd, b"".join(lines), self.path.parent)
            except OSError as err:
                raise SinkError(f"{self.path}: {err.strerror}; free the disk or correct the rights, nothing is lost") from err
        self.ids |= dict.fromkeys(new)
        while len(self.ids) > MAX_IDS:
            del self.ids[next(iter(self.ids))]
        self.counters.alerts_written += len(new)
        self.counters.alerts_duplicate += len(alerts) - len(new)

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.fd = durable.opened(self.path)
        except OSError as err:
            raise SinkError(
                f"{self.path}: {err.strerror}; name a file that this user may write, or - for standard output"
            ) from err
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._repair()
            self._read_ids()
        except BaseException as err:
            self.close()
            if isinstance(err, BlockingIOError):
                raise SinkError(f"{self.path}: another process writes it; stop that one or name another file") from err
            raise

    def close(self) -> None:
        """Give the file and its lock back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _repair(self) -> None:
        """Cut off the line that a kill left half-written; a whole document that lacks only its newline gets it."""
        size = os.fstat(self.fd).st_size
        if not size:
            return
        if os.pread(self.fd, 1, 0) != b"{":
            raise SinkError(f"{self.path}: does not start with a JSON object, so it is not ours to append to; name another file")
        if not (last := durable.unfinished(self.fd)):
            return
        try:
            msgspec.json.decode(last, type=_Written)
        except (msgspec.DecodeError, UnicodeDecodeError):
            os.ftruncate(self.fd, size - len(last))
        else:
            os.write(self.fd, b"\n")
        os.fsync(self.fd)
        log.warning("ndjson_repaired", path=str(self.path), bytes=len(last))

    def _read_ids(self) -> None:
        decoder = msgspec.json.Decoder(_Written)
        foreign = 0
        with self.path.open("rb") as file:
            if os.fstat(self.fd).st_size > TAIL_BYTES:
                file.seek(-TAIL_BYTES, os.SEEK_END)
                file.readline()
                log.warning("ndjson_tail_only", path=str(self.path), tail_bytes=TAIL_BYTES)
            for line in file:
                try:
                    self.ids[decoder.decode(line).event.id] = None
                except (msgspec.DecodeError, UnicodeDecodeError):
                    foreign += 1
        if foreign:
            log.warning("ndjson_foreign_lines", path=str(self.path), lines=foreign)


def _write_stdout(batches: Iterable[AlertBatch], sensor: SensorInfo, counters: Counters) -> Iterator[AlertBatch]:
    for safe in batches:
        try:
            for alert in safe.alerts:
                sys.stdout.buffer.write(msgspec.json.encode(document(alert, sensor)) + b"\n")
            sys.stdout.buffer.flush()
        except BrokenPipeError as err:
            raise SinkError("standard output was closed; write to a file with --out to keep what comes") from err
        counters.alerts_written += len(safe.alerts)
        yield safe
