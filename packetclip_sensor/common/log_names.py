"""Which log a file is, by its name: what reads logs asks it of a path, what resumes reading asks it of a position."""

from __future__ import annotations

import re

_NAME = re.compile(r"packetclip_(packet|flow)(?:(?:\.|__|-).+)?\.log(?:[.-]\d[\w:-]*)?(?:\.gz)?")


def log_of(name: str) -> str | None:
    """ "packet" or "flow" for the names Zeek and its helpers give our logs, growing or rotated; None for any other name."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None
