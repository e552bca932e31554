"""Checkpoints of a training run: written whole or not at all, the last two kept, read without running code.

A checkpoint holds everything that the next step depends on (weights, optimiser, schedule, every generator), so that a resumed run
is the uninterrupted one bit for bit on the same machine.
"""

import io
import re
import sys
from pathlib import Path
from typing import Any

import torch

from packetclip_sensor.errors import ConfigError
from training.common import write_whole

KEPT = 2
FORMAT = 1
_NAME = re.compile(r"checkpoint-(\d+)-(\d+)\.pt")


def found(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    named = [(tuple(map(int, m.groups())), path) for path in folder.glob("checkpoint-*.pt") if (m := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(named)]


def save(folder: Path, stage: int, step: int, state: dict[str, Any]) -> bool:
    """Write a checkpoint; on a full or read-only disk warn, leave the last ones as they are, and return False."""
    held = io.BytesIO()
    torch.save({"format": FORMAT, **state}, held)
    path = folder / f"checkpoint-{stage}-{step:08d}.pt"
    try:
        write_whole(path, held.getbuffer())
        for old in found(folder)[:-KEPT]:
            old.unlink()
    except OSError as err:
        kept = found(folder)
        last = f"{kept[-1].name} is intact and can be resumed" if kept else "there is no earlier one"
        print(
            f"warning: checkpoint {path}: {err.strerror or err}; training goes on without it, {last}; free space in {folder}",
            file=sys.stderr,
        )
        return False
    return True


def load(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; None where there is none. Raises ConfigError where none of several can."""
    paths = found(folder)
    for path in reversed(paths):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as err:  # a damaged file raises whatever it is damaged into
            print(f"warning: checkpoint {path}: cannot be read ({err}); taking the one before", file=sys.stderr)
            continue
        if state.get("format") == FORMAT:
            return state
        print(f"warning: checkpoint {path}: format {state.get('format')!r}, not {FORMAT}; taking the one before", file=sys.stderr)
    if paths:
        raise ConfigError(f"{folder}: none of {len(paths)} checkpoints can be read; train anew with another --work")
    return None
