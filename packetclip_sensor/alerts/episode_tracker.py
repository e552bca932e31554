"""The open episodes, found by their hosts: which one a verdict belongs to, and which one takes in what finds no room.

A busy minute has thousands of alarmed pairs, so nothing here walks over all episodes for one verdict, packet or flow row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from packetclip_sensor.alerts.accounts import add_hosts, begin, begin_fold, take_flow, tally_fold
from packetclip_sensor.records import Episode, Flow, Packet, Verdict

FOLD_PAIRS = 10
"""Pairs of one host told at a time; the next ones are folded into the first. Where half of the room is taken, one pair."""

Key = tuple[str, ...]


def ends(verdict: Verdict) -> tuple[str | None, str | None]:
    """The one source and the one destination of a verdict; None where they are many."""
    if verdict.view == "pair":
        source = verdict.sources[0]
        return source, next((d for d in verdict.destinations if d != source), source)
    source_ = verdict.sources[0] if len(verdict.sources) == 1 else None
    return source_, verdict.destinations[0] if len(verdict.destinations) == 1 else None


def scope(verdict: Verdict) -> str:
    """What an episode that begins with this verdict is about."""
    source, destination = ends(verdict)
    if source is None:
        return "destination"
    return "source" if destination is None else "pair"


class Stories:
    """Open episodes in the order of their start; the told ones are those of which a document was written."""

    def __init__(self, restored: Iterable[Episode], room: int, missions: Sequence[str]) -> None:
        """`room`: how many may be told at a time; a place is kept for each mission, for what shares no host with another."""
        self._room, self._missions = room, missions
        self._all: dict[int, Episode] = {}
        self._by: dict[Key, dict[int, Episode]] = {}
        self._told = 0
        self._wide: dict[int, Episode] = {}
        self._quietest = 0
        for episode in restored:
            episode.heard = episode.heard or int(episode.last)  # a state saved before there was `heard`
            self.add(episode)

    def all(self) -> tuple[Episode, ...]:
        """All that are open, told or not."""
        return tuple(self._all.values())

    @property
    def untold(self) -> int:
        """How many wait for more packets or more evidence."""
        return len(self._all) - self._told

    def add(self, episode: Episode) -> None:
        """Take in an episode that was restored, or that begins."""
        self._all[id(episode)] = episode
        self._index(episode)

    def remove(self, episode: Episode) -> None:
        """Forget an episode."""
        self._unindex(episode)
        del self._all[id(episode)]

    def _index(self, episode: Episode) -> None:
        for key in _keys(episode):
            self._by.setdefault(key, {})[id(episode)] = episode
        self._told += episode.opened > 0
        if episode.scope in ("source", "destination"):
            self._wide[id(episode)] = episode

    def _unindex(self, episode: Episode) -> None:
        for key in _keys(episode):
            del self._by[key][id(episode)]
            if not self._by[key]:
                del self._by[key]
        self._told -= episode.opened > 0
        self._wide.pop(id(episode), None)

    def _at(self, *key: str) -> dict[int, Episode]:
        return self._by.get(key, {})

    def find(self, verdict: Verdict) -> Episode | None:
        """The episode that a verdict belongs to: same mission, and the host that either of them is about."""
        m, (source, destination) = verdict.mission, ends(verdict)
        if source is None:
            d = destination or ""
            places = (("destination", m, d), ("pair", m, verdict.sources[0], d), ("to", m, d))
        elif destination is None:
            places = (("source", m, source), ("pair", m, source, verdict.destinations[0]), ("from", m, source))
        else:
            pairs = ("pair", m, source, destination), ("pair", m, destination, source)
            return self._first((*pairs, ("source", m, source), ("destination", m, destination)))
        return self._first(places)

    def _first(self, places: Iterable[Key]) -> Episode | None:
        return next((next(iter(self._by[key].values())) for key in places if key in self._by), None)

    def spoke(self, verdict: Verdict) -> Episode | None:
        """The episode of the verdict's host that has had a verdict in this second."""
        found = self.find(verdict)
        if found is not None and found.heard != verdict.second:
            m, (source, destination) = verdict.mission, ends(verdict)
            pairs = self._at("to", m, destination or "") or self._at("from", m, source or "")
            found = next((e for e in pairs.values() if e.heard == verdict.second), None)
        return found

    def extend(self, episode: Episode, verdict: Verdict, *, backs: bool) -> None:
        """Take a verdict in.

        A verdict on many hosts turns a pair's episode into one of that host, unless it only `backs` what pairs say, or the pair
        has most of its packets.
        """
        packets: Sequence[Packet] = verdict.packets
        source, destination = ends(verdict)
        if episode.scope == "pair" and (source is None or destination is None):
            hosts = {episode.sources[0], episode.destinations[0]}
            mine = [p for p in packets if p.orig_h in hosts and p.resp_h in hosts]
            if backs or 2 * len(mine) > len(packets):
                packets = mine
            else:
                self._widen(episode, scope(verdict))
        if episode.scope != "pair":
            add_hosts(
                episode,
                verdict.sources if source is None else (source,),
                verdict.destinations if destination is None else (destination,),
            )
        if packets:
            # Counting each packet once without remembering it: only those behind the last one seen are new.
            episode.packets += sum(p.ts > episode.last for p in packets)
            episode.first = min(episode.first, packets[0].ts)
            episode.last = max(episode.last, packets[-1].ts)
        episode.verdicts += 1
        episode.heard = verdict.second
        episode.peak = max(episode.peak, verdict.probability)
        if episode.folded_tally is not None:
            tally_fold(episode, source, destination)

    def _widen(self, episode: Episode, scope_: str) -> None:
        self._unindex(episode)
        episode.scope = scope_
        begin(episode)
        self._index(episode)

    def open(self, episode: Episode, second: int) -> None:
        """Tell an episode for the first time; the last places are for those that take in what finds no other."""
        self._unindex(episode)
        episode.opened = episode.reported = second
        if self._told >= self._room - len(self._missions):
            episode.scope = "many"
            begin(episode)
            begin_fold(episode)
        self._index(episode)

    def mate(self, episode: Episode) -> Episode | None:
        """The told episode that has to take in one that is to be told; None where it is told by itself."""
        m = episode.mission
        if episode.scope == "pair":
            same = self._at("told from", m, episode.sources[0]), self._at("told to", m, episode.destinations[0])
            crowd = max(same, key=len)
            if len(crowd) >= (FOLD_PAIRS if 2 * self._told < self._room else 1):
                return min(crowd.values(), key=lambda e: (e.opened, e.id))
        if self._told < self._room - len(self._missions):
            return None
        return next(iter(self._at("many", m).values()), None)

    def fold(self, episode: Episode, mate: Episode) -> None:
        """Take an episode that was not told into one that is."""
        self.remove(episode)
        if mate.folded_tally is None:
            begin_fold(mate)
        if mate.scope == "pair":
            self._widen(mate, "source" if mate.sources[0] == episode.sources[0] else "destination")
        add_hosts(mate, episode.sources, episode.destinations)
        one_source, one_destination = episode.scope in ("pair", "source"), episode.scope in ("pair", "destination")
        tally_fold(mate, episode.sources[0] if one_source else None, episode.destinations[0] if one_destination else None)
        mate.first, mate.last = min(mate.first, episode.first), max(mate.last, episode.last)
        mate.heard, mate.peak = max(mate.heard, episode.heard), max(mate.peak, episode.peak)
        for name in ("verdicts", "packets", "flows", "flow_packets", "flow_bytes"):
            setattr(mate, name, getattr(mate, name) + getattr(episode, name))

    def quiet(self, now: int | None, quiet_s: int) -> list[Episode]:
        """Those that had no verdict for more than `quiet_s` seconds; all where `now` is None."""
        if now is None:
            self._quietest = 0  # what follows may be of an earlier time
            return list(self._all.values())
        if now - self._quietest <= quiet_s:
            return []
        found = [e for e in self._all.values() if now - e.heard > quiet_s]
        self._quietest = min((e.heard for e in self._all.values() if now - e.heard <= quiet_s), default=now)
        return found

    def count(self, packets: npt.NDArray[np.object_], seconds: npt.NDArray[np.int64], quiet_s: int) -> None:
        """Count the hosts of packets that go to a flooded host, or come from a sweeping one, while their episodes last.

        A window shows at most 30 packets a second of what may be thousands.
        """
        if not self._wide or not len(packets):
            return
        ends = [*(np.nonzero(np.diff(seconds))[0] + 1).tolist(), len(seconds)]
        start = 0
        for end in ends:
            self._count(packets[start:end].tolist(), int(seconds[start]) - quiet_s)
            start = end

    def _count(self, packets: list[Packet], since: int) -> None:
        """Count the hosts of one second's packets for the episodes that had a verdict at the second `since` or later."""
        wide = [e for e in self._wide.values() if e.heard >= since]
        flooded: dict[str, set[str]] = {e.destinations[0]: set() for e in wide if e.scope == "destination"}
        sweeping: dict[str, set[str]] = {e.sources[0]: set() for e in wide if e.scope == "source"}
        for packet in packets:
            if packet.resp_h in flooded:
                flooded[packet.resp_h].add(packet.orig_h)
            if packet.orig_h in sweeping:
                sweeping[packet.orig_h].add(packet.resp_h)
        for e in wide:
            if e.scope == "destination" and e.source_tally is not None:
                e.source_tally.add(flooded[e.destinations[0]])
            elif e.destination_tally is not None:
                e.destination_tally.add(sweeping[e.sources[0]])

    def enrich(self, flow: Flow) -> None:
        """Take a flow row into the open episodes of its hosts. Rows of other times are other stories."""
        if not self._all:
            return
        places: tuple[Key, ...] = (("hosts", flow.orig_h, flow.resp_h), ("sweeping", flow.orig_h), ("flooded", flow.resp_h))
        found = [e for key in places if key in self._by for e in self._by[key].values()]
        for mission in self._missions:
            for episode in self._at("many", mission).values():
                if flow.orig_h in episode.sources and flow.resp_h in episode.destinations:
                    found.append(episode)
        for episode in found:
            if episode.first - 1 <= flow.written and flow.ts <= episode.last + 1:
                take_flow(episode, flow)


def _keys(episode: Episode) -> tuple[Key, ...]:
    """Where an episode is found."""
    m, source, destination = episode.mission, episode.sources[0], episode.destinations[0]
    match episode.scope:
        case "source":
            return ("source", m, source), ("sweeping", source)
        case "destination":
            return ("destination", m, destination), ("flooded", destination)
        case "many":
            return (("many", m),)
    keys = ("from", m, source), ("to", m, destination), ("pair", m, source, destination), ("hosts", source, destination)
    return (*keys, ("told from", m, source), ("told to", m, destination)) if episode.opened else keys
