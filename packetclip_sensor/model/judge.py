"""Windows to verdicts: each distinct window is reasoned about once, and those near a mission's threshold become verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.model.bundle import Bundle, softmax
from packetclip_sensor.model.encoder import Encoder
from packetclip_sensor.model.thresholds import NO_MARGIN, Thresholds
from packetclip_sensor.records import Decided, FloatArray, HuntWindow, Packet, Trail, Verdict, VerdictBatch
from packetclip_sensor.windows.headers import Ints
from packetclip_sensor.windows.packet_features import ModelInput, model_input
from packetclip_sensor.windows.windows import VIEWS, Windows

REASON_WINDOWS = 32
"""Windows reasoned about at once: what lies between its layers stays in the processor's cache."""
REFLECTORS = 12
"""Hosts of one window whose answers nobody asked for, from which on they may be a flood. Of a thousand benign captures of which
only answers were seen, windows that reached a threshold showed 1 such host, one of them 6; reflected floods show 26 to 30."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Model input and output of W windows."""

    embeddings: FloatArray
    """(W, A, D)"""
    relations: FloatArray
    """(W, A, R)"""
    probabilities: FloatArray
    """(W, missions + 1), Benign first, calibrated."""


def score(bundle: Bundle, encoder: Encoder, given: ModelInput, chosen: slice | Ints) -> Scored:
    """Score those of the distinct windows of `given` that are `chosen`."""
    rows = given.rows[chosen]
    used, place = np.unique(rows, return_inverse=True)
    real = used >= 0
    embedding = np.zeros((len(used), bundle.manifest.embedding), np.float32)
    embedding[real] = encoder(given.tokens[used[real]])
    x, relations = embedding[place.reshape(rows.shape)], given.relations[chosen]
    logits = bundle.logits(x, relations, rows < 0)
    return Scored(x, relations, softmax(logits, bundle.manifest.temperature).astype(np.float32))


def embed(bundle: Bundle, encoder: Encoder, given: ModelInput, chosen: Ints) -> FloatArray:
    """(n, D) unit norm: the `chosen` distinct windows of `given` in the space of the texts."""
    scored = score(bundle, encoder, given, chosen)
    keep = np.ones((1, len(bundle.concepts)), np.float32)
    inputs = {"embedding": scored.embeddings, "relations": scored.relations, "padding": given.rows[chosen] < 0, "keep": keep}
    out: FloatArray = bundle.explainer.run(["window_embedding"], inputs)[0]
    return out


Tap = Callable[[ModelInput, FloatArray, Encoder], list[HuntWindow]]
"""Sees the windows of a batch with their (W, missions + 1) probabilities, and returns those to keep for hunting."""
NEVER = 2.0
"""A threshold that no probability reaches."""


class Decide(Protocol):
    """`evidence.stage.Evidence`: of some missions it says which windows are verdicts, and why."""

    missions: frozenset[str]

    def __call__(self, given: ModelInput, probabilities: FloatArray) -> Decided: ...


class Judge:
    """Judges windows a batch at a time; only those whose probability reaches their mission's threshold, or comes near it, become
    verdicts."""

    def __init__(
        self,
        bundle: Bundle,
        thresholds: Mapping[str, float],
        counters: Counters,
        margins: Mapping[str, float] = NO_MARGIN,
        tap: Tap | None = None,
        evidence: Decide | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        """Args:
        thresholds: probability for each mission, from the bundle, a site's calibration or the configuration.
        margins: how near is near, in logits below the threshold, by mission; see `Thresholds`.
        evidence: decides in place of both, of its missions.
        encoder: of this bundle, shared with other judges, so that what one has seen no other encodes again.
        """
        self._bundle, self._counters, self._tap, self._evidence = bundle, counters, tap, evidence
        self._encoder = encoder or Encoder(bundle, counters)
        self._missions = bundle.manifest.missions
        alone = {m: NEVER if evidence and m in evidence.missions else thresholds[m] for m in self._missions.names}
        kept = {m: margin for m, margin in margins.items() if alone.get(m) != NEVER}
        self._bounds = Thresholds.of(alone, kept, self._missions)

    def __call__(self, given: ModelInput) -> VerdictBatch:
        """The verdicts of W windows, in their order."""
        w, bounds, missions = given.windows, self._bounds, self._missions
        found = np.empty((len(given.rows), len(missions) + 1), np.float32)
        alarming: dict[int, tuple[FloatArray, FloatArray]] = {}
        per_second = np.round(given.streams.rate)
        fastest = np.zeros(len(given.rows))
        np.maximum.at(fastest, given.distinct, per_second)
        by_length = np.argsort((given.rows >= 0).sum(1), kind="stable")  # a short one is not padded to the longest
        for start in range(0, len(by_length), REASON_WINDOWS):
            chosen = by_length[start : start + REASON_WINDOWS]
            scored = score(self._bundle, self._encoder, given, chosen)
            found[chosen] = scored.probabilities
            compared = bounds.lifted(scored.probabilities[:, 1:], fastest[chosen])
            for j in np.nonzero((compared >= bounds.near).any(1))[0].tolist():  # copies: a view would keep all windows'
                alarming[int(chosen[j])] = scored.embeddings[j].copy(), scored.relations[j].copy()
        probabilities = found[given.distinct]
        trails, changes = Decided({}, {})
        compared = bounds.lifted(probabilities[:, 1:], per_second)
        (reaching,) = np.nonzero((compared >= bounds.near).any(1))
        if self._evidence is not None:
            trails, changes = self._evidence(given, probabilities)
            reaching = np.union1d(reaching, np.array([*trails], np.int64))
            chosen = np.array(sorted({*given.distinct[reaching].tolist()} - alarming.keys()), np.int64)
            for start in range(0, len(chosen), REASON_WINDOWS):
                some = chosen[start : start + REASON_WINDOWS]
                scored = score(self._bundle, self._encoder, given, some)
                alarming |= zip(some.tolist(), zip(scored.embeddings, scored.relations, strict=True), strict=True)
        records, counted = w.contents(reaching)
        found_in = (
            _verdict(given, i, probabilities[i], compared[i], *alarming[j], sent, bounds, missions, records, trails.get(i))
            for i, j, sent in zip(reaching.tolist(), given.distinct[reaching].tolist(), counted, strict=True)
        )
        verdicts = [verdict for verdict in found_in if verdict.sources]
        self._counters.verdicts += sum(v.weight == 1 for v in verdicts)
        kept = self._tap(given, probabilities, self._encoder) if self._tap else []
        seconds = w.table.second[w.fresh]
        return VerdictBatch(verdicts, w.batch, w.judged, w.resume, w.packets, seconds, kept, w.judged_by, changes)


def judge(
    streams: Iterable[Windows],
    bundle: Bundle,
    thresholds: Mapping[str, float],
    counters: Counters,
    margins: Mapping[str, float] = NO_MARGIN,
) -> Iterator[VerdictBatch]:
    """`Judge` over finished input, without evidence."""
    return map(Judge(bundle, thresholds, counters, margins), map(model_input, streams))


def accused(packets: Sequence[Packet], view: str) -> tuple[str, ...]:
    """The hosts that a window can accuse, most packets first: those that were seen to begin a connection, of a pair in the window
    itself: a flood may be answered, and the last packets of a second be the answers alone. None where half of the packets or more
    are answers to hosts that were not seen, where the host of most packets of a pair is none of them, or where few hosts send
    answers that nobody asked for."""
    began = {p.orig_h for p in packets if p.is_orig or (view != "pair" and not p.unasked)}
    if packets[-1].unasked and packets[-1].is_orig:
        enough = len(began) >= REFLECTORS
    else:
        enough = 2 * sum(p.unasked for p in packets) < len(packets)
    hosts = [host for host, _ in Counter(p.orig_h for p in packets).most_common()]
    if not enough or (view == "pair" and hosts[0] not in began):
        return ()
    return tuple(host for host in hosts if host in began)


def _verdict(
    given: ModelInput,
    i: int,
    p: FloatArray,
    compared: FloatArray,
    embeddings: FloatArray,
    relations: FloatArray,
    sent: Ints,
    bounds: Thresholds,
    missions: Missions,
    records: dict[int, Packet],
    decided: tuple[int, Trail] | None = None,
) -> Verdict:
    """The i-th window, judged as `p` by what is `compared` with thresholds, or as evidence has `decided`; `records` has its
    packets by row, `sent` (C,) the packets so far of the connections that it remembers."""
    w = given.windows
    rows = w.rows[i][w.rows[i] >= 0]
    packets = tuple(records[row] for row in rows.tolist())
    fresh = float((w.table.second[rows] == w.second[i]).sum() / w.rows.shape[1])
    mission, trail = decided or (0, None)
    probability, weight = (trail.probability, 1.0) if trail else (0.0, 1.0)
    if trail is None or (compared >= bounds.at).any():
        alone, share = bounds.decide(compared, fresh)
        if float(p[1 + alone]) > probability:  # of several missions the likeliest, whoever decides
            mission, trail, probability, weight = alone, None, float(p[1 + alone]), share
    view = VIEWS[int(w.view[i])]
    sources, destinations = accused(packets, view), tuple(h for h, _ in Counter(x.resp_h for x in packets).most_common())
    # Where one host is named, the connections of others in its stream are none of its own.
    latest, sent = w.past[i, 1][w.past[i, 1] >= 0], sent[w.past[i, 1] >= 0]
    uids = {x.uid for x in packets}
    if len(sources) == 1:
        own = w.table.orig_h[latest] == hash(sources[0])
        latest, sent = latest[own], sent[own]
        uids = {x.uid for x in packets if x.orig_h == sources[0]}
    if len(destinations) == 1:
        own = w.table.resp_h[latest] == hash(destinations[0])
        latest, sent = latest[own], sent[own]
    return Verdict(
        second=int(w.second[i]),
        view=view,
        sources=sources,
        destinations=destinations,
        mission=missions.names[mission],
        probability=probability,
        missions={name: float(v) for name, v in zip(missions.groups, p, strict=True)},
        packets=packets,
        embeddings=embeddings,
        relations=relations,
        fresh=fresh,
        weight=weight,
        stream_packets=int(sent.sum()),
        connections=max(len(latest), len(uids)),
        per_second=round(given.streams.rate[i]),
        trail=trail,
    )
