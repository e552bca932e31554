"""What is reported: episodes with their totals, alerts of other engines, and alerts."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from packetclip_sensor.common.hyperloglog import Tally
from packetclip_sensor.records.judged import Explanation, HuntWindow, Verdict
from packetclip_sensor.records.read import Flow, Position

SURE_FROM = 0.8
"""`Alert.sure_from` of a bundle that names no ceilings."""


class Totals(msgspec.Struct):
    """Packets of an episode's hosts, both directions, each counted once (`alerts/totals.py`)."""

    ports: Tally
    connections: Tally
    hosts: Tally
    """Of the side that has many, until they are counted in the episode's own."""
    packets: int = 0
    sent_packets: int = 0
    """Those that the sources sent."""
    bytes: int = 0
    """IP lengths on the wire."""
    first: float = 1e10
    last: float = 0.0
    flow: Flow | None = None
    """Of the flow rows counted here; the next three as in `Episode`."""
    flows: int = 0
    flow_packets: int = 0
    flow_bytes: int = 0

    def copy(self) -> Totals:
        """One that goes on by itself."""
        return msgspec.structs.replace(
            self, ports=self.ports.copy(), connections=self.connections.copy(), hosts=self.hosts.copy()
        )


class Episode(msgspec.Struct):
    """Consecutive verdicts of one mission on one set of hosts. Saved in the checkpoint while open."""

    id: str
    mission: str
    sources: list[str]
    destinations: list[str]
    """Hosts of the judged windows, at most 100."""
    source_count: int
    destination_count: int
    """Distinct hosts of a side; where the scope says that it has many, all that took part while the episode lasts."""
    first: float
    """Time of the first packet that is counted, epoch seconds: of the first verdict's window or second."""
    last: float
    verdicts: int
    packets: int
    """While it is open, distinct packets of its windows; in an alert all that were logged of its hosts, at least as many."""
    opened: int
    """Second of the verdict that opened it, 0 while it waits for more; `reported` the second of its last document."""
    reported: int
    documents: int
    peak: float
    """Highest probability so far."""
    scope: str
    """pair (one source, one destination), source (one source, many destinations), destination (many sources, one destination)
    or many (many on both sides: what was folded for want of room)."""
    explanation: Explanation | None = None
    """Of the verdict that was last reported; None before the first document, and in an alert, which has it itself."""
    flow: Flow | None = None
    """The largest flow row seen of its hosts."""
    flows: int = 0
    """Final flow rows seen of its hosts while it was open; the next two are their sums, both directions."""
    flow_packets: int = 0
    flow_bytes: int = 0
    began: int = 0
    """Second of the first verdict; 0 in older states. Flow rows written before are not the episode's."""
    last_verdict: int = msgspec.field(default=0, name="heard")
    """Second of the last verdict: what shows that it is quiet, since packets' own times may run backwards. States keep the name
    that it had first."""
    source: str = ""
    """The source that had the last verdict: by its clock the episode closes. Empty in states saved before there were sources."""
    evidence: float = 0.0
    """Of verdicts before `last_verdict` that only came near their threshold: the sum of the highest weight of each second."""
    weight: float = 0.0
    """The highest weight of a verdict in the second `last_verdict`."""
    connections_skipped: int = 0
    """Connections to its destination that Zeek's script left out of the packet log while it lasted (`max_new_connections`)."""
    over_budget: bool = False
    """It opened when `policy.alerts_per_day` was used up."""
    by_evidence: bool = False
    """Evidence over minutes decided on a verdict of it."""
    folded: int = 0
    """Episodes that stand in this one because there were too many to report each; 0 where none does."""
    sent_packets: int = 0
    """In an alert, of `packets` those that the sources sent; the next likewise from `seen`."""
    bytes: int = 0
    ports: int = 0
    connections: int = 0
    seen: Totals | None = None
    """Up to the last verdict; `tail` since then."""
    tail: Totals | None = None
    source_tally: Tally | None = None
    destination_tally: Tally | None = None
    folded_tally: Tally | None = None

    def copy(self) -> Episode:
        """The episode as it is now; the living one goes on by itself."""
        tallies = {name: tally.copy() for name in TALLIES if (tally := getattr(self, name)) is not None}
        return msgspec.structs.replace(self, sources=list(self.sources), destinations=list(self.destinations), **tallies)

    def snapshot(self) -> Episode:
        """The episode as it is now, for a document: with its counts of hosts, without what they are counted by."""
        for side in ("source", "destination"):
            if (tally := getattr(self, f"{side}_tally")) is not None:
                setattr(self, f"{side}_count", max(len(getattr(self, f"{side}s")), tally.count))
        kept: dict[str, object] = {"sources": list(self.sources), "destinations": list(self.destinations), "explanation": None}
        if (seen := self.seen) is not None and seen.packets >= self.packets:
            kept |= {name: getattr(seen, name) for name in ("packets", "sent_packets", "bytes")}
            kept |= {"ports": seen.ports.count, "connections": seen.connections.count}
        return msgspec.structs.replace(self, **kept, **dict.fromkeys(TALLIES))


TALLIES = ("seen", "tail", "source_tally", "destination_tally", "folded_tally")
"""What is counted by, and is in no document."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something to report of an episode. `verdict` is None when it closes."""

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
    hunt_windows: list[HuntWindow] = field(default_factory=list)
    judged_by: dict[str, int] = field(default_factory=dict)
    spent: tuple[int, ...] = ()
    """Seconds at which the episodes opened that `policy.alerts_per_day` counts."""


class OtherAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert of another engine (`sources/other_alerts`)."""

    ts: float
    engine: str
    """Zeek or Suricata."""
    rule: str
    """Zeek's notice type, or the id of Suricata's signature; `name` in words."""
    name: str
    orig_h: str
    orig_p: int
    resp_h: str
    """Empty where it is about one host."""
    resp_p: int
    proto: str
    """tcp, udp, icmp ...; empty where it is about no connection."""
    uid: str = ""
    community_id: str | None = None


class Fired(msgspec.Struct):
    """How often a rule of another engine fired, and when; `row` is the first of them."""

    row: OtherAlert
    count: int
    first: float
    last: float

    def copy(self) -> Fired:
        """One that goes on by itself."""
        return msgspec.structs.replace(self)

    def with_(self, other: Fired) -> Fired:
        """Both together."""
        return Fired(self.row, self.count + other.count, min(self.first, other.first), max(self.last, other.last))


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """An episode at the moment it is written, with its explanation: what `documents.py` turns into one ECS document."""

    id: str
    """Document id: deterministic, equal on every replay."""
    state: str
    """open, update or close."""
    ts: float
    """Event time of the document, epoch seconds."""
    episode: Episode
    why: Explanation
    """Of the episode's last verdict that was reported."""
    title: str
    flow_text: str | None
    """The episode's flow row in words; None where none has come: closing documents wait for none."""
    technique: str
    """ATT&CK technique id of the class."""
    model_version: str
    sure_from: float = SURE_FROM
    """Probability that the model gives to four in five of the attacks of this mission that it was measured on."""
    others: tuple[Fired, ...] = ()
    """Alerts of other engines on the same connections."""


@dataclass(slots=True)
class AlertBatch:
    """What the pipeline hands to the sink: documents, and the state that may be saved once they are acknowledged."""

    alerts: list[Alert] = field(default_factory=list)
    positions: tuple[Position, ...] = ()
    judged: int = 0
    """Every second of event time up to this one is judged, of the source that was read."""
    judged_by: dict[str, int] = field(default_factory=dict)
    """The same of every source."""
    episodes: tuple[Episode, ...] = ()
    hunt_windows: list[HuntWindow] = field(default_factory=list)
    """Windows for hunting, where that is switched on."""
    evidence: dict[str, bytes] = field(default_factory=dict)
    """Streams whose evidence changed in the batch, as `evidence.Streams.changes` has them."""
    spent: tuple[int, ...] = ()
    """As in `EpisodeBatch`."""
