"""From logits to probabilities, and from those of held-out windows to the thresholds and ceilings that are shipped."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from training.missions import MISSIONS

KEPT_ATTACKS = 0.8
"""Share of the held-out attack captures detected at the threshold that are detected at the ceiling too."""

Floats = npt.NDArray[np.float64]


def fit_temperature(logits: Tensor, group: Tensor) -> float:
    """The divisor of the logits with the least cross-entropy, from a fine grid. Source: Guo et al. 2017, arXiv:1706.04599."""
    grid = torch.logspace(-0.5, 1.0, 61)
    return float(min(grid, key=lambda t: float(F.cross_entropy(logits / t, group))))


def thresholds(probabilities: npt.NDArray[np.floating], group: npt.NDArray[np.int64], budget: float) -> dict[str, float]:
    """For each mission the probability that at most `budget` of the benign windows exceed, never below 0.5 or above 0.995."""
    benign = probabilities[group == 0]
    return {m: float(np.clip(np.quantile(benign[:, 1 + i], 1 - budget), 0.5, 0.995)) for i, m in enumerate(MISSIONS)}


def ceilings(
    probabilities: Floats, group: npt.NDArray[np.int64], capture: npt.NDArray[np.object_], limits: Mapping[str, float]
) -> dict[str, float]:
    """How far a site may raise each mission's threshold: KEPT_ATTACKS of the captures detected at the threshold still are.

    A mission without held-out attacks that are detected gets none.

    Args:
        probabilities: (N, M+1). group: (N,) index, 0 is Benign. capture: (N,). limits: the thresholds.
    """
    found = {}
    for i, mission in enumerate(MISSIONS, 1):
        own = group == i
        peaks = np.array([probabilities[own & (capture == c), i].max() for c in sorted(set(capture[own]))])
        detected = peaks[peaks >= limits[mission]]
        if len(detected):
            found[mission] = float(np.quantile(detected, 1 - KEPT_ATTACKS, method="lower"))
    return found
