"""What every package of training may use: the error that a user can mend, the form of a command line, files written whole."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from packetclip_sensor.common.durable import sync_folder
from packetclip_sensor.errors import SensorError


class DataError(SensorError):
    """Training data is missing or unfit; the message says what to do."""


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m MODULE`, whose help keeps the lines of the module's docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def exit_code(work: Callable[[], int | None]) -> int:
    """Do a command's work. Returns its exit code, or 2 with one line on stderr where a user can mend what is wrong."""
    try:
        return work() or 0
    except (SensorError, OSError, pa.ArrowInvalid) as err:  # Arrow's: a file that is no Parquet
        print(f"error: {err}", file=sys.stderr)
        return 2


def argument(*names: str, **settings: Any) -> Callable[[argparse.ArgumentParser], object]:
    """What gives a parser an argument, in the words of its `add_argument`."""
    return methodcaller("add_argument", *names, **settings)


def command(
    *give: Callable[[argparse.ArgumentParser], object],
) -> Callable[[Callable[[argparse.Namespace], int | None]], Callable[..., int]]:
    """Make of a function of the arguments the `main(argv)` of its module, whose docstring is the help.

    What the function returns or raises becomes the `exit_code`.

    Args:
        give: each gives the parser an argument (`argument`), or several.
    """

    def made(work: Callable[[argparse.Namespace], int | None]) -> Callable[..., int]:
        def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
            module = work.__globals__
            arguments = parser(module["__spec__"].name.removesuffix(".__main__"), module["__doc__"])
            for each in give:
                each(arguments)
            return arguments.parse_args(argv)

        return wraps(work)(lambda argv=None: exit_code(lambda: work(parsed(argv))))

    return made


def write_whole(path: Path, data: bytes | memoryview | str) -> None:
    """Write a file so that a crash leaves the old one or the new one; its folder is made where it is missing.

    Raises:
        OSError: it cannot be written; nothing half-written stays.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with half.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_arrays(path: Path, *, compressed: bool = False, **arrays: npt.NDArray[Any]) -> None:
    """Write an .npz file whole. Raises OSError."""
    held = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(held, **arrays)
    write_whole(path, held.getbuffer())
