"""What a verdict rests on: weights and shares against their definitions, with the shipped model."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from factories import MISSIONS
from recorded import ATTACKS, NOTHING_NEEDED, cut

from packetclip_sensor.alerts.explain import explanations
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.model import attribution, occlusion
from packetclip_sensor.model.attribution import attribute, log_odds_without
from packetclip_sensor.model.bundle import Bundle, softmax
from packetclip_sensor.model.judge import judge
from packetclip_sensor.records import Verdict


@pytest.fixture(scope="module")
def verdicts(bundle: Bundle) -> list[Verdict]:
    return [v for step in judge(cut(ATTACKS), bundle, NOTHING_NEEDED, Counters()) for v in step.verdicts]


@pytest.fixture(scope="module")
def uncertain(verdicts: list[Verdict]) -> Verdict:
    """A verdict of a full window whose probability float32 can tell from 1."""
    return min((v for v in verdicts if len(v.packets) == 30), key=lambda v: abs(v.probability - 0.97))


def odds(bundle: Bundle, verdict: Verdict, *, without: int | None = None, keep: np.ndarray | None = None) -> float:
    """Log-odds of the verdict's mission without one of its packets, by its place in the window, or with some concepts only."""
    keep = np.ones((1, len(bundle.concepts)), np.float32) if keep is None else keep
    parts = verdict.embeddings, verdict.relations, np.arange(30) < 30 - len(verdict.packets)
    if without is not None:
        at = 30 - len(verdict.packets) + without
        parts = tuple(np.concatenate([np.ones_like(part[:1]) * (part.ndim == 1), np.delete(part, at, 0)]) for part in parts)
    inputs = dict(zip(("embedding", "relations", "padding"), (part[None] for part in parts), strict=True)) | {"keep": keep}
    p = softmax(bundle.explainer.run(["logits"], inputs)[0], bundle.manifest.temperature)[
        0, 1 + MISSIONS.names.index(verdict.mission)
    ]
    return math.log(p) - math.log1p(-p)


def test_log_odds_are_those_of_the_softmax_and_exact_where_a_probability_rounds_to_one() -> None:
    logits = np.array([[0.0, 1.0, -2.0, 0.5], [-30.0, 40.0, -30.0, -30.0]], np.float32)
    p = float(np.exp(logits[0, 1]) / np.exp(logits[0]).sum())
    found = occlusion.log_odds(logits, 1)
    assert found[0] == pytest.approx(math.log(p / (1 - p)), abs=1e-6)
    assert found[1] == pytest.approx(70 - math.log(3), abs=1e-9)


def test_a_concepts_weight_is_what_the_log_odds_lose_without_it(bundle: Bundle, uncertain: Verdict) -> None:
    ((why, _),) = attribute([uncertain], bundle)
    names = [(MISSIONS.names[m], c) for m, _, c in bundle.concepts]
    whole = odds(bundle, uncertain)
    assert len(why.concepts) == attribution.TOP_CONCEPTS + attribution.TOP_AGAINST
    for concept in why.concepts:
        keep = np.ones((1, len(names)), np.float32)
        keep[0, names.index((concept.graph, concept.name))] = 0
        assert concept.weight == pytest.approx(whole - odds(bundle, uncertain, keep=keep), abs=2e-3)
    weights = [c.weight for c in why.concepts]  # heaviest first, what counts against last
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] < 0 < weights[0]


def test_a_graphs_weight_is_what_the_log_odds_lose_without_all_its_concepts(bundle: Bundle, uncertain: Verdict) -> None:
    ((why, _),) = attribute([uncertain], bundle)
    assert list(why.graphs) == list(MISSIONS.names)
    whole = odds(bundle, uncertain)
    for place, name in enumerate(MISSIONS.names):
        keep = np.array([[float(m != place) for m, _, _ in bundle.concepts]], np.float32)
        assert why.graphs[name] == pytest.approx(whole - odds(bundle, uncertain, keep=keep), abs=2e-3)


def test_a_packets_weight_is_what_the_log_odds_lose_without_it(bundle: Bundle, uncertain: Verdict) -> None:
    (why,) = explanations([uncertain], bundle, policy="all")
    whole = odds(bundle, uncertain)
    assert len(why.evidence) == 5
    for evidence in why.evidence:
        place = uncertain.packets.index(evidence.packet)
        assert evidence.weight == pytest.approx(whole - odds(bundle, uncertain, without=place), abs=2e-3)


def test_a_window_of_one_packet_is_explained_beside_others(bundle: Bundle, uncertain: Verdict) -> None:
    alone = replace(uncertain, packets=uncertain.packets[-1:])
    first, second = explanations([alone, uncertain], bundle)
    assert [e.weight for e in first.evidence] == [0.0]
    assert [second] == explanations([uncertain], bundle)


def test_many_removals_give_what_one_gives(bundle: Bundle, uncertain: Verdict) -> None:
    removal = occlusion.Occlusion(uncertain, bundle)
    sets = [(i % len(bundle.concepts), (7 * i) % len(bundle.concepts)) for i in range(occlusion.ROWS + 9)]
    np.testing.assert_allclose(removal.concepts(sets)[-3:], np.concatenate([removal.concepts([s]) for s in sets[-3:]]), atol=1e-4)
    pairs = [(i % removal.packets, (3 * i + 1) % removal.packets) for i in range(40)]
    alone = [removal.leave_out([s])[0] for s in pairs[:3]]
    np.testing.assert_allclose(removal.leave_out(pairs)[:3], alone, atol=1e-4)


def test_shares_of_all_paths_sum_to_one(bundle: Bundle, verdicts: list[Verdict], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "TOP_PATHS", 10**6)
    ((why, _),) = attribute([max(verdicts, key=lambda v: v.probability)], bundle)
    for graph in {p.graph for p in why.paths}:
        assert sum(p.share for p in why.paths if p.graph == graph) == pytest.approx(1, abs=1e-3)
    edges = {g.mission: {tuple(e) for e in g.edges} for g in bundle.graphs}
    for path in why.paths:
        assert (path.nodes[0], path.nodes[-1]) == ("sensor", "embedding")
        assert set(zip(path.nodes[1:-2], path.nodes[2:-1], strict=True)) <= edges[path.graph]


def test_the_class_lies_within_the_mission(bundle: Bundle, verdicts: list[Verdict]) -> None:
    verdict = max(verdicts, key=lambda v: v.probability)
    ((why, _),) = attribute([verdict], bundle)
    assert MISSIONS.of_class[why.klass] == verdict.mission
    assert sum(why.classes.values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("proto", "named"), [("udp", "UDP Flood"), ("tcp", "SYN Flood"), ("icmp", "ICMP Flood"), ("unknown_transport", "UDP Flood")]
)
def test_the_class_never_contradicts_the_transport_of_most_packets(
    bundle: Bundle, uncertain: Verdict, monkeypatch: pytest.MonkeyPatch, proto: str, named: str
) -> None:
    likeness = dict.fromkeys(MISSIONS.classes, 0.0) | {"UDP Flood": 0.9, "SYN Flood": 0.08, "ICMP Flood": 0.02}
    monkeypatch.setattr(Bundle, "classes", lambda *_: likeness)
    packets = tuple(msgspec.structs.replace(p, proto=proto) if i > 9 else p for i, p in enumerate(uncertain.packets))
    ((why, _),) = attribute([replace(uncertain, mission="DoS", packets=packets)], bundle)
    assert why.klass == named


def test_parts_of_a_class_are_left_out_of_its_verdicts_only(bundle: Bundle, uncertain: Verdict) -> None:
    ((why, _),) = attribute([uncertain], bundle)
    other = next(name for name in MISSIONS.classes if name != why.klass)
    most, some, nothing = [(None, range(27))], [(None, [0]), (why.klass, [1]), (other, [2])], [(other, [2])]
    found = log_odds_without([(uncertain, parts) for parts in (most, some, nothing)], bundle)
    without = occlusion.Occlusion(uncertain, bundle).leave_out([[0, 1]])[0]
    # Three packets are too few to judge.
    assert found == [(None, -math.inf), (why.klass, pytest.approx(without, abs=1e-4)), (why.klass, math.inf)]
