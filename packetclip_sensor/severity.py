"""How grave an alert is, on the scale of Elastic Security: from its mission, its reach and its probability.

The numbers are a policy and no measurement; docs/fields.md states them for users.
"""

from __future__ import annotations

from packetclip_sensor.records import Alert

SEVERITIES = (21, 47, 73, 99)
"""low, medium, high, critical: the only values the External Alerts rule translates."""
RISK_BANDS = ((1, 21), (22, 47), (48, 73), (74, 100))
WIDE_REACH = 20
"""From this many hosts on one side on, an episode counts one severity more."""
UNSURE_BELOW = 0.8
"""Below this probability an episode counts one severity less."""

_MISSION_SEVERITY = {"Reconnaissance": 1, "DoS": 2, "Brute Force": 2}


def severity_and_risk(alert: Alert) -> tuple[int, float]:
    """`event.severity` (one of SEVERITIES) and `event.risk_score` (0-100, inside that severity's band).

    The mission gives the level: Reconnaissance medium, DoS and Brute Force high. One more where the episode reaches WIDE_REACH
    hosts on one side, one less where its peak probability stayed below UNSURE_BELOW. The probability places the risk in the band.
    """
    peak = min(1.0, max(alert.probability, alert.episode.peak))
    level = _MISSION_SEVERITY.get(alert.mission, 1)
    level += max(alert.episode.source_count, alert.episode.destination_count) >= WIDE_REACH
    level = min(max(level - (peak < UNSURE_BELOW), 0), len(SEVERITIES) - 1)
    low, high = RISK_BANDS[level]
    return SEVERITIES[level], float(low + round((high - low) * peak))
