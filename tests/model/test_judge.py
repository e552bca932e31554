"""Judging with the shipped model: fast paths against slow ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from factories import packet
from msgspec.structs import replace as with_fields
from onnxruntime import InferenceSession
from recorded import ATTACKS, NOTHING_NEEDED, cut

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.model.bundle import Bundle, softmax
from packetclip_sensor.model.encoder import Encoder
from packetclip_sensor.model.judge import REFLECTORS, accused, judge, score
from packetclip_sensor.records import Packet
from packetclip_sensor.windows.packet_features import ModelInput, model_input
from packetclip_sensor.windows.windows import Window


@pytest.fixture(scope="module")
def given() -> ModelInput:
    return model_input(cut(ATTACKS)[0])


def test_cached_rows_give_the_embeddings_of_fresh_ones(bundle: Bundle, given: ModelInput) -> None:
    small = Encoder(bundle, cached_rows=16)
    first, again = small(given.tokens), small(given.tokens)
    one_by_one = np.concatenate([Encoder(bundle)(given.tokens[i : i + 1]) for i in range(64)])
    np.testing.assert_allclose(first, again, atol=1e-5)
    np.testing.assert_allclose(first[:64], one_by_one, atol=1e-5)


def test_equal_rows_are_encoded_once(bundle: Bundle, given: ModelInput) -> None:
    counters = Counters()
    Encoder(bundle, counters)(given.tokens[np.zeros(50, np.int64)])
    assert counters.encoded_rows == 1


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 33, 63])
def test_an_embedding_is_the_same_to_the_last_bit_whatever_is_beside_it(bundle: Bundle, given: ModelInput, rows: int) -> None:
    tokens = np.unique(given.tokens, axis=0)[:63]
    together = Encoder(bundle)(tokens)
    assert np.array_equal(Encoder(bundle)(tokens[:rows]), together[:rows])


def test_probabilities_do_not_depend_on_the_batch(bundle: Bundle, given: ModelInput) -> None:
    chosen = np.arange(0, len(given.rows), max(1, len(given.rows) // 40))
    together = score(bundle, Encoder(bundle), given, chosen).probabilities
    alone = np.concatenate([score(bundle, Encoder(bundle), given, chosen[i : i + 1]).probabilities for i in range(len(chosen))])
    np.testing.assert_allclose(together, alone, atol=2e-5)
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-5)


class Watched:
    """A reasoner that remembers how long the windows were."""

    def __init__(self, reasoner: InferenceSession) -> None:
        self._reasoner, self.lengths = reasoner, list[int]()
        self.get_inputs = reasoner.get_inputs

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.lengths.append(inputs["embedding"].shape[1])
        return self._reasoner.run(names, inputs)


def test_a_short_window_is_judged_without_its_padding(bundle: Bundle, given: ModelInput) -> None:
    lengths = (given.rows >= 0).sum(1)
    scored = score(bundle, Encoder(bundle), given, np.arange(len(given.rows)))
    assert len(set(lengths.tolist())) > 10
    for length in set(lengths.tolist()):
        chosen = np.nonzero(lengths == length)[0][:8]
        inputs = scored.embeddings[chosen], scored.relations[chosen], given.rows[chosen] < 0
        watched = Watched(bundle.reasoner)
        logits = replace(bundle, reasoner=watched).logits(*inputs)
        assert watched.lengths == [length]
        np.testing.assert_allclose(softmax(logits, bundle.manifest.temperature), scored.probabilities[chosen], atol=2e-5)


def test_the_folded_reasoner_is_the_one_that_explains(bundle: Bundle, given: ModelInput) -> None:
    scored = score(bundle, Encoder(bundle), given, slice(64))
    inputs = {"embedding": scored.embeddings, "relations": scored.relations, "padding": given.rows[:64] < 0}
    keep = np.ones((1, len(bundle.concepts)), np.float32)
    again = softmax(bundle.explainer.run(["logits"], inputs | {"keep": keep})[0], bundle.manifest.temperature)
    np.testing.assert_allclose(scored.probabilities, again, atol=2e-5)


def test_verdicts_do_not_depend_on_how_the_log_was_cut_into_batches(bundle: Bundle) -> None:
    def found(batch: int) -> list[tuple[int, str, str, float]]:
        steps = judge(cut(ATTACKS, batch), bundle, NOTHING_NEEDED, Counters())
        return [(v.second, v.view, v.mission, round(v.probability, 3)) for step in steps for v in step.verdicts]

    assert found(10_000) == found(700)


def test_a_verdict_counts_the_packets_and_connections_behind_it(bundle: Bundle) -> None:
    verdicts = [v for step in judge(cut(ATTACKS), bundle, NOTHING_NEEDED, Counters()) for v in step.verdicts]
    assert verdicts
    within = Window().seconds
    for v in verdicts[:: len(verdicts) // 50 + 1]:
        inside = {p.uid for p in v.packets if v.sources != (p.resp_h,)}
        assert len(inside) <= v.connections <= max(len(inside), Window().connections)
        assert v.volume >= len(v.packets)
        if v.view == "pair":
            hosts = {*v.sources, *v.destinations}
            begun = {
                p.uid for p in ATTACKS
                if {p.orig_h, p.resp_h} == hosts and p.orig_h in v.sources and p.n == 1
                and v.second + 1 - within <= p.ts < v.second + 1
            }  # fmt: skip
            sent = Counter[tuple[str, int]]()
            for p in ATTACKS:
                sent[p.uid, int(p.ts)] += p.size_bytes * ({p.orig_h, p.resp_h} == hosts)
            if max(sent.values()) <= Window().heavy_bytes:  # else a light window may leave connections out
                assert v.connections == max(len(inside), min(len(begun), Window().connections))


def lookups(clients: int, each: int) -> list[Packet]:
    """Look-ups of so many clients at one resolver, each with its answer, by turns."""
    fields = {"resp_h": "192.0.2.53", "resp_p": 53, "proto": "udp"}
    return [
        packet(
            ts=100 + (i * clients + c + n / 2) / 500, uid=f"C{c}-{i}", orig_h=f"192.0.2.{c}", is_orig=n == 0, n=n + 1, **fields
        )
        for i in range(each)
        for c in range(clients)
        for n in range(2)
    ]


def test_what_is_counted_for_one_named_host_is_its_own(bundle: Bundle) -> None:
    """The resolver's window of 30 packets shows one client, its stream has three."""
    later = [with_fields(p, ts=p.ts + 0.2) for p in lookups(1, 24)[16:]]
    packets = sorted(lookups(3, 8) + later, key=lambda p: p.ts)
    verdicts = [v for step in judge(cut(packets), bundle, NOTHING_NEEDED, Counters()) for v in step.verdicts]
    (wide,) = [v for v in verdicts if v.view == "destination"]
    assert (wide.sources, wide.destinations) == (("192.0.2.0",), ("192.0.2.53",))
    assert (wide.connections, wide.volume) == (24, 48)
    assert {(v.connections, v.volume) for v in verdicts if v.sources == ("192.0.2.1",)} == {(8, 16)}


def answers(count: int, senders: int = 1, **fields: object) -> list[Packet]:
    return [packet(uid=f"C{i}", orig_h=f"192.0.2.{i % senders}", **fields) for i in range(count)]


def test_only_who_was_seen_to_begin_is_accused() -> None:
    unseen, asked = answers(10, is_orig=False, unasked=True), answers(10, 2, is_orig=False)
    assert accused(answers(10), "pair") == ("192.0.2.0",)
    assert accused(asked, "pair") == ()
    assert accused(asked, "destination") == ("192.0.2.0", "192.0.2.1")  # the second ends with answers to what they sent
    assert accused([*asked, *answers(2, 2)], "destination") == ("192.0.2.0", "192.0.2.1")
    assert accused([*unseen, *answers(9)], "source") == ()  # most of it answers somebody who was not seen
    assert accused([*unseen, *answers(11)], "source") == ("192.0.2.0",)
    # Of a pair the host of most packets is the source, or none is.
    other = [packet(orig_h="10.0.0.9", resp_h="192.0.2.0")]
    assert accused([*answers(10, is_orig=False), *other], "pair") == ()


def test_answers_that_nobody_asked_for_accuse_many_senders_and_never_few() -> None:
    assert accused(answers(30, REFLECTORS - 1, unasked=True), "destination") == ()
    assert len(accused(answers(30, REFLECTORS, unasked=True), "destination")) == REFLECTORS
