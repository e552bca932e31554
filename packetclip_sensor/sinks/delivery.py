"""What the answer of a receiver asks for, and how long to wait for one that takes nothing: the same for clusters and webhooks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import structlog

from packetclip_sensor.common.durable import BUSY, Sleep, Waiting
from packetclip_sensor.common.metrics import Counters

MAX_ITEM_500 = 8
"""Times that one document may cause an internal error before it counts as refused: a document that always does so must not hold
back all others for ever. Being busy (429, 502, 503, 504) has no such limit."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
LONGEST_RETRY_AFTER_S = 300.0
"""A server that asks for more patience (Retry-After, RFC 9110 10.2.3) is asked again after this all the same."""

log = structlog.get_logger()
Outcome = Literal["written", "duplicate", "retry", "person", "too large", "refused"]
"""What an answer means for what was sent. duplicate: it is there already (a repeat after a restart or a lost answer). retry: the
same may succeed later. person: credentials, rights or templates are wrong. too large: less may be taken at once."""


def classify(status: int, error: str = "", failed_500: int = 0) -> Outcome:
    """What the answer to a bulk item, or to a whole request, asks for.

    Args:
        status: HTTP status.
        error: type of the error, or a text that holds it.
        failed_500: internal errors that this document has caused, with this one.
    """
    if status < 300:
        return "written"
    if status == 409:
        return "duplicate"
    if failed_500 >= MAX_ITEM_500:
        return "refused"
    if status in BUSY or "cluster_block_exception" in error:
        return "retry"
    if status in (401, 403) or "index_not_found_exception" in error:
        return "person"
    return "too large" if status == 413 else "refused"


@dataclass
class Patience:
    """Waits while a receiver takes nothing: twice as long each time, half of it by chance so that many sensors do not come back
    at once."""

    name: str
    """Of the events in the log: NAME_waiting, NAME_back."""
    where: dict[str, Any]
    """What of the receiver stands in these."""
    counters: Counters
    counter: str
    """The counter that rises with each try that is to come."""
    sleep: Sleep
    rng: Callable[[], float] = random.random
    """Source of chance, in [0, 1)."""
    waiting: Waiting = lambda why: None
    tries: int = 0
    """Failed tries in a row: 0 while all is well."""
    waited_s: float = 0.0

    def count(self) -> None:
        """A request has failed and will be sent again."""
        setattr(self.counters, self.counter, getattr(self.counters, self.counter) + 1)

    def wait(self, why: str, at_least_s: float = 0.0) -> None:
        """Sleep before the next try; `at_least_s` is what the receiver asked for."""
        self.count()
        if not self.tries:
            log.warning(f"{self.name}_waiting", **self.where, reason=why)
        self.waiting(why)
        pause_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(self.tries, 16)) * (0.5 + self.rng() / 2)
        pause_s = max(pause_s, min(at_least_s, LONGEST_RETRY_AFTER_S))
        self.tries += 1
        self.waited_s += pause_s
        self.sleep(pause_s)

    def well(self) -> None:
        """It has taken what it was sent: the next trouble begins with a short wait and a line in the log."""
        if self.tries:
            log.info(f"{self.name}_back", **self.where, tries=self.tries, waited_s=round(self.waited_s, 1))
            self.waiting(None)
        self.tries, self.waited_s = 0, 0.0


def retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for: a number of seconds or an HTTP date (RFC 9110 10.2.3); 0 for anything else."""
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
