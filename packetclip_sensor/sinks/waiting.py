"""What the sinks that write files do while a disk takes nothing: keep what they have, log why, and try again."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable
from pathlib import Path

import structlog

from packetclip_sensor.errors import SinkError

WAIT_S = 5.0
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors after which the same may succeed once there is room."""
Sleep = Callable[[float], None]
Waiting = Callable[[str | None], None]

log = structlog.get_logger()


def patiently(
    call: Callable[[], object],
    why: Callable[[OSError | SinkError], str],
    name: str,
    path: Path,
    sleep: Sleep,
    waiting: Waiting,
) -> None:
    """Call until it succeeds.

    Args:
        why: the error in words; raises where waiting would not help.
        name: of the events in the log, NAME_waiting and NAME_back.
    """
    for tries in itertools.count():
        try:
            call()
        except (OSError, SinkError) as err:
            reason = why(err)
            if not tries:
                log.warning(f"{name}_waiting", path=str(path), reason=reason)
            waiting(reason)
            sleep(WAIT_S)
        else:
            if tries:
                log.info(f"{name}_back", path=str(path), tries=tries, waited_s=tries * WAIT_S)
                waiting(None)
            return
