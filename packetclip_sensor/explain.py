"""Events to alerts with their reasons: weights measured by leaving things out, shares exact, sentences made only from fields.

A concept's weight is what the mission's probability loses when that concept sends no message; a packet's weight, what it loses
when the window is judged without that packet. All of an alert's occlusions run as one batch. A path's share is the part of the
message arriving at the mission's embedding node that came along it: messages are sums before the activation, so shares are exact
and sum to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from packetclip_sensor import attack, describe
from packetclip_sensor.bundle import Bundle, Graph
from packetclip_sensor.episodes import Event, Told, identifier
from packetclip_sensor.judge import calibrated
from packetclip_sensor.records import (
    CLASS_MISSION,
    MISSIONS,
    Alert,
    Concept,
    Episode,
    Evidence,
    Explanation,
    FloatArray,
    Path,
    Safe,
    Verdict,
)

TOP_CONCEPTS = 8
TOP_PATHS = 5
TOP_PACKETS = 5
TOP_TEXTS = 3


def explain(streams: Iterable[Told], bundle: Bundle, *, sensor: str) -> Iterator[Safe]:
    """Turn every event into an alert; the open episodes go on as they are then, so that a restart finds the same ones."""
    for told in streams:
        alerts = [_alert(event, bundle, sensor) for event in told.events]
        yield Safe(alerts, told.resume, told.judged, tuple(map(_copy, told.open)))


def _copy(episode: Episode) -> Episode:
    return msgspec.structs.replace(episode, sources=list(episode.sources), destinations=list(episode.destinations))


def _alert(event: Event, bundle: Bundle, sensor: str) -> Alert:
    episode = event.episode
    if event.verdict is not None:
        episode.explanation = explanation(event.verdict, bundle)
    why = episode.explanation
    if why is None:
        raise AssertionError(f"episode {episode.id} closes but was never explained")
    episode.documents += 1
    return Alert(
        id=identifier(sensor, bundle.manifest.version, episode.id, episode.mission, event.state, event.second),
        state=event.state,
        ts=event.verdict.packets[-1].ts if event.verdict else episode.last,
        episode=_copy(episode),
        mission=episode.mission,
        klass=why.klass,
        probability=why.probability,
        missions=why.missions,
        classes=why.classes,
        title=describe.title(
            episode.mission,
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
        flow=episode.flow,
        flow_text=describe.flow_text(episode.flow) if episode.flow else None,
        technique=attack.technique_of(episode.mission, why.klass),
        model_version=bundle.manifest.version,
    )


def explanation(verdict: Verdict, bundle: Bundle) -> Explanation:
    """Explain one verdict. Costs one reasoner batch of about 80 windows."""
    a = len(verdict.embeddings)
    real = len(verdict.packets)
    padding = np.arange(a) < a - real
    mission = MISSIONS.index(verdict.mission)
    concepts = bundle.concepts
    own = [i for i, (m, _, _) in enumerate(concepts) if m == mission]

    keep = np.ones((1 + len(own) + real, len(concepts)), np.float32)
    keep[np.arange(len(own)) + 1, own] = 0.0
    order = np.tile(np.arange(a), (len(keep), 1))
    pads = np.tile(padding, (len(keep), 1))
    for i in range(real):  # the window without packet i: what stood before it moves up by one
        gone, row = a - real + i, 1 + len(own) + i
        order[row] = np.r_[gone, np.delete(np.arange(a), gone)]
        pads[row] = np.arange(a) < a - real + 1
    x, rel = verdict.embeddings[order], verdict.relations[order]
    x[pads] = 0.0
    rel[pads] = 0.0
    logits = bundle.explainer.run(["logits"], {"embedding": x, "relations": rel, "padding": pads, "keep": keep})[0]
    p = calibrated(bundle, logits)[:, 1 + mission]
    weight = p[0] - p

    embedding, states, arrived = bundle.explainer.run(
        ["window_embedding", "states", "arrived"],
        {"embedding": x[:1], "relations": rel[:1], "padding": pads[:1], "keep": keep[:1]},
    )
    facts = describe.facts(verdict.packets, verdict.view)
    classes = _classes(bundle, embedding[0])
    klass = max((c for c in classes if CLASS_MISSION[c] == verdict.mission), key=classes.__getitem__)
    by_weight = np.argsort(-weight[1 : 1 + len(own)], kind="stable")[:TOP_CONCEPTS]
    by_packet = np.argsort(-weight[1 + len(own) :], kind="stable")[:TOP_PACKETS]
    return Explanation(
        klass=klass,
        probability=verdict.probability,
        missions=verdict.missions,
        classes=classes,
        reason=describe.sentence(facts, verdict.sources, verdict.destinations),
        concepts=tuple(Concept(concepts[own[i]][2], round(float(weight[1 + i]), 6), concepts[own[i]][1]) for i in by_weight),
        paths=paths(bundle, mission, states[0, a - real :], arrived[0, a - real :]),
        evidence=tuple(
            Evidence(
                verdict.packets[i],
                round(float(weight[1 + len(own) + i]), 6),
                describe.packet_reason(verdict.packets[i], verdict.packets),
            )
            for i in by_packet
        ),
        nearest_texts=_texts(bundle, embedding[0]),
        facts=facts,
    )


def _classes(bundle: Bundle, embedding: FloatArray) -> dict[str, float]:
    """Softmax over the cosines with each class's texts."""
    z = bundle.logit_scale * (bundle.class_embeddings @ embedding).astype(np.float64)
    z = np.exp(z - z.max())
    return {c: round(float(v), 6) for c, v in zip(bundle.manifest.classes, z / z.sum(), strict=True)}


def _texts(bundle: Bundle, embedding: FloatArray) -> tuple[tuple[str, float], ...]:
    cosines = bundle.text_embeddings @ embedding
    return tuple((bundle.texts[i], round(float(cosines[i]), 4)) for i in np.argsort(-cosines, kind="stable")[:TOP_TEXTS])


def paths(bundle: Bundle, mission: int, states: FloatArray, arrived: FloatArray) -> tuple[Path, ...]:
    """The paths that carry most of the message to the mission's embedding node.

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
    return tuple(Path(("sensor", *path.nodes), round(path.share, 6)) for path in found[:TOP_PATHS])


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
