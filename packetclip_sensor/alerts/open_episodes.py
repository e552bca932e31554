"""The open episodes, found by their hosts: which one a verdict belongs to, and which one takes in what finds no room.

A busy minute has thousands of alarmed pairs, so nothing here walks over all episodes for one verdict, packet or flow row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, ValuesView
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from packetclip_sensor.alerts import totals
from packetclip_sensor.common.hyperloglog import Tally
from packetclip_sensor.records import Episode, Flow, Packet, Verdict

FOLD_PAIRS = 10
"""Pairs of one host reported at a time; the next ones are folded into the first. Where half of the room is taken, one pair."""
EVIDENCE_CLOSE_S = 3600
"""As long as evidence remembers (`evidence.streams.TRAIL_S`)."""
LISTED_HOSTS = 100
"""Hosts of a side kept by name; the counts go on where the list ends."""


def hosts(verdict: Verdict) -> tuple[str | None, str | None]:
    """The one source and the one destination of a verdict; None where they are many."""
    sources, destinations = verdict.sources, verdict.destinations
    if verdict.view == "pair":
        return sources[0], next((d for d in destinations if d != sources[0]), sources[0])
    return sources[0] if len(sources) == 1 else None, destinations[0] if len(destinations) == 1 else None


def scope(verdict: Verdict) -> str:
    """What an episode that begins with this verdict is about."""
    source, destination = hosts(verdict)
    if source is None:
        return "destination"
    return "source" if destination is None else "pair"


class Like(NamedTuple):
    """What a verdict and its episode have in common beside the hosts: the mission, and the source or else the time."""

    mission: str
    source: str
    second: int
    near_s: int

    def fits(self, episode: Episode) -> bool:
        """Whether the episode is of this mission, and of this source or a time near this one."""
        near = episode.source == self.source or abs(episode.last_verdict - self.second) <= self.near_s
        return near and episode.mission == self.mission


def of_pair(verdict: Verdict, one: str, other: str) -> Sequence[Packet]:
    """The packets of a verdict's window between two hosts."""
    both = {one, other}
    return [p for p in verdict.packets if p.orig_h in both and p.resp_h in both]


class Index(dict[tuple[str, ...], dict[int, Episode]]):
    """Episodes by names, under each key in the order in which they came."""

    def at(self, *key: str) -> ValuesView[Episode]:
        """All under a key."""
        return self.get(key, {}).values()

    def of(self, like: Like, *key: str) -> Episode | None:
        """The first under a key that a verdict may belong to."""
        return next((e for e in self.at(*key) if like.fits(e)), None)


class OpenEpisodes:
    """Open episodes in the order of their start; the reported ones are those of which a document was written."""

    def __init__(self, restored: Iterable[Episode], room: int, missions: Sequence[str], quiet_s: int) -> None:
        """Args:
        room: how many may be reported at a time; a place is kept for each mission, for what shares no host with another.
        quiet_s: seconds without a verdict after which an episode closes, of evidence at least EVIDENCE_CLOSE_S.
        """
        self._room, self._missions, self._quiet_s = room, missions, quiet_s
        self._all: dict[int, Episode] = {}
        self._reported = 0
        # By hosts: an episode of a pair, of one source and of one destination; what found no room of its own has no key.
        self.by_pair, self.by_source, self.by_destination, self.by_none = Index(), Index(), Index(), Index()
        # By mission and host: its pairs, all of them and those that were reported.
        self.pairs_from, self.pairs_to, self.reported_from, self.reported_to = Index(), Index(), Index(), Index()
        for episode in restored:
            episode.last_verdict = episode.last_verdict or int(episode.last)  # a state saved before there was `last_verdict`
            self.add(episode)

    def close_after_s(self, episode: Episode) -> int:
        """Seconds without a verdict after which an episode closes. What evidence says of a stream changes slowly and may be about
        its threshold for hours, so an episode of evidence lasts as long as that remembers, and does not open again and again."""
        return max(self._quiet_s, EVIDENCE_CLOSE_S) if episode.by_evidence else self._quiet_s

    def all(self) -> tuple[Episode, ...]:
        """All that are open, reported or not."""
        return tuple(self._all.values())

    @property
    def unreported(self) -> int:
        """How many wait for more packets or more evidence."""
        return len(self._all) - self._reported

    @property
    def _full(self) -> bool:
        """Whether only the places are left that are kept for the missions."""
        return self._reported >= self._room - len(self._missions)

    def add(self, episode: Episode) -> None:
        """Take in an episode that was restored, or that begins."""
        self._all[id(episode)] = episode
        self._index(episode)

    def remove(self, episode: Episode) -> None:
        """Forget an episode."""
        self._unindex(episode)
        del self._all[id(episode)]

    def _keys(self, episode: Episode) -> list[tuple[Index, tuple[str, ...]]]:
        mission, source, destination = episode.mission, episode.sources[0], episode.destinations[0]
        match episode.scope:
            case "source":
                return [(self.by_source, (source,))]
            case "destination":
                return [(self.by_destination, (destination,))]
            case "many":
                return [(self.by_none, ())]
        keys = [(self.pairs_from, (mission, source)), (self.pairs_to, (mission, destination))]
        if episode.opened:
            keys += [(self.reported_from, (mission, source)), (self.reported_to, (mission, destination))]
        return [(self.by_pair, (source, destination)), *keys]

    def _index(self, episode: Episode) -> None:
        for index, key in self._keys(episode):
            index.setdefault(key, {})[id(episode)] = episode
        self._reported += episode.opened > 0

    def _unindex(self, episode: Episode) -> None:
        for index, key in self._keys(episode):
            del index[key][id(episode)]
            if not index[key]:
                del index[key]
        self._reported -= episode.opened > 0

    def find(self, verdict: Verdict, read_from: str) -> Episode | None:
        """The episode that a verdict belongs to: same mission, and the host that either of them is about.

        Args:
            read_from: the source whose packets were judged.
        """
        m, (source, destination) = verdict.mission, hosts(verdict)
        like = Like(m, read_from, verdict.second, self._quiet_s)
        if source is None:
            d = destination or ""
            pair = self.by_pair.of(like, verdict.sources[0], d)
            return self.by_destination.of(like, d) or pair or self.pairs_to.of(like, m, d)
        if destination is None:
            pair = self.by_pair.of(like, source, verdict.destinations[0])
            return self.by_source.of(like, source) or pair or self.pairs_from.of(like, m, source)
        pair = self.by_pair.of(like, source, destination) or self.by_pair.of(like, destination, source)
        return pair or self.by_source.of(like, source) or self.by_destination.of(like, destination)

    def support(self, verdict: Verdict, read_from: str) -> None:
        """Keep an episode open that a wider view still shows, without evidence or packets of others: that of the pair which has
        most of its packets, or one of the verdict's host alone."""
        episode = self.find(verdict, read_from)
        if episode is None:
            return
        packets: Sequence[Packet] = verdict.packets
        if episode.scope == "pair":
            packets = of_pair(verdict, episode.sources[0], episode.destinations[0])
            if 2 * len(packets) <= len(verdict.packets):
                return
        self._seen(episode, packets, verdict.second)

    def extend(self, episode: Episode, verdict: Verdict) -> int:
        """Take a verdict in; returns how many episodes more are folded into this one by it. A verdict on many hosts turns a
        pair's episode into one of that host."""
        source, destination = hosts(verdict)
        if episode.scope == "pair" and (source is None or destination is None):
            self._widen(episode, scope(verdict))
        if episode.scope != "pair":
            sources = verdict.sources if source is None else (source,)
            take_hosts(episode, sources, verdict.destinations if destination is None else (destination,))
        self._seen(episode, verdict.packets, verdict.second)
        episode.by_evidence = episode.by_evidence or verdict.trail is not None
        episode.weight = max(episode.weight, verdict.weight)
        episode.peak = max(episode.peak, verdict.probability)
        return 0 if episode.folded_tally is None else count_folded(episode, source, destination)

    def _seen(self, episode: Episode, packets: Sequence[Packet], second: int) -> None:
        """Take in the packets of one more window."""
        # Counting each packet once without remembering it: only those behind the last one seen are new.
        episode.packets += sum(p.ts > episode.last for p in packets)
        if second > episode.last_verdict:
            totals.confirm(episode)
        episode.first = min(episode.first, packets[0].ts)
        episode.last = max(episode.last, packets[-1].ts)
        if episode.last_verdict < second:
            episode.evidence, episode.weight = episode.evidence + episode.weight, 0.0
        episode.verdicts += 1
        episode.last_verdict = max(episode.last_verdict, second)

    def _widen(self, episode: Episode, scope_: str) -> None:
        self._unindex(episode)
        episode.scope = scope_
        begin_counts(episode)
        self._index(episode)

    def open(self, episode: Episode, second: int) -> None:
        """Report an episode for the first time; the last places are for those that take in what finds no other."""
        self._unindex(episode)
        episode.opened = episode.reported = second
        if self._full:
            episode.scope = "many"
            begin_counts(episode)
            begin_folding(episode)
        self._index(episode)

    def merge_target(self, episode: Episode) -> Episode | None:
        """The reported episode that has to take in one that is to be reported; None where it is reported by itself."""
        m = episode.mission
        like = Like(m, episode.source, episode.last_verdict, self._quiet_s)
        if episode.scope == "pair":
            same = self.reported_from.at(m, episode.sources[0]), self.reported_to.at(m, episode.destinations[0])
            crowd = max(same, key=len)
            if len(crowd) >= (FOLD_PAIRS if 2 * self._reported < self._room else 1):
                return min(crowd, key=lambda e: (e.opened, e.id))
        return self.by_none.of(like) if self._full else None

    def fold(self, episode: Episode, target: Episode) -> int:
        """Take an episode that was not reported into one that is; returns how many more are folded into that one by it."""
        self.remove(episode)
        if target.folded_tally is None:
            begin_folding(target)
        if target.scope == "pair":
            self._widen(target, "source" if target.sources[0] == episode.sources[0] else "destination")
        take_hosts(target, episode.sources, episode.destinations)
        target.first, target.last = min(target.first, episode.first), max(target.last, episode.last)
        target.last_verdict = max(target.last_verdict, episode.last_verdict)
        target.peak = max(target.peak, episode.peak)
        target.by_evidence = target.by_evidence or episode.by_evidence
        for name in ("verdicts", "packets", "flows", "flow_packets", "flow_bytes", "connections_skipped"):
            setattr(target, name, getattr(target, name) + getattr(episode, name))
        for counted in (episode.seen, episode.tail):
            if counted is not None:
                totals.merge(target, counted)
        one_source, one_destination = episode.scope in ("pair", "source"), episode.scope in ("pair", "destination")
        return count_folded(
            target, episode.sources[0] if one_source else None, episode.destinations[0] if one_destination else None
        )

    def quiet(self, source: str, now: int | None) -> list[Episode]:
        """Those of a source that had no verdict for so long that they close; all of it where `now` is None."""
        mine = (e for e in self._all.values() if e.source in (source, ""))
        return [e for e in mine if now is None or now - e.last_verdict > self.close_after_s(e)]

    def count(self, packets: npt.NDArray[np.object_], seconds: npt.NDArray[np.int64]) -> None:
        """Count the packets of its hosts for each episode, and their other side where it is many, while the episode lasts.

        A window shows at most 30 packets a second of what may be thousands.
        """
        if not len(packets) or not self._all:
            return
        for packet, second in zip(packets.tolist(), seconds.tolist(), strict=True):
            if packet.skipped:
                self._count_skipped(packet, second)
        starts = [0, *(np.nonzero(np.diff(seconds))[0] + 1).tolist()]
        for start, end in zip(starts, [*starts[1:], len(seconds)], strict=True):
            self._count(packets[start:end].tolist(), int(seconds[start]))

    def _count_skipped(self, packet: Packet, second: int) -> None:
        """Count what was left out before a packet for the episodes of its destination that had a verdict near a second."""
        pairs = (e for m in self._missions for e in self.pairs_to.at(m, packet.resp_h))
        for episode in (*self.by_destination.at(packet.resp_h), *pairs):
            if abs(episode.last_verdict - second) <= self.close_after_s(episode):
                episode.connections_skipped += packet.skipped

    def _count(self, packets: list[Packet], second: int) -> None:
        """Count one second's packets for the episodes that had a verdict near it."""
        between = dict[tuple[str, str], list[Packet]]()
        for packet in packets:
            between.setdefault((packet.orig_h, packet.resp_h), []).append(packet)
        of = dict[int, list[Packet]]()
        for ends, these in between.items():
            back = self.by_pair.at(*reversed(ends)) if ends[0] != ends[1] else ()
            for episode in (*self._about(*ends), *back):
                if abs(episode.last_verdict - second) <= self.close_after_s(episode):
                    of.setdefault(id(episode), []).extend(these)
        for key, mine in of.items():
            episode = self._all[key]
            totals.take(episode, sorted(mine, key=lambda p: p.ts), second)

    def _about(self, source: str, destination: str) -> list[Episode]:
        """The episodes that a connection between two hosts belongs to."""
        rest = [e for e in self.by_none.at() if source in e.sources and destination in e.destinations]
        pair = self.by_pair.at(source, destination)
        return [*pair, *self.by_source.at(source), *self.by_destination.at(destination), *rest]

    def take_flow(self, flow: Flow) -> None:
        """Take a flow row into the open episodes of its hosts: one that was written between the second of an episode's first
        verdict and its close, whatever was read together."""
        for episode in self._about(flow.orig_h, flow.resp_h) if self._all else ():
            if episode.began <= flow.written < episode.last_verdict + self.close_after_s(episode) + 2:
                totals.take_flow(episode, flow)


def begin_counts(episode: Episode) -> None:
    """Count the hosts of the side, or sides, that the scope says to be many, from those that are listed."""
    if episode.scope in ("destination", "many") and episode.source_tally is None:
        episode.source_tally = Tally(key=episode.id)
    if episode.scope in ("source", "many") and episode.destination_tally is None:
        episode.destination_tally = Tally(key=episode.id)
    take_hosts(episode, episode.sources, episode.destinations)


def take_hosts(episode: Episode, sources: Sequence[str], destinations: Sequence[str]) -> None:
    """Take hosts into the sides that have many."""
    for listed, tally, more in (
        (episode.sources, episode.source_tally, sources),
        (episode.destinations, episode.destination_tally, destinations),
    ):
        if tally is not None:
            tally.add(more)
            if len(listed) < LISTED_HOSTS:
                listed.extend([host for host in dict.fromkeys(more) if host not in listed][: LISTED_HOSTS - len(listed)])


def begin_folding(episode: Episode) -> None:
    """Let an episode stand for more than its own."""
    episode.folded_tally = Tally(key=episode.id)
    count_folded(episode, episode.sources[0], episode.destinations[0])


def count_folded(episode: Episode, source: str | None, destination: str | None) -> int:
    """Count an episode that stands in this one; None for a side of many hosts. Returns 1 where it was not counted before, by an
    estimate where there are many."""
    assert episode.folded_tally is not None
    before = episode.folded
    episode.folded_tally.add([f"{source or '*'}>{destination or '*'}"])
    episode.folded = episode.folded_tally.count
    return episode.folded - before
