"""Margins: windows that come near a threshold open an alert together, counted once a second and once a packet."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml
from factories import MISSIONS, POLICY, packet

from packetclip_sensor.alerts.episodes import EpisodeTracker
from packetclip_sensor.calibrate import threshold_fit
from packetclip_sensor.calibrate.threshold_fit import Candidates
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config.settings import Policy
from packetclip_sensor.model.bundle import MANIFEST, Bundle, fingerprint, manifest_of
from packetclip_sensor.model.judge import judge
from packetclip_sensor.model.thresholds import Thresholds, in_force, logit
from packetclip_sensor.records import Batch, Episode, Event, Verdict, VerdictBatch
from packetclip_sensor.sources import tail, zeek
from packetclip_sensor.windows.cutter import windows

DATA = Path(__file__).parents[1] / "data"
EMPTY = np.zeros((30, 1), np.float32)
FLOOR = {"DoS": 0.9, "Reconnaissance": 0.9, "Brute Force": 0.9}


def near(second: int, weight: float, *, view: str = "pair", host: str = "10.0.0.5", probability: float = 0.7) -> Verdict:
    window = tuple(packet(ts=second + i / 100, orig_h=host, resp_h="10.0.0.9") for i in range(12))
    missions = {"Benign": 1 - probability, "DoS": probability, "Reconnaissance": 0.0, "Brute Force": 0.0}
    return Verdict(
        second, view, (host,), ("10.0.0.9",), "DoS", probability, missions, window, EMPTY, EMPTY,
        fresh=1.0, weight=weight, stream_packets=60, connections=3,
    )  # fmt: skip


def opened(*verdicts: Verdict, restored: tuple[Episode, ...] = ()) -> tuple[list[int], tuple[Episode, ...]]:
    """Seconds at which an episode opens, and what is open at the end."""
    steps = [VerdictBatch([v], Batch([], []), v.second, ()) for v in verdicts]
    events: list[Event] = []
    still = restored
    for step in map(EpisodeTracker(POLICY, Counters(), sensor="s", model_version="1", restored=restored), steps):
        events += step.events
        still = step.open
    return [e.second for e in events if e.state == "open"], still


def test_a_window_weighs_one_at_its_threshold_and_less_below_it_evenly_in_logits() -> None:
    bounds = Thresholds.of({"DoS": 0.9, "Reconnaissance": 0.9, "Brute Force": 0.9}, {"DoS": float(np.log(9))})
    assert bounds.near.tolist() == pytest.approx([0.5, 0.9, 0.9])
    assert bounds.decide(np.array([0.9, 0.05, 0.0], np.float32), 0.2) == (0, 1.0)
    assert bounds.decide(np.array([0.75, 0.05, 0.0], np.float32), 1.0) == (0, pytest.approx(0.5))  # log 3 of log 9
    assert bounds.decide(np.array([0.75, 0.05, 0.0], np.float32), 0.2) == (0, pytest.approx(0.1))


def test_what_reaches_its_threshold_is_told_before_what_is_more_probable_and_only_near() -> None:
    bounds = Thresholds.of({"DoS": 0.9, "Reconnaissance": 0.2, "Brute Force": 0.9}, {"DoS": 3.0})
    assert bounds.decide(np.array([0.6, 0.3, 0.0], np.float32), 1.0) == (1, 1.0)


def test_no_margin_leaves_the_threshold_to_the_last_bit() -> None:
    bounds = Thresholds.of(FLOOR, {})
    assert bounds.near.tolist() == bounds.at.tolist() == [np.float32(0.9)] * 3


def test_a_fast_stream_lowers_the_threshold_by_its_margin_and_leaves_other_probabilities_to_the_last_bit() -> None:
    fast = MISSIONS["DoS"].fast
    assert fast is not None
    assert MISSIONS["Brute Force"].fast is None
    bounds = Thresholds.of(FLOOR, {}, MISSIONS)
    alone = np.array([[0.85, 0.05, 0.0], [0.85, 0.05, 0.0], [0.0, 0.0, 1.0]], np.float32)
    slow, quick, none = bounds.lifted(alone, np.array([fast.per_s - 1, fast.per_s, fast.per_s]))
    assert slow.tolist() == alone[0].tolist()
    assert logit(float(quick[0])) - logit(0.85) == pytest.approx(fast.margin, abs=1e-5)
    assert quick[0] >= bounds.at[0] > slow[0]
    assert none.tolist() == [0.0, 0.0, 1.0]


def test_the_rate_of_its_stream_makes_a_window_below_the_threshold_a_verdict() -> None:
    flood = Bundle.open(resource("model/shipped"))
    missions, logs = flood.manifest.missions, [DATA / "demo-syn-hping" / "packetclip_packet.log.gz"]

    def verdicts(log_odds: float) -> list[Verdict]:
        """At a threshold of DoS, of these log-odds."""
        read = zeek.batches(tail.finite(logs, rejects=Rejects(None)), Rejects(None), Counters())
        at = dict.fromkeys(missions.names, 2.0) | {"DoS": 1 / (1 + math.exp(-log_odds))}
        batches = judge(windows(read, flood.manifest.window, Counters()), flood, at, Counters())
        return [v for batch in batches for v in batch.verdicts]

    fast = missions["DoS"].fast
    assert fast is not None
    surest = max(logit(v.probability) for v in verdicts(0.0))
    found = verdicts(surest + fast.margin / 2)
    assert found
    assert all(v.per_second >= fast.per_s and v.weight == 1.0 and v.mission == "DoS" for v in found)
    assert not verdicts(surest + fast.margin + 0.01)


def test_windows_near_the_threshold_open_an_alert_once_they_weigh_one_together() -> None:
    assert opened(near(100, 0.4), near(101, 0.4))[0] == []
    assert opened(near(100, 0.4), near(101, 0.4), near(102, 0.4))[0] == [102]


def test_views_of_the_same_second_are_one_witness() -> None:
    views = ("pair", "source", "destination")
    assert opened(*(near(100, 0.4, view=v) for v in views), *(near(101, 0.4, view=v) for v in views))[0] == []
    assert opened(*(near(100, w, view=v) for v, w in zip(views, (0.1, 0.7, 0.2), strict=True)), near(101, 0.35))[0] == [101]


def test_a_quiet_minute_forgets_what_was_near() -> None:
    assert opened(near(100, 0.6), near(160, 0.6))[0] == [160]
    assert opened(near(100, 0.6), near(161, 0.6))[0] == []


def test_different_hosts_do_not_add_up() -> None:
    assert opened(near(100, 0.9), near(101, 0.9, host="10.0.0.6"))[0] == []


def test_what_was_near_survives_a_restart() -> None:
    _, still = opened(near(100, 0.5), near(101, 0.3))
    saved = msgspec.json.decode(msgspec.json.encode(still), type=tuple[Episode, ...])
    assert [(e.evidence, e.weight, e.opened) for e in saved] == [(0.5, 0.3, 0)]
    assert opened(near(102, 0.1), restored=saved)[0] == []
    assert opened(near(102, 0.2), restored=saved)[0] == [102]


def test_a_window_at_the_threshold_opens_at_once_whatever_came_before() -> None:
    assert opened(near(100, 0.1), near(101, 1.0))[0] == [101]


def fitted(*verdicts: Verdict, margin: float = 3.0, allowed: int = 0) -> tuple[dict[str, float], dict[str, float]]:
    candidates = Candidates(FLOOR, dict.fromkeys(MISSIONS.names, 0.95), dict.fromkeys(MISSIONS.names, margin))
    for v in verdicts:
        candidates.add(0, v)
    limits = threshold_fit.fit(candidates, POLICY, allowed)
    return limits, threshold_fit.fit_margins(candidates, limits, POLICY, allowed)


def test_a_calibration_narrows_the_margin_of_the_mission_that_breaks_the_budget_and_leaves_its_threshold() -> None:
    # Each second 0.7: 1.35 logits below 0.9, so it counts from a margin of 1.5 on; ten seconds of a tenth weigh one.
    noise = [near(100 + i, 0.0) for i in range(10)]
    assert fitted() == (FLOOR, dict.fromkeys(MISSIONS.names, 3.0))
    assert fitted(*noise) == (FLOOR, {"DoS": 1.25, "Reconnaissance": 3.0, "Brute Force": 3.0})
    assert fitted(*noise, allowed=1) == (FLOOR, dict.fromkeys(MISSIONS.names, 3.0))


def test_no_margin_reaches_down_to_what_was_let_go() -> None:
    candidates = Candidates(FLOOR, dict.fromkeys(MISSIONS.names, 0.95), dict.fromkeys(MISSIONS.names, 3.0), most=5)
    for i in range(12):
        candidates.add(0, near(1000 * i, 0.0, probability=0.7 + i / 100))
    assert max(candidates.dropped) == pytest.approx(0.75)
    # 0.9 stands 1.1 logits above 0.75.
    assert threshold_fit.fit_margins(candidates, FLOOR, POLICY, 1000)["DoS"] == 1.0


def site(folder: Path, **more: object) -> Path:
    content = {
        "format": 1,
        "model_version": "x",
        "model_sha256": fingerprint(resource("model/shipped")),
        "made": "2026-11-21",
        "alerts_per_day": 1.0,
        "logs": {"paths": [], "first": "", "last": "", "hours": 1.0, "packets": 1, "windows": 1},
        "thresholds": dict.fromkeys(MISSIONS.names, 0.97),
        "thresholds_before": dict.fromkeys(MISSIONS.names, 0.96),
        "alerts": {},
        "alerts_before": {},
    }
    path = folder / "calibration.yaml"
    path.write_text(yaml.safe_dump(content | more))
    return path


def test_of_a_calibration_and_the_configuration_the_narrower_margin_counts(tmp_path: Path) -> None:
    bundle = Bundle.open(resource("model/shipped"))
    policy = Policy(calibration=site(tmp_path), margins={"DoS": 2, "Brute Force": 4})
    assert in_force(bundle, policy)[1] == {"DoS": 0.0, "Reconnaissance": 0.0, "Brute Force": 0.0}
    for name in ("margins", "leeways"):  # the name of before
        site(tmp_path, **{name: {"DoS": 0.5, "Brute Force": 1.5}})
        assert in_force(bundle, policy)[1] == {"DoS": 0.5, "Reconnaissance": 0.0, "Brute Force": 1.5}


def test_a_bundle_may_name_margins_by_the_name_of_before(tmp_path: Path) -> None:
    content = json.loads((resource("model/shipped") / MANIFEST).read_bytes())
    (tmp_path / MANIFEST).write_text(json.dumps(content | {"leeways": {"DoS": 2.0}}))
    assert manifest_of(tmp_path).margins == {"DoS": 2.0}


def test_judge_gives_what_is_near_and_does_not_count_it_as_a_verdict() -> None:
    """Gentle service scripts stay below every threshold; each second's packets are new and the window is full of them."""
    counters, bundle = Counters(), Bundle.open(resource("model/shipped"))
    batches = zeek.batches(tail.finite([DATA / "demo-vuln-nmap-safe"]), Rejects(None), Counters())
    streams = windows(batches, bundle.manifest.window, Counters())
    certain = dict.fromkeys(MISSIONS.names, 0.9999)
    found = [v for step in judge(streams, bundle, certain, counters, margins={"Reconnaissance": 7.0}) for v in step.verdicts]
    assert found
    assert {v.mission for v in found} == {"Reconnaissance"}
    assert all(0 < v.weight < 1 and 0 < v.fresh <= 1 for v in found)
    assert max(v.fresh for v in found) == 1.0
    assert counters.verdicts == 0
