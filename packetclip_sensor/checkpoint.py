"""What the sensor must remember over a restart: positions in the logs, the last judged second, open episodes.

One JSON file, replaced as a whole: it is written beside itself, synced, renamed and the folder synced, so a crash leaves the old
state or the new one and never half of one. The pipeline saves it only after the sink has acknowledged.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records import Episode, Position

VERSION = 1


class State(msgspec.Struct, frozen=True):
    """Everything before `positions` is read, judged up to the second `judged`, and acknowledged; `episodes` were open then."""

    version: int = VERSION
    positions: tuple[Position, ...] = ()
    judged: int = 0
    """Last judged second of event time, epoch; 0 before the first."""
    episodes: tuple[Episode, ...] = ()
    model_version: str = ""
    """Bundle that made the episodes; empty before the first save."""


_decoder = msgspec.json.Decoder(State)


def load(path: Path) -> State:
    """The saved state; an empty one where the file is missing, as on the first start.

    Raises:
        ConfigError: the file cannot be read, is damaged, or was written by another version.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return State()
    except OSError as err:
        raise ConfigError(
            f"state file {path} cannot be read ({err.strerror}); give the sensor's user the right to read it"
        ) from err
    try:
        state = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise ConfigError(
            f"state file {path} is damaged ({err}); move it away to read the logs again from their start: "
            "alerts already written keep their ids and are not written twice"
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
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(state))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as err:
        raise ConfigError(
            f"state file {path} cannot be written ({err.strerror}); make room or let the sensor's user write to {path.parent}"
        ) from err


@contextlib.contextmanager
def lock(state_dir: Path) -> Iterator[None]:
    """Hold the state folder for this process; the lock goes with the process, even after kill -9.

    Raises:
        ConfigError: another sensor holds it, or the folder cannot be made.
    """
    path = state_dir / "lock"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
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
