"""Figures of a mission graph: its layers, its ten most used words, and a word cloud, as in figure 5 of the paper.

A word's weight is the number of ways from the sensor to the embedding node that lead through it: what a verdict can pass over.
The figures are SVG with paths for letters, so that they look the same everywhere, and equal for equal graphs.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve
from matplotlib.transforms import Bbox

from training.missions import CLASS_MISSION
from training.text.knowledge import EMBEDDING, SENSOR, Graph
from training.text.texts import TEXTS

COLOURS = ("#1f4e79", "#2e7d5b", "#b5651d", "#7b4173", "#5f6b6d")
"""Of the levels from the key concepts on; they stand out against white, also in grey."""

_ENDS = "#444444"
_PAST = "|"
"""Begins the name of a place where an edge passes a level; no word has it."""


def ways(graph: Graph) -> dict[str, int]:
    """Number of ways from the sensor to the embedding node through each word."""
    edges = graph.full_edges()
    down: Counter[str] = Counter({SENSOR: 1})
    up: Counter[str] = Counter({EMBEDDING: 1})
    parents: dict[str, list[str]] = {}
    children: dict[str, list[str]] = {}
    for parent, child in edges:
        parents.setdefault(child, []).append(parent)
        children.setdefault(parent, []).append(child)
    for word in graph.words:  # level by level, so parents come first
        down[word] = sum(down[p] for p in parents.get(word, ()))
    for word in reversed(graph.words):
        up[word] = sum(up[c] for c in children.get(word, ()))
    return {word: down[word] * up[word] for word in graph.words}


def sentences_with(graph: Graph) -> dict[str, int]:
    """Number of training sentences of the mission's classes that hold each word of the graph."""
    texts = [text for name, mission in CLASS_MISSION.items() if mission == graph.mission for text in TEXTS[name]]
    found = Counter(word for text in texts for word in set(re.findall("[a-z]+", text.lower())))
    return {word: found[word] for word in graph.words}


def order(graph: Graph) -> list[list[str]]:
    """The levels with each word near the mean place of its neighbours (barycentre method), which leaves few crossings."""
    levels = [list(level) for level in graph.levels]
    near: dict[str, list[str]] = {}
    for parent, child in graph.edges:
        near.setdefault(parent, []).append(child)
        near.setdefault(child, []).append(parent)
    passes = [range(1, len(levels)), range(len(levels) - 2, -1, -1)] * 6
    for one in passes:
        place = {word: i / max(len(level) - 1, 1) for level in levels for i, word in enumerate(level)}
        for h in one:
            beside = {w for k in (h - 1, h + 1) if 0 <= k < len(levels) for w in levels[k]}
            mean = {}
            for word in levels[h]:
                at = [place[n] for n in near.get(word, ()) if n in beside]
                mean[word] = sum(at) / len(at) if at else place[word]
            levels[h].sort(key=lambda w: (mean[w], place[w]))
            place |= {word: i / max(len(levels[h]) - 1, 1) for i, word in enumerate(levels[h])}
    return levels


def _with_bypasses(graph: Graph) -> Graph:
    """The same graph with a place kept free in every later level for an edge that goes past it to the embedding node."""
    levels, edges = [list(level) for level in graph.levels], list(graph.edges)
    last = set(levels[-1])
    for h, level in enumerate(graph.levels):
        for word in level:
            before = word
            if word in graph.to_embedding() and word not in last:
                for later in range(h + 1, len(levels)):
                    levels[later].append(f"{_PAST}{later}{word}")
                    edges.append((before, levels[later][-1]))
                    before = levels[later][-1]
    return Graph(graph.mission, graph.key, levels, edges)


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": path.name, "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(str(path), metadata={"Date": None})
    return path


def draw_graph(graph: Graph, path: Path) -> Path:
    """The layers from left to right; a box for each word, an edge as a curve in the colour of the level that it leaves."""
    graph = _with_bypasses(graph)
    levels = order(graph)
    tallest = max(len(level) for level in levels)
    height = max(4.5, 0.34 * tallest + 1.0)
    figure = Figure(figsize=(12, height), layout="none")
    axes = figure.add_axes((0.005, 0.01, 0.99, 0.98))
    axes.set_xlim(0, 12)
    axes.set_ylim(0, height)
    axes.axis("off")
    half, columns = 0.68, len(levels) + 2
    at_x = [0.75 + i * (12 - 1.5) / (columns - 1) for i in range(columns)]
    place = {SENSOR: (at_x[0], (height - 0.6) / 2), EMBEDDING: (at_x[-1], (height - 0.6) / 2)}
    level_of = {SENSOR: -1, EMBEDDING: len(levels)}
    for h, level in enumerate(levels):
        step = (height - 0.9) / len(level)
        for i, word in enumerate(level):
            place[word] = (at_x[h + 1], height - 0.75 - step * (i + 0.5))
            level_of[word] = h
    for parent, child in graph.full_edges():
        (x0, y0), (x1, y1) = place[parent], place[child]
        x0, x1 = x0 + half, x1 - half
        bend = (x1 - x0) * 0.45
        curve = Curve([(x0, y0), (x0 + bend, y0), (x1 - bend, y1), (x1, y1)], [Curve.MOVETO] + [Curve.CURVE4] * 3)
        ends = SENSOR in (parent, child) or EMBEDDING in (parent, child) or child.startswith(_PAST)
        colour = _ENDS if ends else COLOURS[level_of[parent] % len(COLOURS)]
        axes.add_patch(PathPatch(curve, fill=False, edgecolor=colour, linewidth=0.7, alpha=0.35 if ends else 0.65, zorder=1))
    for word, (x, y) in place.items():
        if word.startswith(_PAST):
            axes.plot((x - half, x + half), (y, y), color=_ENDS, linewidth=0.7, alpha=0.35, zorder=1)
            continue
        end = word in (SENSOR, EMBEDDING)
        colour = _ENDS if end else COLOURS[level_of[word] % len(COLOURS)]
        axes.add_patch(
            FancyBboxPatch(
                (x - half, y - 0.115), 2 * half, 0.23, boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=colour if end else "white", edgecolor=colour, linewidth=1.1, zorder=2,
            )
        )  # fmt: skip
        axes.text(
            x, y - 0.01, word.strip("()"), ha="center", va="center", fontsize=9.5, color="white" if end else colour, zorder=3
        )
    heads = ["sensor node", "key concepts", *(f"round {n}" for n in range(1, len(levels))), "embedding node"]
    for x, head in zip(at_x, heads, strict=True):
        axes.text(x, height - 0.3, head, ha="center", va="center", fontsize=11, weight="bold", color="#222222")
    return _save(figure, path)


def draw_top(graph: Graph, path: Path, most: int = 10) -> Path:
    """The words with most ways through them, and those that most training sentences hold."""
    figure = Figure(figsize=(10, 3.6), layout=ConstrainedLayoutEngine(w_pad=0.12))
    panels = (
        (ways(graph), "ways from sensor to embedding", COLOURS[0]),
        (sentences_with(graph), "training sentences with the word", COLOURS[1]),
    )
    for axes, (counts, title, colour) in zip(figure.subplots(1, 2), panels, strict=True):
        top = sorted(counts, key=lambda w: (-counts[w], w))[:most]
        bars = axes.barh(top, [counts[w] for w in top], color=colour)
        axes.bar_label(bars, padding=3, fontsize=9)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=11)
        axes.margins(x=0.12)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.tick_params(left=False, bottom=False, labelbottom=False)
    figure.suptitle(graph.mission, fontsize=12, weight="bold")
    return _save(figure, path)


def draw_cloud(graph: Graph, path: Path) -> Path:
    """All words of the graph, large where many ways lead through; laid out along a spiral so that no two overlap."""
    width, height, dpi = 10.0, 4.6, 100
    figure = Figure(figsize=(width, height), dpi=dpi, layout="none")
    renderer = FigureCanvasAgg(figure).get_renderer()
    counts = ways(graph)
    most = max(counts.values())
    level_of = {word: h for h, level in enumerate(graph.levels) for word in level}
    page, taken = Bbox.from_bounds(0, 0, width * dpi, height * dpi), list[Bbox]()
    for word in sorted(counts, key=lambda w: (-counts[w], w)):
        size = 10 + 26 * math.sqrt(counts[word] / most)
        text = figure.text(0.5, 0.5, word, ha="center", va="center", fontsize=size, color=COLOURS[level_of[word] % len(COLOURS)])
        box = text.get_window_extent(renderer)
        w, h = box.width + 9, box.height * 0.8 + 5
        for x, y in _spiral(page.width, page.height):
            mine = Bbox.from_bounds(x - w / 2, y - h / 2, w, h)
            inside = page.contains(*mine.min) and page.contains(*mine.max)
            if inside and not mine.count_overlaps(taken):
                taken.append(mine)
                text.set_position((x / page.width, y / page.height))
                break
        else:
            text.remove()  # a word that finds no room is in the graph's own figure
    return _save(figure, path)


def _spiral(width: float, height: float) -> Iterator[tuple[float, float]]:
    """Points from the middle outwards, wider than high as the figure is."""
    for i in range(2400):
        t = i * 0.5
        x, y = math.cos(0.35 * t) * width / height / 2, math.sin(0.35 * t)
        yield width / 2 + 0.55 * t * x, height / 2 + 0.55 * t * y


def draw(graph: Graph, stem: str, folder: Path) -> list[Path]:
    """The three figures of a graph as STEM-graph.svg, STEM-top10.svg and STEM-cloud.svg in `folder`."""
    name = stem.replace("_", "-")
    return [
        draw_graph(graph, folder / f"{name}-graph.svg"),
        draw_top(graph, folder / f"{name}-top10.svg"),
        draw_cloud(graph, folder / f"{name}-cloud.svg"),
    ]
