"""Times as others write them, to epoch seconds. What can be read in two ways is refused with its reason.

CICFlowMeter prints local time of the machine it ran on, as `dd/MM/yyyy hh:mm:ss a`; early versions left the `a` (AM, PM) away
and so lost half of the day (its DateFormatter.java and BasicFlow.java), spreadsheets turned it to month first or dropped seconds.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from math import isfinite
from zoneinfo import ZoneInfo

from packetclip_sensor.errors import ConfigError

EARLIEST = 1e8
"""A plain number below this (March 1973) is no time of a capture; it is perhaps one counted from the capture's start."""

_LOCAL = re.compile(
    r"(\d{1,4})[/.\-](\d{1,2})[/.\-](\d{1,4})[T\s]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?\s*([^\W\d_.]\.?[^\W\d_]\.?)?",
)
_ZONED = re.compile(r".*(Z|[+-]\d{2}:?\d{2})$", re.IGNORECASE)
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")
_AFTERNOON = {"am": 0, "pm": 12, "上午": 0, "下午": 12}


class TimeError(ValueError):
    """A time that cannot be read, or not in one way only."""


@dataclass(frozen=True)
class Local:
    """A time on some wall clock."""

    clock: datetime
    resolution_s: float
    """What was cut off: the true time lies within so many seconds after `clock`."""
    marked: bool
    """It says by itself which half of the day is meant."""


def zone(name: str) -> tzinfo:
    """A zone by its IANA name, or by its offset as +02:00.

    Raises:
        ConfigError: neither.
    """
    if found := re.fullmatch(r"([+-])(\d{1,2})(?::?(\d{2}))?", name.strip()):
        minutes = int(found[2]) * 60 + int(found[3] or 0)
        if minutes < 24 * 60:
            return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes))
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as err:
        raise ConfigError(
            f"time zone {name!r} is not known; give a name such as America/New_York, or one such as -04:00"
        ) from err


def instant(text: str, first: float) -> float:
    """Epoch seconds of an interval's start or end.

    Args:
        text: epoch seconds, ISO 8601 with a zone, or +SECONDS or +[H:]MM:SS after the capture's first packet.
        first: epoch seconds of that packet.
    Raises:
        TimeError: none of them.
    """
    text = text.strip()
    if text.startswith("+"):
        if found := _CLOCK.fullmatch(text[1:]):
            return first + int(found[1] or 0) * 3600 + int(found[2]) * 60 + float(found[3])
        return first + _number(text[1:])
    if re.fullmatch(r"-?[\d.]+(?:e[+-]?\d+)?", text, re.IGNORECASE):
        value = _number(text)
        if value < EARLIEST:
            raise TimeError(f"{text!r} is no time of this age; write +{text} for seconds after the capture's first packet")
        return value
    try:
        found_time = datetime.fromisoformat(text)
    except ValueError as err:
        raise TimeError(f"{text!r} is neither epoch seconds, nor ISO 8601, nor +SECONDS from the capture's start") from err
    if found_time.tzinfo is None:
        raise TimeError(f"{text!r} has no time zone; append Z or an offset such as +02:00")
    return found_time.timestamp()


def local(text: str, *, month_first: bool = False) -> Local | float:
    """A flow's timestamp: a wall-clock time, or epoch seconds where it is a number or names its zone.

    Raises:
        TimeError: not of a form that CICFlowMeter or its like writes.
    """
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        value = _number(text)
        while value > 1e11:  # milliseconds, microseconds
            value /= 1000.0
        if value < EARLIEST:
            raise TimeError(f"{text!r} is no time of this age")
        return value
    if _ZONED.fullmatch(text) and text[:4].isdecimal():
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError as err:
            raise TimeError(f"{text!r} is not a time") from err
    found = _LOCAL.fullmatch(text)
    if not found:
        raise TimeError(f"{text!r} is not a time of the form dd/MM/yyyy hh:mm:ss AM, nor yyyy-MM-dd HH:mm:ss")
    a, b, c = int(found[1]), int(found[2]), int(found[3])
    iso = len(found[1]) == 4
    year, month, day = (a, b, c) if iso else (c, a, b) if month_first else (c, b, a)
    hour, half = int(found[4]), (found[8] or "").casefold().replace(".", "")
    if half:
        if half not in _AFTERNOON or not 1 <= hour <= 12:
            raise TimeError(f"{text!r}: hour {hour} {found[8]} is not on a clock of twelve hours")
        hour = hour % 12 + _AFTERNOON[half]
    try:
        fraction = found[7] or ""
        micro = int(fraction[:6].ljust(6, "0")) if fraction else 0
        clock = datetime(year, month, day, hour, int(found[5]), int(found[6] or 0), micro)
    except ValueError as err:
        remedy = "" if iso else "; if months come first, give --date-order mdy" if not month_first else "; --date-order dmy?"
        raise TimeError(f"{text!r} is not a date ({err}){remedy}") from err
    if clock.year < 1973:
        raise TimeError(f"{text!r} is no time of this age")
    resolution = 10.0 ** -min(len(fraction), 6) if fraction else 1.0 if found[6] else 60.0
    return Local(clock, resolution, bool(half) or iso)


def epoch(clock: datetime, place: tzinfo) -> float:
    """Epoch seconds of a wall-clock time.

    Raises:
        TimeError: the clock shows that time twice or never, because summer time ends or begins.
    """
    early, late = clock.replace(tzinfo=place, fold=0), clock.replace(tzinfo=place, fold=1)
    if early.utcoffset() != late.utcoffset():
        raise TimeError(f"{clock} is twice or never on the clocks of {place}, as summer time ends or begins")
    return early.timestamp()


def _number(text: str) -> float:
    with suppress(ValueError):
        if isfinite(value := float(text)):
            return value
    raise TimeError(f"{text!r} is not a number of seconds")
