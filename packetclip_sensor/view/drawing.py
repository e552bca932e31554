"""Where the nodes of a graph stand in a picture, in SVG user units. No markup: who draws, draws."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH, ROW_HEIGHT, MARGIN = 1060, 25, 64
"""Size of the picture, height of a node's row, and half of the widest node."""
SENSOR, EMBEDDING = "sensor", "embedding"
_PASSES = 6


@dataclass(frozen=True, slots=True)
class Layout:
    """A graph, sensor on the left, embedding node on the right; edges are pairs of places in `nodes`."""

    width: int
    height: int
    nodes: list[tuple[str, float, float]]
    edges: list[tuple[int, int]]


def layout(levels: Sequence[Sequence[str]], edges: Iterable[tuple[str, str]]) -> Layout:
    """Lay out nodes by level, a column each, so that edges cross little: each node near the mean of its neighbours."""
    known = {name for level in levels for name in level}
    edges = [(a, b) for a, b in dict.fromkeys(edges) if a in known and b in known]
    columns = [list(dict.fromkeys(level)) for level in levels]
    rank = {name: (j + 0.5) / len(column) for column in columns for j, name in enumerate(column)}
    near: dict[str, list[str]] = {}
    for a, b in edges:
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    for _ in range(_PASSES):
        for column in columns:
            mean = {name: sum(rank[n] for n in near.get(name, [name])) / len(near.get(name, [name])) for name in column}
            column.sort(key=lambda name, mean=mean: mean[name])  # type: ignore[misc]
            rank |= {name: (j + 0.5) / len(column) for j, name in enumerate(column)}
    most = max(map(len, columns), default=1)
    height = most * ROW_HEIGHT + 20
    gap = (WIDTH - 2 * MARGIN) / max(len(columns) - 1, 1)
    nodes = [
        (name, round(MARGIN + i * gap, 1), round(10 + (height - 20) * (j + 0.5) / len(column), 1))
        for i, column in enumerate(columns)
        for j, name in enumerate(column)
    ]
    place = {name: at for at, (name, _, _) in enumerate(nodes)}
    return Layout(WIDTH, height, nodes, [(place[a], place[b]) for a, b in edges])


def whole(levels: Sequence[Sequence[str]], edges: Iterable[tuple[str, str]], leaves: Iterable[str]) -> Layout:
    """A mission's graph as it stands in a bundle, with its sensor and embedding node."""
    begin = [(SENSOR, name) for name in (levels[0] if levels else [])]
    return layout([[SENSOR], *levels, [EMBEDDING]], [*begin, *edges, *((leaf, EMBEDDING) for leaf in leaves)])


def of_paths(paths: Sequence[Sequence[str]]) -> Layout | None:
    """The nodes of paths alone, each in the column of its farthest place from the start; None without any edge."""
    paths = [nodes for nodes in paths if len(nodes) > 1]
    if not paths:
        return None
    column: dict[str, int] = {}
    for nodes in paths:
        for i, name in enumerate(nodes):
            column[name] = max(column.get(name, 0), i)
    last = max(column.values())
    column |= {nodes[-1]: last for nodes in paths}
    levels = [[name for name, c in column.items() if c == i] for i in range(last + 1)]
    return layout([level for level in levels if level], [pair for nodes in paths for pair in itertools.pairwise(nodes)])


def technique_address(technique: str) -> str:
    """The page of an ATT&CK technique; empty where the id is none, so that nothing else can become an address."""
    if not re.fullmatch(r"T\d{4}(\.\d{3})?", technique, re.ASCII):
        return ""
    return f"https://attack.mitre.org/techniques/{technique.replace('.', '/')}/"
