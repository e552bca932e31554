"""The evidence of streams on disk: a journal of those that changed, of which `state.json` names the part that belongs to it.

All streams are some 20 MB, too much for each second's save; those that changed are a few. Appended and synced before `state.json`
is replaced, so a crash in between leaves a tail that no state names. A journal that has grown to several times its streams is
written anew under the next number; the one before stays for `state.json.old`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
import structlog

from packetclip_sensor.common import durable
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.evidence.streams import MOST_STREAMS

GROWN = 4
"""A journal of so many times the size of its streams is written anew, if it has LEAST_BYTES."""
LEAST_BYTES = 1 << 20

log = structlog.get_logger()


class Mark(msgspec.Struct, frozen=True):
    """The first `size` bytes of journal number `number`."""

    number: int
    size: int
    sha256: str


class EvidenceJournal:
    """Appends the streams that changed, and gives back all of them at a start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: dict[str, bytes] = {}
        self._number = self._size = 0
        self._hash = hashlib.sha256()
        self._again = True

    def load(self, mark: Mark | None) -> dict[str, bytes]:
        """The streams of a mark, the least recent first; none where the journal is gone or damaged, which is logged."""
        if mark is None:
            return {}
        self._number, self._all = mark.number, {}
        try:
            content = self._path(mark.number).read_bytes()[: mark.size]
            if len(content) != mark.size or hashlib.sha256(content).hexdigest() != mark.sha256:
                raise ValueError("it is not what was written")
            start = 0
            while start < len(content):
                end = start + 4 + int.from_bytes(content[start : start + 4])
                self._take(msgspec.msgpack.decode(content[start + 4 : end], type=dict[str, bytes]))
                start = end
        except (OSError, ValueError) as err:
            self._all = {}
            log.warning("evidence_lost", file=str(self._path(mark.number)), reason=str(err), remedy="none: it grows anew")
        return dict(self._all)

    def forget(self) -> None:
        """Keep nothing of what was loaded: it is another model's."""
        self._all, self._again = {}, True

    def append(self, changes: dict[str, bytes]) -> Mark:
        """Keep the streams that changed.

        Raises:
            ConfigError: the folder cannot be written, or the disk is full; what was to be kept is kept with the next call.
        """
        self._take(changes)
        live = sum(map(len, self._all.values()))
        self._again = self._again or self._size > max(GROWN * live, LEAST_BYTES)
        number = self._number + self._again
        frame = msgspec.msgpack.encode(self._all if self._again else changes)
        data = len(frame).to_bytes(4) + frame
        path = self._path(number)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._again:
                durable.replace(path, data)
                self._hash, self._size = hashlib.sha256(), 0
                self._path(number - 2).unlink(missing_ok=True)
            else:
                fd = durable.opened(path)
                try:
                    durable.append(fd, data, self._folder)
                finally:
                    os.close(fd)
        except OSError as err:
            self._again = True
            raise ConfigError(f"evidence journal {path} cannot be written ({err.strerror}); make room") from err
        self._hash.update(data)
        self._number, self._size, self._again = number, self._size + len(data), False
        return Mark(number, self._size, self._hash.hexdigest())

    def _take(self, changes: dict[str, bytes]) -> None:
        for key, stream in changes.items():
            self._all.pop(key, None)
            if stream:
                self._all[key] = stream
        while len(self._all) > MOST_STREAMS:
            del self._all[next(iter(self._all))]

    def _path(self, number: int) -> Path:
        return self._folder / f"evidence.{number}"
