"""Verdicts to episodes: few stories instead of many alarms.

Verdicts of several views on the same hosts and mission become one episode: one event when it opens, at most one update a minute
while it lasts, one when it closes. Everything follows event time and the verdicts' own order, a second at a time, so a replay
tells the same stories however the log was read.

Never more than MAX_DOCUMENTS in any minute, by construction and without a counter: the documents of one episode stand at least a
minute apart, so in a minute there are at most two for each that is told at a time, and half of MAX_DOCUMENTS are told at a time.
What finds no room is folded into an episode that is told.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import msgspec
import structlog

from packetclip_sensor.alerts.accounts import LISTED_HOSTS, begin, shown
from packetclip_sensor.alerts.episode_tracker import Stories, ends, scope
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Least
from packetclip_sensor.model.judge import VerdictBatch
from packetclip_sensor.records import Episode, Flow, HuntWindow, Position, Verdict

FOLD_SAY_S = 60.0
MAX_DOCUMENTS = 1000
"""In any 60 s of event time: as many as Elastic Security's External Alerts rule takes in a minute."""
CROWD = 3
"""Pairs of one host in one second up to which each pair speaks for itself."""
MAX_UNTOLD = 5000
"""Small verdicts that wait for more packets; beyond it the next ones count as backed by so many others."""

log = structlog.get_logger()


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When an episode opens, is told again and closes."""

    open_packets: int = 20
    """An episode opens once a verdict rests on so many packets, of the window or of the connections begun within its time; fewer
    are too little to accuse anybody."""
    least: dict[str, Least] = {}
    """The same by mission, in place of the model's own (docs/tuning.md), for example {DoS: {packets: 40}}. `connections` are TCP
    connections, begun within the window's time or seen in it. Connections of one packet count up to the 64 that a window
    remembers."""
    update_s: float = 60.0
    """Seconds of event time between two documents of an episode that goes on."""
    close_s: float = 60.0
    """An episode closes when no verdict has come for so many seconds of event time."""

    def enough(self, verdict: Verdict) -> bool:
        """Whether there are packets, and connections, enough behind a verdict to open an episode; `least` has all missions."""
        least = self.least[verdict.mission]
        over_tcp = verdict.packets[-1].proto == "tcp"
        if over_tcp and verdict.connections < (least.connections or 0):
            return False
        return verdict.volume >= (least.packets or self.open_packets)

    @property
    def told_at_a_time(self) -> int:
        """Episodes of which documents are written at a time, so that no minute has more than MAX_DOCUMENTS."""
        apart = max(1, min(math.ceil(self.update_s), self.quiet_s))
        return MAX_DOCUMENTS // (2 * math.ceil(60 / min(apart, 60)))

    @property
    def quiet_s(self) -> int:
        """`close_s` in whole seconds."""
        return max(1, math.ceil(self.close_s))


@dataclass(frozen=True, slots=True)
class Event:
    """Something to tell of an episode. `verdict` is None when it closes."""

    state: str
    """open, update or close."""
    second: int
    episode: Episode
    """As it was at the end of that second."""
    living: Episode
    """The same one, which goes on."""
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class EpisodeBatch:
    """Events of one batch, in order, and the state behind them."""

    events: list[Event]
    open: tuple[Episode, ...]
    judged: int
    resume: tuple[Position, ...]
    flows: list[HuntWindow] = field(default_factory=list)


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
        self.policy, self.counters, self.sensor, self.model_version = policy, counters, sensor, model_version
        self.stories = Stories(restored, policy.told_at_a_time, tuple(policy.least))
        self._said, self._said_at = 0, -FOLD_SAY_S

    def __call__(self, batch: VerdictBatch) -> EpisodeBatch:
        """What the batch's verdicts open, update and close, a second at a time."""
        events: list[Event] = []
        done, flows = 0, deque(batch.batch.flows)
        for second, group in groupby(sorted(batch.verdicts, key=lambda v: v.second), key=lambda v: v.second):
            done = self.count(batch, done, second)
            self.close(second, events, flows)
            due = self.hear(list(group))
            done = self.count(batch, done, second + 1)
            events += [Event(state, second, shown(living), living, verdict) for state, living, verdict in due]
        self.count(batch, done, None)
        while flows:
            self.stories.enrich(flows.popleft())
        self.close(batch.judged, events, flows)
        if batch.batch.final:
            self.close(None, events, flows)
        self._say_folded()
        return EpisodeBatch(events, self.stories.all(), batch.judged, batch.resume, batch.flows)

    def _say_folded(self) -> None:
        """Say, at most once a minute, that episodes were folded because there were too many to tell each."""
        folded = self.counters.folded_episodes - self._said
        if folded > 0 and time.monotonic() - self._said_at >= FOLD_SAY_S:
            log.warning("episodes_folded", folded=folded, open=len(self.stories.all()))
            self._said, self._said_at = self.counters.folded_episodes, time.monotonic()

    def hear(self, verdicts: list[Verdict]) -> list[tuple[str, Episode, Verdict]]:
        """Take in all verdicts of a second; returns what is to be told of them at its end.

        Where a host is in more than CROWD pairs of the second, its own view comes first: a flood from a hundred reflectors is
        then one story of its destination. Where it is in fewer, these pairs are the story, and its own view only backs them: an
        attack by one host, or by two, stays one of these hosts and does not accuse the clients beside them.
        """
        pairs = Counter((v.mission, end) for v in verdicts if v.view == "pair" for end in ends(v))

        def speaking(v: Verdict) -> int:
            source, destination = ends(v)
            return pairs[v.mission, destination if v.view == "destination" else source]

        due = []
        for verdict in sorted(verdicts, key=lambda v: v.view == "pair" or speaking(v) <= CROWD):
            backs = verdict.view != "pair" and 0 < speaking(verdict) <= CROWD
            due += self._hear(verdict, backs=backs)
        return due

    def _hear(self, verdict: Verdict, *, backs: bool) -> list[tuple[str, Episode, Verdict]]:
        episode = self.stories.spoke(verdict) if backs else self.stories.find(verdict)
        if episode is None and (backs or (verdict.weight < 1 and self.stories.untold >= MAX_UNTOLD)):
            return []  # its pairs were folded, or it is too little to be kept in mind
        if episode is None:
            episode = _start(verdict, self.sensor, self.model_version)
            self.stories.add(episode)
        else:
            before = episode.folded
            if episode.heard != verdict.second:
                episode.evidence, episode.weight = episode.evidence + episode.weight, 0.0
            episode.weight = max(episode.weight, verdict.weight)
            self.stories.extend(episode, verdict, backs=backs)
            self.counters.folded_episodes += episode.folded - before
        if not episode.opened:
            if episode.evidence + episode.weight < 1:
                return []
            if not self.policy.enough(verdict) and self.stories.untold <= MAX_UNTOLD:
                return []
            mate = self.stories.mate(episode)
            if mate is None:
                self.stories.open(episode, verdict.second)
                self.counters.episodes += 1
                return [("open", episode, verdict)]
            before = mate.folded or 1  # the story that it was
            self.stories.fold(episode, mate)
            self.counters.folded_episodes += mate.folded - before
            episode = mate
        if verdict.second - episode.reported < self.policy.update_s:
            return []
        episode.reported = verdict.second
        return [("update", episode, verdict)]

    def count(self, judged: VerdictBatch, start: int, before: int | None) -> int:
        """Count hosts in the packets of `judged` from number `start` on, up to the second `before`; returns the next number."""
        end = len(judged.seconds) if before is None else int(judged.seconds.searchsorted(before))
        self.stories.count(judged.packets[start:end], judged.seconds[start:end], self.policy.quiet_s)
        return max(start, end)

    def close(self, now: int | None, events: list[Event], flows: deque[Flow]) -> None:
        """Close what has been quiet; `now` None closes all, since input has ended.

        Rows of `flows` that were written until then still belong to what closes, however long a time a batch covers.
        """
        closing = self.stories.quiet(now, self.policy.quiet_s)
        while closing and now is not None and flows and flows[0].written < now:
            self.stories.enrich(flows.popleft())
        for episode in closing:
            self.stories.remove(episode)
            if episode.opened:
                events.append(Event("close", episode.heard + self.policy.quiet_s, shown(episode), episode, None))


def episodes(
    streams: Iterable[VerdictBatch],
    policy: Policy,
    counters: Counters,
    *,
    sensor: str,
    model_version: str,
    restored: Sequence[Episode] = (),
) -> Iterator[EpisodeBatch]:
    """`EpisodeTracker` over finished input."""
    return map(EpisodeTracker(policy, counters, sensor=sensor, model_version=model_version, restored=restored), streams)


def _start(verdict: Verdict, sensor: str, model_version: str) -> Episode:
    source, destination = ends(verdict)
    sources = [source] if source else list(verdict.sources[:LISTED_HOSTS])
    destinations = [destination] if destination else list(verdict.destinations[:LISTED_HOSTS])
    kind = scope(verdict)
    about = (source, destination) if kind == "pair" else (source,) if kind == "source" else (destination,)
    episode = Episode(
        # The uid tells apart what two captures of one second say of the same group address.
        id=identifier(sensor, model_version, verdict.mission, kind, *about, verdict.second, verdict.packets[0].uid),
        mission=verdict.mission,
        sources=sources,
        destinations=destinations,
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
        heard=verdict.second,
        weight=verdict.weight,
    )
    begin(episode)
    return episode
