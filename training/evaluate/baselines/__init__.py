"""Baselines on the same windows and the same split as the model, each of the same form: `fit(train, seed)` gives a predictor.

    for name, fit in {**REGISTRY, **on_embeddings(encode)}.items():
        probabilities = fit(train, seed)(test)  # (N, M+1), Benign first

All learn with the balance that the model's batches have (`features.balance`): none loses because a class or a capture is rare.
"""

from __future__ import annotations

from training.evaluate.baselines.registry import REGISTRY, on_embeddings
from training.evaluate.baselines.types import Encode, Fit, Predictor

__all__ = ["REGISTRY", "Encode", "Fit", "Predictor", "on_embeddings"]
