"""One of Dask's workers killed while a cut is being written."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def killing_one(client: Any, folder: Path) -> Iterator[list[int]]:
    """Kill -9 a worker as soon as a file of `folder` is being written; gives its process id, in a list that is empty before. The
    block fails if none was killed."""
    pids, killed, over = list(client.run(os.getpid).values()), list[int](), threading.Event()

    def kill() -> None:
        while not over.is_set() and not killed:
            if list(folder.glob("*.new")):  # in the middle of a cut
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join()
    assert killed
