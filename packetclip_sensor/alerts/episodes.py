"""Verdicts to episodes: few reports instead of many alarms.

Verdicts of several views on the same hosts and mission become one episode: one event when it opens, at most one update a minute
while it lasts, one when it closes. Everything follows event time and the verdicts' own order, a second at a time, so a replay
reports the same however the log was read. Several sources (log folders) have several clocks: an episode closes by that of the
source that fed it last, and verdicts of two sources meet in one only where their times are near each other.

Never more than MAX_DOCUMENTS in any minute, by construction and without a counter: the documents of one episode stand at least a
minute apart, so in a minute there are at most two for each that is reported at a time, and half of MAX_DOCUMENTS are. What finds
no room is folded into an episode that is reported.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import deque
from collections.abc import Sequence
from itertools import groupby

import structlog

from packetclip_sensor.alerts import totals
from packetclip_sensor.alerts.open_episodes import LISTED_HOSTS, OpenEpisodes, begin_counts, hosts, scope
from packetclip_sensor.alerts.severity import Budget
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import Policy
from packetclip_sensor.records import Episode, EpisodeBatch, Event, Flow, Verdict, VerdictBatch
from packetclip_sensor.records.addresses import address

FOLD_LOG_S = 60.0
MAX_DOCUMENTS = 1000
"""In any 60 s of event time: as many as Elastic Security's External Alerts rule takes in a minute."""
CROWD = 3
"""Hosts of a view, or alarmed pairs of one host in one second, up to which each pair is an episode of its own."""
MAX_UNREPORTED = 5000
"""Small verdicts that wait for more packets; beyond it the next ones count as backed by so many others."""

log = structlog.get_logger()


def enough(verdict: Verdict, policy: Policy) -> bool:
    """Whether there are packets, and connections or packets a second, enough behind a verdict to open an episode; `policy.least`
    has all missions."""
    if verdict.trail is not None:
        return True  # evidence has counted both
    least = policy.least[verdict.mission]
    if verdict.packets[-1].proto == "tcp":
        if verdict.connections < (least.connections or 0):
            return False
    elif least.datagrams_per_s is not None:
        # Who belongs to a multicast group has asked for what comes to it, broadcast video for example.
        target = address(verdict.destinations[0])
        ordinary = verdict.per_second < least.datagrams_per_s or (target is not None and target.is_multicast)
        if ordinary and verdict.probability < (least.slow_probability or 1.0):
            return False
    return verdict.volume >= (least.packets or policy.open_packets)


def quiet_s(policy: Policy) -> int:
    """`close_s` in whole seconds."""
    return max(1, math.ceil(policy.close_s))


def reported_at_a_time(policy: Policy) -> int:
    """Episodes of which documents are written at a time, so that no minute has more than MAX_DOCUMENTS."""
    apart = max(1, min(math.ceil(policy.update_s), quiet_s(policy)))
    return MAX_DOCUMENTS // (2 * math.ceil(60 / min(apart, 60)))


def identifier(*parts: object) -> str:
    """A short name for `parts`, equal on every machine and run: 20 hex digits of SHA-256."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:20]


class EpisodeTracker:
    """Gathers verdicts into episodes, a batch at a time."""

    def __init__(
        self,
        policy: Policy,
        counters: Counters,
        *,
        sensor: str,
        model_version: str,
        restored: Sequence[Episode] = (),
        spent: Sequence[int] = (),
    ) -> None:
        """Args:
        policy: as `config.policy.for_missions` makes it of the site's.
        sensor: name of the sensor; with the model version it is part of every id.
        restored: episodes that were open when the state was saved.
        spent: what was used of the alert budget then.
        """
        self.budget = Budget(policy.alerts_per_day, spent)
        self._policy, self._counters, self._origin = policy, counters, (sensor, model_version)
        self._open = OpenEpisodes(restored, reported_at_a_time(policy), tuple(policy.least), quiet_s(policy))
        self._folded_logged, self._logged_at = 0, -FOLD_LOG_S

    def __call__(self, batch: VerdictBatch) -> EpisodeBatch:
        """What the batch's verdicts open, update and close, a second at a time."""
        events: list[Event] = []
        source = batch.batch.source
        counted, flows = 0, deque(batch.batch.flows)
        for second, group in groupby(sorted(batch.verdicts, key=lambda v: v.second), key=lambda v: v.second):
            counted = self._count(batch, counted, second)
            self._close(source, second, events, flows)
            due = self._take_second(source, list(group))
            counted = self._count(batch, counted, second + 1)
            events += [Event(state, second, living.snapshot(), living, verdict) for state, living, verdict in due]
        self._count(batch, counted, None)
        for flow in flows:
            self._open.take_flow(flow)
        self._close(source, batch.judged, events)
        if batch.batch.final:
            self._close(source, None, events)
        self._log_folded()
        self.budget.pass_to(batch.judged)
        return EpisodeBatch(
            events, self._open.all(), batch.judged, batch.resume, batch.hunt_windows, batch.judged_by, self.budget.spent
        )

    def _log_folded(self) -> None:
        """Say, at most once a minute, that episodes were folded because there were too many to report each."""
        folded = self._counters.folded_episodes - self._folded_logged
        if folded > 0 and time.monotonic() - self._logged_at >= FOLD_LOG_S:
            log.warning("episodes_folded", folded=folded, open=len(self._open.all()))
            self._folded_logged, self._logged_at = self._counters.folded_episodes, time.monotonic()

    def _take_second(self, source: str, verdicts: list[Verdict]) -> list[tuple[str, Episode, Verdict]]:
        """Take in all verdicts of a second; returns what is to be reported of them at its end.

        A host's own view is the story of many. Where it shows few hosts, where few pairs of the second alarm with enough behind
        them, or where these or one other have most of its packets, the story is these pairs': each opens on a window of its own
        packets, with its own volume, and what the wide view shows besides accuses nobody. So an attack by one host, or by two,
        does not accuse the clients beside them, while a flood from a hundred reflectors is one episode of its destination, which
        comes first.
        """
        pairs = dict[tuple[str, str | None], list[Verdict]]()
        for v in verdicts:
            if v.view == "pair" and v.weight == 1:
                for host in hosts(v):
                    pairs.setdefault((v.mission, host), []).append(v)

        def of_pairs(v: Verdict) -> bool:
            one, other = hosts(v)
            alarmed = pairs.get((v.mission, other if one is None else one), [])
            if len(alarmed) > CROWD:
                return False
            few = len(v.sources) <= CROWD and len(v.destinations) <= CROWD
            if few or any(enough(pair, self._policy) for pair in alarmed):
                return True
            shown = {frozenset((v.sources[0], v.destinations[0])), *(frozenset(hosts(pair)) for pair in alarmed)}
            return 2 * sum(frozenset((p.orig_h, p.resp_h)) in shown for p in v.packets) > len(v.packets)

        of_many, of_one, supporting = list[Verdict](), list[Verdict](), list[Verdict]()
        for verdict in verdicts:
            (of_one if None not in hosts(verdict) else supporting if of_pairs(verdict) else of_many).append(verdict)
        due = [self._take(source, verdict) for verdict in (*of_many, *of_one)]
        for verdict in supporting:
            self._open.support(verdict, source)
        return [report for report in due if report is not None]

    def _take(self, source: str, verdict: Verdict) -> tuple[str, Episode, Verdict] | None:
        """Take a verdict into its episode; returns what is to be reported of that."""
        episode = self._open.find(verdict, source)
        if episode is None:
            if verdict.weight < 1 and self._open.unreported >= MAX_UNREPORTED:
                return None  # it is too little to be kept in mind
            episode = _start(verdict, source, *self._origin)
            self._open.add(episode)
        else:
            episode.source = source
            self._counters.folded_episodes += self._open.extend(episode, verdict)
        if not episode.opened:
            few = not enough(verdict, self._policy) and self._open.unreported <= MAX_UNREPORTED
            if few or episode.evidence + episode.weight < 1:
                return None
            target = self._open.merge_target(episode)
            if target is None:
                self._open.open(episode, verdict.second)
                self._counters.episodes += 1
                episode.over_budget = not self.budget.spend(verdict.second)
                self._counters.episodes_over_budget += episode.over_budget
                return "open", episode, verdict
            self._counters.folded_episodes += self._open.fold(episode, target)
            episode = target
        if verdict.second - episode.reported < self._policy.update_s:
            return None
        episode.reported = verdict.second
        return "update", episode, verdict

    def _count(self, batch: VerdictBatch, start: int, before: int | None) -> int:
        """Count the packets of `batch` from number `start` on, up to the second `before`; returns the next number."""
        end = len(batch.seconds) if before is None else int(batch.seconds.searchsorted(before))
        self._open.count(batch.packets[start:end], batch.seconds[start:end])
        return max(start, end)

    def _close(self, source: str, now: int | None, events: list[Event], flows: deque[Flow] | None = None) -> None:
        """Close what has been quiet by the clock of a source; `now` None closes all of it, since its input has ended.

        Rows of `flows` that were written until then come first, however long a time a batch covers.
        """
        closing = self._open.quiet(source, now)
        while now is not None and flows and flows[0].written < now:
            self._open.take_flow(flows.popleft())
        for episode in closing:
            self._open.remove(episode)
            if episode.opened:
                second = episode.last_verdict + quiet_s(self._policy)
                events.append(Event("close", second, episode.snapshot(), episode, None))


def _start(verdict: Verdict, read_from: str, sensor: str, model_version: str) -> Episode:
    source, destination = hosts(verdict)
    kind = scope(verdict)
    about = (source, destination) if kind == "pair" else (source,) if kind == "source" else (destination,)
    episode = Episode(
        # The packet tells apart what two captures of one second say of the same group address.
        id=identifier(sensor, model_version, verdict.mission, kind, *about, verdict.second, verdict.packets[0].lasting_id),
        mission=verdict.mission,
        sources=[source] if source else list(verdict.sources[:LISTED_HOSTS]),
        destinations=[destination] if destination else list(verdict.destinations[:LISTED_HOSTS]),
        source_count=1 if source else len(verdict.sources),
        destination_count=1 if destination else len(verdict.destinations),
        first=verdict.packets[0].ts,
        last=verdict.packets[-1].ts,
        verdicts=1,
        packets=len(verdict.packets),
        opened=0,
        reported=0,
        documents=0,
        peak=verdict.probability,
        scope=kind,
        began=verdict.second,
        last_verdict=verdict.second,
        source=read_from,
        weight=verdict.weight,
        by_evidence=verdict.trail is not None,
    )
    begin_counts(episode)
    totals.begin(episode, verdict.packets, verdict.second)
    return episode
