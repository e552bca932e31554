"""The typed records that travel from stage to stage, in the order in which they appear on the way.

Names inside are Zeek's (`uid`, `orig_h`, `conn_state`); only `documents.py` knows ECS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from packetclip_sensor.common.hyperloglog import Tally

FloatArray = npt.NDArray[np.float32]

Time = Annotated[float, Meta(gt=0.0, lt=1e10)]
"""Epoch seconds. No packet is of the year 2286: its second would be the latest for ever, and every later packet late."""
Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=0, lt=1 << 62)]
"""Numbers are counted in 64 bits."""
Name = Annotated[str, Meta(max_length=256)]
"""What a log line says in words. Lines may be a megabyte long; of thousands of packets held, each must be small."""

SURE_FROM = 0.8
"""`Alert.sure_from` of a bundle that names no ceilings."""


_LOG_NAME = re.compile(
    r"packetclip_(packet|flow)(?:(?:\.|__|-).+)?\.log(?:[.-]\d[\w:-]*)?(?:\.(?:gz|xz|bz2|zst|lz4|Z|lz|lzo|zip|7z|rar))?"
)

_EVE_NAME = re.compile(r"eve(?:[.-][\w:-]+)?\.json(?:[.-]\d[\w:-]*)?(?:\.gz)?")
"""Suricata's, by default, with the number of a thread, with a date, and rotated."""


def log_of(name: str) -> str | None:
    """ "packet" or "flow" for the names that our logs have, growing, rotated or packed; None for any other name.

    Suricata's eve.json is a flow log: its rows of flows are read.
    """
    match = _LOG_NAME.fullmatch(name)
    return match[1] if match else "flow" if is_eve(name) else None


def is_eve(name: str) -> bool:
    """Whether a file's name is that of Suricata's event log."""
    return _EVE_NAME.fullmatch(name) is not None


def of_suricata(uid: str) -> bool:
    """Whether a `uid` is a flow id of Suricata, which is a number, and not one of Zeek's, which begin with C."""
    return uid[:1].isdigit()


class Position(msgspec.Struct, frozen=True):
    """A place in one log file from which reading can go on: everything before `offset` has been read.

    `offset` counts bytes of the plain text (unpacked) and always stands after a newline. The file is known by device,
    inode and the SHA-256 of its first `prefix_bytes` plain bytes, so that a renamed or packed file is found again.
    """

    path: str
    device: int
    inode: int
    prefix_bytes: int
    prefix_sha256: str
    offset: int
    source: str = ""
    """The Zeek that wrote the file: the log folder that the site names. All files of a source have one clock."""


class Lines(msgspec.Struct, frozen=True):
    """A block of whole lines of one log file, as bytes: `data` ends with a newline. `log` is "packet" or "flow"."""

    log: str
    data: bytes
    start: Position
    end: Position


class Idle(msgspec.Struct, frozen=True):
    """Nothing to read now. `final` is set once, when finite input has ended: every stage then gives out what it holds."""

    final: bool = False
    quiet: tuple[str, ...] = ()
    """Sources whose packet logs have stood at their end for a while."""


class Packet(msgspec.Struct, frozen=True, gc=False):
    """One line of packetclip_packet.log."""

    ts: Time
    uid: Name
    orig_h: Name = msgspec.field(name="id.orig_h")
    orig_p: Port = msgspec.field(name="id.orig_p")
    resp_h: Name = msgspec.field(name="id.resp_h")
    resp_p: Port = msgspec.field(name="id.resp_p")
    proto: Name
    is_orig: bool
    n: Annotated[int, Meta(ge=1, lt=1 << 62)]
    """Index in its connection, from 1."""
    size_bytes: Count = msgspec.field(name="len")
    """Length of the IP packet on the wire."""
    data: bytes
    """The first bytes of the packet, from the IP header on."""
    skipped: Count = 0
    """Connections to this responder that the script left out of the log since the last one it let in (`max_new_connections`)."""
    total_bytes: Count = msgspec.field(name="bytes", default=0)
    """Beyond the connection's first packets, where only a few have a line: its IP bytes so far, both directions; else 0."""
    unasked: bool = False
    """No line says it, `normalize/direction.py` finds it out: the sender only answers, and nobody was seen to ask."""

    @property
    def lasting_id(self) -> str:
        """What stands for it in ids that every reading of the same traffic must repeat. Zeek's uids do, by fixed seeds; Suricata
        seeds its flow ids anew at each start, so there it is the packet's own ends and time."""
        if not of_suricata(self.uid):
            return self.uid
        return f"{self.ts:.6f} {self.proto} {self.orig_h} {self.orig_p} {self.resp_h} {self.resp_p}"


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of packetclip_flow.log: conn.log's columns with Zeek's names, and what the texts need. Unset is None, never 0."""

    ts: Time
    uid: Name
    orig_h: Name = msgspec.field(name="id.orig_h")
    orig_p: Port = msgspec.field(name="id.orig_p")
    resp_h: Name = msgspec.field(name="id.resp_h")
    resp_p: Port = msgspec.field(name="id.resp_p")
    proto: Name
    final: bool
    """False for the interim row of a connection that still lives."""
    service: Name | None = None
    duration: Annotated[float, Meta(ge=0.0)] | None = None
    orig_bytes: Count | None = None
    resp_bytes: Count | None = None
    conn_state: Name | None = None
    local_orig: bool | None = None
    local_resp: bool | None = None
    missed_bytes: Count | None = None
    history: Name | None = None
    orig_pkts: Count | None = None
    orig_ip_bytes: Count | None = None
    resp_pkts: Count | None = None
    resp_ip_bytes: Count | None = None
    ip_proto: Count | None = None
    community_id: Name | None = None
    vlan: Count | None = None
    orig_size_mean: float | None = None
    """Mean IP length of the originator's packets, bytes; the next fields likewise, `iat` in seconds."""
    orig_size_std: float | None = None
    resp_size_mean: float | None = None
    resp_size_std: float | None = None
    orig_iat_mean: float | None = None
    orig_iat_std: float | None = None
    resp_iat_mean: float | None = None
    resp_iat_std: float | None = None
    syn: Count | None = None
    """Packets of the connection with this TCP flag, both directions; unset where the protocol is not TCP."""
    ack: Count | None = None
    fin: Count | None = None
    rst: Count | None = None
    psh: Count | None = None
    urg: Count | None = None
    login_attempts: Count | None = None
    """Log-ins tried, so far in an interim row, as far as an analyzer of Zeek sees them; the next of them were refused."""
    login_failures: Count | None = None
    requests: Count | None = None
    """HTTP requests begun; how many of them were not sent to their end, and the most with one method and path."""
    requests_unfinished: Count | None = None
    requests_alike: Count | None = None
    dns_queries: Count | None = None
    """DNS queries, and the distinct names in them, above a few an estimate."""
    dns_names: Count | None = None

    @property
    def written(self) -> float:
        """When Zeek wrote the row: at the connection's end, or at an interim row's time; epoch seconds."""
        return self.ts + (self.duration or 0.0)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of a few blocks of lines of one source, in log order until `normalize` puts them in the order of time.

    `start` and `end` hold, per file of the source, the position before the batch's first and after its last line; where records
    are held back, `end` is before the oldest of these. A batch may be empty: then it says that there is nothing to read (`idle`)
    or that input has ended (`final`).
    """

    packets: list[Packet]
    flows: list[Flow]
    start: tuple[Position, ...] = ()
    end: tuple[Position, ...] = ()
    idle: bool = False
    final: bool = False
    quiet: bool = False
    """The logs have stood at their end for a while: no packet of the last second is to come."""
    source: str = ""
    """As in `Position`."""
    clock: float | None = None
    """Where a clock beside the packets' own says how far event time has come, epoch seconds: no line before it is to come."""


@dataclass(frozen=True, slots=True)
class Trail:
    """What the last hour of a verdict's stream says, where that decides and not the window alone (`evidence/`)."""

    probability: float
    """Calibrated probability of the mission by all of it."""
    above: float
    """By how many logits it exceeds its threshold."""
    windows: int
    """Windows of the stream that were likelier than not of the mission, of which no two stand more than an hour apart."""
    seconds: int
    """From the first to the last of them."""
    each: float
    """Their mean probability, over log-odds."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judged window whose mission probability reached its threshold."""

    second: int
    """The whole second of event time at whose end the window was judged, epoch."""
    view: str
    """pair, source or destination."""
    sources: tuple[str, ...]
    """Hosts that it accuses, most packets first: those that were seen to send in a connection of the window that they began."""
    destinations: tuple[str, ...]
    mission: str
    probability: float
    """Calibrated probability of `mission`."""
    missions: dict[str, float]
    """Probability of Benign and of each mission; sums to 1."""
    packets: tuple[Packet, ...]
    """The window, oldest first."""
    embeddings: FloatArray
    """(A, D) byte embeddings of the window's packets, padded with zeros in front."""
    relations: FloatArray
    """(A, R) relations of the window's packets, padded with zeros in front."""
    fresh: float = 1.0
    """Packets of the window that came in `second`, as a share of a whole window."""
    weight: float = 1.0
    """1 where `probability` reached the threshold; less where it only came near it: then what it counts towards an alert."""
    stream_packets: int = 0
    """Packets so far of the connections begun within the last T seconds that the window remembers; where one source or one
    destination is named, of its own. The next likewise."""
    connections: int = 0
    """How many connections it rests on: those begun within the last T seconds, at least its window's."""
    trail: Trail | None = None
    """None where the window alone decided."""

    @property
    def volume(self) -> int:
        """How many packets it rests on: those of its stream's connections, at least those of its window."""
        return max(self.stream_packets, len(self.packets))


class HuntWindow(msgspec.Struct, frozen=True, kw_only=True):
    """One judged window, alarming or not, kept for hunting: what `hunt_documents.py` turns into one document."""

    id: str
    """Document id: of the stream and its span of time, so that a span has one document however often it is read."""
    second: int
    view: str
    near: bool
    """Whether a mission came near its threshold; the others are the ordinary ones, of which few are kept."""
    packets: tuple[Packet, ...]
    """The window, oldest first."""
    missions: dict[str, float]
    """Probability of Benign and of each mission; sums to 1."""
    classes: dict[str, float]
    """As in `Explanation`."""
    facts: dict[str, float | int | str | None]
    embedding: tuple[float, ...]
    model_version: str


@dataclass(frozen=True, slots=True)
class VerdictBatch:
    """Verdicts of one batch, in the order of event time, and how far judging has come."""

    verdicts: list[Verdict]
    batch: Batch
    judged: int
    resume: tuple[Position, ...]
    packets: npt.NDArray[np.object_] = field(default_factory=lambda: np.empty(0, np.object_))
    """(n,) all packets of the seconds judged here, each once, and the (n,) second of each, never falling."""
    seconds: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    hunt_windows: list[HuntWindow] = field(default_factory=list)
    judged_by: dict[str, int] = field(default_factory=dict)
    """As in `Windows`."""


class Concept(msgspec.Struct, frozen=True):
    """A concept and what the verdict loses without it (occlusion)."""

    name: str
    weight: float
    """Log-odds of the mission with the concept minus log-odds without it, natural units; below zero it counted against the
    mission."""
    level: int
    """1 for key concepts, 2 and up for associated ones."""
    graph: str = ""
    """Mission whose graph it stands in; not always the verdict's own."""


class Path(msgspec.Struct, frozen=True):
    """A way through one graph, sensor to embedding node, and its exact share of the message that arrives there. The shares of all
    paths of a graph sum to 1; below zero a path brought the opposite of the whole."""

    nodes: tuple[str, ...]
    share: float
    graph: str = ""
    """Mission of the graph."""


class Evidence(msgspec.Struct, frozen=True):
    """A packet of the judged window and what its absence takes from the verdict (occlusion), in log-odds as a concept's."""

    packet: Packet
    weight: float
    reason: str
    """What the record fields say of it, for example "SYN to port 8080, the 14th new port"."""


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """What a verdict rests on, as the model measures it."""

    klass: str
    """The nearest of the model's classes, within the mission and the transport of most packets."""
    probability: float
    missions: dict[str, float]
    classes: dict[str, float]
    """Softmax over cosines of the window's embedding with each class's texts; sums to 1."""
    concepts: tuple[Concept, ...]
    paths: tuple[Path, ...]
    graphs: dict[str, float] = {}
    """What the verdict loses without all concepts of a mission's graph, log-odds."""
    nearest_texts: tuple[tuple[str, float], ...]
    """Texts of the bundle nearest to the window's embedding, with cosines."""
    embedding: tuple[float, ...] = ()
    """The judged window in the space that it shares with texts, (D,) unit norm."""


class Explanation(Attribution, frozen=True, kw_only=True):
    """Why a verdict is as it is. Kept with its episode, so that the closing document shows it after a restart too."""

    reason: str
    """One sentence of facts."""
    evidence: tuple[Evidence, ...]
    facts: dict[str, float | int | str | None]
    """Measured facts of the window, by name with unit: `packets`, `duration_s`, `distinct_resp_ports`, ..."""


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
    """What other engines said of the same connections."""


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
