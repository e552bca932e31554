"""The benchmark of explanations: what counts as a drop, and as five times."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.faithfulness import Drops, alerts, measure, of_alert, summary
from packetclip_sensor.common.resources import resource
from packetclip_sensor.model.bundle import Bundle

DATA = Path(__file__).parents[1] / "data"


def test_drops_are_the_losses_of_the_first_three_and_of_three_others() -> None:
    worth = np.array([3.0, 2.0, 1.0, 0.1, 0.1, 0.1, 0.1])
    whole = 4.0
    odds, probability = measure(
        range(7), lambda sets: np.array([whole - worth[list(s)].sum() for s in sets]), whole, 20, np.random.default_rng(1)
    )
    assert odds == Drops(6.0, pytest.approx(0.3), pytest.approx(0.3))  # type: ignore[arg-type]
    sigmoid = 1 / (1 + math.exp(-4))
    assert probability.top == pytest.approx(sigmoid - 1 / (1 + math.exp(2)))
    assert probability.others == pytest.approx(sigmoid - 1 / (1 + math.exp(-3.7)))


@pytest.mark.parametrize(
    ("top", "others", "size", "passes", "either_way"),
    [
        (5.0, 1.0, 1.0, True, True),
        (4.9, 1.0, 1.0, False, False),
        (1.0, -1.0, 1.0, True, False),
        (0.0, -1.0, 0.0, False, True),
        (-1.0, -2.0, 2.0, False, False),
    ],
)
def test_five_times_is_five_times(top: float, others: float, size: float, passes: bool, either_way: bool) -> None:
    drops = Drops(top, others, size)
    assert (drops.passes, drops.passes_either_way) == (passes, either_way)


def test_a_recorded_log_in_attack_is_measured_by_concepts_and_packets() -> None:
    bundle, rng = Bundle.open(resource("model/shipped")), np.random.default_rng(1)
    ((capture, verdict),) = alerts(DATA / "demo-dict-patator-ftp", bundle)
    found = list(of_alert(capture, verdict, bundle, 5, rng))
    assert [m.parts for m in found] == ["concepts", "concepts of the mission's own graph", "packets"]
    assert {m.parts for m in found if m.probability.passes} >= {"concepts", "packets"}
    assert summary(found, "packets", "probability")["share"] == 1.0
    assert found[0].own
