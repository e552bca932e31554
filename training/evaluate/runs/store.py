"""The store: a JSON file for each task with everything that a number must be given with, and its predictions beside it.

Predictions are kept so that a table can be changed without training anew. Files appear whole or not at all; a task killed in the
middle leaves nothing and is run again.
"""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from training.common import write_arrays, write_whole
from training.evaluate.plan import Task, key

Arrays = Mapping[str, npt.NDArray[Any]]


class Result(msgspec.Struct, kw_only=True):
    """What is known of a task that ended, well or not."""

    name: str
    key: str
    run: str
    seed: int
    error: str = ""
    """Empty where it went well."""
    command: str
    config: dict[str, Any] = {}
    data: dict[str, str] = {}
    """SHA-256 (16 digits) of each file read."""
    counts: dict[str, dict[str, int]] = {}
    """Windows and captures of each part: train, validation, and each test set."""
    split: dict[str, list[str]] = {}
    """Captures of train, validation and test."""
    history: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    """Parameters, FLOPs, rows of a pipeline run: whatever has no windows."""
    machine: str = ""
    minutes: float = 0.0
    memory_mb: int = 0
    finished: str = ""
    """UTC."""
    commit: str = ""


class Store:
    """A folder of results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, task: Task) -> Path:
        """The task's JSON file."""
        return self.folder / f"{task.name}.json"

    def read(self, task: Task) -> Result | None:
        """The result of the task as the plan now asks for it; None where there is none, or one of other settings."""
        try:
            result = msgspec.json.decode(self.path(task).read_bytes(), type=Result)
        except (OSError, msgspec.DecodeError):  # a result that cannot be read is made again
            return None
        return result if result.key == key(task) else None

    def arrays(self, task: Task) -> dict[str, npt.NDArray[Any]]:
        """Predictions: see training.evaluate.predictions."""
        with np.load(self.path(task).with_suffix(".npz"), allow_pickle=False) as held:
            return {name: held[name] for name in held.files}

    def write(self, task: Task, result: Result, arrays: Arrays | None = None) -> None:
        """Predictions first, then the result, so that a result is never without its predictions."""
        if arrays:
            write_arrays(self.path(task).with_suffix(".npz"), compressed=True, **arrays)
        write_whole(self.path(task), msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def machine() -> str:
    """Processor, cores and system, in words."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    model = (*names, platform.processor() or platform.machine())[0]
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
