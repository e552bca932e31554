"""Counters of the whole sensor: one object, handed to every stage, so that nothing is dropped without being counted."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """Totals since the start; every field only rises. Counts of things, except where the name ends in a unit."""

    lines: int = 0
    packets: int = 0
    flows: int = 0
    rejects: int = 0
    """Bad lines: not whole, not JSON, a field missing or wrong, too long."""
    late_packets: int = 0
    """Packets of a second that was already judged."""
    windows: int = 0
    """Windows judged."""
    encoded_rows: int = 0
    """Distinct token rows that went through the encoder; `cached_rows` came from the cache."""
    cached_rows: int = 0
    evicted: int = 0
    """Packets let go because more were held than the limit allows."""
    verdicts: int = 0
    episodes: int = 0
    """Episodes opened."""
    folded_episodes: int = 0
    alerts_written: int = 0
    alerts_duplicate: int = 0
    """Documents that were already there (409): a repeat after a restart."""
    verdicts_fed: int = 0
    """Lines written for Zeek to raise notices from."""
    es_retries: int = 0
    dead_letters: int = 0

    def as_dict(self) -> dict[str, int]:
        """Name to total, in the order above."""
        return asdict(self)
