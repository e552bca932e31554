"""Verdicts of analysts on alerts: an attack that is no benign traffic, or a false alert that wants a rule.

The verdict stands in the alert's documents (`packetclip.analyst`), where `packetclip mark` or a person in Kibana put it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from packetclip_sensor.alerts import suppression_rules
from packetclip_sensor.pairs.labels import Interval
from packetclip_sensor.records import Episode

VERDICTS = {True: "true_positive", False: "false_positive"}
ANYBODY = ["0.0.0.0/0", "::/0"]


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """One episode and the verdict on it."""

    true: bool
    episode: str
    mission: str
    klass: str
    sources: list[str]
    """Those that are named; the next likewise. `source_count` counts all."""
    destinations: list[str]
    source_count: int
    destination_count: int
    first: float
    last: float
    service: str | None
    """As a rule names it, `22/tcp`; None where there are several."""
    comment: str

    def interval(self) -> Interval:
        """The attack as a label of the logs; where more hosts took part than are named, they may be any."""
        sides = ((self.sources, self.source_count), (self.destinations, self.destination_count))
        attacker, victim = (ANYBODY if count > len(hosts) else hosts for hosts, count in sides)
        return Interval(self.klass, attacker, victim, self.first, self.last)

    def rule(self, now: float) -> str:
        """What would suppress the like of it, for the file of policy.suppress; it ends three months after `now`."""
        sides = {"source": (self.sources, self.source_count), "destination": (self.destinations, self.destination_count)}
        hosts = {side: hosts for side, (hosts, count) in sides.items() if count == 1}
        service = [self.service] if self.service else []
        return suppression_rules.proposed(now, self.comment, **hosts, service=service, mission=[self.mission])

    def among(self, alerts: Sequence[Episode]) -> bool:
        """Whether one of these episodes is of the same."""
        return any(
            alert.mission == self.mission
            and alert.first <= self.last
            and self.first <= alert.last
            and not {*alert.sources, *alert.destinations}.isdisjoint([*self.sources, *self.destinations])
            for alert in alerts
        )
