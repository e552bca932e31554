"""What an episode keeps account of: its hosts, by name and by number, the stories folded into it, its flow rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from packetclip_sensor.common.hyperloglog import Tally
from packetclip_sensor.records import Episode, Flow

LISTED_HOSTS = 100
"""Hosts of a side kept by name; the counts go on where the list ends."""
_NO_TALLIES = {"source_tally": None, "destination_tally": None, "folded_tally": None}


def shown(episode: Episode) -> Episode:
    """The episode as it is now, with its counts, for a document."""
    if episode.source_tally is not None:
        episode.source_count = max(len(episode.sources), episode.source_tally.count)
    if episode.destination_tally is not None:
        episode.destination_count = max(len(episode.destinations), episode.destination_tally.count)
    return msgspec.structs.replace(episode, sources=list(episode.sources), destinations=list(episode.destinations), **_NO_TALLIES)


def begin(episode: Episode) -> None:
    """Count the hosts of the side, or sides, that the scope says to be many, from those that are listed."""
    if episode.scope in ("destination", "many") and episode.source_tally is None:
        episode.source_tally = _tally(episode.sources)
    if episode.scope in ("source", "many") and episode.destination_tally is None:
        episode.destination_tally = _tally(episode.destinations)


def _tally(names: Iterable[str]) -> Tally:
    tally = Tally()
    tally.add(names)
    return tally


def begin_fold(episode: Episode) -> None:
    """Let an episode stand for more stories than its own."""
    episode.folded_tally = Tally()
    tally_fold(episode, episode.sources[0], episode.destinations[0])


def tally_fold(episode: Episode, source: str | None, destination: str | None) -> None:
    """Count a story that stands in it; None for a side of many hosts."""
    assert episode.folded_tally is not None
    episode.folded_tally.add([f"{source or '*'}>{destination or '*'}"])
    episode.folded = episode.folded_tally.count


def add_hosts(episode: Episode, sources: Sequence[str], destinations: Sequence[str]) -> None:
    """Take hosts into the sides that have many."""
    for listed, tally, more in (
        (episode.sources, episode.source_tally, sources),
        (episode.destinations, episode.destination_tally, destinations),
    ):
        if tally is not None:
            tally.add(more)
            for host in more:
                if len(listed) < LISTED_HOSTS and host not in listed:
                    listed.append(host)


def take_flow(episode: Episode, flow: Flow) -> None:
    """Add a flow row to the totals, and keep the largest."""
    packets = (flow.orig_pkts or 0) + (flow.resp_pkts or 0)
    if flow.final:
        episode.flows += 1
        episode.flow_packets += packets
        episode.flow_bytes += (flow.orig_ip_bytes or 0) + (flow.resp_ip_bytes or 0)
    best = episode.flow
    if best is None or packets >= (best.orig_pkts or 0) + (best.resp_pkts or 0):
        episode.flow = flow
