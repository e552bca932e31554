"""What the sensor must remember over a restart: positions in the logs, the last judged second, open episodes.

One line of JSON and its SHA-256, replaced as a whole: it is written beside itself, synced, renamed and the folder synced, so a
crash leaves the old state or the new one and never half of one. The one before stays as `.old`: disks do lose files that were
synced, and a sensor that does not start for that would lose more than the seconds between the two. The pipeline saves, by a
`Saver`, only after the sink has acknowledged.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from packetclip_sensor.common import durable
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.evidence.journal import EvidenceJournal, Mark
from packetclip_sensor.records import AlertBatch, Episode, Position
from packetclip_sensor.service.health import Health

VERSION = 1
SAVE_S = 1.0
"""A state without new alerts is saved at most this often: each save waits for the disk."""

log = structlog.get_logger()


class DamagedError(ConfigError):
    """The state file is not what was written."""


class State(msgspec.Struct, frozen=True):
    """Everything before `positions` is read, judged up to the second `judged`, and acknowledged; `episodes` were open then."""

    version: int = VERSION
    positions: tuple[Position, ...] = ()
    judged: int = 0
    """Last judged second of event time, epoch, of the source that was read last; 0 before the first."""
    judged_by: dict[str, int] = {}
    """The same of every source; empty in states saved before there were sources, then `judged` is that of all."""
    episodes: tuple[Episode, ...] = ()
    spent: tuple[int, ...] = ()
    """As in `AlertBatch`."""
    model_version: str = ""
    """Bundle that made the episodes; empty before the first save."""
    began: float = 0.0
    """First start, epoch seconds: what was archived later is read, also after a kill before anything was judged."""
    saved: float = 0.0
    """When this state was saved, epoch seconds of this machine's clock; 0 in older states."""
    evidence: Mark | None = None
    """The part of the evidence journal that belongs to this state; None where there is no evidence."""
    evidence_streams: dict[str, bytes] = {}
    """What stands in it; not in the file itself."""

    @property
    def read_since(self) -> float:
        """When something not yet read may have been archived, epoch seconds: neither clock alone says so. 0 before the first."""
        judged = [second for second in (self.judged, *self.judged_by.values()) if second]
        return float(min([*judged, self.saved or time.time()])) if judged else 0.0


_decoder = msgspec.json.Decoder(State)


def load(path: Path) -> State:
    """The saved state; an empty one where the file is missing, as on the first start.

    Raises:
        ConfigError: the file cannot be read, is damaged (DamagedError), or was written by another version.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return State()
    except OSError as err:
        raise ConfigError(
            f"state file {path} cannot be read ({err.strerror}); give the sensor's user the right to read it"
        ) from err
    text, _, checksum = raw.partition(b"\n")
    try:
        if checksum and checksum != _checksum(text):
            raise ValueError("its checksum is wrong")
        state = _decoder.decode(text)
    except (ValueError, RecursionError) as err:  # msgspec's and Unicode's errors are ValueErrors
        raise DamagedError(
            f"state file {path} is damaged ({err}); `packetclip run` goes on from {path.name}.old, or else reads the logs again "
            "from their start: alerts already written keep their ids and are not written twice"
        ) from err
    if state.version != VERSION:
        raise ConfigError(
            f"state file {path} has version {state.version}, this sensor reads version {VERSION}; "
            "move it away, or start the sensor that wrote it"
        )
    return state


def save(path: Path, state: State) -> None:
    """Replace the state file so that a crash at any moment leaves a whole one.

    Raises:
        ConfigError: the folder cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = msgspec.json.encode(state)
        durable.replace(path, text + b"\n" + _checksum(text), before=lambda: _keep(path))
    except OSError as err:
        raise ConfigError(
            f"state file {path} cannot be written ({err.strerror}); make room or let the sensor's user write to {path.parent}"
        ) from err


def recover(path: Path) -> State:
    """Like `load`, but a damaged file is put aside as `.damaged`, and the one before it taken, or an empty state.

    Raises:
        ConfigError: the file cannot be read, or was written by another version.
    """
    try:
        return load(path)
    except DamagedError as err:
        aside = path.with_name(path.name + ".damaged")
        path.replace(aside)
        try:
            state = load(_old(path))
        except DamagedError:
            state = State()
        log.error("state_damaged", path=str(path), reason=str(err), kept_as=str(aside), judged=state.judged)
        return state


def _old(path: Path) -> Path:
    return path.with_name(path.name + ".old")


def _keep(path: Path) -> None:
    """Give the present state a second name, by a link, so that there is a state under the first one at every moment."""
    spare = path.with_name(path.name + ".spare")
    with contextlib.suppress(OSError):  # a file system without links, or no room: the new state counts more
        spare.unlink(missing_ok=True)
        os.link(path, spare)
        spare.replace(_old(path))


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode() + b"\n"


class Saver:
    """Saves the state behind each acknowledged batch, at most once a second where there was no alert.

    A state that cannot be saved (full or read-only disk) stops nothing: the old one stands, and a restart repeats more, which the
    documents' ids make harmless. It is said in the log and on the health page, and tried again with the next batch.
    """

    def __init__(self, path: Path, health: Health) -> None:
        self._path, self._health = path, health
        self._saved_at = self._began = 0.0
        self._left: State | None = None
        self._journal = EvidenceJournal(path.parent)
        self._mark: Mark | None = None
        self._changes: dict[str, bytes] = {}

    def load(self, model_version: str | None = None) -> State:
        """The state to start from, without the evidence of another model where a model's version is given.

        Raises:
            ConfigError: it cannot be read, or the folder cannot be written now: at the start there is somebody to mend it.
        """
        state = recover(self._path)
        if not state.began:
            state = msgspec.structs.replace(state, began=time.time())
        self._began, self._mark = state.began, state.evidence
        save(self._path, state)
        streams = self._journal.load(state.evidence)
        if model_version not in (None, state.model_version):
            self._journal.forget()
            self._mark, streams = None, {}
        return msgspec.structs.replace(state, evidence_streams=streams)

    def save(self, batch: AlertBatch, model_version: str) -> None:
        """Save the state behind a batch that the sink has acknowledged."""
        self._health.moved()
        self._health.judged, self._health.episodes_open = batch.judged, len(batch.episodes)
        self._left = State(
            positions=batch.positions,
            judged=batch.judged,
            judged_by=batch.judged_by,
            episodes=batch.episodes,
            spent=batch.spent,
            model_version=model_version,
            began=self._began,
            saved=time.time(),
        )
        for key, stream in batch.evidence.items():
            self._changes.pop(key, None)  # the latest is the last
            self._changes[key] = stream
        self._health.read_since = self._left.read_since
        if batch.alerts or time.monotonic() - self._saved_at >= SAVE_S:
            self.flush()

    def flush(self) -> None:
        """Save what is left."""
        if self._left is None:
            return
        try:
            if self._changes:
                self._mark = self._journal.append(self._changes)
                self._changes = {}
            save(self._path, msgspec.structs.replace(self._left, evidence=self._mark))
        except ConfigError as err:
            if not self._health.unsaved:
                log.error("state_unsaved", reason=str(err))
            self._health.unsaved = str(err)
            self._health.counters.state_unsaved += 1
        else:
            self._health.unsaved, self._left = None, None
        self._saved_at = time.monotonic()


@contextlib.contextmanager
def lock(state_dir: Path) -> Iterator[None]:
    """Hold the state folder for this process; the lock goes with the process, even after kill -9.

    Raises:
        ConfigError: another sensor holds it, or the folder cannot be made.
    """
    path = state_dir / "lock"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        fd = durable.opened(path, os.O_RDWR | os.O_CREAT, 0o644)  # `holder` reads it as any user
    except OSError as err:
        raise ConfigError(
            f"state folder {state_dir} cannot be used ({err.strerror}); make it writable for the sensor's user or set another one"
        ) from err
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            raise ConfigError(
                f"state folder {state_dir} is in use by another sensor (process {holder or 'unknown'}); "
                "stop that one or give this one a state folder of its own"
            ) from err
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def holder(state_dir: Path) -> str | None:
    """Number of the process that holds the state folder, empty where it has not said; None where nobody does."""
    try:
        fd = os.open(state_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
    return None
