"""Finds rotated logs where Zeek's helpers move them: `zeekctl` packs each log into `logs/YYYY-MM-DD/` within seconds.

A sensor that was stopped, or that waited hours for its sink, finds there what was written and moved meanwhile. Only files written
since the last acknowledged second are looked at, so that years of archive cost nothing and are not read anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from packetclip_sensor.sources.discovery import logs_in

SLACK_S = 120.0
"""A log's last write may carry an earlier time than the packets in it, where clocks differ."""

_DATED = re.compile(r"\d{4}-\d\d-\d\d")


def archives_of(logs: Sequence[Path], named: Sequence[Path]) -> list[Path]:
    """The folders to search: those named, else the one above each log folder called `current` (zeekctl's layout)."""
    return list(named) or [path.parent for path in logs if path.name == "current"]


def archived(folders: Sequence[Path], since: float) -> Iterator[tuple[Path, str]]:
    """Our logs in these folders and their dated subfolders that were last written after `since` (epoch seconds).

    A folder changes when a file is moved into it, so one that has not changed since then is not even listed.
    """
    for folder in folders:
        for place in (folder, *_dated(folder)):
            if not _newer(place, since - SLACK_S):
                continue
            yield from ((path, log) for path, log in logs_in(place) if _newer(path, since - SLACK_S))


def _dated(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if _DATED.fullmatch(entry.name) and entry.is_dir())
    except OSError:
        return []


def _newer(path: Path, since: float) -> bool:
    try:
        return path.stat().st_mtime >= since
    except OSError:
        return False
