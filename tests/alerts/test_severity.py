"""The table of docs/severity.md, line by line."""

from __future__ import annotations

import pytest
from factories import MISSIONS, alert, episode

from packetclip_sensor.alerts.severity import DAY_S, Budget, severity_and_risk
from packetclip_sensor.common.resources import resource
from packetclip_sensor.model.bundle import Bundle

LOW, MEDIUM, HIGH, CRITICAL = 21, 47, 73, 99


@pytest.mark.parametrize(
    ("mission", "peak", "sources", "destinations", "expected"),
    [
        ("Reconnaissance", 0.999, 1, 1, (MEDIUM, 41.0)),
        ("Reconnaissance", 0.999, 1, 19, (MEDIUM, 41.0)),
        ("Reconnaissance", 0.999, 1, 20, (HIGH, 67.0)),
        ("Reconnaissance", 0.989, 1, 1, (LOW, 11.0)),
        ("Reconnaissance", 0.989, 1, 20, (MEDIUM, 34.0)),
        ("DoS", 0.999, 1, 1, (HIGH, 67.0)),
        ("DoS", 0.99, 1, 1, (HIGH, 60.0)),
        ("DoS", 0.989999, 1, 1, (MEDIUM, 34.0)),
        ("DoS", 0.999, 20, 1, (CRITICAL, 93.0)),
        ("DoS", 1.0, 10_000, 1, (CRITICAL, 100.0)),
        ("DoS", 0.95, 10_000, 1, (HIGH, 56.0)),
        ("Brute Force", 0.999, 1, 1, (HIGH, 67.0)),
        ("Brute Force", 0.95, 1, 1, (MEDIUM, 30.0)),
        ("Brute Force", 0.3, 1, 1, (MEDIUM, 22.0)),
    ],
)
def test_severity_follows_mission_reach_and_probability(
    mission: str, peak: float, sources: int, destinations: int, expected: tuple[int, float]
) -> None:
    of = episode(peak=peak, source_count=sources, destination_count=destinations)
    assert severity_and_risk(alert(probability=0.1, episode=of, sure_from=0.99), MISSIONS[mission]) == expected


def test_the_probability_counts_that_was_highest_in_the_episode_so_far() -> None:
    one = alert(probability=0.999, episode=episode(peak=0.95), sure_from=0.99)
    assert severity_and_risk(one, MISSIONS["DoS"]) == (HIGH, 67.0)


def test_the_shipped_model_can_be_unsure() -> None:
    """A bound below the threshold would never be met."""
    manifest = Bundle.open(resource("model/shipped")).manifest
    assert all(manifest.thresholds[m] < manifest.ceilings[m] for m in manifest.missions.names)


def test_a_budget_is_of_the_last_day_and_a_restart_knows_it() -> None:
    budget = Budget(2)
    assert [budget.spend(second) for second in (100, 200, 300)] == [True, True, False]
    assert (budget.used, budget.spent) == (1.0, (100, 200))
    later = Budget(2, budget.spent)
    assert [later.spend(second) for second in (100 + DAY_S - 1, 100 + DAY_S, 200 + DAY_S - 1)] == [False, True, False]
    later.pass_to(200 + DAY_S)
    assert later.used == 0.5


def test_a_budget_of_less_than_one_a_day_is_one_in_so_many_days() -> None:
    budget = Budget(0.2)
    assert [budget.spend(day * DAY_S) for day in (0, 4, 5, 9)] == [True, False, True, False]


def test_without_a_budget_nothing_is_used_and_nothing_beyond_it() -> None:
    budget = Budget(None)
    assert all(budget.spend(second) for second in range(5000))
    assert (budget.used, budget.spent) == (0.0, ())
