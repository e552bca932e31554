"""What verdicts rest on: weights measured by leaving things out, shares of paths exact, the nearest class and texts.

A weight is what the log-odds of the verdict's mission lose when a concept or a packet is taken away (`occlusion.py`). Concepts of
all graphs are weighed, not only the mission's own: the temporal model reads the three embedding nodes together, and a verdict may
rest on another mission's graph more than on its own (docs/explanations.md has the figures). A path's share is the part of the
message arriving at a graph's embedding node that came along it: messages are sums before the activation, so shares are exact and
sum to 1 over all paths of the graph.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from packetclip_sensor.common.missions import Mission
from packetclip_sensor.model.bundle import Bundle, Graph
from packetclip_sensor.model.occlusion import Inside, Occlusion
from packetclip_sensor.records import Attribution, Concept, FloatArray, Path, Verdict

Floats = npt.NDArray[np.float64]

TOP_CONCEPTS = 8
TOP_AGAINST = 2
TOP_PATHS = 5
TOP_TEXTS = 3


def attribute(verdicts: Iterable[Verdict], bundle: Bundle) -> list[tuple[Attribution, Floats]]:
    """What each verdict rests on, and the (P,) weights of the packets of its window. Costs about 170 judgements a verdict: every
    concept and every packet taken away once; without a concept only its own graph is computed anew."""
    return [_attribute(verdict, bundle) for verdict in verdicts]


def _attribute(verdict: Verdict, bundle: Bundle) -> tuple[Attribution, Floats]:
    removal, concepts, missions = Occlusion(verdict, bundle), bundle.concepts, bundle.manifest.missions
    graphs = [[i for i, (g, _, _) in enumerate(concepts) if g == graph] for graph in range(len(missions))]
    odds, inside = removal.concepts_and_inside([(), *([i] for i in range(len(concepts))), *graphs])
    lost = odds[0] - odds[1:]
    weight, of_graph = lost[: len(concepts)], lost[len(concepts) :]
    # A window of one packet has nothing to be without.
    without = removal.leave_out([(), *([i] for i in range(removal.packets) if removal.packets > 1)])
    classes, cosines = bundle.classes(inside.embedding), bundle.text_embeddings @ inside.embedding
    shown = dict.fromkeys((missions.names.index(verdict.mission), int(np.argmax(of_graph))))
    found = Attribution(
        klass=_nearest(classes, missions[verdict.mission], verdict),
        probability=verdict.probability,
        missions=verdict.missions,
        classes=classes,
        concepts=tuple(
            Concept(concepts[i][2], round(float(weight[i]), 4), concepts[i][1], missions.names[concepts[i][0]])
            for i in _heaviest(weight)
        ),
        paths=tuple(path for graph in shown for path in _paths(bundle, graph, inside)),
        graphs={mission: round(float(w), 4) for mission, w in zip(missions.names, of_graph, strict=True)},
        nearest_texts=tuple(
            (bundle.texts[i], round(float(cosines[i]), 4)) for i in np.argsort(-cosines, kind="stable")[:TOP_TEXTS]
        ),
        embedding=tuple(round(float(x), 5) for x in inside.embedding),
    )
    return found, without[0] - without[1:] if removal.packets > 1 else np.zeros(1)


def _heaviest(weight: Floats) -> list[int]:
    """The concepts that weigh most, heaviest first, and behind them those that count most against, the strongest last."""
    order = [int(i) for i in np.argsort(-weight, kind="stable")]
    return order[:TOP_CONCEPTS] + [i for i in order[-TOP_AGAINST:] if weight[i] < 0]


def log_odds_without(
    asked: Iterable[tuple[Verdict, Sequence[tuple[str | None, Sequence[int]]]]], bundle: Bundle
) -> list[tuple[str | None, float]]:
    """What verdicts lose when parts of their packets are left out.

    Args:
        asked: of each verdict, parts of its packets, by their numbers; a part with a class is left out if that is the verdict's.
    Returns:
        Of each verdict its class, None where no part asks for it, and the log-odds of its mission: infinite where nothing is left
        out, minus infinity where too few packets are left to judge.
    """
    out: list[tuple[str | None, float]] = []
    for verdict, parts in asked:
        removal, klass, odds = Occlusion(verdict, bundle), None, math.inf
        if any(named for named, _ in parts):
            klass = _nearest(bundle.classes(removal.inside().embedding), bundle.manifest.missions[verdict.mission], verdict)
        if gone := {i for named, places in parts if named in (None, klass) for i in places}:
            enough = removal.packets - len(gone) >= bundle.manifest.window.min_packets
            odds = float(removal.leave_out([gone])[0]) if enough else -math.inf
        out.append((klass, odds))
    return out


def _nearest(classes: dict[str, float], mission: Mission, verdict: Verdict) -> str:
    """The nearest class of a mission, of those that may use the transport of most packets of the window."""
    transport = Counter(packet.proto for packet in verdict.packets).most_common(1)[0][0]
    return max((klass.name for klass in mission.classes_over(transport)), key=classes.__getitem__)


def _paths(bundle: Bundle, mission: int, inside: Inside) -> tuple[Path, ...]:
    """The paths that carry most of the message to the embedding node of one mission's graph.

    Source: equation 7 before its activation; a share is the projection of a part on the whole, so that shares sum to 1.
    """
    graph = bundle.graphs[mission]
    before = sum(len(level) for g in bundle.graphs[:mission] for level in g.levels)
    sent = dict(zip([c for level in graph.levels for c in level], inside.states.transpose(1, 0, 2)[before:], strict=False))
    first_leaf = sum(len(g.leaves) for g in bundle.graphs[:mission])
    leaves = inside.arrived.transpose(1, 0, 2)[first_leaf : first_leaf + len(graph.leaves)]
    own = {c: np.array(h) for level, rows in zip(graph.levels, graph.own, strict=False) for c, h in zip(level, rows, strict=True)}
    found: list[Path] = []
    to_end = _shares(leaves * np.array(graph.own[-1][0]))
    for leaf, share in zip(graph.leaves, to_end, strict=True):
        found += _upward(graph, sent, own, (leaf, "embedding"), float(share))
    found.sort(key=lambda path: -path.share)
    return tuple(Path(("sensor", *path.nodes), round(path.share, 6), graph.mission) for path in found[:TOP_PATHS])


def _shares(parts: Floats) -> Floats:
    """(n, P, H) additive parts to (n,) shares of their sum, which add up to 1."""
    flat = parts.reshape(len(parts), -1)
    whole = flat.sum(0)
    size = float(whole @ whole)
    return flat @ whole / size if size > 0 else np.full(len(parts), 1 / len(parts))


def _upward(graph: Graph, sent: dict[str, FloatArray], own: dict[str, Floats], tail: tuple[str, ...], share: float) -> list[Path]:
    """All paths that end in `tail`, each with its part of `share`."""
    parents = [u for u, v in graph.edges if v == tail[0]]
    if not parents:
        return [Path(tail, share)]
    parts = _shares(np.stack([sent[u] * own[tail[0]] for u in parents]))
    return [p for u, part in zip(parents, parts, strict=True) for p in _upward(graph, sent, own, (u, *tail), share * float(part))]
