"""What an episode comes to as a whole, counted from every logged packet of its hosts: a window shows at most 30 of them.

Packets later than two seconds after the last verdict are counted apart (`Episode.tail`) until the next one: ordinary traffic that
follows an attack is no part of it. Ports, connections and hosts are counted under the episode's id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from packetclip_sensor.common.hyperloglog import Tally
from packetclip_sensor.records import Episode, Flow, Packet, Totals

AFTER_S = 2
"""Seconds after a verdict that are counted with it: the last packets of an attack are often too few for a window."""


def begin(episode: Episode, window: Iterable[Packet], second: int) -> None:
    """Count what the first window has from before its own second; packets of that second come by `take`, with all others."""
    episode.seen = _new(episode)
    _add(episode, episode.seen, [packet for packet in window if int(packet.ts) < second])


def take(episode: Episode, packets: Sequence[Packet], second: int) -> None:
    """Count what went between its hosts in one second, oldest first."""
    if second <= episode.last_verdict + AFTER_S:
        if episode.seen is None:  # a state saved before there were totals
            episode.seen = _new(episode)
        _add(episode, episode.seen, packets)
        _take_hosts(episode, episode.seen)
        return
    if episode.tail is None:
        episode.tail = _new(episode)
    _add(episode, episode.tail, packets)


def take_flow(episode: Episode, flow: Flow) -> None:
    """Count a flow row. One that began later than a second after the last window is counted apart until the next verdict."""
    if flow.ts <= episode.last + 1:
        _add_flow(episode, flow)
        return
    episode.tail = episode.tail or _new(episode)
    _add_flow(episode.tail, flow)


def _add_flow(counts: Episode | Totals, flow: Flow) -> None:
    if flow.final:
        counts.flows += 1
        counts.flow_packets += _packets(flow)
        counts.flow_bytes += (flow.orig_ip_bytes or 0) + (flow.resp_ip_bytes or 0)
    _keep_largest(counts, flow)


def _keep_largest(counts: Episode | Totals, flow: Flow) -> None:
    """Of equally large rows the last that ended, in whatever order they come."""
    if counts.flow is None or _rank(flow) >= _rank(counts.flow):
        counts.flow = flow


def _packets(flow: Flow) -> int:
    return (flow.orig_pkts or 0) + (flow.resp_pkts or 0)


def _rank(flow: Flow) -> tuple[int, float, bool, str]:
    return _packets(flow), flow.written, flow.final, flow.uid


def confirm(episode: Episode) -> None:
    """A further verdict: what came since the last one is of the episode."""
    if episode.tail is not None:
        merge(episode, episode.tail)
        episode.tail = None


def merge(episode: Episode, more: Totals) -> None:
    """Add what was counted apart, or in another episode."""
    seen = episode.seen = episode.seen or _new(episode)
    for name in ("packets", "sent_packets", "bytes"):
        setattr(seen, name, getattr(seen, name) + getattr(more, name))
    for name in ("flows", "flow_packets", "flow_bytes"):
        setattr(episode, name, getattr(episode, name) + getattr(more, name))
    if more.flow is not None:
        _keep_largest(episode, more.flow)
    for name in ("ports", "connections"):
        getattr(seen, name).merge(getattr(more, name))
    seen.first, seen.last = min(seen.first, more.first), max(seen.last, more.last)
    _take_hosts(episode, more)


def _add(episode: Episode, totals: Totals, packets: Sequence[Packet]) -> None:
    """Count packets; a side of one host is the first listed. An answer that nobody asked for is sent by its responder."""
    if not packets:
        return
    source = episode.sources[0] if episode.scope in ("pair", "source") else None
    target = episode.destinations[0] if episode.scope in ("pair", "destination") else None
    senders = [packet.orig_h if packet.is_orig else packet.resp_h for packet in packets]
    sent = [sender != target if source is None else sender == source for sender in senders]
    totals.packets += len(packets)
    totals.sent_packets += sum(sent)
    totals.bytes += sum(packet.size_bytes for packet in packets)
    totals.ports.add({str(p.resp_p) for p in packets if p.proto in ("tcp", "udp") and p.resp_h != source})
    totals.connections.add({packet.uid for packet in packets})
    totals.first, totals.last = min(totals.first, packets[0].ts), max(totals.last, packets[-1].ts)
    if episode.scope in ("source", "destination"):
        totals.hosts.add({packet.orig_h if source is None else packet.resp_h for packet in packets})


def _take_hosts(episode: Episode, totals: Totals) -> None:
    """Move hosts of the side that has many, and the times of its first and last packet, to the episode."""
    tally = {"destination": episode.source_tally, "source": episode.destination_tally}.get(episode.scope)
    if tally is not None:
        tally.merge(totals.hosts)
    totals.hosts = Tally(key=episode.id)
    episode.first, episode.last = min(episode.first, totals.first), max(episode.last, totals.last)


def _new(episode: Episode) -> Totals:
    return Totals(ports=Tally(key=episode.id), connections=Tally(key=episode.id), hosts=Tally(key=episode.id))
