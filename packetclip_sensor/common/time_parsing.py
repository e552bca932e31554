"""Times as people write them in options: the same words mean the same instant in every command and on every machine."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from math import inf

from packetclip_sensor.errors import ConfigError

HELP = "24h or 7d ago, 2026-11-21 or 2026-11-21T08:00; UTC where it names no offset (Z, +02:00)."
"""What an option of a time says of its form."""
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def moment(option: str, text: str) -> float:
    """Epoch seconds of so long before now ("24h"; s, m, h, d or w), or of an ISO 8601 time.

    Raises:
        ConfigError: it is neither.
    """
    if re.fullmatch(r"[0-9]{1,6}[smhdw]", text):
        return time.time() - int(text[:-1]) * _UNITS_S[text[-1]]
    try:
        return in_utc(text)
    except (ValueError, OverflowError) as err:
        raise ConfigError(
            f"{option} {text!r}: no time; write 24h or 7d for so long ago, or 2026-11-21 or 2026-11-21T08:00 (UTC)"
        ) from err


def span(since: str | None, until: str | None) -> tuple[float, float]:
    """Epoch seconds of the options --since and --until, minus and plus infinity where they are not given.

    Raises:
        ConfigError: one of them is no time, or nothing is left between them.
    """
    first = moment("--since", since) if since is not None else -inf
    last = moment("--until", until) if until is not None else inf
    if first >= last:
        raise ConfigError(f"--since {since} is not before --until {until}; turn them round")
    return first, last


def in_utc(text: str) -> float:
    """Epoch seconds of an ISO 8601 time, which is UTC where it names no offset.

    Raises:
        ValueError, OverflowError: it is none.
    """
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def epoch_seconds(text: bytes) -> float:
    """Epoch seconds of a time as it stands in Zeek's JSON logs, whichever `LogAscii::json_timestamps` a site has chosen.

    Args:
        text: seconds (JSON::TS_EPOCH), milliseconds (TS_MILLIS; no packet is of the year 2286, so from 1e10 on it is these), or
            ISO 8601 with its quotes (TS_ISO8601).
    Raises:
        ValueError, OverflowError: it is none of them.
    """
    if text.startswith(b'"'):
        return in_utc(text.strip(b'"').decode())
    value = float(text)
    return value if value < 1e10 else value / 1000
