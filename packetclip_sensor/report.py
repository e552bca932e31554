"""One self-contained HTML page from alert documents: timeline, table, and for every episode why the model says so.

The page must be safe to open whatever an attacker put into names, payloads or forged log lines: Jinja escapes everything, a
strict content security policy allows one style sheet by its hash and nothing else, and there is no script. It reads the documents
that `documents.py` makes, and takes any field as missing that is not of the expected type.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from packetclip_sensor import __version__, drawing
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.records import CLASS_MISSION, MISSIONS

TEMPLATES = Path(__file__).parent / "templates"
SEVERITY_NAMES = {21: "low", 47: "medium", 73: "high", 99: "critical"}
MAX_ITEMS = 12
"""Rows of any list inside one panel."""

MIN_FULL_BAR = 0.01
"""Concepts that all weigh less than this get short bars: the longest of nothing must not look like much."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """A named number with its bar: `share` of the bar's full length, 0 to 1."""

    name: str
    text: str
    share: float
    against: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """One evidence packet: headline, what the fields say, and its bytes."""

    headline: str
    reason: str
    weight: str
    rows: list[drawing.HexRow]
    cut: str


@dataclass(frozen=True, slots=True)
class Panel:
    """All that the page shows of one episode, as text; `anchor` is the only part that becomes an address."""

    anchor: str
    title: str
    mission: str
    slug: str
    klass: str
    probability: float
    severity: str
    state: str
    first: float
    last: float
    source: str
    destination: str
    reason: str
    meta: list[tuple[str, str]]
    technique: tuple[str, str, str]
    """Id, name and address; the address is empty where the id is not of ATT&CK's form."""
    missions: list[Item]
    classes: list[Item]
    concepts: list[Item]
    graph: drawing.Graph | None
    evidence: list[Evidence]
    texts: list[tuple[str, str]]
    facts: list[tuple[str, str]]
    flow: str

    @property
    def when(self) -> str:
        """Time of the first packet, UTC, to the second."""
        return clock(self.first)


def read(path: Path) -> list[Document]:
    """The alert documents of an NDJSON file, in the file's order. Lines that are other JSON objects are passed over.

    Raises:
        LogFormatError: not readable, not JSON lines, or no alert document in it.
    """
    found: list[Document] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    document = msgspec.json.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
                    raise LogFormatError(
                        f"{path}:{number}: not a JSON line ({err}); give a file that replay or run wrote"
                    ) from err
                if isinstance(document, dict) and isinstance(document.get("packetclip"), dict):
                    found.append(document)
    except OSError as err:
        raise LogFormatError(f"{path}: cannot be read: {err.strerror}; give a file that replay or run wrote") from err
    if not found and path.stat().st_size == 0:
        raise LogFormatError(f"{path}: is empty: there was no alert, so there is nothing to show")
    if not found:
        raise LogFormatError(f"{path}: holds no alert document; `packetclip replay PATH --out {path}` writes them")
    return found


def page(documents: Iterable[Document], *, title: str) -> str:
    """The page as one string; of each episode its last document counts."""
    newest: dict[str, Document] = {}
    for document in documents:
        newest[_text(document, "packetclip.episode.id") or _text(document, "event.id")] = document
    panels = [_panel(document, f"e{n}") for n, document in enumerate(newest.values(), 1)]
    panels.sort(key=lambda panel: panel.first)
    env = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    style_hash = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    count = Counter(panel.mission for panel in panels)
    models = sorted({_text(d, "packetclip.model.version") for d in newest.values()} - {""})
    sensors = sorted({_text(d, "observer.name") for d in newest.values()} - {""})
    return env.get_template("report.html.j2").render(
        title=title,
        css=Markup(css),  # noqa: S704 - our own file
        style_hash=style_hash,
        panels=panels,
        missions=[(mission, _slug(mission), count[mission]) for mission in MISSIONS],
        slugs={mission: _slug(mission) for mission in MISSIONS},
        classes=Counter(panel.klass for panel in panels).most_common(),
        timeline=drawing.timeline([(p.mission, p.first, p.last, p.anchor, f"{p.when} {p.title}") for p in panels], MISSIONS),
        span=f"{clock(panels[0].first)} to {clock(max(p.last for p in panels))} UTC",
        foot=f"packetclip-sensor {__version__}, model {', '.join(models) or 'unknown'}, sensor {', '.join(sensors) or 'unknown'}",
    )


def _panel(document: Document, anchor: str) -> Panel:
    mission = _text(document, "packetclip.mission")
    concepts = [c for c in _list(document, "packetclip.concepts") if isinstance(c, dict)]
    paths = [
        ([str(node) for node in _list(path, "nodes")][:MAX_ITEMS], _number(path, "share"))
        for path in _list(document, "packetclip.paths")
        if isinstance(path, dict)
    ]
    technique = _text(document, "threat.technique.subtechnique.id") or _text(document, "threat.technique.id")
    facts = _get(document, "packetclip.facts")
    first = _when(document, "packetclip.episode.first") or _when(document, "@timestamp")
    evidence = [_evidence(item) for item in _list(document, "packetclip.evidence") if isinstance(item, dict)]
    return Panel(
        anchor=anchor,
        title=_text(document, "message") or mission,
        mission=mission,
        slug=_slug(mission),
        klass=_text(document, "packetclip.class"),
        probability=_number(document, "packetclip.episode.peak") or _number(document, "packetclip.probability"),
        severity=SEVERITY_NAMES.get(int(_number(document, "event.severity")), ""),
        state=_text(document, "packetclip.episode.state"),
        first=first,
        last=max(first, _when(document, "packetclip.episode.last")),
        source=_hosts(document, "source.ip", "packetclip.episode.source_count"),
        destination=_hosts(document, "destination.ip", "packetclip.episode.destination_count"),
        reason=_text(document, "event.reason"),
        meta=_meta(document),
        technique=(
            technique,
            _text(document, "threat.technique.subtechnique.name") or _text(document, "threat.technique.name"),
            drawing.technique_address(technique),
        ),
        missions=_shares(_get(document, "packetclip.missions")),
        classes=_classes(document),
        concepts=_concepts(concepts),
        graph=drawing.graph(paths[:MAX_ITEMS]) if paths else None,
        evidence=evidence[:MAX_ITEMS],
        texts=[
            (_text(t, "text"), f"{_number(t, 'cosine'):.2f}")
            for t in _list(document, "packetclip.texts")[:MAX_ITEMS]
            if isinstance(t, dict)
        ],
        facts=[(str(name), _shown(value)) for name, value in facts.items()] if isinstance(facts, dict) else [],
        flow=_text(document, "packetclip.flow.text"),
    )


def _meta(document: Document) -> list[tuple[str, str]]:
    """What links the episode to other logs, and its extent."""
    first, last = _when(document, "packetclip.episode.first"), _when(document, "packetclip.episode.last")
    pairs = [
        ("Time (UTC)", f"{clock(first)} to {clock(last)} ({max(0.0, last - first):.1f} s)"),
        (
            "Windows, packets",
            f"{_number(document, 'packetclip.episode.verdicts'):,.0f}, {_number(document, 'packetclip.episode.packets'):,.0f}",
        ),
        ("Risk", f"{_number(document, 'event.risk_score'):.0f} of 100"),
        ("Zeek uid", _some(document, "zeek.session_id")),
        ("Community ID", _some(document, "network.community_id")),
        ("Episode", _text(document, "packetclip.episode.id")),
    ]
    return [(name, value) for name, value in pairs if value]


def _shares(missions: Any) -> list[Item]:
    if not isinstance(missions, dict):
        return []
    names = {_slug(name).replace("-", "_"): name for name in ("Benign", *MISSIONS)}
    rows = [(names.get(str(name), str(name)), _finite(value)) for name, value in missions.items()]
    return [Item(name, f"{value:.3f}", _unit(value)) for name, value in sorted(rows, key=lambda row: -row[1])][:MAX_ITEMS]


def _classes(document: Document) -> list[Item]:
    rows = [(_text(c, "name"), _number(c, "probability")) for c in _list(document, "packetclip.classes") if isinstance(c, dict)]
    return [Item(name, f"{value:.3f}", _unit(value)) for name, value in rows[:5]]


def _concepts(concepts: list[Document]) -> list[Item]:
    rows = [(_text(c, "name"), _number(c, "weight")) for c in concepts[:MAX_ITEMS]]
    most = max([MIN_FULL_BAR, *(abs(weight) for _, weight in rows)])
    return [Item(name, f"{weight:+.3f}", _unit(abs(weight) / most), weight < 0) for name, weight in rows]


def _evidence(item: Document) -> Evidence:
    ends = []
    for side in ("orig", "resp"):
        host = _text(item, f"{side}_h")
        ends.append(f"{f'[{host}]' if ':' in host else host}:{_number(item, f'{side}_p'):.0f}")
    arrow = "→" if _get(item, "is_orig") is not False else "←"
    try:
        data = bytes.fromhex(_text(item, "data"))
    except ValueError:
        data = b""
    size = _number(item, "size_bytes")
    which = f"packet {_number(item, 'n'):.0f} of {_text(item, 'uid')}, {size:,.0f} bytes"
    return Evidence(
        headline=f"{_text(item, 'proto')} {ends[0]} {arrow} {ends[1]}, {which}",
        reason=_text(item, "reason"),
        weight=f"{_number(item, 'weight'):+.3f}",
        rows=drawing.hex_rows(data),
        cut=f"first {len(data)} of {size:,.0f} bytes" if len(data) < size else "",
    )


def _hosts(document: Document, where: str, count: str) -> str:
    """The first address and how many more there are."""
    value = _get(document, where)
    hosts = [str(v) for v in value] if isinstance(value, list) else [value] if isinstance(value, str) else []
    more = max(int(_number(document, count)), len(hosts)) - 1
    return (hosts[0] if hosts else "unknown") + (f" and {more:,} more" if more > 0 else "")


def _get(document: Any, where: str) -> Any:
    """The value at a dotted path of nested objects; None where there is none."""
    for name in where.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _text(document: Any, where: str) -> str:
    """A string; of a list the first. Other types are none."""
    value = _get(document, where)
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else ""


def _some(document: Document, where: str) -> str:
    value = _get(document, where)
    values = [v for v in value if isinstance(v, str)] if isinstance(value, list) else [value] if isinstance(value, str) else []
    return ", ".join(values[:3]) + (f" and {len(values) - 3} more" if len(values) > 3 else "")


def _list(document: Any, where: str) -> list[Any]:
    value = _get(document, where)
    return value if isinstance(value, list) else []


def _number(document: Any, where: str) -> float:
    return _finite(_get(document, where))


def _finite(value: Any) -> float:
    """A number that can be drawn; 0 for everything else."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1e15 else 0.0


def _unit(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 4)


def _when(document: Document, where: str) -> float:
    """Epoch seconds of an ISO 8601 time; 0 where it is none."""
    try:
        return datetime.fromisoformat(_text(document, where)).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def clock(ts: float) -> str:
    """UTC, to the second."""
    return f"{datetime.fromtimestamp(ts, UTC):%Y-%m-%d %H:%M:%S}"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _slug(mission: str) -> str:
    """A class name of our style sheet; "other" for what is no mission."""
    known = {name: name.lower().replace(" ", "-") for name in CLASS_MISSION.values()}
    return known.get(mission, "other")
