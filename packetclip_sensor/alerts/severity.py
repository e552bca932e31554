"""How grave an alert is, on the scale of Elastic Security: from its mission, its reach and its probability.

The levels are a policy and no measurement; docs/severity.md tells users what they mean and how to change their order of work.
"""

from __future__ import annotations

import math

from packetclip_sensor.common.missions import Mission
from packetclip_sensor.records import Alert

SEVERITIES = (21, 47, 73, 99)
"""The only values the External Alerts rule translates, by LEVELS."""
RISK_BANDS = ((1, 21), (22, 47), (48, 73), (74, 100))
WIDE_REACH = 20
"""From this many hosts on one side on, an episode counts one severity more."""
CERTAIN = 0.9999
"""Probability at the upper end of a risk band; one half stands at its lower end, and log-odds between them are even."""

LEVELS = ("low", "medium", "high", "critical")


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
