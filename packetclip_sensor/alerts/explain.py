"""Events to alerts with their reasons: weights measured by leaving things out, shares exact, sentences made only from fields.

A weight is what the log-odds of the verdict's mission lose when a concept or a packet is taken away (`occlusion.py`). Concepts of
all graphs are weighed, not only the mission's own: the temporal model reads the three embedding nodes together, and a verdict may
rest on another mission's graph more than on its own (docs/explanations.md has the figures). A path's share is the part of the
message arriving at a graph's embedding node that came along it: messages are sums before the activation, so shares are exact and
sum to 1 over all paths of the graph.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from packetclip_sensor.alerts import sentences
from packetclip_sensor.alerts.episodes import EpisodeBatch, Event, identifier
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.model.bundle import Bundle, Graph
from packetclip_sensor.model.occlusion import Occlusion
from packetclip_sensor.records import (
    SURE_FROM,
    Alert,
    AlertBatch,
    Concept,
    Evidence,
    Explanation,
    FloatArray,
    Path,
    Verdict,
)

TOP_CONCEPTS = 8
TOP_AGAINST = 2
TOP_PATHS = 5
TOP_PACKETS = 5
TOP_TEXTS = 3


def explain(told: EpisodeBatch, bundle: Bundle, *, sensor: str) -> AlertBatch:
    """Turn every event into an alert; the open episodes go on as they are then, so that a restart finds the same ones."""
    alerts = [_alert(event, bundle, sensor) for event in told.events]
    return AlertBatch(alerts, told.resume, told.judged, tuple(episode.copy() for episode in told.open), told.flows)


def _alert(event: Event, bundle: Bundle, sensor: str) -> Alert:
    episode, living, missions = event.episode, event.living, bundle.manifest.missions
    if event.verdict is not None:
        living.explanation = explanation(event.verdict, bundle)
    why = living.explanation
    if why is None:
        raise AssertionError(f"episode {episode.id} closes but was never explained")
    living.documents += 1
    episode.explanation, episode.documents = why, living.documents
    return Alert(
        id=identifier(sensor, bundle.manifest.version, episode.id, episode.mission, event.state, event.second),
        state=event.state,
        ts=event.verdict.packets[-1].ts if event.verdict else float(event.second),
        episode=episode,
        mission=episode.mission,
        klass=why.klass,
        probability=why.probability,
        missions=why.missions,
        classes=why.classes,
        title=sentences.title(
            missions[episode.mission],
            why.klass,
            episode.sources,
            episode.destinations,
            episode.scope,
            source_count=episode.source_count,
            destination_count=episode.destination_count,
        ),
        reason=why.reason,
        concepts=why.concepts,
        paths=why.paths,
        evidence=why.evidence,
        nearest_texts=why.nearest_texts,
        facts=why.facts,
        graphs=why.graphs,
        embedding=why.embedding,
        flow=episode.flow,
        flow_text=sentences.flow_text(episode.flow) if episode.flow else None,
        technique=missions.technique(episode.mission, why.klass),
        model_version=bundle.manifest.version,
        sure_from=bundle.manifest.ceilings.get(episode.mission, SURE_FROM),
    )


def explanation(verdict: Verdict, bundle: Bundle) -> Explanation:
    """Explain one verdict. Costs about 170 judgements: every concept and every packet taken away once."""
    removal = Occlusion(verdict, bundle)
    concepts, missions = bundle.concepts, bundle.manifest.missions
    own_graph = missions.names.index(verdict.mission)
    graphs = [[i for i, (g, _, _) in enumerate(concepts) if g == graph] for graph in range(len(missions))]
    odds = removal.concepts([(), *([i] for i in range(len(concepts))), *graphs])
    lost = odds[0] - odds[1:]
    weight, of_graph = lost[: len(concepts)], lost[len(concepts) :]
    # A window of one packet has nothing to be without.
    without = removal.leave_out([(), *([i] for i in range(removal.packets) if removal.packets > 1)])
    packet_weight = without[0] - without[1:] if removal.packets > 1 else np.zeros(1)

    embedding, states, arrived = removal.inside()
    facts = sentences.facts(verdict.packets, verdict.view)
    classes = bundle.classes(embedding)
    klass = _nearest(classes, verdict.mission, missions)
    by_packet = np.argsort(-packet_weight, kind="stable")[:TOP_PACKETS]
    shown = dict.fromkeys((own_graph, int(np.argmax(of_graph))))
    return Explanation(
        klass=klass,
        probability=verdict.probability,
        missions=verdict.missions,
        classes=classes,
        reason=sentences.sentence(facts, verdict.sources, verdict.destinations),
        concepts=tuple(
            Concept(concepts[i][2], round(float(weight[i]), 4), concepts[i][1], missions.names[concepts[i][0]])
            for i in _telling(weight)
        ),
        paths=tuple(path for graph in shown for path in paths(bundle, graph, states, arrived)),
        evidence=tuple(
            Evidence(
                verdict.packets[i],
                round(float(packet_weight[i]), 4),
                sentences.packet_reason(verdict.packets[i], verdict.packets),
            )
            for i in by_packet
        ),
        nearest_texts=_texts(bundle, embedding),
        facts=facts,
        graphs={mission: round(float(w), 4) for mission, w in zip(missions.names, of_graph, strict=True)},
        embedding=tuple(round(float(x), 5) for x in embedding),
    )


def _telling(weight: npt.NDArray[np.float64]) -> list[int]:
    """The concepts that weigh most, heaviest first, and behind them those that speak most against, the strongest last."""
    order = [int(i) for i in np.argsort(-weight, kind="stable")]
    return order[:TOP_CONCEPTS] + [i for i in order[-TOP_AGAINST:] if weight[i] < 0]


def nearest_class(verdict: Verdict, bundle: Bundle) -> str:
    """The class that `explanation` would give, without the rest of it."""
    return _nearest(bundle.classes(Occlusion(verdict, bundle).inside()[0]), verdict.mission, bundle.manifest.missions)


def _nearest(classes: dict[str, float], mission: str, missions: Missions) -> str:
    return max((klass.name for klass in missions[mission].classes), key=classes.__getitem__)


def _texts(bundle: Bundle, embedding: FloatArray) -> tuple[tuple[str, float], ...]:
    cosines = bundle.text_embeddings @ embedding
    return tuple((bundle.texts[i], round(float(cosines[i]), 4)) for i in np.argsort(-cosines, kind="stable")[:TOP_TEXTS])


def paths(bundle: Bundle, mission: int, states: FloatArray, arrived: FloatArray) -> tuple[Path, ...]:
    """The paths that carry most of the message to the embedding node of one mission's graph.

    Args:
        states: (P, C, H) h that each concept sends, of the window's real packets. arrived: (P, leaves, H) of all missions.
    Source: equation 7 before its activation; a share is the projection of a part on the whole, so that shares sum to 1.
    """
    graph = bundle.graphs[mission]
    before = sum(len(level) for g in bundle.graphs[:mission] for level in g.levels)
    sent = dict(zip([c for level in graph.levels for c in level], states.transpose(1, 0, 2)[before:], strict=False))
    first_leaf = sum(len(g.leaves) for g in bundle.graphs[:mission])
    leaves = arrived.transpose(1, 0, 2)[first_leaf : first_leaf + len(graph.leaves)]
    own = {c: np.array(h) for level, rows in zip(graph.levels, graph.own, strict=False) for c, h in zip(level, rows, strict=True)}
    found: list[Path] = []
    to_end = _shares(leaves * np.array(graph.own[-1][0]))
    for leaf, share in zip(graph.leaves, to_end, strict=True):
        found += _upward(graph, sent, own, (leaf, "embedding"), float(share))
    found.sort(key=lambda path: -path.share)
    return tuple(Path(("sensor", *path.nodes), round(path.share, 6), graph.mission) for path in found[:TOP_PATHS])


def _shares(parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n, P, H) additive parts to (n,) shares of their sum, which add up to 1."""
    flat = parts.reshape(len(parts), -1)
    whole = flat.sum(0)
    size = float(whole @ whole)
    return flat @ whole / size if size > 0 else np.full(len(parts), 1 / len(parts))


def _upward(
    graph: Graph, sent: dict[str, FloatArray], own: dict[str, npt.NDArray[np.float64]], tail: tuple[str, ...], share: float
) -> list[Path]:
    """All paths that end in `tail`, each with its part of `share`."""
    parents = [u for u, v in graph.edges if v == tail[0]]
    if not parents:
        return [Path(tail, share)]
    parts = _shares(np.stack([sent[u] * own[tail[0]] for u in parents]))
    return [p for u, part in zip(parents, parts, strict=True) for p in _upward(graph, sent, own, (u, *tail), share * float(part))]
