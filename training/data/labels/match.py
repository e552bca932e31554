"""Labelled flows to Zeek's connections: by uid where it is the same run of Zeek, else by both ends and overlap in time.

Flow meters cut a connection differently than Zeek does, so that several flows may meet one connection. Where these disagree, it
has no label. Where no flow meets a connection it has none either: what a source does not name is not benign.
"""

import random
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil, floor

from packetclip_sensor.pairs.labels import NOT_KNOWN, Interval
from packetclip_sensor.records import Packet
from training.data.labels.captures import Connection, Key
from training.data.labels.mapping import Mapping, normalised
from training.data.labels.report import Report

STEP_S = 900
"""Offsets between clocks are looked for in steps of a quarter of an hour, as time zones lie."""
MOST_STEPS = 26 * 4
"""The largest offset between zones is 26 hours; within lie also the 12 that a clock without AM and PM loses."""
SAMPLE = 20_000
"""Flows on which offsets are tried."""
NEAR = 200
"""Connections between the same ends that are tried with one flow."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One labelled flow of a source."""

    key: Key
    start: float
    """Epoch seconds."""
    end: float
    """The latest time at which it may have ended; the resolution of its times is added."""
    label: str
    """The class, or "" where it has none of the ten."""
    claim: str
    """The class or the source's own name: two flows disagree where their claims differ."""
    where: str
    uid: str = ""


class Matcher:
    """Gives the labels of flows to connections."""

    def __init__(self, connections: Iterable[Connection], slack_s: float = 0.0) -> None:
        """Args: slack_s: how far apart the clocks of source and capture may be."""
        self.connections = list(connections)
        self.slack_s = slack_s + 1e-3
        self.flows = self.matched = self.strangers = 0
        self._by_key: dict[Key, list[Connection]] = defaultdict(list)
        self._by_uid: dict[str, list[Connection]] = defaultdict(list)
        for c in sorted(self.connections, key=lambda c: c.first):
            self._by_key[c.key].append(c)
            self._by_uid[c.uid].append(c)
        self._firsts = {k: [c.first for c in its] for k, its in self._by_key.items()}
        self._longest = {k: max(c.last - c.first for c in its) for k, its in self._by_key.items()}
        self._doubts: dict[Key, dict[str, str]] = defaultdict(dict)
        self._sample: list[Flow] = []
        self._known = 0
        self._random = random.Random(1)

    def give(self, flow: Flow, report: Report) -> None:
        """Label the connections that the flow meets."""
        self.flows += 1
        self.try_later(flow)
        met = [c for c in self._by_uid.get(flow.uid, ()) if c.key == flow.key] if flow.uid else []
        met = met or self._meeting(flow)
        self.matched += bool(met)
        for c in met:
            if c.claim is None:
                c.claim, c.label, c.where = flow.claim, flow.label, flow.where
            elif c.claim != flow.claim and not c.conflict:
                c.conflict = True
                report.add(
                    "ambiguous",
                    flow.where,
                    f"says {flow.claim}, {c.where} says {c.claim}, of connection {c.uid} in {c.capture}; it gets no label",
                )

    def doubt(self, ends: Key, claim: str, where: str) -> None:
        """A flow whose time is not known: another label of its ends may be of another time than it seems."""
        if ends in self._by_key:
            self._doubts[ends].setdefault(claim, where)

    def settle(self, report: Report) -> None:
        """Once all flows are given: take the label from connections that a flow of unknown time may contradict."""
        for ends, claims in self._doubts.items():
            for c in self._by_key[ends]:
                others = [claim for claim in claims if claim != c.claim]
                if c.claim is not None and not c.conflict and others:
                    c.conflict = True
                    text = f"says {others[0]} at a time that cannot be read, {c.where} says {c.claim}, of connection {c.uid} in "
                    report.add("ambiguous", claims[others[0]], f"{text}{c.capture}; it gets no label")

    def try_later(self, flow: Flow) -> None:
        """Keep a flow for `offsets`, if any connection joins its ends."""
        if flow.key not in self._by_key:
            self.strangers += 1
            return
        self._known += 1
        if len(self._sample) < SAMPLE:
            self._sample.append(flow)
        elif (at := self._random.randrange(self._known)) < SAMPLE:
            self._sample[at] = flow

    def _meeting(self, flow: Flow) -> list[Connection]:
        its = self._by_key.get(flow.key)
        if not its:
            return []
        until = flow.end + self.slack_s
        since = flow.start - self.slack_s
        firsts = self._firsts[flow.key]
        low = bisect_right(firsts, since - self._longest[flow.key] - 1e-6)
        return [c for c in its[low : bisect_right(firsts, until)] if c.last >= since]

    def offsets(self) -> tuple[Counter[int], int]:
        """How many flows of a sample would meet a connection if their clock were set on by so many seconds; the sample's size."""
        met: Counter[int] = Counter()
        for flow in self._sample:
            its = self._by_key[flow.key]
            at = bisect_right(self._firsts[flow.key], flow.start)
            steps: set[int] = set()
            for c in its[max(0, at - NEAR // 2) : at + NEAR // 2]:
                low, high = c.first - flow.end - self.slack_s, c.last - flow.start + self.slack_s
                steps.update(range(max(ceil(low / STEP_S), -MOST_STEPS), min(floor(high / STEP_S), MOST_STEPS) + 1))
            met.update(step * STEP_S for step in steps)
        return met, len(self._sample)

    def sample_time(self) -> float:
        """Epoch seconds of one of the flows that offsets are tried on."""
        return self._sample[0].start

    def summary(self) -> dict[str, int]:
        """What met and what did not, for the report."""
        labelled = sum(c.claim is not None and not c.conflict and c.label != "" for c in self.connections)
        conflicts = sum(c.conflict for c in self.connections)
        unnamed = sum(c.claim is None for c in self.connections)
        return {
            "flows of the source": self.flows,
            "flows that met a connection": self.matched,
            "flows that met none": self.flows - self.matched,
            "of these, between ends of no connection": self.strangers,
            "connections in the captures": len(self.connections),
            "connections labelled": labelled,
            "connections with a label of no class": len(self.connections) - labelled - conflicts - unnamed,
            "connections ambiguous": conflicts,
            "connections without a flow": unnamed,
        }


def read_flow(
    kind: str,
    ends: Callable[[], Key],
    name: str,
    times: Callable[[], tuple[float, float, float]],
    where: str,
    mapping: Mapping,
    matcher: Matcher,
    report: Report,
    uid: str = "",
) -> Flow | None:
    """One flow of a source; None where its ends or its time cannot be read, which is reported.

    Args:
        kind: what the source calls it. ends, times: read its key, and start, duration and resolution in seconds; both raise
            ValueError or KeyError. name: its label.
    """
    try:
        found = ends()
    except (KeyError, ValueError) as err:
        report.add("address", where, f"{err}; the {kind} is left out")
        return None
    label = mapping.of(name, where, report)
    claim = label or normalised(name)
    try:
        start, duration, resolution = times()
    except (KeyError, ValueError) as err:
        report.add("time", where, f"{err}; the {kind} is left out")
        matcher.doubt(found, claim, where)
        return None
    if duration < 0:
        report.add("backwards", where, f"the {kind} ends {-duration:g} s before it starts; it is left out")
        matcher.doubt(found, claim, where)
        return None
    return Flow(found, start, start + duration + resolution, label, claim, where, uid)


class ByConnection:
    """The labels of one capture's packets by their connections (`packetclip_sensor.pairs.labels.Truth`)."""

    def __init__(self, connections: Iterable[Connection]) -> None:
        self._of: dict[str, Interval | None] = {}
        attacks: dict[str, Interval] = {}
        for c in connections:
            if c.claim is None or c.conflict or not c.label:
                continue
            attack = attacks.setdefault(c.label, Interval(c.label, [], [], 0.0, 0.0))
            self._of[c.uid] = None if c.label == "Benign" else attack

    def of(self, packet: Packet) -> Interval | None:
        """The attack, None for benign, NOT_KNOWN."""
        return self._of.get(packet.uid, NOT_KNOWN)
