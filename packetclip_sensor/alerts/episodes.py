"""Verdicts to episodes: few reports instead of many alarms.

Verdicts of several views on the same hosts and mission become one episode: one event when it opens, at most one update a minute
while it lasts, one when it closes. Everything follows event time and the verdicts' own order, a second at a time, so a replay
reports the same however the log was read.

Never more than MAX_DOCUMENTS in any minute, by construction and without a counter: the documents of one episode stand at least a
minute apart, so in a minute there are at most two for each that is reported at a time, and half of MAX_DOCUMENTS are. What finds
no room is folded into an episode that is reported.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter, deque
from collections.abc import Sequence
from itertools import groupby

import structlog

from packetclip_sensor.alerts.open_episodes import LISTED_HOSTS, OpenEpisodes, begin_counts, hosts, scope
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import Policy
from packetclip_sensor.records import Episode, EpisodeBatch, Event, Flow, Verdict, VerdictBatch

FOLD_LOG_S = 60.0
MAX_DOCUMENTS = 1000
"""In any 60 s of event time: as many as Elastic Security's External Alerts rule takes in a minute."""
CROWD = 3
"""Pairs of one host in one second up to which each pair is an episode of its own."""
MAX_UNREPORTED = 5000
"""Small verdicts that wait for more packets; beyond it the next ones count as backed by so many others."""

log = structlog.get_logger()


def enough(verdict: Verdict, policy: Policy) -> bool:
    """Whether there are packets, and connections, enough behind a verdict to open an episode; `policy.least` has all missions."""
    least = policy.least[verdict.mission]
    if verdict.packets[-1].proto == "tcp" and verdict.connections < (least.connections or 0):
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
        self, policy: Policy, counters: Counters, *, sensor: str, model_version: str, restored: Sequence[Episode] = ()
    ) -> None:
        """Args:
        policy: as `config.policy.for_missions` makes it of the site's.
        sensor: name of the sensor; with the model version it is part of every id.
        restored: episodes that were open when the state was saved.
        """
        self._policy, self._counters, self._origin = policy, counters, (sensor, model_version)
        self._open = OpenEpisodes(restored, reported_at_a_time(policy), tuple(policy.least))
        self._folded_logged, self._logged_at = 0, -FOLD_LOG_S

    def __call__(self, batch: VerdictBatch) -> EpisodeBatch:
        """What the batch's verdicts open, update and close, a second at a time."""
        events: list[Event] = []
        counted, flows = 0, deque(batch.batch.flows)
        for second, group in groupby(sorted(batch.verdicts, key=lambda v: v.second), key=lambda v: v.second):
            counted = self._count_hosts(batch, counted, second)
            self._close(second, events, flows)
            due = self._take_second(list(group))
            counted = self._count_hosts(batch, counted, second + 1)
            events += [Event(state, second, living.snapshot(), living, verdict) for state, living, verdict in due]
        self._count_hosts(batch, counted, None)
        for flow in flows:
            self._open.take_flow(flow)
        self._close(batch.judged, events)
        if batch.batch.final:
            self._close(None, events)
        self._log_folded()
        return EpisodeBatch(events, self._open.all(), batch.judged, batch.resume, batch.hunt_windows)

    def _log_folded(self) -> None:
        """Say, at most once a minute, that episodes were folded because there were too many to report each."""
        folded = self._counters.folded_episodes - self._folded_logged
        if folded > 0 and time.monotonic() - self._logged_at >= FOLD_LOG_S:
            log.warning("episodes_folded", folded=folded, open=len(self._open.all()))
            self._folded_logged, self._logged_at = self._counters.folded_episodes, time.monotonic()

    def _take_second(self, verdicts: list[Verdict]) -> list[tuple[str, Episode, Verdict]]:
        """Take in all verdicts of a second; returns what is to be reported of them at its end.

        Where a host is in more than CROWD pairs of the second, its own view comes first: a flood from a hundred reflectors is
        then one episode of its destination. Where it is in fewer, these pairs are the episodes, and its own view only supports
        them: an attack by one host, or by two, stays one of these hosts and does not accuse the clients beside them.
        """
        pairs = Counter((v.mission, host) for v in verdicts if v.view == "pair" for host in hosts(v))

        def pairs_of(v: Verdict) -> int:
            """How many pairs of this second the host of a view is in; of a pair 0, as it needs no other."""
            source, destination = hosts(v)
            return 0 if v.view == "pair" else pairs[v.mission, destination if v.view == "destination" else source]

        ordered = sorted(verdicts, key=lambda v: pairs_of(v) <= CROWD)
        due = (self._take(v, supports=0 < pairs_of(v) <= CROWD) for v in ordered)
        return [report for report in due if report is not None]

    def _take(self, verdict: Verdict, *, supports: bool) -> tuple[str, Episode, Verdict] | None:
        """Take a verdict into its episode; returns what is to be reported of that."""
        episode = self._open.find_supported(verdict) if supports else self._open.find(verdict)
        if episode is None:
            if supports or (verdict.weight < 1 and self._open.unreported >= MAX_UNREPORTED):
                return None  # its pairs were folded, or it is too little to be kept in mind
            episode = _start(verdict, *self._origin)
            self._open.add(episode)
        else:
            self._counters.folded_episodes += self._open.extend(episode, verdict, supports=supports)
        if not episode.opened:
            few = not enough(verdict, self._policy) and self._open.unreported <= MAX_UNREPORTED
            if few or episode.evidence + episode.weight < 1:
                return None
            target = self._open.merge_target(episode)
            if target is None:
                self._open.open(episode, verdict.second)
                self._counters.episodes += 1
                return "open", episode, verdict
            self._counters.folded_episodes += self._open.fold(episode, target)
            episode = target
        if verdict.second - episode.reported < self._policy.update_s:
            return None
        episode.reported = verdict.second
        return "update", episode, verdict

    def _count_hosts(self, batch: VerdictBatch, start: int, before: int | None) -> int:
        """Count hosts in the packets of `batch` from number `start` on, up to the second `before`; returns the next number."""
        end = len(batch.seconds) if before is None else int(batch.seconds.searchsorted(before))
        self._open.count_hosts(batch.packets[start:end], batch.seconds[start:end], quiet_s(self._policy))
        return max(start, end)

    def _close(self, now: int | None, events: list[Event], flows: deque[Flow] | None = None) -> None:
        """Close what has been quiet; `now` None closes all, since input has ended.

        Rows of `flows` that were written until then still belong to what closes, however long a time a batch covers.
        """
        closing = self._open.quiet(now, quiet_s(self._policy))
        while closing and now is not None and flows and flows[0].written < now:
            self._open.take_flow(flows.popleft())
        for episode in closing:
            self._open.remove(episode)
            if episode.opened:
                second = episode.last_verdict + quiet_s(self._policy)
                events.append(Event("close", second, episode.snapshot(), episode, None))


def _start(verdict: Verdict, sensor: str, model_version: str) -> Episode:
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
        last_verdict=verdict.second,
        weight=verdict.weight,
    )
    begin_counts(episode)
    return episode
