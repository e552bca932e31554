"""Judging and explaining with the shipped bundle: fast paths against slow ones, weights and shares against their definitions."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import numpy as np
import pytest

from packetclip_sensor import explain
from packetclip_sensor.bundle import Bundle
from packetclip_sensor.judge import Encoder, calibrated, judge, score
from packetclip_sensor.metrics import Counters
from packetclip_sensor.records import MISSIONS, Batch, Packet, Verdict
from packetclip_sensor.resources import resource
from packetclip_sensor.windows import Window, Windows, windows

DATA = Path(__file__).parents[1] / "data"
ALL = dict.fromkeys(MISSIONS, 0.0)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(resource("model"))


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


def strongest(bundle: Bundle, packets: list[Packet]) -> Verdict:
    verdicts = [v for step in judge(cut(packets), bundle, ALL, Counters()) for v in step.verdicts]
    return max(verdicts, key=lambda v: v.probability)


def test_verdicts_do_not_depend_on_how_the_log_was_cut_into_batches(bundle: Bundle, packets: list[Packet]) -> None:
    def told(batch: int) -> list[tuple[int, str, str, float]]:
        return [
            (v.second, v.view, v.mission, round(v.probability, 3))
            for step in judge(cut(packets, batch), bundle, ALL, Counters())
            for v in step.verdicts
        ]

    assert told(10_000) == told(700)


def test_a_concepts_weight_is_what_its_silence_takes(bundle: Bundle, packets: list[Packet]) -> None:
    verdict = strongest(bundle, packets)
    why = explain.explanation(verdict, bundle)
    names = [(MISSIONS[m], c) for m, _, c in bundle.concepts]
    padding = (np.arange(30) < 30 - len(verdict.packets))[None]
    x, rel = verdict.embeddings[None], verdict.relations[None]
    mission = 1 + MISSIONS.index(verdict.mission)
    whole = probabilities(bundle, x, rel, padding)[0, mission]
    for concept in why.concepts:
        keep = np.ones((1, len(names)), np.float32)
        keep[0, names.index((verdict.mission, concept.name))] = 0
        without = probabilities(bundle, x, rel, padding, keep)[0, mission]
        assert concept.weight == pytest.approx(float(whole - without), abs=2e-5)


def test_a_packets_weight_is_what_its_absence_takes(bundle: Bundle, packets: list[Packet]) -> None:
    verdict = strongest(bundle, packets)
    why = explain.explanation(verdict, bundle)
    mission = 1 + MISSIONS.index(verdict.mission)
    padding = (np.arange(30) < 30 - len(verdict.packets))[None]
    whole = probabilities(bundle, verdict.embeddings[None], verdict.relations[None], padding)[0, mission]
    for evidence in why.evidence:
        at = 30 - len(verdict.packets) + verdict.packets.index(evidence.packet)
        x = np.concatenate([np.zeros((1, verdict.embeddings.shape[1]), np.float32), np.delete(verdict.embeddings, at, 0)])
        rel = np.concatenate([np.zeros((1, verdict.relations.shape[1]), np.float32), np.delete(verdict.relations, at, 0)])
        pad = (np.arange(30) < 31 - len(verdict.packets))[None]
        without = probabilities(bundle, x[None], rel[None], pad)[0, mission]
        assert evidence.weight == pytest.approx(float(whole - without), abs=2e-5)


def test_shares_of_all_paths_sum_to_one(bundle: Bundle, packets: list[Packet], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "TOP_PATHS", 10**6)
    why = explain.explanation(strongest(bundle, packets), bundle)
    assert sum(p.share for p in why.paths) == pytest.approx(1, abs=1e-3)
    edges = {tuple(e) for g in bundle.graphs for e in g.edges}
    for path in why.paths:
        assert path.nodes[0] == "sensor"
        assert path.nodes[-1] == "embedding"
        assert set(zip(path.nodes[1:-2], path.nodes[2:-1], strict=True)) <= edges


def test_the_class_lies_within_the_mission(bundle: Bundle, packets: list[Packet]) -> None:
    from packetclip_sensor.records import CLASS_MISSION

    verdict = strongest(bundle, packets)
    why = explain.explanation(verdict, bundle)
    assert CLASS_MISSION[why.klass] == verdict.mission
    assert sum(why.classes.values()) == pytest.approx(1, abs=1e-4)
