"""Windows to verdicts: each distinct packet row is encoded once, each distinct window reasoned about once.

The encoder's cost is the sensor's cost, so its results are kept: a row of tokens that was seen lately comes from a table. Windows
of different views that hold the same packets are judged once and told apart only afterwards.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.records import Batch, FloatArray, HuntWindow, Packet, Position, Verdict
from packetclip_sensor.windows import tokens
from packetclip_sensor.windows.packet_features import relations
from packetclip_sensor.windows.packet_table import Columns
from packetclip_sensor.windows.windows import VIEWS, Windows

ENCODE_ROWS = 256
REASON_WINDOWS = 128
CACHED_ROWS = 50_000


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
    flows: list[HuntWindow] = field(default_factory=list)


class Encoder:
    """Byte embeddings of packet rows, each distinct row once; the least recently used rows leave first."""

    def __init__(self, bundle: Bundle, counters: Counters | None = None, cached_rows: int = CACHED_ROWS) -> None:
        self._counters = counters or Counters()
        self._session = bundle.encoder
        self._dim = bundle.manifest.embedding
        self._table: FloatArray = np.zeros((cached_rows, self._dim), np.float32)
        self._slots: OrderedDict[bytes, int] = OrderedDict()

    def __call__(self, table: Columns, rows: npt.NDArray[np.int64]) -> FloatArray:
        """(n,) row numbers of `table` to (n, D)."""
        head = tokens.Headers(
            *(getattr(table, name)[rows] for name in ("version", "proto", "l4", "has_l4", "flags", "payload_bytes", "icmp_type"))
        )
        toks = tokens.tokenize(table.data[rows], table.captured[rows], head)
        width = toks.shape[1] * toks.itemsize
        raw = toks.tobytes()
        keys = [raw[i : i + width] for i in range(0, len(raw), width)]
        out = np.empty((len(rows), self._dim), np.float32)
        missing: dict[bytes, int] = {}
        for i, key in enumerate(keys):
            if key in self._slots:
                self._slots.move_to_end(key)
                self._counters.cached_rows += 1
            else:
                missing.setdefault(key, i)
        fresh: dict[bytes, FloatArray] = {}
        if missing:
            new = toks[list(missing.values())].astype(np.int32)
            parts = [
                self._session.run(["embedding"], {"tokens": new[i : i + ENCODE_ROWS]})[0] for i in range(0, len(new), ENCODE_ROWS)
            ]
            self._counters.encoded_rows += len(new)
            fresh = dict(zip(missing, np.concatenate(parts), strict=True))
        for i, key in enumerate(keys):
            out[i] = fresh[key] if key in fresh else self._table[self._slots[key]]
        for key, embedding in fresh.items():
            slot = len(self._slots) if len(self._slots) < len(self._table) else self._slots.popitem(last=False)[1]
            self._slots[key] = slot
            self._table[slot] = embedding
        return out


NO_LEEWAY: Mapping[str, float] = {}


def logit(p: float) -> float:
    """Log-odds of a probability, kept finite."""
    p = min(max(p, 1e-9), 1 - 1e-9)
    return math.log(p / (1 - p))


@dataclass(frozen=True, slots=True)
class Limits:
    """From which probability on a window is told as a mission, and from which on it counts towards that."""

    at: FloatArray
    """(missions,) thresholds in single precision, as probabilities are compared."""
    near: FloatArray
    """(missions,) the same less the leeway; where there is none it is the threshold."""

    @staticmethod
    def of(thresholds: Mapping[str, float], leeways: Mapping[str, float]) -> Limits:
        """Thresholds by mission, in the order of the model's outputs, and leeways; a mission without a leeway has none."""
        at = np.array(list(thresholds.values()), np.float32)
        leeway = np.array([leeways.get(m, 0.0) for m in thresholds])
        below = 1 / (1 + np.exp(leeway - [logit(p) for p in at.tolist()]))
        return Limits(at, np.where(leeway > 0, below, at).astype(np.float32))

    def told(self, probabilities: FloatArray, fresh: float) -> tuple[int, float]:
        """(mission, weight) of a window with these (missions,) probabilities, of which one reaches `near`.

        The weight is 1 at the threshold. Below, it falls evenly in logits to 0 at `near`, and is multiplied by `fresh`, the share
        of a whole window that is new: what was said of the same packets a second ago is no second witness. Sums of log-odds
        above a limit are the cumulative sum test of Page 1954 (Biometrika 41, 100-115).
        """
        at_threshold = probabilities >= self.at
        reached = at_threshold if at_threshold.any() else probabilities >= self.near
        mission = int(np.argmax(np.where(reached, probabilities, -1.0)))
        if at_threshold.any():
            return mission, 1.0
        p, low, high = (logit(float(x[mission])) for x in (probabilities, self.near, self.at))
        return mission, min((p - low) / (high - low), 0.999) * fresh


@dataclass(frozen=True, slots=True)
class Scored:
    """Model input and output of W windows."""

    embeddings: FloatArray
    """(W, A, D)"""
    relations: FloatArray
    """(W, A, R)"""
    probabilities: FloatArray
    """(W, missions + 1), Benign first, calibrated."""


def calibrated(bundle: Bundle, logits: FloatArray) -> FloatArray:
    """(W, missions + 1) logits to probabilities, with the temperature fitted after training."""
    z = logits.astype(np.float64) / bundle.manifest.temperature
    z = np.exp(z - z.max(1, keepdims=True))
    probabilities: FloatArray = (z / z.sum(1, keepdims=True)).astype(np.float32)
    return probabilities


def score(bundle: Bundle, encoder: Encoder, table: Columns, rows: npt.NDArray[np.int64], past: npt.NDArray[np.int64]) -> Scored:
    """Score W windows, (W, A) rows with -1 as padding, and their (W, 2, C) past connections."""
    used, place = np.unique(rows, return_inverse=True)
    place = place.reshape(rows.shape)
    real = used >= 0
    embedding = np.zeros((len(used), bundle.manifest.embedding), np.float32)
    embedding[real] = encoder(table, used[real])
    x, rel = embedding[place], relations(table, rows, past)
    logits = bundle.reasoner.run(["logits"], {"embedding": x, "relations": rel, "padding": rows < 0})[0]
    return Scored(x, rel, calibrated(bundle, logits))


Tap = Callable[[Windows, FloatArray, Encoder], list[HuntWindow]]
"""Sees the windows of a batch with their (W, missions + 1) probabilities, and returns those to keep for hunting."""


class Judge:
    """Judges windows a batch at a time; only those whose probability reaches their mission's threshold, or comes near it, become
    verdicts."""

    def __init__(
        self,
        bundle: Bundle,
        thresholds: Mapping[str, float],
        counters: Counters,
        leeways: Mapping[str, float] = NO_LEEWAY,
        tap: Tap | None = None,
    ) -> None:
        """Args:
        thresholds: probability for each mission, from the bundle, a site's calibration or the configuration.
        leeways: how near is near, in logits below the threshold, by mission; see `Limits`.
        """
        self._bundle, self._counters, self._tap = bundle, counters, tap
        self._encoder = Encoder(bundle, counters)
        self._missions = bundle.manifest.missions
        self._limits = Limits.of({m: thresholds[m] for m in self._missions.names}, leeways)

    def __call__(self, w: Windows) -> VerdictBatch:
        """The verdicts of W windows, in their order."""
        near = self._limits.near
        # Views that hold the same packets and began the same connections are one window.
        _, one, where = np.unique(np.hstack([w.rows, w.past[:, 0]]), axis=0, return_index=True, return_inverse=True)
        where = where.ravel()
        found = np.empty((len(one), len(self._missions) + 1), np.float32)
        alarming: dict[int, tuple[FloatArray, FloatArray]] = {}
        for start in range(0, len(one), REASON_WINDOWS):
            chosen = one[start : start + REASON_WINDOWS]
            scored = score(self._bundle, self._encoder, w.table, w.rows[chosen], w.past[chosen])
            found[start : start + len(chosen)] = scored.probabilities
            for j in np.nonzero(reaches(scored.probabilities, near))[0].tolist():  # copies: a view would keep all windows'
                alarming[start + j] = scored.embeddings[j].copy(), scored.relations[j].copy()
        probabilities, records = found[where], dict[int, Packet]()
        verdicts = [
            _verdict(w, i, probabilities[i], *alarming[int(where[i])], self._limits, self._missions, records)
            for i in np.nonzero(reaches(probabilities, near))[0].tolist()
        ]
        self._counters.verdicts += sum(v.weight == 1 for v in verdicts)
        kept = self._tap(w, probabilities, self._encoder) if self._tap else []
        return VerdictBatch(verdicts, w.batch, w.judged, w.resume, w.table.packets(w.fresh), w.table.second[w.fresh], kept)


def judge(
    streams: Iterable[Windows],
    bundle: Bundle,
    thresholds: Mapping[str, float],
    counters: Counters,
    leeways: Mapping[str, float] = NO_LEEWAY,
) -> Iterator[VerdictBatch]:
    """`Judge` over finished input."""
    return map(Judge(bundle, thresholds, counters, leeways), streams)


def reaches(probabilities: FloatArray, limit: FloatArray) -> npt.NDArray[np.bool_]:
    """(W,) True where a mission of (W, missions + 1) reaches its limit, (missions,)."""
    reached: npt.NDArray[np.bool_] = np.any(probabilities[:, 1:] >= limit, axis=1)
    return reached


def _verdict(
    w: Windows,
    i: int,
    p: FloatArray,
    embeddings: FloatArray,
    relations: FloatArray,
    limits: Limits,
    missions: Missions,
    records: dict[int, Packet],
) -> Verdict:
    """The i-th window of `w`, judged as `p`. `records` are those that verdicts of `w` have by row; it grows."""
    rows = w.rows[i][w.rows[i] >= 0]
    lacking = np.array([row for row in rows.tolist() if row not in records], np.int64)
    records |= dict(zip(lacking.tolist(), w.table.packets(lacking), strict=True))
    packets = tuple(records[row] for row in rows.tolist())
    fresh = float((w.table.second[rows] == w.second[i]).sum() / w.rows.shape[1])
    mission, weight = limits.told(p[1:], fresh)
    latest = w.past[i, 1]
    return Verdict(
        second=int(w.second[i]),
        view=VIEWS[int(w.view[i])],
        sources=tuple(h for h, _ in Counter(x.orig_h for x in packets).most_common()),
        destinations=tuple(h for h, _ in Counter(x.resp_h for x in packets).most_common()),
        mission=missions.names[mission],
        probability=float(p[1 + mission]),
        missions={name: float(v) for name, v in zip(missions.groups, p, strict=True)},
        packets=packets,
        embeddings=embeddings,
        relations=relations,
        fresh=fresh,
        weight=weight,
        stream_packets=int(w.table.n[latest[latest >= 0]].sum()),
        connections=max(int((latest >= 0).sum()), len({x.uid for x in packets})),
    )
