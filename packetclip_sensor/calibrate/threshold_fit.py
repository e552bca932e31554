"""Thresholds and margins for a false-alert budget: counts the episodes that would open, not the windows that would alarm.

One noisy host gives thousands of verdicts and one alert, so thresholds are fitted on what a user sees. What would be a verdict at
the bundle's own thresholds is kept without its bytes, the most probable first where there is too much of it, and goes through the
sensor's own `EpisodeTracker` again for each set of thresholds that is tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby

import msgspec
import numpy as np
import numpy.typing as npt

from packetclip_sensor.alerts.episodes import EpisodeTracker
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import NO_MISSIONS, Missions
from packetclip_sensor.config.settings import Policy
from packetclip_sensor.model.thresholds import NO_MARGIN, Thresholds, logit
from packetclip_sensor.records import Batch, Episode, Packet, Trail, Verdict, VerdictBatch

CEILING = 0.95
"""No threshold is raised above it where the bundle names no ceilings of its own: a model that is calibrated is seldom surer."""
STEP = 1e-6
"""Fitted thresholds are multiples of it."""
MARGIN_STEP = 0.25
"""Fitted margins are multiples of it, in logits."""
_NOTHING = np.zeros((0, 0), np.float32)


def ceilings(floor: Mapping[str, float], named: Mapping[str, float]) -> dict[str, float]:
    """How far each mission's threshold may rise: as the bundle's manifest names it, never below the floor."""
    return {m: max(low, named.get(m, CEILING)) for m, low in floor.items()}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A window that would be a verdict at the floor, or near it."""

    unit: int
    order: int
    probabilities: tuple[float, ...]
    """Of each mission."""
    rise: float
    """How far the thresholds can rise together, in logits above the floor, until none is reached; infinite at the ceiling,
    negative where none is reached at the floor."""
    verdict: Verdict
    """Without bytes: a packet stands for all of its hosts, their number is right."""
    trail: tuple[str, Trail | None] = ("", None)
    """Of the mission that evidence has decided on."""


@dataclass(slots=True)
class Candidates:
    """Windows at or above the floor, at most `most` of them (about 1.5 kB each)."""

    floor: dict[str, float]
    """The bundle's own thresholds, below which none is fitted; by mission, in the order of the model's outputs."""
    ceiling: dict[str, float]
    """Above it a mission would be as good as switched off."""
    margins: Mapping[str, float] = field(default_factory=dict)
    """The bundle's own margins, above which none is fitted."""
    evidence: frozenset[str] = frozenset()
    """Missions of which evidence decides, and not the window alone."""
    missions: Missions = NO_MISSIONS
    """The bundle's, which say what a fast stream adds."""
    most: int = 50_000
    kept: list[Candidate] = field(default_factory=list)
    seen: int = 0
    dropped: list[float] = field(default_factory=list)
    """Highest probability of each mission in the windows let go; no threshold may fall to it."""

    limits: Thresholds = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.limits = Thresholds.of(self.floor, self.margins, self.missions)
        self.dropped = self.dropped or [0.0] * len(self.floor)

    def by_mission(self, verdict: Verdict) -> dict[str, float]:
        """The probability of each mission that is compared with its threshold; evidence that is below its own says none."""
        own = {verdict.mission: verdict.trail.probability} if verdict.trail else {}
        alone = {m: verdict.missions[m] for m in self.floor}
        if (self.limits.fast <= verdict.per_second).any():
            compared = self.limits.lifted(np.array([[*alone.values()]], np.float32), np.array([verdict.per_second]))
            alone = dict(zip(alone, compared[0].tolist(), strict=True))
        return {m: own.get(m, 0.0) if m in self.evidence else p for m, p in alone.items()}

    def at_floor(self, verdict: Verdict) -> Verdict | None:
        """The window as a verdict at the bundle's own thresholds and margins; None where it does not come near any."""
        of_each = tuple(self.by_mission(verdict).values())
        p = np.array(of_each, np.float32)
        if not (p >= self.limits.near).any():
            return None
        number, weight = self.limits.decide(p, verdict.fresh)
        mission = list(self.floor)[number]
        trail = verdict.trail if mission == verdict.mission else None
        return replace(verdict, mission=mission, probability=of_each[number], weight=weight, trail=trail)

    def add(self, unit: int, verdict: Verdict) -> None:
        """Take in a window of the capture or folder number `unit`; what comes near no threshold is forgotten."""
        found = self.at_floor(verdict)
        if found is None:
            return
        p = tuple(self.by_mission(verdict).values())
        rise = max(
            logit(x) - logit(self.floor[m]) if x < self.ceiling[m] else math.inf for m, x in zip(self.floor, p, strict=True)
        )
        light = replace(found, packets=_outline(verdict), embeddings=_NOTHING, relations=_NOTHING)
        rise, trail = min(rise, -1e-9) if found.weight < 1 else rise, (verdict.mission, verdict.trail)
        self.kept.append(Candidate(unit, self.seen, p, rise, light, trail))
        self.seen += 1
        if len(self.kept) > 2 * self.most:
            self._thin()

    def _thin(self) -> None:
        self.kept.sort(key=lambda c: (-c.rise, c.order))
        for candidate in self.kept[self.most :]:
            self.dropped = [max(a, b) for a, b in zip(self.dropped, candidate.probabilities, strict=True)]
        del self.kept[self.most :]
        self.kept.sort(key=lambda c: c.order)


def _outline(verdict: Verdict) -> tuple[Packet, ...]:
    """As many packets as the window has, without bytes, one for all of the same hosts but the last: what an episode looks at."""
    of_hosts: dict[tuple[str, str], Packet] = {}
    out = []
    for packet in verdict.packets:
        hosts = packet.orig_h, packet.resp_h
        if hosts not in of_hosts:
            of_hosts[hosts] = msgspec.structs.replace(packet, data=b"")
        out.append(of_hosts[hosts])
    return (*out[:-1], msgspec.structs.replace(verdict.packets[-1], data=b""))


def opened(
    candidates: Sequence[Candidate],
    limits: Mapping[str, float],
    policy: Policy,
    enough: float = math.inf,
    margins: Mapping[str, float] = NO_MARGIN,
) -> list[Episode]:
    """The episodes that the sensor would open at the thresholds `limits`, each unit for itself; no more than `enough`.

    Args:
        limits: by mission, in the order of the model's outputs. policy: as `config.policy.for_missions` makes it.
    """
    found: list[Episode] = []
    for _, unit in groupby(candidates, key=lambda c: c.unit):
        judged = _verdicts_at(Thresholds.of(limits, margins), tuple(limits), unit)
        for batch in map(EpisodeTracker(policy, Counters(), sensor="", model_version=""), judged):
            found += [event.living for event in batch.events if event.state == "open"]
            if len(found) >= enough:
                return found
    return found


def _verdicts_at(limits: Thresholds, missions: Sequence[str], unit: Iterable[Candidate]) -> Iterator[VerdictBatch]:
    """What `judge` would give of one unit at these thresholds, a second at a time; whole seconds are all that episodes need."""
    near = limits.near.tolist()
    for second, group in groupby(unit, key=lambda c: c.verdict.second):
        verdicts = []
        for c in group:
            if any(p >= least for p, least in zip(c.probabilities, near, strict=True)):
                number, weight = limits.decide(np.array(c.probabilities, np.float32), c.verdict.fresh)
                verdict, mission = c.verdict, missions[number]
                if (verdict.mission, verdict.weight) != (mission, weight):
                    decided, trail = c.trail
                    trail = trail if decided == mission else None
                    verdict = replace(verdict, mission=mission, probability=c.probabilities[number], weight=weight, trail=trail)
                verdicts.append(verdict)
        if verdicts:
            yield VerdictBatch(verdicts, Batch([], []), second, ())


def fit_margins(candidates: Candidates, limits: Mapping[str, float], policy: Policy, allowed: int) -> dict[str, float]:
    """The widest margins, up to the bundle's own, at which no more episodes open than are allowed, or than open without any.

    Each mission's is fitted behind the one before it, in steps of MARGIN_STEP logits; none reaches down to what was let go.
    """
    found = dict.fromkeys(candidates.floor, 0.0)
    most = max(allowed, len(opened(candidates.kept, limits, policy)))

    def holds(mission: str, steps: int) -> bool:
        tried = found | {mission: steps * MARGIN_STEP}
        return len(opened(candidates.kept, limits, policy, most + 1, tried)) <= most

    for i, mission in enumerate(candidates.floor):
        widest = candidates.margins.get(mission, 0.0)
        if candidates.dropped[i] > 0:
            widest = min(widest, logit(limits[mission]) - logit(candidates.dropped[i]))
        steps = _largest(0, max(0, math.floor(widest / MARGIN_STEP + 1e-9)), partial(holds, mission))
        found[mission] = round(steps * MARGIN_STEP, 3)
    return found


def fit(candidates: Candidates, policy: Policy, allowed: int) -> dict[str, float]:
    """The lowest thresholds at which no more than `allowed` episodes open without any margin.

    First all thresholds rise together, in logits, until the budget holds: the least certain alerts go first, whatever their
    mission. Then each falls again as far as no alert comes back. What reaches the ceiling always opens and takes its share of
    the budget.
    """
    kept = [c for c in candidates.kept if c.rise >= 0]
    p = np.array([c.probabilities for c in kept], np.float64).reshape(-1, len(candidates.floor))
    rise = np.array([c.rise for c in kept], np.float64)
    missions, floor = list(candidates.floor), list(candidates.floor.values())
    ceiling = [candidates.ceiling[m] for m in missions]

    def above(m: int, below: npt.NDArray[np.bool_]) -> float:
        """The lowest threshold of mission m that the windows `below`, and those let go, do not reach."""
        highest = max(float(p[below, m].max(initial=0.0)), candidates.dropped[m])
        lifted = (math.floor(highest / STEP) + 1) * STEP
        return floor[m] if highest < floor[m] else max(floor[m], min(ceiling[m], round(lifted, 6)))

    def count(limits: Sequence[float], enough: float = math.inf) -> int:
        chosen = np.nonzero((p >= np.array(limits, np.float32).astype(np.float64)).any(1))[0]
        return len(opened([kept[i] for i in chosen], dict(zip(missions, limits, strict=True)), policy, enough))

    def together(n: int) -> list[float]:
        """Thresholds that the windows of the n highest levels reach."""
        return [above(m, rise < levels[n - 1] if n else rise >= 0) for m in range(len(missions))]

    def lowered(m: int, limits: list[float]) -> list[float]:
        """The thresholds with mission m's as low as the budget allows."""
        between = np.unique(p[(p[:, m] >= floor[m]) & (p[:, m] < limits[m]), m])[::-1]

        def reached_by(n: int) -> list[float]:
            return [*limits[:m], above(m, p[:, m] < between[n - 1]), *limits[m + 1 :]] if n else limits

        return reached_by(_largest(0, len(between), lambda n: count(reached_by(n), most + 1) <= most))

    levels = np.unique(rise)[::-1]
    certain = int(np.isinf(levels[:1]).sum())
    most = max(allowed, count(together(certain)))
    limits = together(_largest(certain, len(levels), lambda n: count(together(n), most + 1) <= most))
    for m in range(len(missions)):
        limits = lowered(m, limits)
    return dict(zip(missions, limits, strict=True))


def _largest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The largest n of low..high that fits, for `low` does: all, or else in growing steps and then by halves.

    Fitting is not quite monotone, since a long episode can fall into two; then it is an n that fits and whose next does not.
    """
    if low >= high or fits(high):
        return max(low, high)
    step = 1
    while low + step < high and fits(low + step):
        low, step = low + step, 2 * step
    high = min(low + step, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def per_day(alerts: int, days: float) -> tuple[float, float, float]:
    """Alerts a day, and the bounds between which it lies with 95 % confidence, where so many came in `days`.

    Source: Poisson interval by the Wilson-Hilferty approximation, Breslow and Day 1987, volume II, equation 2.10.
    """
    low = alerts * (1 - 1 / (9 * alerts) - 1.96 / (3 * math.sqrt(alerts))) ** 3 if alerts else 0.0
    more = alerts + 1
    high = more * (1 - 1 / (9 * more) + 1.96 / (3 * math.sqrt(more))) ** 3
    return alerts / days, low / days, high / days
