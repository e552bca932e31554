"""How grave an alert is, on the scale of Elastic Security: from its mission, its reach and its probability; and how many a day a
site wants.

The levels are a policy and no measurement; docs/severity.md tells users what they mean and how to change their order of work.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import structlog

from packetclip_sensor.common.missions import Mission
from packetclip_sensor.records import Alert, Episode

SEVERITIES = (21, 47, 73, 99)
"""The only values the External Alerts rule translates, by LEVELS."""
RISK_BANDS = ((1, 21), (22, 47), (48, 73), (74, 100))
WIDE_REACH = 20
"""From this many hosts on one side on, an episode counts one severity more."""
CERTAIN = 0.9999
"""Probability at the upper end of a risk band; one half stands at its lower end, and log-odds between them are even."""

LEVELS = ("low", "medium", "high", "critical")
ALWAYS_FROM = SEVERITIES[2]
"""An alert of this severity is one whatever the budget: who makes noise must not hide an attack behind it."""
DAY_S = 86400

log = structlog.get_logger()


def severity_and_risk(alert: Alert, mission: Mission) -> tuple[int, float]:
    """`event.severity` (one of SEVERITIES) and `event.risk_score` (0-100, inside that severity's band).

    The alert's `mission` gives the level. One more where the episode reaches WIDE_REACH hosts on one side, one less where its
    peak probability stayed below `sure_from`: verdicts begin so high (0.95 and up) that a fixed bound would never be met, so it
    is one of the model's own. The probability's log-odds place the risk in the band.
    """
    peak = min(1.0, max(alert.why.probability, alert.episode.peak))
    level = LEVELS.index(mission.severity)
    level += max(alert.episode.source_count, alert.episode.destination_count) >= WIDE_REACH
    level = min(max(level - (peak < alert.sure_from), 0), len(SEVERITIES) - 1)
    low, high = RISK_BANDS[level]
    share = min(max(_log_odds(peak) / _log_odds(CERTAIN), 0.0), 1.0)
    return SEVERITIES[level], float(low + round((high - low) * share))


def _log_odds(probability: float) -> float:
    probability = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(probability / (1 - probability))


def over_budget(episode: Episode, severity: int) -> bool:
    """Whether the episode is to be an event and no alert."""
    return episode.over_budget and severity < ALWAYS_FROM


class Budget:
    """`policy.alerts_per_day`: how many episodes may open in a day of event time; of less than one a day, one in so many days."""

    def __init__(self, per_day: float | None, spent: Iterable[int] = ()) -> None:
        """`spent`: seconds at which episodes opened that count in it, from a saved state."""
        self._per_day, self._most = per_day, math.ceil(per_day or 0)
        self._span_s = DAY_S * self._most / per_day if per_day else 0.0
        self._spent = deque(spent, self._most)

    def spend(self, second: int) -> bool:
        """Count an episode that opens; False where the budget is used up."""
        if self._per_day is None:
            return True
        self.pass_to(second)
        if len(self._spent) == self._most:
            return False
        self._spent.append(second)
        if len(self._spent) == self._most:
            remedy = f"until then further ones below severity {ALWAYS_FROM} are written as events; calibrate, or raise it"
            log.warning(
                "alert_budget_used", alerts_per_day=self._per_day, free_in_s=self._span_s - second + self._spent[0], remedy=remedy
            )
        return True

    def pass_to(self, second: int) -> None:
        """Forget what opened a day before."""
        while self._spent and second - self._spent[0] >= self._span_s:
            self._spent.popleft()

    @property
    def spent(self) -> tuple[int, ...]:
        """The seconds that a saved state needs."""
        return tuple(self._spent)

    @property
    def used(self) -> float:
        """The share that is used, 0 to 1."""
        return len(self._spent) / self._most if self._most else 0.0
