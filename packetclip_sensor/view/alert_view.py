"""One alert document for a person at a terminal: what happened, why the model says so, the way through the graph, what next.

Whatever stands in the document is shown as plain text: never as rich's markup, and with control characters escaped, so that no
name or payload of an attacker reaches the terminal as a command.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from packetclip_sensor.common.missions import Missions
from packetclip_sensor.common.text import printable
from packetclip_sensor.view import packet_fields
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
    number,
    objects,
    shown,
    strings,
    technique,
    text,
    when,
)
from packetclip_sensor.view.next_steps.history import Seen
from packetclip_sensor.view.next_steps.queries import steps
from packetclip_sensor.view.terminal import console_for, style_of

BAR = 24
"""Characters of a full bar."""
LISTED = 8
OLD_UNIT = "probability"
"""What weights were losses of before documents named a concept's graph."""
HEX_COLUMNS = 16
PART_STYLE = {"ip": "blue", "transport": "magenta", "payload": ""}
FIRST_FIELDS = ("time to live", "hop limit", "source port", "destination port", "flags", "window", "length", "type", "code")
"""Fields worth a line of their own beside the bytes."""


def show(document: Document, file: TextIO, missions: Missions, seen: Sequence[Seen] = (), where: str = "") -> None:
    """Print one alert, as wide as the terminal; what is to be copied stands on lines of any width.

    Args:
        missions: those of the model, for names and colours.
        seen: earlier alerts, and `where` they were looked for.
    """
    console = console_for(file)
    for part in _parts(document, missions):
        console.print(part)
    for part in _titled(
        f"Seen before (in {_safe(where)})", _pairs([(_safe(one.what), one.words) for one in seen]) if seen else None
    ):
        console.print(part)
    for step in steps(document):
        console.print(Text(f"\n{step.title}", style="bold"))
        for line in step.text.splitlines():
            console.print(Text(_safe(line, 10_000)), soft_wrap=True)


def _parts(document: Document, missions: Missions) -> Iterable[RenderableType]:
    mission = text(document, "packetclip.mission")
    style = style_of(mission, missions)
    title, klass = _safe(text(document, "message") or mission), _safe(text(document, "packetclip.class"))
    yield Text.assemble((title, "bold"), "  ", (_safe(mission), f"bold {style}"), "  ", klass)
    yield Text(_safe(text(document, "event.reason"), 1000))
    if window := text(document, "packetclip.window"):
        yield Text(f"Judged window: {_safe(window, 1000)}", style="dim")
    yield Text()
    yield _pairs(_meta(document))
    likeliest = sorted(by_mission(document, "packetclip.missions", missions), key=lambda row: -row[1])[:LISTED]
    yield from _titled("Missions", _bars([(Text(_safe(name)), min(value, 0.999)) for name, value in likeliest], "{:.3f}"))
    bars = [
        (
            Text.assemble(
                _safe(text(c, "name"), 30),
                (f" {_safe(text(c, 'graph'), 20)}".rstrip() + ("" if possible else ", not over this transport"), "dim"),
            ),
            number(c, "weight"),
        )
        for c, possible in concepts(document, missions)[: 2 * LISTED]
    ]
    unit = "log-odds" if any(text(c, "graph") for c in objects(document, "packetclip.concepts")) else OLD_UNIT
    yield from _titled(f"Concepts: {unit} lost when one is removed", _bars(bars, "{:+.2f}" if unit != OLD_UNIT else "{:+.3f}"))
    yield from _titled(f"Packets: {unit} lost when one is left out", _evidence(document))
    facts = get(document, "packetclip.facts")
    if isinstance(facts, dict) and facts:
        pairs = [Text(f"{_safe(str(name), 40)} {_safe(shown(value, str(name)), 40)}") for name, value in facts.items()]
        yield from _titled("Measured facts of the window", Columns(pairs, padding=(0, 3)))
    flow = text(document, "packetclip.flow.text")
    yield from _titled("Flow", Text(_safe(flow, 1000)) if flow else None)
    graphs = [(Text(_safe(name)), weight) for name, weight in by_mission(document, "packetclip.graphs", missions)]
    yield from _titled("For experts: graphs, log-odds lost when all concepts of one are removed", _bars(graphs, "{:+.2f}"))
    yield from _titled(
        "For experts: heaviest paths, shares of the message that reaches a graph's embedding node", _paths(document)
    )
    nearest = [
        Text(f"{number(t, 'cosine'):.2f} {_safe(text(t, 'text'), 500)}") for t in objects(document, "packetclip.texts")[:LISTED]
    ]
    yield from _titled("For experts: nearest texts", Group(*nearest) if nearest else None)


def _meta(document: Document) -> list[tuple[str, str]]:
    first, last = when(document, "packetclip.episode.first"), when(document, "packetclip.episode.last")
    severity = int(number(document, "event.severity"))
    source = hosts(document, "source.ip", "packetclip.episode.source_count")
    destination = hosts(document, "destination.ip", "packetclip.episode.destination_count")
    probability, peak = (min(number(document, f"packetclip.{name}"), 0.9999) for name in ("probability", "episode.peak"))
    windows, packets = (number(document, f"packetclip.episode.{name}") for name in ("verdicts", "packets"))
    found = [
        ("Time (UTC)", f"{clock(first)} to {clock(last)} ({max(0.0, last - first):.1f} s)"),
        ("Hosts", f"{source} → {destination}"),
        ("Probability", f"{probability:.4f}, highest {peak:.4f}"),
        ("Severity", f"{SEVERITY_NAMES.get(severity, 'none')}, risk {number(document, 'event.risk_score'):.0f} of 100"),
        ("Windows, packets", f"{windows:,.0f}, {packets:,.0f}"),
        ("ATT&CK", " ".join(technique(document))),
        ("Episode", f"{text(document, 'packetclip.episode.id')} ({text(document, 'packetclip.episode.state')})"),
        ("Document", text(document, "event.id")),
        ("Zeek uids", ", ".join(strings(document, "zeek.session_id")[:LISTED])),
        ("Suricata flow ids", ", ".join(strings(document, "suricata.eve.flow_id")[:LISTED])),
        ("Community ids", ", ".join(strings(document, "network.community_id")[:LISTED])),
        ("Also fired", fired(document, LISTED)),
        ("Analyst", _analyst(document)),
        ("Sensor, model", f"{text(document, 'observer.name')}, {text(document, 'packetclip.model.version')}"),
    ]
    return [(what, value) for what, value in found if value.strip(" ,()")]


def _analyst(document: Document) -> str:
    """The verdict of an analyst on it."""
    verdict, by, marked, comment = (
        text(document, f"packetclip.analyst.{name}") for name in ("verdict", "by", "marked", "comment")
    )
    return ", ".join(part for part in (verdict.replace("_", " "), by and f"by {by}", marked, comment) if part)


def _titled(title: str, content: RenderableType | None) -> Iterable[RenderableType]:
    if content is not None:
        yield Text(f"\n{title}", style="bold")
        yield content


def _pairs(rows: Sequence[tuple[str, str]]) -> Table:
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, Text(_safe(value, 400)))
    return made


def _bars(rows: Sequence[tuple[Text, float]], form: str) -> Table | None:
    """Names, numbers and bars; bars of negative numbers are dotted."""
    if not rows:
        return None
    most = max(*(abs(value) for _, value in rows), 1e-9)
    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True)
    made.add_column(justify="right", no_wrap=True)
    made.add_column(no_wrap=True)
    for name, value in rows:
        length = round(BAR * abs(value) / most)
        made.add_row(
            name, form.format(value), Text("█" * length, style="cyan") if value >= 0 else Text("░" * length, style="dim")
        )
    return made


def _paths(document: Document) -> RenderableType | None:
    """A tree for each graph: from the sensor node through concepts to the embedding node, at its ends each path's share."""
    trees: dict[str, Tree] = {}
    branches: dict[tuple[str, ...], Tree] = {}
    weight = {(text(c, "graph"), text(c, "name")): number(c, "weight") for c in objects(document, "packetclip.concepts")}
    for path in objects(document, "packetclip.paths")[: 2 * LISTED]:
        graph, nodes = text(path, "graph"), strings(path, "nodes")[:LISTED]
        if len(nodes) < 2:
            continue
        if graph not in trees:
            trees[graph] = Tree(
                Text.assemble((_safe(graph or "graph", 30), "bold"), f": {_safe(nodes[0], 30)}"), guide_style="cyan"
            )
        at = trees[graph]
        for i, node in enumerate(nodes[1:], 1):
            way = (graph, *nodes[: i + 1])
            if i == len(nodes) - 1:
                share = number(path, "share")
                bar = "▬" * max(1, round(BAR * min(1.0, abs(share))))
                at.add(Text.assemble(_safe(node, 30), f"  {share:+.3f} ", (bar, "cyan")))
            elif way not in branches:
                heavy = weight.get((graph, node))
                branches[way] = at.add(Text(_safe(node, 30), style="bold") + Text(f" {heavy:+.2f}" if heavy else "", style="dim"))
            at = branches.get(way, at)
    return Group(*trees.values()) if trees else None


def _evidence(document: Document) -> RenderableType | None:
    shown_packets: list[RenderableType] = []
    for item in objects(document, "packetclip.evidence")[:LISTED]:
        which = f"packet {number(item, 'n'):.0f} of {text(item, 'uid')}, {number(item, 'size_bytes'):,.0f} bytes"
        shown_packets.append(Text.assemble((f"{number(item, 'weight'):+.2f} ", "bold"), _safe(f"{ends(item)}, {which}", 300)))
        shown_packets.append(Text(f"      {_safe(text(item, 'reason'), 500)}"))
        if masked := number(item, "masked_bytes"):
            shown_packets.append(Text(f"      {masked:,.0f} bytes are masked (evidence_bytes)", style="dim"))
        raw = data(item)
        if raw:
            shown_packets.append(Padding(_hex(raw), (0, 0, 1, 6), expand=False))
    return Group(*shown_packets) if shown_packets else None


def _hex(raw: bytes) -> RenderableType:
    """The bytes in rows of 16, coloured by header, and below them the fields that say most."""
    found = packet_fields.fields(raw)
    style = ["" for _ in raw]
    for field in found:
        style[field.start : field.end] = [PART_STYLE[field.part]] * (field.end - field.start)
    out = Text()
    for start in range(0, len(raw), HEX_COLUMNS):
        row = range(start, min(start + HEX_COLUMNS, len(raw)))
        out.append(f"{start:04x}  ", style="dim")
        for i in row:
            out.append(f"{raw[i]:02x} ", style=style[i])
        out.append("   " * (HEX_COLUMNS - len(row)) + " ")
        for i in row:
            out.append(chr(raw[i]) if 32 <= raw[i] < 127 else ".", style=style[i])
        out.append("\n")
    shown_fields = [f"{field.name} {field.value}" for field in found if field.name in FIRST_FIELDS]
    out.append("; ".join(shown_fields), style="dim")
    return out


def _safe(value: str, most: int = 160) -> str:
    return printable(value, most)
