"""Evidence over minutes: counters halve, batches and restarts change nothing, and many weak windows decide together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from packetclip_sensor.alerts.episodes import enough
from packetclip_sensor.alerts.sentences import trail as words
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.evidence.model import EvidenceModel, Layer, Scorer
from packetclip_sensor.evidence.rows import Rows
from packetclip_sensor.evidence.stage import WAITING, Evidence
from packetclip_sensor.evidence.streams import Streams, input_names
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.model.judge import Judge
from packetclip_sensor.records import Trail, Verdict
from packetclip_sensor.windows.packet_features import RELATIONS, SECOND, STREAM, model_input
from tests.support.bundles import evidence_model as model
from tests.support.bundles import without_evidence
from tests.support.factories import MISSIONS, POLICY, verdict
from tests.support.recorded import ATTACKS, NOTHING_NEEDED, cut

NAMES = input_names(len(MISSIONS))
PAIR = (0, "192.0.2.1", "192.0.2.9")


def rows(seconds: list[int], odds: float = 2.0, stream: tuple[int, str, str] = PAIR) -> Rows:
    """Windows of one stream that began a connection in each of its seconds."""
    n = len(seconds)
    begun = np.zeros((n, 5))
    begun[:, :2] = np.array(seconds)[:, None] + 0.5
    return Rows(
        [stream] * n,
        np.array(seconds),
        np.full((n, len(MISSIONS)), odds, np.float32),
        np.ones((n, len(SECOND) + len(STREAM)), np.float32),
        np.zeros((n, len(RELATIONS)), np.float32),
        begun,
    )


def column(inputs: np.ndarray, name: str) -> list[float]:
    found: list[float] = inputs[:, NAMES.index(name)].round(6).tolist()
    return found


def test_counters_halve_in_their_half_life() -> None:
    inputs, _ = Streams(len(MISSIONS), Counters())("", rows([1000, 1060]))
    assert column(inputs, "windows 60s") == np.log1p([1.0, 1.5]).round(6).tolist()
    assert column(inputs, "windows 600s")[1] > column(inputs, "windows 60s")[1]


def test_regular_beginnings_have_no_spread() -> None:
    streams = Streams(len(MISSIONS), Counters())
    even, _ = streams("", rows([1000, 1008, 1016, 1024]))
    uneven, _ = streams("", rows([1000, 1001, 1030, 1031], stream=(1, "192.0.2.7", "")))
    assert column(even, "gap spread 600s") == [0, 0, 0, 0]
    assert column(even, "gap 600s")[0] == 0  # no gap is seen yet
    assert column(uneven, "gap spread 600s")[-1] > 1


def test_a_clock_that_turns_back_does_not_let_counters_grow() -> None:
    inputs, _ = Streams(len(MISSIONS), Counters())("", rows([1000, 400]))
    assert column(inputs, "windows 60s") == np.log1p([1.0, 2.0]).round(6).tolist()


def test_sources_have_streams_of_their_own() -> None:
    streams = Streams(len(MISSIONS), Counters())
    streams("one", rows([1000]))
    assert column(streams("two", rows([1000]))[0], "windows 60s") == np.log1p([1.0]).round(6).tolist()


def test_the_least_recent_stream_goes_first_and_is_counted() -> None:
    counters = Counters()
    streams = Streams(len(MISSIONS), counters, most=2)
    for host in ("a", "b", "a", "c"):
        streams("", rows([1000], stream=(1, host, "")))
    assert [key.split("\t")[2] for key in streams.state()] == ["a", "c"]
    assert counters.evidence_evicted == 1


def test_a_restart_goes_on_bit_by_bit() -> None:
    whole, first, second = (Streams(len(MISSIONS), Counters()) for _ in range(3))
    inputs, _ = whole("", rows([1000, 1008, 1016, 1017]))
    first("", rows([1000, 1008]))
    second.restore(first.changes())
    after, _ = second("", rows([1016, 1017]))
    assert np.array_equal(after, inputs[2:])
    assert second.state() == whole.state()
    assert first.changes() == {}


def test_many_windows_that_single_would_not_do_are_evidence_together() -> None:
    score = Scorer(model({"above 2 600s": 2.0, "odds 2": 0.5}))
    inputs, trails = Streams(len(MISSIONS), Counters())("", rows([1000 + 8 * i for i in range(70)]))
    found = (score(inputs) >= 6.0).all(1)
    assert not found[:5].any()
    assert found[40]
    assert trails[-1, 2].tolist() == [70.0, 140.0, 1000.0, 1552.0]


def key(verdict: Verdict) -> tuple[Any, ...]:
    return verdict.second, verdict.view, verdict.sources, verdict.mission, verdict.probability, verdict.trail


@pytest.fixture
def judged(bundle: Bundle) -> Callable[..., list[tuple[Any, ...]]]:
    def of(batch: int, restart_after: int = 1 << 30) -> list[tuple[Any, ...]]:
        fit, at = model({"odds 0": 1.0, "odds 1": 0.5, "above 0 600s": 1.0}), dict.fromkeys(MISSIONS.names, 0.12)
        evidence, out = Evidence(fit, at, Counters()), list[tuple[Any, ...]]()
        for number, windows in enumerate(cut(ATTACKS, batch)):
            if number == restart_after:
                saved, evidence = evidence.state(), Evidence(fit, at, Counters())
                evidence.restore(saved)
            judge = Judge(bundle, NOTHING_NEEDED, Counters(), evidence=evidence)
            out += map(key, judge(model_input(windows)).verdicts)
        return out

    return of


def test_neither_batches_nor_a_restart_change_verdicts(judged: Callable[..., list[tuple[Any, ...]]]) -> None:
    once = judged(10_000)
    assert once
    assert judged(700) == once
    assert judged(700, restart_after=2) == once


def test_verdicts_bring_what_is_to_be_saved_unless_who_saves_it_asks(bundle: Bundle) -> None:
    evidence = Evidence(model({}), dict.fromkeys(MISSIONS.names, 0.9), Counters())
    judge, saved = Judge(bundle, NOTHING_NEEDED, Counters(), evidence=evidence), dict[str, bytes]()
    first, *others = cut(ATTACKS, 2000)
    for windows in others:
        saved |= judge(model_input(windows)).evidence
    assert len(saved) > 1
    assert saved.items() <= evidence.state().items()  # but for flow rows, of which there are none
    assert {key for key in evidence.state() if key not in saved} <= {WAITING}
    evidence.hands_on = False
    assert judge(model_input(first)).evidence == {}
    assert evidence.changes().items() <= evidence.state().items()


def test_a_site_s_threshold_holds_for_evidence_too(bundle: Bundle) -> None:
    fit = model({"odds 0": 1.0, "odds 1": 0.5, "above 0 600s": 1.0})

    def found(at: float) -> list[float]:
        evidence = Evidence(fit, dict.fromkeys(MISSIONS.names, at), Counters())
        judge = Judge(bundle, NOTHING_NEEDED, Counters(), evidence=evidence)
        return [v.probability for w in cut(ATTACKS) for v in judge(model_input(w)).verdicts]

    low, high = found(0.12), found(0.4)
    assert len(low) > len(high) > 0
    assert [p for p in low if p >= 0.4] == high


def test_a_verdict_of_evidence_opens_an_episode_by_itself_and_says_why() -> None:
    few = verdict(5, packets=4, mission="Brute Force", stream_packets=4, connections=1)
    assert not enough(few, POLICY)
    found = replace(few, trail=Trail(0.99, 0.5, 222, 1860, 0.89))
    assert enough(found, POLICY)
    assert words(found) == " 222 windows in 31 minutes point to Brute Force, each with about 0.89."
    assert words(replace(few, trail=Trail(0.99, 0.5, 1, 1, 0.89))) == words(few) == ""


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"inputs": NAMES[1:]}, "other inputs"),
        ({"missions": ["Worms"]}, "decides of Worms"),
        ({"scale": [0.0] * len(NAMES)}, "scales"),
        ({"direct": Layer([[0.0]], [0.0])}, "layers"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(changed: dict[str, Any], says: str) -> None:
    content = msgspec.json.encode(msgspec.structs.replace(model({}), **changed))
    with pytest.raises(ValueError, match=says):
        EvidenceModel.of(content, MISSIONS.names)


def test_of_missions_that_evidence_does_not_name_single_windows_decide(bundle: Bundle) -> None:
    fit = msgspec.structs.replace(model({}), missions=["DoS"])
    low = dict.fromkeys(MISSIONS.names, 0.2)
    found = [v for w in cut(ATTACKS) for v in Judge(bundle, low, Counters())(model_input(w)).verdicts]
    evidence = Evidence(fit, dict.fromkeys(MISSIONS.names, 0.9), Counters())
    judge = Judge(bundle, low, Counters(), evidence=evidence)
    left = [v for w in cut(ATTACKS) for v in judge(model_input(w)).verdicts]
    assert "DoS" in {v.mission for v in found}
    assert "DoS" not in {v.mission for v in left}
    assert {key(v) for v in found if v.mission != "DoS"} <= {key(v) for v in left}


def test_a_bundle_without_the_file_has_no_evidence(bundle: Bundle, tmp_path: Path) -> None:
    assert Evidence.of(bundle, Counters()) is not None
    assert Evidence.of(Bundle.open(without_evidence(bundle.path, tmp_path / "model")), Counters()) is None
