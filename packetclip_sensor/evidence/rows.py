"""A batch's windows as small rows: what evidence over minutes keeps of each.

A row says what a window's mission probabilities are, how its packets look on the average, and, beside the last A packets that
the window holds, what all packets of its stream in that second were: a flood has thousands of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from packetclip_sensor.records import FloatArray
from packetclip_sensor.windows.headers import Ints
from packetclip_sensor.windows.packet_features import Floats, ModelInput

MOST_LOG_ODDS = 9.0


@dataclass(frozen=True, slots=True)
class Rows:
    """W windows, in the order of `Windows`."""

    stream: list[tuple[int, str, str]]
    """As in `StreamSeconds`; `counts` and `begun` likewise."""
    second: Ints
    log_odds: FloatArray
    """(W, missions), clipped to MOST_LOG_ODDS."""
    counts: FloatArray
    looks: FloatArray
    """(W, R) mean relations of the window's packets."""
    begun: Floats


def rows_of(given: ModelInput, probabilities: FloatArray) -> Rows:
    """The rows of a batch.

    Args:
        probabilities: (W, missions + 1), Benign first.
    """
    p = probabilities[:, 1:].astype(np.float64).clip(1e-6, 1 - 1e-6)
    # Rounded, for the last bits of a probability depend on the windows that were judged with it, so on batches.
    log_odds = np.log(p / (1 - p)).clip(-MOST_LOG_ODDS, MOST_LOG_ODDS).round(2).astype(np.float32)
    real = given.rows >= 0
    looks = (given.relations.sum(1) / np.maximum(real.sum(1), 1)[:, None])[given.distinct]
    streams = given.streams
    return Rows(streams.stream, given.windows.second, log_odds, streams.counts, looks, streams.begun)
