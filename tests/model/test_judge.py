"""Judging and explaining with the shipped bundle: fast paths against slow ones, weights and shares against their definitions."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from factories import MISSIONS

from packetclip_sensor.alerts import explain
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.resources import resource
from packetclip_sensor.model import occlusion
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.model.judge import Encoder, calibrated, judge, score
from packetclip_sensor.records import Batch, Packet, Verdict
from packetclip_sensor.windows.windows import Window, Windows, windows

DATA = Path(__file__).parents[1] / "data"
ALL = dict.fromkeys(MISSIONS.names, 0.0)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(resource("model/shipped"))


@pytest.fixture(scope="module")
def packets() -> list[Packet]:
    """Recorded packets of an attack of each kind."""
    decoder = msgspec.json.Decoder(Packet)
    out: list[Packet] = []
    for path in sorted(DATA.glob("*/packetclip_packet.log.gz"))[:6]:
        out += decoder.decode_lines(gzip.decompress(path.read_bytes()))[:600]
    return sorted(out, key=lambda p: p.ts)


def probabilities(
    bundle: Bundle, x: np.ndarray, rel: np.ndarray, padding: np.ndarray, keep: np.ndarray | None = None
) -> np.ndarray:
    keep = np.ones((1, len(bundle.concepts)), np.float32) if keep is None else keep
    inputs = {"embedding": x, "relations": rel, "padding": padding, "keep": keep}
    return calibrated(bundle, bundle.explainer.run(["logits"], inputs)[0])


def cut(packets: list[Packet], batch: int = 10_000) -> list[Windows]:
    batches = [Batch(packets[i : i + batch], []) for i in range(0, len(packets), batch)]
    return list(windows([*batches, Batch([], [], final=True)], Window(), Counters()))


def test_cached_rows_give_the_embeddings_of_fresh_ones(bundle: Bundle, packets: list[Packet]) -> None:
    table = cut(packets)[0].table
    rows = np.arange(len(table))
    small = Encoder(bundle, cached_rows=16)
    first, again = small(table, rows), small(table, rows)
    one_by_one = np.concatenate([Encoder(bundle)(table, rows[i : i + 1]) for i in range(64)])
    np.testing.assert_allclose(first, again, atol=1e-5)
    np.testing.assert_allclose(first[:64], one_by_one, atol=1e-5)


def test_equal_rows_are_encoded_once(bundle: Bundle, packets: list[Packet]) -> None:
    table = cut(packets)[0].table
    counters = Counters()
    Encoder(bundle, counters)(table, np.zeros(50, np.int64))
    assert counters.encoded_rows == 1


def test_probabilities_do_not_depend_on_the_batch(bundle: Bundle, packets: list[Packet]) -> None:
    w = cut(packets)[0]
    step = max(1, len(w.rows) // 40)
    rows, past = w.rows[::step], w.past[::step]
    together = score(bundle, Encoder(bundle), w.table, rows, past).probabilities
    one = [slice(i, i + 1) for i in range(len(rows))]
    alone = np.concatenate([score(bundle, Encoder(bundle), w.table, rows[i], past[i]).probabilities for i in one])
    np.testing.assert_allclose(together, alone, atol=2e-5)
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-5)


def test_the_folded_reasoner_is_the_one_that_explains(bundle: Bundle, packets: list[Packet]) -> None:
    w = cut(packets)[0]
    scored = score(bundle, Encoder(bundle), w.table, w.rows[:64], w.past[:64])
    again = probabilities(bundle, scored.embeddings, scored.relations, w.rows[:64] < 0)
    np.testing.assert_allclose(scored.probabilities, again, atol=2e-5)


_JUDGED: list[Verdict] = []


def all_verdicts(bundle: Bundle, packets: list[Packet]) -> list[Verdict]:
    if not _JUDGED:
        _JUDGED.extend(v for step in judge(cut(packets), bundle, ALL, Counters()) for v in step.verdicts)
    return _JUDGED


def strongest(bundle: Bundle, packets: list[Packet]) -> Verdict:
    verdicts = all_verdicts(bundle, packets)
    return max(verdicts, key=lambda v: v.probability)


def uncertain(bundle: Bundle, packets: list[Packet]) -> Verdict:
    """A verdict of a full window whose probability float32 can tell from 1."""
    return min((v for v in all_verdicts(bundle, packets) if len(v.packets) == 30), key=lambda v: abs(v.probability - 0.97))


def test_verdicts_do_not_depend_on_how_the_log_was_cut_into_batches(bundle: Bundle, packets: list[Packet]) -> None:
    def told(batch: int) -> list[tuple[int, str, str, float]]:
        return [
            (v.second, v.view, v.mission, round(v.probability, 3))
            for step in judge(cut(packets, batch), bundle, ALL, Counters())
            for v in step.verdicts
        ]

    assert told(10_000) == told(700)


def odds(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)


def test_a_verdict_counts_the_packets_and_connections_behind_it(bundle: Bundle, packets: list[Packet]) -> None:
    verdicts = all_verdicts(bundle, packets)
    assert verdicts
    within = Window().seconds
    for v in verdicts[:: len(verdicts) // 50 + 1]:
        inside = {p.uid for p in v.packets}
        assert len(inside) <= v.connections <= max(len(inside), Window().connections)
        assert v.volume >= len(v.packets)
        if v.view == "pair":
            hosts = {*v.sources, *v.destinations}
            begun = {
                p.uid for p in packets
                if {p.orig_h, p.resp_h} == hosts and p.n == 1 and v.second + 1 - within <= p.ts < v.second + 1
            }  # fmt: skip
            assert v.connections == max(len(inside), min(len(begun), Window().connections))


def test_log_odds_are_those_of_the_softmax_and_exact_where_a_probability_rounds_to_one() -> None:
    logits = np.array([[0.0, 1.0, -2.0, 0.5], [-30.0, 40.0, -30.0, -30.0]], np.float32)
    p = np.exp(logits[0]) / np.exp(logits[0]).sum()
    found = occlusion.log_odds(logits, 1)
    assert found[0] == pytest.approx(odds(float(p[1])), abs=1e-6)
    assert found[1] == pytest.approx(70 - math.log(3), abs=1e-9)


def test_a_concepts_weight_is_what_its_silence_takes_from_the_log_odds(bundle: Bundle, packets: list[Packet]) -> None:
    verdict = uncertain(bundle, packets)
    why = explain.explanation(verdict, bundle)
    names = [(MISSIONS.names[m], c) for m, _, c in bundle.concepts]
    padding = (np.arange(30) < 30 - len(verdict.packets))[None]
    x, rel = verdict.embeddings[None], verdict.relations[None]
    mission = 1 + MISSIONS.names.index(verdict.mission)
    whole = odds(probabilities(bundle, x, rel, padding)[0, mission])
    assert len(why.concepts) == explain.TOP_CONCEPTS + explain.TOP_AGAINST
    for concept in why.concepts:
        keep = np.ones((1, len(names)), np.float32)
        keep[0, names.index((concept.graph, concept.name))] = 0
        without = odds(probabilities(bundle, x, rel, padding, keep)[0, mission])
        assert concept.weight == pytest.approx(whole - without, abs=2e-3)


def test_concepts_stand_heaviest_first_and_what_speaks_against_last(bundle: Bundle, packets: list[Packet]) -> None:
    weights = [c.weight for c in explain.explanation(uncertain(bundle, packets), bundle).concepts]
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] < 0 < weights[0]


def test_a_graphs_weight_is_what_the_silence_of_all_its_concepts_takes(bundle: Bundle, packets: list[Packet]) -> None:
    verdict = uncertain(bundle, packets)
    why = explain.explanation(verdict, bundle)
    assert list(why.graphs) == list(MISSIONS.names)
    padding = (np.arange(30) < 30 - len(verdict.packets))[None]
    x, rel = verdict.embeddings[None], verdict.relations[None]
    mission = 1 + MISSIONS.names.index(verdict.mission)
    whole = odds(probabilities(bundle, x, rel, padding)[0, mission])
    for place, name in enumerate(MISSIONS.names):
        keep = np.array([[float(m != place) for m, _, _ in bundle.concepts]], np.float32)
        without = odds(probabilities(bundle, x, rel, padding, keep)[0, mission])
        assert why.graphs[name] == pytest.approx(whole - without, abs=2e-3)


def test_a_packets_weight_is_what_its_absence_takes_from_the_log_odds(bundle: Bundle, packets: list[Packet]) -> None:
    verdict = uncertain(bundle, packets)
    why = explain.explanation(verdict, bundle)
    mission = 1 + MISSIONS.names.index(verdict.mission)
    padding = (np.arange(30) < 30 - len(verdict.packets))[None]
    whole = odds(probabilities(bundle, verdict.embeddings[None], verdict.relations[None], padding)[0, mission])
    for evidence in why.evidence:
        at = 30 - len(verdict.packets) + verdict.packets.index(evidence.packet)
        x = np.concatenate([np.zeros((1, verdict.embeddings.shape[1]), np.float32), np.delete(verdict.embeddings, at, 0)])
        rel = np.concatenate([np.zeros((1, verdict.relations.shape[1]), np.float32), np.delete(verdict.relations, at, 0)])
        pad = (np.arange(30) < 31 - len(verdict.packets))[None]
        without = odds(probabilities(bundle, x[None], rel[None], pad)[0, mission])
        assert evidence.weight == pytest.approx(whole - without, abs=2e-3)


def test_a_window_of_one_packet_is_explained(bundle: Bundle, packets: list[Packet]) -> None:
    verdict = uncertain(bundle, packets)
    alone = replace(verdict, packets=verdict.packets[-1:])
    why = explain.explanation(alone, bundle)
    assert [e.weight for e in why.evidence] == [0.0]


def test_many_removals_give_what_one_gives(bundle: Bundle, packets: list[Packet]) -> None:
    removal = occlusion.Occlusion(uncertain(bundle, packets), bundle)
    sets = [(i % len(bundle.concepts), (7 * i) % len(bundle.concepts)) for i in range(occlusion.ROWS + 9)]
    np.testing.assert_allclose(removal.concepts(sets)[-3:], np.concatenate([removal.concepts([s]) for s in sets[-3:]]), atol=1e-4)
    pairs = [(i % removal.packets, (3 * i + 1) % removal.packets) for i in range(40)]
    np.testing.assert_allclose(removal.leave_out(pairs)[:3], [removal.leave_out([s])[0] for s in pairs[:3]], atol=1e-4)


def test_shares_of_all_paths_sum_to_one(bundle: Bundle, packets: list[Packet], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "TOP_PATHS", 10**6)
    why = explain.explanation(strongest(bundle, packets), bundle)
    for graph in {p.graph for p in why.paths}:
        assert sum(p.share for p in why.paths if p.graph == graph) == pytest.approx(1, abs=1e-3)
    edges = {g.mission: {tuple(e) for e in g.edges} for g in bundle.graphs}
    for path in why.paths:
        assert path.nodes[0] == "sensor"
        assert path.nodes[-1] == "embedding"
        assert set(zip(path.nodes[1:-2], path.nodes[2:-1], strict=True)) <= edges[path.graph]


def test_the_class_lies_within_the_mission(bundle: Bundle, packets: list[Packet]) -> None:

    verdict = strongest(bundle, packets)
    why = explain.explanation(verdict, bundle)
    assert MISSIONS.of_class[why.klass] == verdict.mission
    assert sum(why.classes.values()) == pytest.approx(1, abs=1e-4)
