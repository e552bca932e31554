"""What is judged: verdicts, windows kept for hunting, and what a verdict rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from packetclip_sensor.records.read import Batch, Packet, Position

FloatArray = npt.NDArray[np.float32]


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


class Decided(NamedTuple):
    """What evidence says of a batch's windows."""

    trails: dict[int, tuple[int, Trail]]
    """Of each window that is a verdict, by its number, its mission's number and what that rests on."""
    changes: dict[str, bytes]
    """What changed of what is kept of streams, to be saved with the batch."""


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
    per_second: int = 0
    """Packets of its stream in `second`, as `StreamSeconds.rate`."""
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
    evidence: dict[str, bytes] = field(default_factory=dict)
    """As `changes` in `Decided`."""


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
    """Its `data` is what `evidence_bytes` lets be shown, from the explanation on: no later stage, file or topic has the rest."""
    weight: float
    reason: str
    """What the record fields say of it, for example "SYN to port 8080, the 14th new port"."""
    masked_bytes: int | None = None
    """Bytes that are zeros or cut off for that; None where the packet is still as it was, as in states of before."""


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
