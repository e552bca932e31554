"""What a baseline is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from training.data.windows import Examples

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


class Predictor(Protocol):
    """A trained baseline."""

    def __call__(self, test: Examples, /) -> Floats:
        """N windows to (N, M+1) probabilities in the order of `training.data.windows.GROUPS`; rows sum to 1."""


class Fit(Protocol):
    """A baseline before training; the same examples and seed give the same predictor on one machine."""

    def __call__(self, train: Examples, seed: int, /) -> Predictor:
        """Train on all groups that `train` holds; a group that is missing gets probability 0."""


class Encode(Protocol):
    """Windows to features, for example the mean of a window's packet embeddings."""

    def __call__(self, examples: Examples, /) -> Floats:
        """N windows to (N, F); NaN is "cannot be measured"."""
