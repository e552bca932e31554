"""Verdicts to episodes: few stories instead of many alarms.

Verdicts of several views on the same hosts and mission become one episode: one event when it opens, at most one update a minute
while it lasts, one when it closes. Everything follows event time and the verdicts' own order, so a replay tells the same stories.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from packetclip_sensor.judge import Judged
from packetclip_sensor.metrics import Counters
from packetclip_sensor.records import Episode, Flow, FlowWindow, Position, Verdict

LISTED_HOSTS = 100
"""Hosts kept by name and counted in an episode: beyond it, "100" means 100 or more."""
CROWD = 3
"""Pairs of one host in one second up to which each pair speaks for itself."""


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When an episode opens, is told again and closes."""

    open_packets: int = 10
    """A first verdict opens an episode when its window holds so many packets; a smaller one needs a second verdict to back it."""
    update_s: float = 60.0
    """Seconds of event time between two documents of an episode that goes on."""
    close_s: float = 60.0
    """An episode closes when no verdict has come for so many seconds of event time."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something to tell of an episode. `verdict` is None when it closes."""

    state: str
    """open, update or close."""
    second: int
    episode: Episode
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Told:
    """Events of one batch, in order, and the state behind them."""

    events: list[Event]
    open: tuple[Episode, ...]
    judged: int
    resume: tuple[Position, ...]
    flows: list[FlowWindow] = field(default_factory=list)


def identifier(*parts: object) -> str:
    """A short name for `parts`, equal on every machine and run: 20 hex digits of SHA-256."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:20]


def episodes(
    streams: Iterable[Judged],
    policy: Policy,
    counters: Counters,
    *,
    sensor: str,
    model_version: str,
    restored: Sequence[Episode] = (),
) -> Iterator[Told]:
    """Gather verdicts into episodes.

    Args:
        sensor: name of the sensor; with the model version it is part of every id.
        restored: episodes that were open when the state was saved.
    """
    current = list(restored)
    for judged in streams:
        events: list[Event] = []
        for verdict in _ordered(judged.verdicts):
            _close(current, verdict.second, policy, events)
            episode = next((e for e in current if _same_story(e, verdict)), None)
            if episode is None:
                episode = _start(verdict, sensor, model_version)
                current.append(episode)
                counters.episodes += 1
            else:
                _extend(episode, verdict)
            if not episode.opened:
                if len(verdict.packets) >= policy.open_packets or episode.verdicts > 1:
                    episode.opened = episode.reported = verdict.second
                    events.append(Event("open", verdict.second, episode, verdict))
            elif verdict.second - episode.reported >= policy.update_s:
                episode.reported = verdict.second
                events.append(Event("update", verdict.second, episode, verdict))
        for flow in judged.batch.flows:
            for episode in current:
                _enrich(episode, flow)
        _close(current, judged.judged, policy, events)
        if judged.batch.final:
            _close(current, None, policy, events)
        yield Told(events, tuple(current), judged.judged, judged.resume, judged.flows)


def _ordered(verdicts: list[Verdict]) -> list[Verdict]:
    """Verdicts as they are to be told: by second, and where a host is in more than CROWD pairs of a second, its own view first.

    A flood from a hundred reflectors is then one story of its destination; an attack by one host stays a story of the pair.
    """
    pairs = Counter((v.second, v.mission, end) for v in verdicts if v.view == "pair" for end in _ends(v))

    def rank(v: Verdict) -> tuple[int, bool]:
        source, destination = _ends(v)
        about = destination if v.view == "destination" else source
        return v.second, v.view == "pair" or pairs[v.second, v.mission, about] <= CROWD

    return sorted(verdicts, key=rank)


def _ends(verdict: Verdict) -> tuple[str | None, str | None]:
    """The one source and the one destination of a verdict; None where they are many."""
    if verdict.view == "pair":
        source = verdict.sources[0]
        return source, next((d for d in verdict.destinations if d != source), source)
    source_ = verdict.sources[0] if len(verdict.sources) == 1 else None
    return source_, verdict.destinations[0] if len(verdict.destinations) == 1 else None


def _same_story(episode: Episode, verdict: Verdict) -> bool:
    """Whether a verdict belongs to an episode: same mission, and the host that either of them is about."""
    if episode.mission != verdict.mission:
        return False
    source, destination = _ends(verdict)
    same_source, same_destination = source == episode.sources[0], destination == episode.destinations[0]
    if episode.scope == "source":
        return same_source
    if episode.scope == "destination":
        return same_destination
    if source is None:
        return same_destination
    if destination is None:
        return same_source
    return (same_source and same_destination) or (source == episode.destinations[0] and destination == episode.sources[0])


def _scope(verdict: Verdict) -> str:
    source, destination = _ends(verdict)
    if source is None:
        return "destination"
    return "source" if destination is None else "pair"


def _start(verdict: Verdict, sensor: str, model_version: str) -> Episode:
    source, destination = _ends(verdict)
    sources = [source] if source else list(verdict.sources[:LISTED_HOSTS])
    destinations = [destination] if destination else list(verdict.destinations[:LISTED_HOSTS])
    scope = _scope(verdict)
    about = (source, destination) if scope == "pair" else (source,) if scope == "source" else (destination,)
    return Episode(
        # The uid tells apart what two captures of one second say of the same group address.
        id=identifier(sensor, model_version, verdict.mission, scope, *about, verdict.second, verdict.packets[0].uid),
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
        scope=scope,
    )


def _extend(episode: Episode, verdict: Verdict) -> None:
    source, destination = _ends(verdict)
    if episode.scope == "pair" and (source is None or destination is None):
        episode.scope = _scope(verdict)
    # Counting each packet once without remembering it: only those behind the last one seen are new.
    episode.packets += sum(p.ts > episode.last for p in verdict.packets)
    episode.first = min(episode.first, verdict.packets[0].ts)
    episode.last = max(episode.last, verdict.packets[-1].ts)
    episode.verdicts += 1
    episode.peak = max(episode.peak, verdict.probability)
    if episode.scope == "source":
        _add(episode.destinations, verdict.destinations)
        episode.destination_count = max(episode.destination_count, len(episode.destinations))
    elif episode.scope == "destination":
        _add(episode.sources, verdict.sources)
        episode.source_count = max(episode.source_count, len(episode.sources))


def _add(hosts: list[str], more: Sequence[str]) -> None:
    for host in more:
        if len(hosts) >= LISTED_HOSTS:
            return
        if host not in hosts:
            hosts.append(host)


def _enrich(episode: Episode, flow: Flow) -> None:
    """Take a flow row into an open episode of its hosts. Rows of other times are other stories."""
    one_source = episode.scope == "destination" or flow.orig_h in episode.sources
    one_destination = episode.scope == "source" or flow.resp_h in episode.destinations
    if not (
        one_source and one_destination and episode.first - 1 <= flow.ts + (flow.duration or 0.0) and flow.ts <= episode.last + 1
    ):
        return
    packets = (flow.orig_pkts or 0) + (flow.resp_pkts or 0)
    if flow.final:
        episode.flows += 1
        episode.flow_packets += packets
        episode.flow_bytes += (flow.orig_ip_bytes or 0) + (flow.resp_ip_bytes or 0)
    best = episode.flow
    if best is None or packets >= (best.orig_pkts or 0) + (best.resp_pkts or 0):
        episode.flow = flow


def _close(current: list[Episode], now: int | None, policy: Policy, events: list[Event]) -> None:
    """Close what has been quiet; `now` None closes all, since input has ended."""
    for episode in [e for e in current if now is None or now - e.last > policy.close_s]:
        current.remove(episode)
        if episode.opened:
            events.append(Event("close", int(episode.last + policy.close_s), episode, None))
