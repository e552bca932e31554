"""Baselines on one feature vector a window: majority, nearest neighbour, boosted trees, and a multi-layer perceptron (DNN).

Each is made for some features (`Encode`): the same trees run on facts, on relations and on the packet embeddings of an encoder.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from training.data.windows import GROUPS, Examples
from training.evaluate.baselines.features import Encode, Fit, Floats, Predict, Scaler, balance, draw, reduced

MOST_WINDOWS = 60_000
ROUNDS = 200

Features = Callable[[Examples], Encode]
"""Made from the training windows, so that what is learned about features (their names) comes from them alone."""


def majority(train: Examples, seed: int) -> Predict:
    """The share of each group in the training windows, whatever the window."""
    share = np.bincount(train.group.numpy(), minlength=len(GROUPS)) / len(train)
    return lambda test: np.tile(share.astype(np.float32), (len(test), 1))


def nearest(features: Features, most: int = 20_000) -> Fit:
    """1-NN on standardised features; a group's probability falls with the distance of its nearest training window.

    The most probable group is the nearest neighbour's, and the others are ranked, which one-hot answers cannot be.
    """

    def fit(train: Examples, seed: int) -> Predict:
        train = reduced(train, most, seed)
        encode = features(train)
        x = encode(train)
        scaler = Scaler(x, balance(train))
        known, group = torch.from_numpy(scaler(x)), train.group
        parts = [known[group == g] for g in range(len(GROUPS))]

        def predict(test: Examples) -> Floats:
            z = torch.from_numpy(scaler(encode(test)))
            out = torch.full((len(z), len(GROUPS)), torch.inf)
            for g, part in enumerate(parts):
                if len(part):
                    out[:, g] = torch.cat([torch.cdist(q, part).amin(1) for q in z.split(512)])
            return (-out).softmax(1).numpy()

        return predict

    return fit


def xgboost(features: Features) -> Fit:
    """Gradient-boosted trees. Source: Chen & Guestrin 2016, arXiv:1603.02754."""

    def train_trees(x: Floats, y: npt.NDArray[np.int64], w: npt.NDArray[np.float64], seed: int) -> Callable[[Floats], Floats]:
        from xgboost import XGBClassifier  # noqa: PLC0415  (a second that only this needs)

        trees = XGBClassifier(
            n_estimators=ROUNDS, max_depth=6, learning_rate=0.1, subsample=0.8, colsample_bytree=0.8, min_child_weight=1e-3,
            tree_method="hist", n_jobs=1, random_state=seed,
        )  # fmt: skip
        trees.fit(x, y, sample_weight=w)
        return trees.predict_proba

    return _trees(features, train_trees)


def lightgbm(features: Features) -> Fit:
    """Gradient-boosted trees grown leaf by leaf. Source: Ke et al. 2017, NeurIPS."""

    def train_trees(x: Floats, y: npt.NDArray[np.int64], w: npt.NDArray[np.float64], seed: int) -> Callable[[Floats], Floats]:
        from lightgbm import LGBMClassifier  # noqa: PLC0415

        trees = LGBMClassifier(
            n_estimators=ROUNDS, num_leaves=31, learning_rate=0.1, subsample=0.8, subsample_freq=1, colsample_bytree=0.8,
            n_jobs=1, random_state=seed, deterministic=True, force_row_wise=True, verbose=-1,
        )  # fmt: skip
        trees.fit(x, y, sample_weight=w)
        return lambda z: trees.booster_.predict(z, num_threads=1) if len(trees.classes_) > 2 else trees.predict_proba(z)

    return _trees(features, train_trees)


def _trees(features: Features, train_trees: Callable[..., Callable[[Floats], Floats]]) -> Fit:
    """What both kinds of trees share: the draw, the weights, and groups that are missing from training."""

    def fit(train: Examples, seed: int) -> Predict:
        train = reduced(train, MOST_WINDOWS, seed)
        encode = features(train)
        present, y = np.unique(train.group.numpy(), return_inverse=True)
        if len(present) < 2:
            return majority(train, seed)
        answer = train_trees(encode(train), y, balance(train) * len(train), seed)

        def predict(test: Examples) -> Floats:
            out = np.zeros((len(test), len(GROUPS)), np.float32)
            out[:, present] = answer(encode(test))
            return out

        return predict

    return fit


def dnn(features: Features, steps: int = 1500, batch: int = 512, width: int = 128) -> Fit:
    """Multi-layer perceptron, two hidden layers with dropout, Adam 1e-3, batches drawn with the balance."""

    def fit(train: Examples, seed: int) -> Predict:
        encode = features(train)
        x = encode(train)
        share = balance(train)
        scaler = Scaler(x, share)
        z, group = torch.from_numpy(scaler(x)), train.group
        present = torch.bincount(group, minlength=len(GROUPS)) > 0
        rng = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = nn.Sequential(
                nn.Linear(z.shape[1], width), nn.ReLU(), nn.Dropout(0.2),
                nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, len(GROUPS)),
            )  # fmt: skip
            optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
            for _ in range(steps):
                at = torch.from_numpy(draw(share, batch, rng))
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(z[at]), group[at]).backward()
                optimiser.step()
        model.eval()

        @torch.no_grad()
        def predict(test: Examples) -> Floats:
            logits = model(torch.from_numpy(scaler(encode(test))))
            return logits.masked_fill(~present, -torch.inf).softmax(1).numpy()

        return predict

    return fit
