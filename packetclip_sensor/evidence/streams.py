"""What the last hour of each stream was: damped counters, as AfterImage of Kitsune (Mirsky et al., NDSS 2018) keeps them.

A counter halves in each of HALF_LIVES, so it needs no list of what it counts and costs the same however long a stream lives. Rows
of a stream are taken one after the other in the order of seconds, so neither batches nor other streams change a bit of it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.evidence.flow_counts import COUNTS, FLOWS, SIZES, Counted
from packetclip_sensor.evidence.rows import Rows
from packetclip_sensor.windows.packet_features import LEAST_GAP_S, RELATIONS, SECOND, STREAM, Floats
from packetclip_sensor.windows.windows import VIEWS

HALF_LIVES = (10.0, 60.0, 600.0, 3600.0)
MOST_STREAMS = 20_000
"""Streams remembered at most, some 2 kB each; the one longest without a window goes first."""
CLIP = 6.0
"""One window counts at most so many logits: the model's certainty has no bounds, its right to be certain has."""
COUNTED = ("packets", "sent", "begun", "ports", "destinations", "sources")
ALIKE = ("is_orig", "log_size", "log_payload", "log_gap", "log_n", "share_sizes")
"""Relations whose spread over a stream's windows says how alike these are."""
TRAIL_S = 3600
"""A trail ends when no window has been likelier than not for so long."""

_COUNTS = [SECOND.index(name) for name in COUNTED]
_LOOKS = [RELATIONS.index(name) for name in ALIKE]
_DATA = FLOWS.index("data")
_ATTEMPTS, _FAILURES = (FLOWS.index(name) for name in COUNTS[:2])
_REGULAR = slice(2, None)
"""Half-lives over which a stream's regularity is measured."""


def input_names(missions: int) -> list[str]:
    """What stands in each column of `Streams.__call__`, so that a model is never given columns of another version."""
    m = range(missions)
    names = [f"odds {i}" for i in m] + [f"view {v}" for v in (*VIEWS, "unasked")]
    names += [f"now {name}" for name in (*SECOND, *STREAM)] + [f"look {name}" for name in RELATIONS]
    each = ["windows", *(f"odds {i}" for i in m), *(f"above {i}" for i in m), *(f"rate {i}" for i in m), *COUNTED]
    names += [f"{name} {h:g}s" for name in each for h in HALF_LIVES]
    names += [f"{name} {h:g}s" for name in ("gaps", "gap", "gap spread", "unlike") for h in HALF_LIVES[2:]]
    names += [f"flow {name} {h:g}s" for name in FLOWS[:_DATA] for h in HALF_LIVES]
    names += [f"flow {name} {h:g}s" for name in ("failed", *(f"{name} spread" for name in SIZES)) for h in HALF_LIVES[2:]]
    return names


class Streams:
    """The counters of all streams."""

    def __init__(self, missions: int, counters: Counters, most: int = MOST_STREAMS) -> None:
        self._missions, self._counters, self._most = missions, counters, most
        self._odds = slice(1, 1 + missions)
        self._above = slice(1 + missions, 1 + 2 * missions)
        at = 1 + 2 * missions
        self._counted = slice(at, at + len(COUNTED))
        self._gaps = slice(self._counted.stop, self._counted.stop + 3)
        self._looks = slice(self._gaps.stop, self._gaps.stop + 2 * len(ALIKE))
        self._flows = slice(self._looks.stop, self._looks.stop + len(FLOWS))
        self._damped = self._flows.stop * len(HALF_LIVES)
        self._slots: dict[str, Floats] = {}
        """Per stream, the least recent first: damped counters, then last second, time of the last beginning, and of each mission
        its trail: windows likelier than not, sum of their log-odds, first and last second of them."""
        self._changed: dict[str, None] = {}

    def __call__(self, source: str, rows: Rows, flows: Sequence[Counted] = ()) -> tuple[Floats, Floats]:
        """Take the rows of a batch of a source. Returns (W, inputs) what their streams are now, and (W, missions, 4) trails.

        Args:
            flows: what flow rows add, in the order of the times from which they count; a stream without windows keeps none.
        """
        width, h = self._flows.stop, len(HALF_LIVES)
        values = np.zeros((len(rows.second), width))
        odds = rows.log_odds.astype(np.float64)
        values[:, 0] = 1.0
        values[:, self._odds] = odds.clip(-CLIP, CLIP)
        values[:, self._above] = odds > 0
        values[:, self._counted] = rows.counts[:, _COUNTS]
        values[:, self._gaps] = rows.begun[:, 2:]
        looks = rows.looks[:, _LOOKS].astype(np.float64)
        values[:, self._looks] = np.hstack([looks, looks**2])
        damped, trails = np.empty((len(values), width, h)), np.empty((len(values), self._missions, 4))
        seconds, begun, above = rows.second.tolist(), rows.begun[:, :2].tolist(), (odds > 0).tolist()
        waiting = deque(flows)
        for i, (view, one, other) in enumerate(rows.stream):
            while waiting and waiting[0].due < seconds[i]:
                self._add(source, waiting.popleft())
            key = f"{source}\t{view}\t{one}\t{other}"
            slot = self._slot(key)
            second, last = seconds[i], slot[self._damped]
            counters, trail = slot[: self._damped].reshape(width, h), slot[self._damped + 2 :].reshape(-1, 4)
            if last and second > last:
                counters *= _decay(second - last)
            slot[self._damped] = second
            value = values[i]
            first_begun, last_begun = begun[i]
            if not math.isnan(last_begun):
                if before := slot[self._damped + 1]:
                    gap = float(np.log(max(first_begun - before, LEAST_GAP_S)))
                    value[self._gaps] += (1.0, gap, gap * gap)
                slot[self._damped + 1] = last_begun
            counters += value[:, None]
            damped[i] = counters
            for m, is_above in enumerate(above[i]):
                if is_above:
                    if not trail[m, 0] or second > trail[m, 3] + TRAIL_S:
                        trail[m] = 0, 0, second, 0
                    trail[m] += 1, odds[i, m], 0, second - trail[m, 3]
            trails[i] = trail
            self._changed.pop(key, None)  # the latest is the last
            self._changed[key] = None
        for flow in waiting:
            self._add(source, flow)
        return self._inputs(rows, damped), trails

    def _add(self, source: str, flow: Counted) -> None:
        """Count a flow row in the streams of its hosts."""
        a, b, second, values = flow.orig_h, flow.resp_h, math.floor(flow.due), np.array(flow.values)[:, None]
        for key in (f"{source}\t0\t{min(a, b)}\t{max(a, b)}", f"{source}\t1\t{a}\t", f"{source}\t2\t\t{b}"):
            if (slot := self._slots.get(key)) is not None:
                counters = slot[: self._damped].reshape(self._flows.stop, len(HALF_LIVES))
                if second > slot[self._damped]:
                    counters *= _decay(second - slot[self._damped])
                    slot[self._damped] = second
                counters[self._flows] += values
                self._changed.setdefault(key)

    def _slot(self, key: str) -> Floats:
        slot = self._slots.pop(key, None)
        if slot is None:
            slot = np.zeros(self._damped + 2 + 4 * self._missions)
            if len(self._slots) >= self._most:
                gone = next(iter(self._slots))
                del self._slots[gone]
                self._changed[gone] = None
                self._counters.evidence_evicted += 1
        self._slots[key] = slot
        return slot

    def _inputs(self, rows: Rows, damped: Floats) -> Floats:
        n = len(damped)
        view = np.zeros((n, len(VIEWS) + 1))
        view[np.arange(n), [min(v, len(VIEWS)) for v, _, _ in rows.stream]] = 1.0
        windows = damped[:, :1]
        gaps, total, squares = np.moveaxis(damped[:, self._gaps, _REGULAR], 1, 0)
        some = np.maximum(gaps, 1e-3)
        seen = np.minimum(gaps, 1.0)  # without a gap nothing is said of it
        gap = total / some
        spread = np.sqrt(np.maximum(squares / some - gap**2, 0.0))
        looks = damped[:, self._looks, _REGULAR] / windows[:, :, _REGULAR]
        mean, square = looks[:, : len(ALIKE)], looks[:, len(ALIKE) :]
        unlike = np.sqrt(np.maximum(square - mean**2, 0.0)).mean(1)
        flows = damped[:, self._flows]
        lasting = flows[:, :, _REGULAR]
        failed = lasting[:, _FAILURES] / np.maximum(lasting[:, _ATTEMPTS], 1.0)
        data = np.maximum(lasting[:, _DATA], 1e-3)
        alike = []
        for j in range(_DATA + 1, len(FLOWS), 2):
            variance = lasting[:, j + 1] / data - (lasting[:, j] / data) ** 2
            alike.append(np.sqrt(np.maximum(variance, 0.0)) * np.minimum(lasting[:, _DATA], 1.0))
        return np.hstack(
            [
                rows.log_odds,
                view,
                np.log1p(rows.counts),
                rows.looks,
                np.log1p(windows[:, 0]),
                *(
                    each.reshape(n, each.shape[1] * len(HALF_LIVES))
                    for each in (
                        damped[:, self._odds] / windows,
                        np.log1p(damped[:, self._above]),
                        damped[:, self._above] / windows,
                        np.log1p(damped[:, self._counted]),
                    )
                ),
                np.log1p(gaps),
                gap * seen,
                spread * seen,
                unlike,
                np.log1p(flows[:, :_DATA]).reshape(n, _DATA * len(HALF_LIVES)),
                failed,
                *alike,
            ]
        )

    def state(self) -> dict[str, bytes]:
        """All streams, the least recent first, to be saved."""
        return {key: slot.tobytes() for key, slot in self._slots.items()}

    def changes(self) -> dict[str, bytes]:
        """The streams that changed since the last call, in the order in which they last did; empty where one is forgotten."""
        found = {key: slot.tobytes() if (slot := self._slots.get(key)) is not None else b"" for key in self._changed}
        self._changed.clear()
        return found

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Go on from what `state` gave, or from all that `changes` did; slots of another size are of another model and left."""
        size = self._damped + 2 + 4 * self._missions
        for key, slot in state.items():
            if len(slot) == 8 * size:
                self._slots.pop(key, None)
                self._slots[key] = np.frombuffer(slot).copy()


def _decay(seconds: float) -> Floats:
    out: Floats = 0.5 ** (seconds / np.array(HALF_LIVES))
    return out
