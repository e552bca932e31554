"""Values out of alert documents of unknown origin: what is not of the expected type is taken as missing, never an error."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from packetclip_sensor.common.missions import Missions
from packetclip_sensor.common.time_parsing import in_utc

Document = dict[str, Any]
SEVERITY_NAMES = {21: "low", 47: "medium", 73: "high", 99: "critical"}
"""`event.severity` in words, as Elastic Security has them."""


def get(document: Any, where: str) -> Any:
    """The value at a dotted path of nested objects; None where there is none."""
    for name in where.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def text(document: Any, where: str) -> str:
    """A string; of a list the first. Other types are none."""
    value = get(document, where)
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else ""


def strings(document: Any, where: str) -> list[str]:
    """All strings of a field that holds one or many."""
    value = get(document, where)
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else [value] if isinstance(value, str) else []


def sessions(document: Any) -> list[str]:
    """Zeek's uids or Suricata's flow ids of an alert or a window."""
    return [*strings(document, "zeek.session_id"), *strings(document, "suricata.eve.flow_id")]


def concepts(document: Any, missions: Missions) -> list[tuple[Document, bool]]:
    """The concepts of an alert, and whether its transport lets each be meant; those that it rules out come last."""
    over = missions.transports(
        text(document, "packetclip.mission"), text(document, "packetclip.class"), strings(document, "network.transport")
    )
    found = [(c, missions.possible(text(c, "name"), text(c, "graph"), over)) for c in objects(document, "packetclip.concepts")]
    return sorted(found, key=lambda each: not each[1])


def technique(document: Any) -> tuple[str, str]:
    """Id and name of the most exact ATT&CK technique of an alert, T1110.001 before T1110; empty where it names none."""
    both = ("threat.technique.subtechnique", "threat.technique")
    id_, name = (text(document, f"{both[0]}.{key}") or text(document, f"{both[1]}.{key}") for key in ("id", "name"))
    return id_, name


def by_mission(document: Any, where: str, missions: Missions) -> list[tuple[str, float]]:
    """The numbers of a field that has one for each mission, with the missions' own names in place of field names."""
    found = get(document, where)
    values = found.items() if isinstance(found, dict) else ()
    return [(missions.by_id.get(str(name), str(name)), finite(value)) for name, value in values]


def fired(document: Any, most: int) -> str:
    """The alerts of other engines on the same hosts."""
    found = []
    for other in objects(document, "packetclip.other_alerts")[:most]:
        words, count = " ".join(text(other, key) for key in ("engine", "rule", "name")), number(other, "count")
        found.append(f"{words} ({count:,.0f} times)" if count > 1 else words)
    return "; ".join(found)


def items(document: Any, where: str) -> list[Any]:
    """A list, else an empty one."""
    value = get(document, where)
    return value if isinstance(value, list) else []


def objects(document: Any, where: str) -> list[Document]:
    """The objects of a list."""
    return [item for item in items(document, where) if isinstance(item, dict)]


def number(document: Any, where: str) -> float:
    """A number that can be shown and drawn; 0 for everything else."""
    return finite(get(document, where))


def finite(value: Any) -> float:
    """`value` if it is such a number, else 0."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1e15 else 0.0


def when(document: Any, where: str) -> float:
    """Epoch seconds of an ISO 8601 time, UTC where it names no offset; 0 where it is none."""
    try:
        return in_utc(text(document, where))
    except (ValueError, OverflowError):
        return 0.0


def clock(ts: float) -> str:
    """UTC, to the second."""
    return f"{datetime.fromtimestamp(ts, UTC):%Y-%m-%d %H:%M:%S}"


def shown(value: Any, name: str) -> str:
    """A fact or a column as text; ports are no amounts and have no thousands separator."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not name.endswith("_p") else str(value)


def hosts(document: Any, where: str, count: str) -> str:
    """The first address of a field and how many more there are, as the field `count` says."""
    found = strings(document, where)
    more = max(int(number(document, count)), len(found)) - 1
    return (found[0] if found else "unknown") + (f" and {more:,} more" if more > 0 else "")


def ends(item: Any) -> str:
    """An evidence packet's two ends and the way that it went: "tcp 10.0.0.5:40000 → [2001:db8::9]:80"."""
    sides = []
    for side in ("orig", "resp"):
        host = text(item, f"{side}_h")
        sides.append(f"{f'[{host}]' if ':' in host else host}:{number(item, f'{side}_p'):.0f}")
    return f"{text(item, 'proto')} {sides[0]} {'→' if get(item, 'is_orig') is not False else '←'} {sides[1]}"


def data(item: Any) -> bytes:
    """An evidence packet's bytes; none where they are no hexadecimal digits."""
    try:
        return bytes.fromhex(text(item, "data"))
    except ValueError:
        return b""
