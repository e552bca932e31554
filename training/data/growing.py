"""An array that grows while Parquet is read: in memory, or in a file that is mapped, where it is larger than that."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


class Growing:
    """Rows that come part by part."""

    def __init__(self, folder: Path | None) -> None:
        """`folder`: where to keep them in place of memory, in a file without a name, which is gone with the last that uses the
        array. The operating system reads of it what is asked for, and drops it again where memory is short.

        Raises:
            OSError: no file can be made there.
        """
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder) if folder else None  # noqa: SIM115  (it lives as long as the array)
        self._parts: list[npt.NDArray[Any]] = []
        self._rows = 0

    def append(self, part: npt.NDArray[Any]) -> None:
        """Add rows, all of one shape and type. Raises OSError where there is no room."""
        self._rows += len(part)
        if self._file is None:
            self._parts.append(part)
        else:
            self._file.write(np.ascontiguousarray(part).tobytes())
            self._parts = [part[:0]]

    def array(self) -> npt.NDArray[Any]:
        """All of them; at least one part was added."""
        if self._file is None or not self._rows:
            return np.concatenate(self._parts)
        self._file.flush()
        return np.memmap(self._file, self._parts[0].dtype, "r+", shape=(self._rows, *self._parts[0].shape[1:]))
