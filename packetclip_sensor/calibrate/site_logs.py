"""A site's own logs, read as the sensor reads them: what could become an alert is kept, and the thresholds are fitted to it.

The logs are taken as benign. An attack inside them would push a threshold up, so the windows that did are shown, and hosts and
times can be left out. Where labels are given, attacks are kept apart and show what the new thresholds would still detect.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np

from packetclip_sensor.alerts import sentences, suppression_rules
from packetclip_sensor.calibrate import threshold_fit
from packetclip_sensor.calibrate.threshold_fit import Candidates
from packetclip_sensor.common import time_parsing
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import BENIGN
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.config.settings import Policy
from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.evidence.stage import Evidence, Found
from packetclip_sensor.model.bundle import Bundle, fingerprint
from packetclip_sensor.model.calibration_file import Calibration, Covered
from packetclip_sensor.model.judge import Judge
from packetclip_sensor.normalize.normalizer import normalized
from packetclip_sensor.pairs.labels import MIXED_BELOW, Labels
from packetclip_sensor.records import Batch, Episode, Packet, Verdict, addresses
from packetclip_sensor.sources import tail, zeek
from packetclip_sensor.windows.cutter import WindowCutter
from packetclip_sensor.windows.packet_features import model_input
from packetclip_sensor.windows.window_statistics import facts

GAP_S = 3600.0
"""A longer time without a packet counts so much: nobody knows whether Zeek ran."""
HOSTS = 1000
"""Hosts kept with their most probable window, of those that are shown."""


@dataclass(frozen=True)
class PacketFilter:
    """Which packets of the logs are looked at: not those of some hosts, and only those between two times."""

    exclude: tuple[addresses.Network, ...] = ()
    since: float = 0.0
    until: float = math.inf

    @staticmethod
    def parse(exclude: Sequence[str], since: str | None, until: str | None) -> PacketFilter:
        """Read hosts and networks, and times as `time_parsing.moment` takes them.

        Raises:
            ConfigError: one of them is none, or nothing is left between the times.
        """
        try:
            networks = tuple(map(addresses.network, exclude))
        except addresses.AddressError as err:
            raise ConfigError(f"--exclude {err}") from err
        return PacketFilter(networks, *time_parsing.span(since, until))

    def __call__(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches with the chosen packets, and the flow rows of their hosts and times."""
        excluded = lru_cache(maxsize=200_000)(lambda host: addresses.inside(host, self.exclude))
        for batch in batches:
            packets = [p for p in batch.packets if self.since <= p.ts < self.until]
            flows = [f for f in batch.flows if self.since <= f.ts < self.until]
            if self.exclude:
                packets = [p for p in packets if not (excluded(p.orig_h) or excluded(p.resp_h))]
                flows = [f for f in flows if not (excluded(f.orig_h) or excluded(f.resp_h))]
            yield replace(batch, packets=packets, flows=flows)


EVERY_PACKET = PacketFilter()


@dataclass(slots=True)
class Coverage:
    """The event time that the packets cover, each unit for itself."""

    first: float = math.inf
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


@dataclass(slots=True)
class AlarmingHost:
    """What one host does that looks like one mission, with its most probable window."""

    mission: str
    host: str
    unit: str
    windows: int
    probability: float
    packets: tuple[Packet, ...]

    @property
    def sentence(self) -> str:
        """One sentence of facts."""
        sources, destinations = (
            [h for h, _ in Counter(hosts).most_common()]
            for hosts in ([p.orig_h for p in self.packets], [p.resp_h for p in self.packets])
        )
        return sentences.sentence(facts(self.packets, "pair"), sources, destinations)

    @property
    def rule(self) -> str:
        """What would suppress it, for the file of policy.suppress."""
        side = "destination" if all(p.resp_h == self.host for p in self.packets) else "source"
        return suppression_rules.proposed(self.packets[-1].ts, "", **{side: [self.host], "mission": [self.mission]})


@dataclass(slots=True)
class SiteLogs:
    """What is kept of any amount of logs."""

    candidates: Candidates
    coverage: Coverage = field(default_factory=Coverage)
    counters: Counters = field(default_factory=Counters)
    hosts: dict[tuple[str, str], AlarmingHost] = field(default_factory=dict)
    """By mission and host."""
    attacks: dict[tuple[str, str, float], tuple[str, float]] = field(default_factory=dict)
    """By unit, label and start of each labelled attack: its mission and the highest probability of that."""
    mission_of: Mapping[str, str] = field(default_factory=dict)
    """Mission of each class that the model knows; Benign's is Benign."""
    suppressed: int = 0
    """Windows that rules of the site suppress."""

    def add_labelled(self, unit: str, verdict: Verdict, labels: Labels) -> bool:
        """Take in a window of labelled logs; True where it is benign. One that mixes attack and other packets says nothing."""
        attacks = [a for a in map(labels.of, verdict.packets) if a is not None]
        if not attacks:
            return True
        main = max(attacks, key=attacks.count)
        mission = self.mission_of.get(main.label) if len(attacks) / len(verdict.packets) >= MIXED_BELOW else None
        if mission not in (None, BENIGN):
            key = (unit, main.label, main.start)
            peak = self.attacks.get(key, ("", 0.0))[1]
            self.attacks[key] = (mission, max(peak, self.candidates.by_mission(verdict)[mission]))
        return mission == BENIGN

    def add_benign(self, number: int, unit: str, verdict: Verdict, suppresses: Callable[[Verdict], bool] | None) -> None:
        """Take in a benign window; far below the floor it is forgotten, and what a rule suppresses is only counted."""
        found = self.candidates.at_floor(verdict)
        if found is None:
            return
        if suppresses and suppresses(found):
            self.suppressed += found.weight == 1
            return
        self.candidates.add(number, verdict)
        if found.weight < 1:
            return
        key = (found.mission, verdict.destinations[0] if verdict.view == "destination" else verdict.sources[0])
        host = self.hosts.setdefault(key, AlarmingHost(*key, unit, 0, 0.0, verdict.packets))
        host.windows += 1
        if found.probability > host.probability:
            host.probability, host.packets, host.unit = found.probability, verdict.packets, unit
        if len(self.hosts) > 2 * HOSTS:
            self.hosts = dict(sorted(self.hosts.items(), key=lambda item: -item[1].probability)[:HOSTS])


def gather(
    units: Iterable[tuple[str, Sequence[Path], Labels | None]],
    bundle: Bundle,
    packets: PacketFilter = EVERY_PACKET,
    *,
    suppresses: Callable[[Verdict], bool] | None = None,
    on_packets: Callable[[int], None] = lambda count: None,
    margins: Mapping[str, float] | None = None,
    lateness_s: float = 0.0,
    others: Callable[[Sequence[Path]], Found | None] = lambda paths: None,
) -> SiteLogs:
    """Judge all logs and keep what a fit needs, in bounded memory.

    Args:
        units: name, log paths and labels of each capture or folder; without labels all of it is benign.
        suppresses: whether a rule of the site suppresses a verdict; thresholds need not do it then.
        margins: the widest that a fit may choose, in logits, in place of the bundle's own.
        lateness_s: how late lines of the logs may be, as in the configuration.
        others: of a unit's paths, what others have judged of it; None for nothing.
    Raises:
        LogFormatError: no packet is left to look at.
    """
    floor = bundle.manifest.thresholds
    margins = bundle.manifest.margins if margins is None else margins
    evidence = Evidence.of(bundle, Counters())
    decides = evidence.missions if evidence else frozenset()
    highest = threshold_fit.ceilings(floor, bundle.manifest.ceilings)
    candidates = Candidates(floor, highest, margins, decides, bundle.manifest.missions)
    found = SiteLogs(candidates, mission_of=bundle.manifest.missions.of_class)
    every = dict.fromkeys(floor, 0.0)
    for number, (name, paths, labels) in enumerate(units):
        found.coverage.begin()
        with Rejects(None) as rejects:
            read = zeek.batches(tail.finite(paths, rejects=rejects), rejects, found.counters)
            batches = normalized(read, found.counters, rejects, lateness_s)
            cut = WindowCutter(bundle.manifest.window, found.counters)
            at, known = every if labels else floor, others(paths)
            evidence = Evidence.of(bundle, found.counters, at)
            judge = Judge(bundle, at, found.counters, margins, evidence=known.instead(evidence) if known else evidence)
            for batch in packets(batches):
                judged = known(batch, judge, found.counters) if known else judge(model_input(cut(batch)))
                found.coverage.add(judged.batch.packets)
                on_packets(len(judged.batch.packets))
                for verdict in judged.verdicts:
                    if not labels or found.add_labelled(name, verdict, labels):
                        found.add_benign(number, name, verdict, suppresses)
    if not found.coverage.packets:
        raise LogFormatError("no packet to calibrate on; look at --logs, --since, --until and --exclude")
    return found


@dataclass(frozen=True, slots=True)
class Fit:
    """Thresholds and what they do to the logs they were fitted on."""

    calibration: Calibration
    alerts: list[Episode]
    no_longer: list[AlarmingHost]
    """Those who reach the bundle's thresholds and not the fitted ones, most probable first."""
    with_rule: dict[str, tuple[AlarmingHost, float]]
    """By mission whose threshold rose: what pushed it most, and where the threshold would stand with a rule for that host."""
    above_ceiling: list[AlarmingHost]
    """Those who reach every threshold that may be chosen although the budget has no room for them, most windows first."""


def fit(
    found: SiteLogs, bundle: Bundle, policy: Policy, alerts_per_day: float, *, paths: Sequence[Path], excluded: Sequence[str] = ()
) -> Fit:
    """Fit the thresholds to the budget; the same logs give the same ones."""
    policy = for_missions(policy, bundle.manifest.missions)
    candidates, cover = found.candidates, found.coverage
    floor, ceiling = candidates.floor, candidates.ceiling
    allowed = math.floor(alerts_per_day * max(cover.seconds, 1.0) / 86400 + 1e-9)
    limits = threshold_fit.fit(candidates, policy, allowed)
    margins = threshold_fit.fit_margins(candidates, limits, policy, allowed)
    alerts = threshold_fit.opened(candidates.kept, limits, policy, margins=margins)
    before = threshold_fit.opened(candidates.kept, floor, policy, margins=candidates.margins)
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
        margins=margins,
        margins_before={m: candidates.margins.get(m, 0.0) for m in floor},
        alerts={m: sum(e.mission == m for e in alerts) for m in floor},
        alerts_before={m: sum(e.mission == m for e in before) for m in floor},
        suppressed=found.suppressed,
    )

    def without(host: AlarmingHost) -> float:
        """The threshold of the host's mission, were the host suppressed by a rule."""
        others = [
            c
            for c in candidates.kept
            if c.verdict.mission != host.mission or host.host not in (*c.verdict.sources, *c.verdict.destinations)
        ]
        return threshold_fit.fit(replace(candidates, kept=others), policy, allowed)[host.mission]

    hosts = sorted(found.hosts.values(), key=lambda h: (-h.probability, h.mission, h.host))
    no_longer = _distinct(h for h in hosts if h.probability < limits[h.mission])
    raised = {h.mission: h for h in reversed(no_longer) if limits[h.mission] > floor[h.mission]}
    certain = {e.mission for e in alerts if e.peak >= ceiling[e.mission]} if len(alerts) > allowed else set()
    above = [h for h in hosts if h.mission in certain and h.probability >= ceiling[h.mission]]
    with_rule = {m: (raised[m], without(raised[m])) for m in floor if m in raised}
    return Fit(calibration, alerts, no_longer, with_rule, _distinct(sorted(above, key=lambda h: -h.windows)))


def _distinct(hosts: Iterable[AlarmingHost]) -> list[AlarmingHost]:
    """The first of each set of hosts: a pair's window is kept for both ends."""
    first: dict[tuple[str, frozenset[str]], AlarmingHost] = {}
    for host in hosts:
        first.setdefault((host.mission, frozenset(h for p in host.packets for h in (p.orig_h, p.resp_h))), host)
    return list(first.values())


def _iso(ts: float) -> str:
    return f"{datetime.fromtimestamp(ts, UTC):%Y-%m-%dT%H:%M:%SZ}"
