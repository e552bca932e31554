"""One self-contained HTML page from alert documents: timeline, table, for every episode why the model says so, and what next.

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
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from packetclip_sensor import __version__
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.model.bundle import manifest_of
from packetclip_sensor.view import drawing, packet_fields
from packetclip_sensor.view.document_access import (
    SEVERITY_NAMES,
    Document,
    by_mission,
    clock,
    concepts,
    data,
    ends,
    fired,
    get,
    hosts,
    items,
    number,
    objects,
    sessions,
    shown,
    strings,
    technique,
    text,
    when,
)
from packetclip_sensor.view.next_steps.capture import capture
from packetclip_sensor.view.next_steps.history import History
from packetclip_sensor.view.next_steps.queries import steps

TEMPLATES = Path(__file__).parent / "templates"
MAX_ITEMS = 12
"""Rows of any list inside one panel."""
PANELS_A_PART = 50
STATIC_ROWS = 200
"""Episodes that stand in the page for a browser without scripts."""
MIN_FULL_BAR = 0.05
"""Weights that are all smaller than this get short bars: the longest of nothing must not look like much."""

Row = dict[str, Any]


def page(documents: Iterable[Document], *, title: str, model: Path, uid_link: str | None = None) -> str:
    """The page as one string; of each episode its newest document counts.

    Args:
        model: folder of the bundle whose missions have their names, colours and graphs in the page.
        uid_link: address with {uid} in it, for a link at every Zeek uid.
    Raises:
        ConfigError: `uid_link` is no web address.
        ModelBundleError: the bundle's manifest cannot be read.
    """
    if uid_link is not None and not (uid_link.startswith(("https://", "http://")) and "{uid}" in uid_link):
        raise ConfigError(f"uid link {uid_link!r}: must begin with https:// or http:// and hold {{uid}}, where the uid goes")
    missions = manifest_of(model).missions
    newest: dict[str, Document] = {}
    for document in documents:
        name = text(document, "packetclip.episode.id") or text(document, "event.id")
        if name not in newest or when(document, "@timestamp") >= when(newest[name], "@timestamp"):
            newest[name] = document
    ordered = sorted(newest.values(), key=_first)
    rows = [_row(document, missions) for document in ordered]
    seen = History()
    panels = [_panel(document, missions, uid_link, seen) for document in ordered]
    parts = [_packed(panels[i : i + PANELS_A_PART]) for i in range(0, len(panels), PANELS_A_PART)]
    css, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    css += _tones(missions)
    env = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    models = sorted({text(d, "packetclip.model.version") for d in ordered} - {""})
    sensors = sorted({text(d, "observer.name") for d in ordered} - {""})
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
        index=_packed(
            {
                "rows": rows,
                "part": PANELS_A_PART,
                "graphs": {name: astuple(graph) for name, graph in _graphs(model).items()},
                "missions": [[mission.name, _slug(mission.name, missions)] for mission in missions],
            }
        ),
        parts=parts,
        missions=[(name, _slug(name, missions), count[name]) for name in missions.names],
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


def _graphs(model: Path) -> dict[str, drawing.Layout]:
    """The graphs of a bundle; paths that do not fit them (of another model) are drawn alone."""
    try:
        found = json.loads((model / "graphs.json").read_text(encoding="utf-8"))
        return {g["mission"]: drawing.whole(g["levels"], [(a, b) for a, b in g["edges"]], g["leaves"]) for g in found}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _row(document: Document, missions: Missions) -> Row:
    """What the table and the timeline show of one episode, and `find`, what the search box looks through."""
    mission, first = text(document, "packetclip.mission"), _first(document)
    row: Row = {
        "first": first,
        "last": max(first, when(document, "packetclip.episode.last")),
        "when": clock(first),
        "mission": mission,
        "slug": _slug(mission, missions),
        "class": text(document, "packetclip.class"),
        "severity": int(number(document, "event.severity")),
        "level": SEVERITY_NAMES.get(int(number(document, "event.severity")), ""),
        "probability": number(document, "packetclip.episode.peak") or number(document, "packetclip.probability"),
        "source": hosts(document, "source.ip", "packetclip.episode.source_count"),
        "destination": hosts(document, "destination.ip", "packetclip.episode.destination_count"),
        "packets": number(document, "packetclip.episode.packets"),
        "title": text(document, "message") or mission,
        "reason": text(document, "event.reason"),
        "state": text(document, "packetclip.episode.state"),
        "id": text(document, "packetclip.episode.id"),
    }
    ids = ["zeek.session_id", "suricata.eve.flow_id", "network.community_id"]
    also = ["source.ip", "destination.ip", *ids, "packetclip.concept_names"]
    words = [row[name] for name in ("title", "reason", "mission", "class", "level", "state", "id", "when")]
    row["find"] = " ".join([*words, technique(document)[0], *(v for where in also for v in strings(document, where))]).lower()
    return row


def _panel(document: Document, missions: Missions, uid_link: str | None, seen: History) -> Row:
    """Why, for one episode, and what next: lists of (name, text, share of a full bar, ...) and the like, all text ready to be
    shown. `seen` holds the episodes before it, and gets this one."""
    paths = [
        (text(path, "graph"), [str(node) for node in items(path, "nodes")][:MAX_ITEMS], number(path, "share"))
        for path in objects(document, "packetclip.paths")[: 2 * MAX_ITEMS]
    ]
    technique_id, technique_name = technique(document)
    evidence = [_evidence(item) for item in objects(document, "packetclip.evidence")[:MAX_ITEMS]]
    facts, flow = get(document, "packetclip.facts"), get(document, "packetclip.flow")
    before = [[one.what, one.words] for one in seen.before(document)]
    seen.add(document)
    return {
        "meta": _meta(document),
        "seen": before,
        "steps": steps(document),
        "capture": capture(document).hex(),
        "technique": [technique_id, technique_name, drawing.technique_address(technique_id)],
        "uids": [[uid, _uid_address(uid, uid_link)] for uid in sessions(document)[:MAX_ITEMS]],
        "missions": _shares(by_mission(document, "packetclip.missions", missions)),
        "classes": [
            [text(c, "name"), f"{min(number(c, 'probability'), 0.999):.3f}", _unit(number(c, "probability"))]
            for c in objects(document, "packetclip.classes")[:5]
        ],
        "concepts": _weights([(text(c, "name"), number(c, "weight"), text(c, "graph")) for c, _ in concepts(document, missions)]),
        "graphs": _weights([(name, weight, "") for name, weight in by_mission(document, "packetclip.graphs", missions)]),
        "paths": [[graph, nodes, f"{share:+.3f}", share] for graph, nodes, share in paths],
        "drawn": {
            graph: astuple(drawn)
            for graph in dict.fromkeys(graph for graph, _, _ in paths)
            if (drawn := drawing.of_paths([nodes for g, nodes, _ in paths if g == graph]))
        },
        "evidence": evidence,
        "texts": [[text(t, "text"), f"{number(t, 'cosine'):.2f}"] for t in objects(document, "packetclip.texts")[:MAX_ITEMS]],
        "facts": [[str(name), shown(value, str(name))] for name, value in facts.items()] if isinstance(facts, dict) else [],
        "flow": text(document, "packetclip.flow.text"),
        "columns": [
            [str(name), shown(value, str(name))] for name, value in flow.items() if name != "text" and not isinstance(value, dict)
        ]
        if isinstance(flow, dict)
        else [],
    }


def _meta(document: Document) -> list[tuple[str, str]]:
    """What links the episode to other logs, and its extent."""
    first, last = when(document, "packetclip.episode.first"), when(document, "packetclip.episode.last")
    pairs = [
        ("Time (UTC)", f"{clock(first)} to {clock(last)} ({max(0.0, last - first):.1f} s)"),
        (
            "Windows, packets",
            f"{number(document, 'packetclip.episode.verdicts'):,.0f}, {number(document, 'packetclip.episode.packets'):,.0f}",
        ),
        ("Risk", f"{number(document, 'event.risk_score'):.0f} of 100"),
        ("Sources", _some(document, "source.ip", "packetclip.episode.source_count")),
        ("Destinations", _some(document, "destination.ip", "packetclip.episode.destination_count")),
        ("Community ID", _some(document, "network.community_id")),
        ("Also fired", fired(document, MAX_ITEMS)),
        ("Episode", text(document, "packetclip.episode.id")),
        ("Sensor", text(document, "observer.name")),
    ]
    return [(name, value) for name, value in pairs if value]


def _shares(rows: Sequence[tuple[str, float]]) -> list[list[Any]]:
    likeliest = sorted(rows, key=lambda row: -row[1])[:MAX_ITEMS]
    return [[name, f"{min(value, 0.999):.3f}", _unit(value)] for name, value in likeliest]


def _weights(rows: Sequence[tuple[str, float, str]]) -> list[list[Any]]:
    """(name, weight, graph) to (name, text, share of a full bar, whether it is negative, graph, weight)."""
    rows = rows[:MAX_ITEMS]
    most = max([MIN_FULL_BAR, *(abs(weight) for _, weight, _ in rows)])
    return [[name, f"{weight:+.2f}", _unit(abs(weight) / most), weight < 0, graph, weight] for name, weight, graph in rows]


def _evidence(item: Mapping[str, Any]) -> Row:
    raw = data(item)
    size, masked = number(item, "size_bytes"), number(item, "masked_bytes")
    which = f"packet {number(item, 'n'):.0f} of {text(item, 'uid')}, {size:,.0f} bytes"
    return {
        "headline": f"{ends(item)}, {which}",
        "reason": text(item, "reason"),
        "weight": f"{number(item, 'weight'):+.2f}",
        "data": raw.hex(),
        "fields": [astuple(field) for field in packet_fields.fields(raw)],
        "cut": ", ".join(
            [f"first {len(raw)} of {size:,.0f} bytes"] * (len(raw) < size) + [f"{masked:,.0f} masked or left out"] * (masked > 0)
        ),
    }


def _first(document: Document) -> float:
    return when(document, "packetclip.episode.first") or when(document, "@timestamp")


def _uid_address(uid: str, link: str | None) -> str:
    """Where a uid leads; empty where nothing was asked for. The address was checked, and the uid cannot leave its place in it."""
    return link.replace("{uid}", urllib.parse.quote(uid, safe="")) if link else ""


def _some(document: Document, where: str, count: str = "") -> str:
    """The first three of a field and how many more there are, as the field `count` says where there is one."""
    found = strings(document, where)
    more = max(int(number(document, count)), len(found)) - 3
    return ", ".join(found[:3]) + (f" and {more:,} more" if more > 0 else "")


def _unit(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 4)


def _slug(mission: str, missions: Missions) -> str:
    """A class name of our style sheet; "other" for what is no mission of the model."""
    return f"m-{missions.ids[mission]}" if mission in missions else "other"


def _tones(missions: Missions) -> str:
    """The rules of the style sheet that give each mission its colour, on a light and on a dark page."""
    made = [f".count.m-{mission.id} {{ border-top-color: var(--tone); }}" for mission in missions]
    made += [f".m-{mission.id} {{ --tone: {mission.colour.light}; }}" for mission in missions]
    dark = " ".join(f".m-{mission.id} {{ --tone: {mission.colour.dark}; }}" for mission in missions)
    return "\n".join([*made, f"@media (prefers-color-scheme: dark) {{ {dark} }}"]) + "\n"
