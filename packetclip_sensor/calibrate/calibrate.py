"""Fits the thresholds to a site's own logs: reads them as the sensor does, and keeps only what could become an alert.

The logs are taken as benign. An attack inside them would push a threshold up, so the windows that did are shown, and hosts and
times can be left out. Where labels are given, attacks are kept apart and show what the new thresholds would still tell.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from packetclip_sensor.alerts import sentences, suppression_rules
from packetclip_sensor.alerts.episodes import Policy
from packetclip_sensor.calibrate import threshold_fit
from packetclip_sensor.calibrate.packet_filter import Selection
from packetclip_sensor.calibrate.threshold_fit import Candidates
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import BENIGN
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.model.bundle import Bundle, fingerprint
from packetclip_sensor.model.calibration_file import Calibration, Covered
from packetclip_sensor.model.judge import judge
from packetclip_sensor.pairs.pairs import MIXED_BELOW, Labels
from packetclip_sensor.records import Episode, Packet, Verdict
from packetclip_sensor.sources import tail, zeek
from packetclip_sensor.windows.windows import windows

GAP_S = 3600.0
"""A longer time without a packet counts so much: nobody knows whether Zeek ran."""
STORIES = 1000
"""Stories kept with their most probable window, of those that are shown."""


@dataclass(slots=True)
class Coverage:
    """The event time that the packets cover, each unit for itself."""

    first: float = float("inf")
    last: float = 0.0
    seconds: float = 0.0
    packets: int = 0
    _latest: float | None = None

    def begin(self) -> None:
        """Another unit begins."""
        self._latest = None

    def add(self, packets: Sequence[Packet]) -> None:
        """Take in packets in log order; those that come late add nothing."""
        if not packets:
            return
        ts = np.array([p.ts for p in packets], np.float64)
        start = ts[0] if self._latest is None else self._latest
        latest = np.maximum.accumulate(np.concatenate([[start], ts]))
        self.seconds += float(np.minimum(np.diff(latest), GAP_S).sum())
        self._latest = float(latest[-1])
        self.first, self.last = min(self.first, float(ts.min())), max(self.last, float(ts.max()))
        self.packets += len(packets)

    @property
    def days(self) -> float:
        """At least a second, so that a rate can be told."""
        return max(self.seconds, 1.0) / 86400


@dataclass(slots=True)
class Story:
    """What one host does that looks like one mission, with its most probable window."""

    mission: str
    host: str
    unit: str
    windows: int
    probability: float
    packets: tuple[Packet, ...]

    @property
    def words(self) -> str:
        """One sentence of facts."""
        sources, destinations = (
            [h for h, _ in Counter(hosts).most_common()]
            for hosts in ([p.orig_h for p in self.packets], [p.resp_h for p in self.packets])
        )
        return sentences.sentence(sentences.facts(self.packets, "pair"), sources, destinations)

    @property
    def rule(self) -> str:
        """What would silence it, for the file of policy.suppress; it ends three months after the window."""
        expires = f"{datetime.fromtimestamp(self.packets[-1].ts, UTC) + timedelta(days=90):%Y-%m-%d}"
        side = "destination" if all(p.resp_h == self.host for p in self.packets) else "source"
        conditions = {side: self.host, "mission": self.mission, "expires": expires}
        return suppression_rules.as_yaml("why it is harmless, and who says so", **conditions)


@dataclass(slots=True)
class Labelled:
    """The attacks of labelled logs, with the highest probability that each reached."""

    mission_of: Mapping[str, str]
    """Mission of each class that the model knows; Benign's is Benign."""
    attacks: dict[tuple[str, str, float], tuple[str, float]] = field(default_factory=dict)
    """By unit, label and start: an attack's mission and its highest probability of that."""

    def add(self, unit: str, verdict: Verdict, labels: Labels) -> bool:
        """Take in a window; True where it is benign. One that mixes attack and other packets says nothing."""
        attacks = [a for a in map(labels.of, verdict.packets) if a is not None]
        if not attacks:
            return True
        main = max(attacks, key=attacks.count)
        mission = self.mission_of.get(main.label) if len(attacks) / len(verdict.packets) >= MIXED_BELOW else None
        if mission not in (None, BENIGN):
            key = (unit, main.label, main.start)
            peak = self.attacks.get(key, ("", 0.0))[1]
            self.attacks[key] = (mission, max(peak, verdict.missions[mission]))
        return mission == BENIGN


@dataclass(slots=True)
class Gathered:
    """What is kept of any amount of logs."""

    candidates: Candidates
    coverage: Coverage = field(default_factory=Coverage)
    counters: Counters = field(default_factory=Counters)
    stories: dict[tuple[str, str], Story] = field(default_factory=dict)
    labelled: Labelled = field(default_factory=lambda: Labelled({}))
    suppressed: int = 0
    """Windows that rules of the site silence."""

    def take(self, number: int, unit: str, verdict: Verdict, silenced: Callable[[Verdict], bool]) -> None:
        """Take in a benign window; far below the floor it is forgotten, and what is silenced anyway is only counted."""
        mission = self.candidates.mission(verdict)
        if mission is None:
            if not silenced(verdict):
                self.candidates.add(number, verdict)
            return
        if silenced(replace(verdict, mission=mission, probability=verdict.missions[mission])):
            self.suppressed += 1
            return
        self.candidates.add(number, verdict)
        probability = verdict.missions[mission]
        key = (mission, verdict.destinations[0] if verdict.view == "destination" else verdict.sources[0])
        story = self.stories.get(key)
        if story is None:
            self.stories[key] = Story(mission, key[1], unit, 1, probability, verdict.packets)
        else:
            story.windows += 1
            if probability > story.probability:
                story.probability, story.packets, story.unit = probability, verdict.packets, unit
        if len(self.stories) > 2 * STORIES:
            self.stories = dict(sorted(self.stories.items(), key=lambda item: -item[1].probability)[:STORIES])


def gather(
    units: Iterable[tuple[str, Sequence[Path], Labels | None]],
    bundle: Bundle,
    select: Selection,
    *,
    silenced: Callable[[Verdict], bool] = lambda verdict: False,
    on_packets: Callable[[int], None] | None = None,
    leeways: Mapping[str, float] | None = None,
) -> Gathered:
    """Judge all logs and keep what a fit needs, in bounded memory.

    Args:
        units: name, log paths and labels of each capture or folder; without labels all of it is benign.
        silenced: whether a rule of the site silences a verdict; thresholds need not do it then.
        leeways: the widest that a fit may choose, in logits, in place of the bundle's own.
    Raises:
        LogFormatError: no packet is left to look at.
    """
    floor = bundle.manifest.thresholds
    leeways = bundle.manifest.leeways if leeways is None else leeways
    found = Gathered(
        Candidates(floor, threshold_fit.ceilings(floor, bundle.manifest.ceilings), leeways),
        labelled=Labelled(bundle.manifest.missions.of_class),
    )
    nothing = dict.fromkeys(floor, 0.0)
    for number, (name, paths, labels) in enumerate(units):
        found.coverage.begin()
        with Rejects(None) as rejects:
            batches = select(zeek.batches(tail.finite(paths, rejects=rejects), rejects, found.counters))
            streams = windows(batches, bundle.manifest.window, found.counters)
            for judged in judge(streams, bundle, nothing if labels else floor, found.counters, leeways=leeways):
                found.coverage.add(judged.batch.packets)
                if on_packets and judged.batch.packets:
                    on_packets(len(judged.batch.packets))
                for verdict in judged.verdicts:
                    if not labels or found.labelled.add(name, verdict, labels):
                        found.take(number, name, verdict, silenced)
    if not found.coverage.packets:
        raise LogFormatError("no packet to calibrate on; look at --logs, --since, --until and --exclude")
    return found


@dataclass(frozen=True, slots=True)
class Fit:
    """Thresholds and what they do to the logs they were fitted on."""

    calibration: Calibration
    alerts: list[Episode]
    silenced: list[Story]
    """What is told at the bundle's thresholds and no longer at the fitted ones, most probable first."""
    relief: dict[str, tuple[Story, float]]
    """By mission whose threshold rose: what pushed it most, and where the threshold would stand with a rule for that host."""
    blind: list[Story]
    """What no threshold below the ceiling silences although the budget asks for it, most windows first."""


def fit(
    found: Gathered, bundle: Bundle, policy: Policy, alerts_per_day: float, *, paths: Sequence[Path], excluded: Sequence[str] = ()
) -> Fit:
    """Fit the thresholds to the budget; the same logs give the same ones."""
    floor, cover = found.candidates.floor, found.coverage
    policy = for_missions(policy, bundle.manifest.missions)
    allowed = math.floor(alerts_per_day * cover.days + 1e-9)
    limits = threshold_fit.fit(found.candidates, policy, allowed)
    leeways = threshold_fit.fit_leeways(found.candidates, limits, policy, allowed)
    alerts = threshold_fit.opened(found.candidates.kept, limits, policy, leeways=leeways)
    before = threshold_fit.opened(found.candidates.kept, floor, policy, leeways=found.candidates.leeway)
    stories = sorted(found.stories.values(), key=lambda s: (-s.probability, s.mission, s.host))
    ceiling = found.candidates.ceiling
    certain = {e.mission for e in alerts if e.peak >= ceiling[e.mission]} if len(alerts) > allowed else set()
    calibration = Calibration(
        model_version=bundle.manifest.version,
        model_sha256=fingerprint(bundle.path),
        made=f"{datetime.now(UTC):%Y-%m-%d}",
        alerts_per_day=alerts_per_day,
        logs=Covered(
            paths=[str(p) for p in paths],
            first=_iso(cover.first),
            last=_iso(cover.last),
            hours=round(cover.seconds / 3600, 3),
            packets=cover.packets,
            windows=found.counters.windows,
            excluded=list(excluded),
        ),
        thresholds=limits,
        thresholds_before=floor,
        leeways=leeways,
        leeways_before={m: found.candidates.leeway.get(m, 0.0) for m in floor},
        alerts={m: sum(e.mission == m for e in alerts) for m in floor},
        alerts_before={m: sum(e.mission == m for e in before) for m in floor},
        suppressed=found.suppressed,
    )
    silenced = _distinct(s for s in stories if s.probability < limits[s.mission])
    return Fit(
        calibration,
        alerts,
        silenced,
        {
            mission: (story, without(found.candidates, story, policy, allowed))
            for mission in floor
            if limits[mission] > floor[mission] and (story := next((s for s in silenced if s.mission == mission), None))
        },
        _distinct(
            sorted((s for s in stories if s.mission in certain and s.probability >= ceiling[s.mission]), key=lambda s: -s.windows)
        ),
    )


def without(candidates: Candidates, story: Story, policy: Policy, allowed: int) -> float:
    """The threshold of the story's mission, were its host silenced by a rule."""
    kept = [
        c
        for c in candidates.kept
        if c.verdict.mission != story.mission or story.host not in (*c.verdict.sources, *c.verdict.destinations)
    ]
    return threshold_fit.fit(replace(candidates, kept=kept), policy, allowed)[story.mission]


def _distinct(stories: Iterable[Story]) -> list[Story]:
    """The first story of each set of hosts: a pair's window is told of both ends."""
    first: dict[tuple[str, frozenset[str]], Story] = {}
    for story in stories:
        first.setdefault((story.mission, frozenset(h for p in story.packets for h in (p.orig_h, p.resp_h))), story)
    return list(first.values())


def _iso(ts: float) -> str:
    return f"{datetime.fromtimestamp(ts, UTC):%Y-%m-%dT%H:%M:%SZ}"
