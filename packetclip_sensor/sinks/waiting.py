"""What the sinks that write files do while a disk takes nothing: hold what they have, say why, and try again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from packetclip_sensor.errors import SinkError

WAIT_S = 5.0

log = structlog.get_logger()


def patiently(
    call: Callable[[], object],
    why: Callable[[OSError | SinkError], str],
    name: str,
    path: Path,
    sleep: Callable[[float], None],
    waiting: Callable[[str | None], None],
) -> None:
    """Call until it succeeds.

    Args:
        why: says what went wrong, or raises where waiting would not help.
        name: of the events in the log, NAME_waiting and NAME_back.
        sleep: the clock to wait by; whatever it raises ends the waiting.
        waiting: is told why nothing can be written, and None once it goes on.
    """
    tries = 0
    while True:
        try:
            call()
        except (OSError, SinkError) as err:
            reason = why(err)
            if not tries:
                log.warning(f"{name}_waiting", path=str(path), reason=reason)
            waiting(reason)
            tries += 1
            sleep(WAIT_S)
        else:
            if tries:
                log.info(f"{name}_back", path=str(path), tries=tries, waited_s=tries * WAIT_S)
                waiting(None)
            return
