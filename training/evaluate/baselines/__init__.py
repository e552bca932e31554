"""Training windows come in; for each baseline a function of windows to probabilities goes out, on the model's own split.

    for name, fit in {**REGISTRY, **on_embeddings(encode)}.items():
        probabilities = fit(train, seed)(test)  # (N, M+1), Benign first

All learn with the balance that the model's batches have (`features.balance`): none loses because a class or a capture is rare.
"""

from __future__ import annotations

from training.evaluate.baselines.features import Encode, Fit, Predict
from training.evaluate.baselines.registry import REGISTRY, on_embeddings

__all__ = ["REGISTRY", "Encode", "Fit", "Predict", "on_embeddings"]
