"""Geometry of the report's pictures, in SVG user units, and the rows of its hex views. No markup: the template draws."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

TIMELINE_WIDTH, LANE_HEIGHT, LABEL_WIDTH = 1000, 34, 130
GRAPH_WIDTH, ROW_HEIGHT = 1060, 34
MIN_BAR = 5.0
HEX_COLUMNS = 16
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_EXTENSION_HEADERS = {0, 43, 60}


@dataclass(frozen=True, slots=True)
class Bar:
    """One episode on the timeline."""

    x: float
    y: float
    width: float
    lane: str
    anchor: str
    words: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Lanes (name, y of the middle), bars and ticks (x, label)."""

    width: int
    height: int
    lanes: list[tuple[str, float]]
    bars: list[Bar]
    ticks: list[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Node:
    """A concept in the picture; `end` for the sensor and the embedding node."""

    name: str
    x: float
    y: float
    end: bool


@dataclass(frozen=True, slots=True)
class Edge:
    """A curve from node to node; `width` grows with the share of the message that goes this way."""

    d: str
    width: float
    words: str


@dataclass(frozen=True, slots=True)
class Graph:
    """The heaviest paths, sensor on the left, embedding node on the right."""

    width: int
    height: float
    nodes: list[Node]
    edges: list[Edge]
    paths: list[tuple[str, str]]
    """Each path in words, with its share."""


@dataclass(frozen=True, slots=True)
class HexRow:
    """Up to 16 bytes, in runs of one part of the packet: (hex digits, part, printable characters). `missing` bytes to 16."""

    offset: str
    runs: list[tuple[str, str, str]]
    missing: int


def timeline(events: Sequence[tuple[str, float, float, str, str]], missions: Sequence[str]) -> Timeline:
    """Lay out episodes (mission, first, last, anchor, words) on one lane per mission; a mission unknown goes on the last lane."""
    begin = min(event[1] for event in events)
    span = max(max(event[2] for event in events) - begin, 1.0)
    room = TIMELINE_WIDTH - LABEL_WIDTH - 20
    lanes = [(mission, 20.0 + i * LANE_HEIGHT) for i, mission in enumerate(missions)]
    height = dict(lanes)

    def x(ts: float) -> float:
        return round(LABEL_WIDTH + room * (ts - begin) / span, 2)

    bars = [
        Bar(x(first), height.get(mission, lanes[-1][1]) - 9, max(MIN_BAR, round(x(last) - x(first), 2)), mission, anchor, words)
        for mission, first, last, anchor, words in events
    ]
    return Timeline(TIMELINE_WIDTH, 30 + len(lanes) * LANE_HEIGHT, lanes, bars, _ticks(begin, span, x))


def _ticks(begin: float, span: float, x: Callable[[float], float]) -> list[tuple[float, str]]:
    """At most eight round times; days are named where the whole spans more than one."""
    step = next((s for s in _STEPS_S if span / s <= 8), math.ceil(span / 8 / 86400) * 86400)
    form = "%m-%d %H:%M" if span > 86400 else "%H:%M:%S" if step < 60 else "%H:%M"
    found, ts = list[tuple[float, str]](), math.ceil(begin / step) * step
    while ts <= begin + span:
        found.append((x(ts), datetime.fromtimestamp(ts, UTC).strftime(form)))
        ts += step
    return found


def graph(paths: Sequence[tuple[Sequence[str], float]]) -> Graph | None:
    """Lay out paths (node names, share): each node in the column of its farthest place from the start; None without any edge."""
    paths = [(list(nodes), share) for nodes, share in paths if len(nodes) > 1]
    if not paths:
        return None
    ends = {nodes[0] for nodes, _ in paths} | {nodes[-1] for nodes, _ in paths}
    column: dict[str, int] = {}
    weight: dict[str, float] = {}
    flow: dict[tuple[str, str], float] = {}
    for nodes, share in paths:
        for i, name in enumerate(nodes):
            column[name] = max(column.get(name, 0), i)
            weight[name] = weight.get(name, 0.0) + abs(share)
        for pair in itertools.pairwise(nodes):
            flow[pair] = flow.get(pair, 0.0) + abs(share)
    last = max(column.values())
    for nodes, _ in paths:
        column[nodes[-1]] = last
    columns = [sorted((n for n, c in column.items() if c == i), key=lambda n: -weight[n]) for i in range(last + 1)]
    height = max(len(names) for names in columns) * ROW_HEIGHT + 20.0
    gap = (GRAPH_WIDTH - 130) / max(last, 1)
    place = {
        name: (round(65 + i * gap, 1), round(height / 2 + (j - (len(names) - 1) / 2) * ROW_HEIGHT, 1))
        for i, names in enumerate(columns)
        for j, name in enumerate(names)
    }
    most = max(flow.values()) or 1.0
    edges = []
    for (a, b), share in sorted(flow.items(), key=lambda item: item[1]):
        (x1, y1), (x2, y2) = place[a], place[b]
        middle = (x1 + x2) / 2
        d = f"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"
        edges.append(Edge(d, round(1 + 7 * share / most, 2), f"{a} → {b}: {share:.3f}"))
    drawn = [Node(name, x, y, name in ends) for name, (x, y) in place.items()]
    words = [(" → ".join(nodes), f"{share:.3f}") for nodes, share in paths]
    return Graph(GRAPH_WIDTH, height, drawn, edges, words)


def hex_rows(data: bytes) -> list[HexRow]:
    """Bytes from the IP header on, 16 to a row, each with the part of the packet it belongs to: ip, transport or payload."""
    ip, transport = _header_ends(data)
    cuts = sorted({0, min(ip, len(data)), min(transport, len(data)), *range(0, len(data), HEX_COLUMNS), len(data)})
    rows: list[HexRow] = []
    for start, end in itertools.pairwise(cuts):
        part = "ip" if start < ip else "transport" if start < transport else "payload"
        run = (data[start:end].hex(" "), part, "".join(chr(b) if 32 <= b < 127 else "." for b in data[start:end]))
        if start % HEX_COLUMNS == 0:
            rows.append(HexRow(f"{start:04x}", [run], HEX_COLUMNS - min(HEX_COLUMNS, len(data) - start)))
        else:
            rows[-1].runs.append(run)
    return rows


def _header_ends(data: bytes) -> tuple[int, int]:
    """Where the IP header and the transport header end, bytes; both 0 where the packet is neither IPv4 nor IPv6."""
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        end, protocol = max(20, (data[0] & 15) * 4), data[9]
        if int.from_bytes(data[6:8]) & 0x1FFF:  # a later fragment starts with payload
            return end, end
    elif version == 6 and len(data) >= 40:
        end, protocol = 40, data[6]
        while protocol in _EXTENSION_HEADERS and len(data) >= end + 2:
            protocol, end = data[end], end + 8 * (1 + data[end + 1])
    else:
        return 0, 0
    if protocol == 6:
        return end, end + (max(20, (data[end + 12] >> 4) * 4) if len(data) > end + 12 else 20)
    return end, end + (8 if protocol in (1, 17, 58) else 0)


def technique_address(technique: str) -> str:
    """The page of an ATT&CK technique; empty where the id is none, so that nothing else can become an address."""
    if not re.fullmatch(r"T\d{4}(\.\d{3})?", technique, re.ASCII):
        return ""
    return f"https://attack.mitre.org/techniques/{technique.replace('.', '/')}/"
