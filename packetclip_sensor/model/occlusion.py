"""What a verdict loses when something is taken away and the model judges again: the one measure behind every weight.

All is measured in log-odds of the verdict's mission, ln(p / (1 - p)) of the calibrated probability, natural units: near 1 a
probability hardly moves whatever is removed, log-odds do, and there 1.0 always means that the odds shrink to a 2.7th.

A concept is removed by zeroing it: its node sends zero to its children and to the embedding node, for every packet of the
window, while all else stays as it is. A packet is removed by leaving it out: what stood before it moves up by one, and the window
is shorter. What other packets' relations say of it (that a port was new before it came, say) is part of those packets and stays.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.records import FloatArray, Verdict

ROWS = 192
"""Most judgements in one call of the model: memory stays small however much is asked, and each concept once is one call."""
INSIDE = ("window_embedding", "states", "arrived")


class Inside(NamedTuple):
    """The model's inner states for a whole window of P packets."""

    embedding: FloatArray
    """(D,) of the window."""
    states: FloatArray
    """(P, C, H) that concepts send."""
    arrived: FloatArray
    """(P, leaves, H) at the embedding nodes."""


class Occlusion:
    """One verdict's window, to be judged again without parts of it."""

    def __init__(self, verdict: Verdict, bundle: Bundle) -> None:
        self._bundle = bundle
        self._mission = bundle.manifest.missions.groups.index(verdict.mission)
        self._slots, self.packets = len(verdict.embeddings), len(verdict.packets)
        self._embeddings, self._relations = verdict.embeddings[-self.packets :], verdict.relations[-self.packets :]

    def inside(self) -> Inside:
        """What the model makes of the whole window."""
        return self.concepts_and_inside([()])[1]

    def concepts(self, removed: Sequence[Collection[int]]) -> npt.NDArray[np.float64]:
        """(n,) log-odds with each set of concepts removed; numbers are places in `bundle.concepts`."""
        return self.concepts_and_inside(removed)[0]

    def concepts_and_inside(self, removed: Sequence[Collection[int]]) -> tuple[npt.NDArray[np.float64], Inside]:
        """Both of one call: onnxruntime computes all outputs, whichever are asked for."""
        keep = np.ones((len(removed), len(self._bundle.concepts)), np.float32)
        for row, places in zip(keep, removed, strict=True):
            row[list(places)] = 0.0
        window = self._without([()])  # one window for all rows: the exported model spreads it over `keep`
        outputs, batches = ["logits", *INSIDE], [window | {"keep": keep[i : i + ROWS]} for i in range(0, len(keep), ROWS)]
        found = [self._bundle.explainer.run(outputs, batch) for batch in batches]
        embedding, states, arrived = (x[0] for x in found[0][1:])
        inside = Inside(embedding, states[-self.packets :], arrived[-self.packets :])
        return self._log_odds([each[0] for each in found]), inside

    def leave_out(self, removed: Sequence[Collection[int]]) -> npt.NDArray[np.float64]:
        """(n,) log-odds with each set of packets left out, but never all; numbers count the window's packets from 0, oldest
        first. The folded reasoner answers, which judged the window too and is several times as fast."""
        batches = [self._without(removed[i : i + ROWS]) for i in range(0, len(removed), ROWS)]
        return self._log_odds([self._bundle.logits(**batch) for batch in batches])

    def _without(self, removed: Sequence[Collection[int]]) -> dict[str, npt.NDArray[Any]]:
        """The model's window inputs with each set of packets left out."""
        shape = (len(removed), self._slots)
        embedding = np.zeros((*shape, self._embeddings.shape[1]), np.float32)
        relations = np.zeros((*shape, self._relations.shape[1]), np.float32)
        padding = np.ones(shape, np.bool_)
        for row, places in enumerate(removed):
            left = np.delete(np.arange(self.packets), list(places))
            embedding[row, self._slots - len(left) :] = self._embeddings[left]
            relations[row, self._slots - len(left) :] = self._relations[left]
            padding[row, self._slots - len(left) :] = False
        return {"embedding": embedding, "relations": relations, "padding": padding}

    def _log_odds(self, logits: Sequence[FloatArray]) -> npt.NDArray[np.float64]:
        return log_odds(np.concatenate(logits) / self._bundle.manifest.temperature, self._mission)


def log_odds(logits: npt.NDArray[np.floating], at: int) -> npt.NDArray[np.float64]:
    """ln(p / (1 - p)) of column `at` of the softmax over (n, classes) logits; exact where p rounds to 1."""
    z = logits.astype(np.float64)
    rest = np.delete(z, at, axis=1)
    most = rest.max(1)
    odds: npt.NDArray[np.float64] = z[:, at] - most - np.log(np.exp(rest - most[:, None]).sum(1))
    return odds
