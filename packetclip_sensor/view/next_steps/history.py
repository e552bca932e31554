"""How often, and when last, the source, the destination, both, and the class of an alert were in alerts before it.

Of a side with several hosts the first one is asked for, which the document names first because it sent or got most packets.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import NamedTuple

from packetclip_sensor.common.text import counted
from packetclip_sensor.view.document_access import Document, clock, strings, text, when

FIELDS = {"source.ip": "from ", "destination.ip": "to ", "packetclip.class": ""}
"""What is asked for, and how it is said."""
ASKED = (("source.ip",), ("destination.ip",), ("source.ip", "destination.ip"), ("packetclip.class",))
MAX_HOSTS = 100
"""Of a field; documents have no more."""
Key = tuple[tuple[str, str], ...]
"""Fields and the value that each must have."""


class Seen(NamedTuple):
    """What was seen before, in how many episodes, and the end of the last of them, epoch seconds."""

    what: str
    episodes: int
    last: float

    @property
    def words(self) -> str:
        """For example "in 3 earlier alerts, last 2026-11-21 12:42:00 UTC"."""
        return f"in {counted(self.episodes, 'earlier alert')}, last {clock(self.last)} UTC" if self.episodes else "not before"


class History:
    """Alerts in the order in which their episodes began."""

    def __init__(self) -> None:
        self._episodes: dict[Key, set[str]] = {}
        self._last: dict[Key, float] = {}

    def add(self, document: Document) -> None:
        """Take in one document; several of one episode count once."""
        for fields in ASKED:
            for values in product(*(strings(document, field)[:MAX_HOSTS] for field in fields)):
                key = tuple(zip(fields, values, strict=True))
                self._episodes.setdefault(key, set()).add(text(document, "packetclip.episode.id"))
                self._last[key] = max(self._last.get(key, 0.0), when(document, "packetclip.episode.last"))

    def before(self, document: Document) -> list[Seen]:
        """What was added of what is asked of this alert."""
        return [Seen(what(key), len(self._episodes.get(key, ())), self._last.get(key, 0.0)) for key in asked(document)]


def before(document: Document, documents: Iterable[Document]) -> list[Seen]:
    """As `History.before`, of those documents whose episodes began before this one."""
    history, first = History(), when(document, "packetclip.episode.first")
    for one in documents:
        if when(one, "packetclip.episode.first") < first:
            history.add(one)
    return history.before(document)


def asked(document: Document) -> list[Key]:
    """What is asked of the alerts before this one: its first source, its first destination, both, and its class."""
    keys = [tuple((field, text(document, field)) for field in fields) for fields in ASKED]
    return [key for key in keys if all(value for _, value in key)]


def what(key: Key) -> str:
    """For example "from 10.0.0.5 to 10.0.0.9"."""
    return " ".join(FIELDS[field] + value for field, value in key)
