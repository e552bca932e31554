"""One self-contained HTML page from alert documents: timeline, table, and for every episode why the model says so.

The page must be safe to open whatever an attacker put into names, payloads or forged log lines. All that comes from documents
travels as gzipped JSON in base64, which no parser of HTML can take for markup; the page's one script writes it as text, never as
markup; and a strict content security policy allows that script and the style sheet by their hashes and nothing else: no request
goes out. Panels are unpacked when they are opened, fifty at a time, so thousands of alerts open as fast as ten. It reads the
documents that `documents.py` makes, and takes any field as missing that is not of the expected type.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from packetclip_sensor import __version__, dissect, drawing
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records import CLASS_MISSION, MISSIONS
from packetclip_sensor.resources import resource

TEMPLATES = Path(__file__).parent / "templates"
SEVERITY_NAMES = {21: "low", 47: "medium", 73: "high", 99: "critical"}
MAX_ITEMS = 12
"""Rows of any list inside one panel."""
PANELS_A_PART = 50
STATIC_ROWS = 200
"""Episodes that stand in the page for a browser without scripts."""
MIN_FULL_BAR = 0.05
"""Weights that are all smaller than this get short bars: the longest of nothing must not look like much."""

Document = dict[str, Any]
Row = dict[str, Any]


def page(documents: Iterable[Document], *, title: str, uid_link: str | None = None) -> str:
    """The page as one string; of each episode its newest document counts.

    Args:
        uid_link: address with {uid} in it, for a link at every Zeek uid.
    Raises:
        ConfigError: `uid_link` is no web address.
    """
    if uid_link is not None and not (uid_link.startswith(("https://", "http://")) and "{uid}" in uid_link):
        raise ConfigError(f"uid link {uid_link!r}: must begin with https:// or http:// and hold {{uid}}, where the uid goes")
    newest: dict[str, Document] = {}
    for document in documents:
        name = _text(document, "packetclip.episode.id") or _text(document, "event.id")
        if name not in newest or _when(document, "@timestamp") >= _when(newest[name], "@timestamp"):
            newest[name] = document
    ordered = sorted(newest.values(), key=_first)
    rows = [_row(document) for document in ordered]
    panels = [_panel(document, uid_link) for document in ordered]
    parts = [_packed(panels[i : i + PANELS_A_PART]) for i in range(0, len(panels), PANELS_A_PART)]
    css, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    env = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    models = sorted({_text(d, "packetclip.model.version") for d in ordered} - {""})
    sensors = sorted({_text(d, "observer.name") for d in ordered} - {""})
    count = Counter(row["mission"] for row in rows)
    begin, end = min((row["first"] for row in rows), default=0.0), max((row["last"] for row in rows), default=0.0)
    return env.get_template(
        "report.html.j2"
    ).render(
        title=title,
        css=Markup(css),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        style_hash=_sha256(css),
        script_hash=_sha256(script),
        index=_packed({"rows": rows, "part": PANELS_A_PART, "graphs": {name: astuple(g) for name, g in _graphs().items()}}),
        parts=parts,
        missions=[(mission, _slug(mission), count[mission]) for mission in MISSIONS],
        classes=Counter(row["class"] for row in rows).most_common(),
        total=len(rows),
        static=rows[-STATIC_ROWS:],
        span=f"{clock(begin)} to {clock(end)} UTC",
        foot=f"packetclip-sensor {__version__}, model {', '.join(models) or 'unknown'}, sensor {', '.join(sensors) or 'unknown'}",
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _packed(value: Any) -> Markup:
    """Gzipped JSON in base64: letters, digits, + / and = alone. Equal values make equal text."""
    return Markup(base64.b64encode(gzip.compress(msgspec.json.encode(value), 6, mtime=0)).decode())  # noqa: S704 - see above


def _graphs() -> dict[str, drawing.Layout]:
    """The graphs of the installed model; paths that do not fit them (of another model) are drawn alone."""
    try:
        found = json.loads((resource("model") / "graphs.json").read_text(encoding="utf-8"))
        return {g["mission"]: drawing.whole(g["levels"], [(a, b) for a, b in g["edges"]], g["leaves"]) for g in found}
    except (ConfigError, OSError, ValueError, KeyError, TypeError):
        return {}


def _row(document: Document) -> Row:
    """What the table and the timeline show of one episode, and `find`, what the search box looks through."""
    mission, first = _text(document, "packetclip.mission"), _first(document)
    technique = _technique(document)
    row: Row = {
        "first": first,
        "last": max(first, _when(document, "packetclip.episode.last")),
        "when": clock(first),
        "mission": mission,
        "slug": _slug(mission),
        "class": _text(document, "packetclip.class"),
        "severity": int(_number(document, "event.severity")),
        "level": SEVERITY_NAMES.get(int(_number(document, "event.severity")), ""),
        "probability": _number(document, "packetclip.episode.peak") or _number(document, "packetclip.probability"),
        "source": _hosts(document, "source.ip", "packetclip.episode.source_count"),
        "destination": _hosts(document, "destination.ip", "packetclip.episode.destination_count"),
        "packets": _number(document, "packetclip.episode.packets"),
        "title": _text(document, "message") or mission,
        "reason": _text(document, "event.reason"),
        "state": _text(document, "packetclip.episode.state"),
        "id": _text(document, "packetclip.episode.id"),
    }
    also = ["source.ip", "destination.ip", "zeek.session_id", "network.community_id", "packetclip.concept_names"]
    words = [row[name] for name in ("title", "reason", "mission", "class", "level", "state", "id", "when")]
    row["find"] = " ".join([*words, technique, *(v for where in also for v in _strings(document, where))]).lower()
    return row


def _panel(document: Document, uid_link: str | None) -> Row:
    """Why, for one episode: lists of (name, text, share of a full bar, ...) and the like, all text ready to be shown."""
    paths = [
        (_text(path, "graph"), [str(node) for node in _list(path, "nodes")][:MAX_ITEMS], _number(path, "share"))
        for path in _list(document, "packetclip.paths")[: 2 * MAX_ITEMS]
        if isinstance(path, dict)
    ]
    technique = _technique(document)
    evidence = [_evidence(item) for item in _list(document, "packetclip.evidence")[:MAX_ITEMS] if isinstance(item, dict)]
    facts, flow = _get(document, "packetclip.facts"), _get(document, "packetclip.flow")
    return {
        "meta": _meta(document),
        "technique": [
            technique,
            _text(document, "threat.technique.subtechnique.name") or _text(document, "threat.technique.name"),
            drawing.technique_address(technique),
        ],
        "uids": [[uid, _uid_address(uid, uid_link)] for uid in _strings(document, "zeek.session_id")[:MAX_ITEMS]],
        "missions": _shares(_get(document, "packetclip.missions")),
        "classes": [
            [_text(c, "name"), f"{_number(c, 'probability'):.3f}", _unit(_number(c, "probability"))]
            for c in _list(document, "packetclip.classes")[:5]
            if isinstance(c, dict)
        ],
        "concepts": _weights(
            [(_text(c, "name"), _number(c, "weight"), _text(c, "graph")) for c in _list(document, "packetclip.concepts")]
        ),
        "graphs": _weights([(name, weight, "") for name, weight in _named(_get(document, "packetclip.graphs"))]),
        "paths": [[graph, nodes, f"{share:+.3f}", share] for graph, nodes, share in paths],
        "drawn": {
            graph: astuple(drawn)
            for graph in dict.fromkeys(graph for graph, _, _ in paths)
            if (drawn := drawing.of_paths([nodes for g, nodes, _ in paths if g == graph]))
        },
        "evidence": evidence,
        "texts": [
            [_text(t, "text"), f"{_number(t, 'cosine'):.2f}"]
            for t in _list(document, "packetclip.texts")[:MAX_ITEMS]
            if isinstance(t, dict)
        ],
        "facts": [[str(name), _shown(value, str(name))] for name, value in facts.items()] if isinstance(facts, dict) else [],
        "flow": _text(document, "packetclip.flow.text"),
        "columns": [
            [str(name), _shown(value, str(name))]
            for name, value in flow.items()
            if name != "text" and not isinstance(value, dict)
        ]
        if isinstance(flow, dict)
        else [],
        "wording": _text(document, "packetclip.wording.text"),
        "worder": _text(document, "packetclip.wording.model"),
    }


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
        ("Sources", _some(document, "source.ip")),
        ("Destinations", _some(document, "destination.ip")),
        ("Community ID", _some(document, "network.community_id")),
        ("Episode", _text(document, "packetclip.episode.id")),
        ("Sensor", _text(document, "observer.name")),
    ]
    return [(name, value) for name, value in pairs if value]


def _shares(missions: Any) -> list[list[Any]]:
    rows = sorted(_named(missions), key=lambda row: -row[1])[:MAX_ITEMS]
    return [[name, f"{value:.3f}", _unit(value)] for name, value in rows]


def _named(values: Any) -> list[tuple[str, float]]:
    """A document's numbers by mission, with the missions' own names in place of field names."""
    if not isinstance(values, dict):
        return []
    names = {_slug(name).replace("-", "_"): name for name in ("Benign", *MISSIONS)}
    return [(names.get(str(name), str(name)), _finite(value)) for name, value in values.items()]


def _weights(rows: Sequence[tuple[str, float, str]]) -> list[list[Any]]:
    """(name, weight, graph) to (name, text, share of a full bar, whether it speaks against, graph, weight)."""
    rows = rows[:MAX_ITEMS]
    most = max([MIN_FULL_BAR, *(abs(weight) for _, weight, _ in rows)])
    return [[name, f"{weight:+.2f}", _unit(abs(weight) / most), weight < 0, graph, weight] for name, weight, graph in rows]


def _evidence(item: Mapping[str, Any]) -> Row:
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
    return {
        "headline": f"{_text(item, 'proto')} {ends[0]} {arrow} {ends[1]}, {which}",
        "reason": _text(item, "reason"),
        "weight": f"{_number(item, 'weight'):+.2f}",
        "data": data.hex(),
        "fields": [astuple(field) for field in dissect.fields(data)],
        "cut": f"first {len(data)} of {size:,.0f} bytes" if len(data) < size else "",
    }


def _technique(document: Document) -> str:
    return _text(document, "threat.technique.subtechnique.id") or _text(document, "threat.technique.id")


def _first(document: Document) -> float:
    return _when(document, "packetclip.episode.first") or _when(document, "@timestamp")


def _uid_address(uid: str, link: str | None) -> str:
    """Where a uid leads; empty where nothing was asked for. The address was checked, and the uid cannot leave its place in it."""
    return link.replace("{uid}", urllib.parse.quote(uid, safe="")) if link else ""


def _hosts(document: Document, where: str, count: str) -> str:
    """The first address and how many more there are."""
    hosts = _strings(document, where)
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


def _strings(document: Document, where: str) -> list[str]:
    value = _get(document, where)
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else [value] if isinstance(value, str) else []


def _some(document: Document, where: str) -> str:
    values = _strings(document, where)
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


def _shown(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not name.endswith("_p") else str(value)


def _slug(mission: str) -> str:
    """A class name of our style sheet; "other" for what is no mission."""
    known = {name: name.lower().replace(" ", "-") for name in CLASS_MISSION.values()}
    return known.get(mission, "other")
