"""What a baseline is, features of windows for baselines, and the balance with which all of them learn."""

from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from training.data.windows import Examples, shares

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Predict = Callable[[Examples], Floats]
"""A trained baseline: N windows to (N, M+1) probabilities in the order of `training.data.windows.GROUPS`; rows sum to 1."""
Fit = Callable[[Examples, int], Predict]
"""Trains a baseline on windows with a seed, on all groups that they hold; a group that is missing gets probability 0. The same
windows and seed give the same predictions on one machine."""
Encode = Callable[[Examples], Floats]
"""N windows to (N, F) features, for example the mean of a window's packet embeddings; NaN is "cannot be measured"."""
PLACES = frozenset({"top_resp_p"})
"""Facts that name a place. The model never sees a port in the sensor, so a fair baseline has none; `with_ports` adds them."""


class WindowStatistics:
    """The numbers among a window's facts, (N, F); which ones is learned from the windows that it is made from."""

    def __init__(self, train: Examples, *, with_ports: bool = False) -> None:
        leave_out = frozenset() if with_ports else PLACES
        names = {k for raw in train.facts for k, v in _facts(raw).items() if isinstance(v, (int, float)) and k not in leave_out}
        self.names = sorted(names)

    def __call__(self, examples: Examples) -> Floats:
        """(N, F); a fact that cannot be measured is NaN."""
        out = np.full((len(examples), len(self.names)), np.nan, np.float32)
        for i, raw in enumerate(examples.facts):
            facts = _facts(raw)
            for j, name in enumerate(self.names):
                value = facts.get(name)
                if isinstance(value, (int, float)):
                    out[i, j] = value
        return out


def _facts(raw: str) -> dict[str, float | int | str | None]:
    facts: dict[str, float | int | str | None] = msgspec.json.decode(raw)
    return facts


def flow_statistics(examples: Examples) -> Floats:
    """Mean, deviation, minimum and maximum of each relation over the window, as flow exporters do: (N, 4 R)."""
    x = examples.relations.numpy()
    held = (examples.rows >= 0).numpy()[:, :, None]
    count = np.maximum(held.sum(1), 1)
    mean = (x * held).sum(1) / count
    deviation = np.sqrt((((x - mean[:, None]) * held) ** 2).sum(1) / count)
    least = np.where(held, x, np.inf).min(1)
    most = np.where(held, x, -np.inf).max(1)
    empty = ~held.any(1)
    return np.concatenate([mean, deviation, np.where(empty, 0, least), np.where(empty, 0, most)], axis=1).astype(np.float32)


def packet_mean(encode_rows: Callable[[npt.NDArray[np.uint16]], Floats]) -> Encode:
    """Features of packets to features of windows, by the mean over a window's packets.

    Args:
        encode_rows: (n, ROW_BYTES) tokens to (n, F). It is called once, with the distinct rows of the windows.
    """

    def encode(examples: Examples) -> Floats:
        used, place = np.unique(examples.rows.numpy(), return_inverse=True)
        place = place.reshape(examples.rows.shape)
        real = used >= 0
        known = encode_rows(examples.tokens[used[real]]).astype(np.float32)
        table = np.zeros((len(used), known.shape[1]), np.float32)
        table[real] = known
        out = np.empty((len(examples), table.shape[1]), np.float32)
        for start in range(0, len(examples), 4096):
            at = place[start : start + 4096]
            out[start : start + len(at)] = table[at].sum(1) / np.maximum(real[at].sum(1, keepdims=True), 1)
        return out

    return encode


def balance(train: Examples) -> npt.NDArray[np.float64]:
    """Weight of each window, sum 1: half for benign, half shared equally by the attack classes, and in a class by `shares`.

    It is the balance of the model's own batches (`training.data.sampling.Sampler`), but for the draw of benign windows by looks.
    """
    label = train.label.numpy()
    out = np.zeros(len(label))
    classes = np.unique(label)
    attacks = int((classes > 0).sum())
    for k in classes:
        inside = np.nonzero(label == k)[0]
        share = (0.5 if attacks else 1.0) if k == 0 else (0.5 if 0 in classes else 1.0) / attacks
        out[inside] = share * shares(train, inside)
    return out


def reduced(train: Examples, most: int, seed: int) -> Examples:
    """At most `most` windows, drawn with the balance; prints so where it draws."""
    if len(train) <= most:
        return train
    chosen = np.random.default_rng(seed).choice(len(train), most, replace=False, p=balance(train))
    print(f"  {most:,} of {len(train):,} windows drawn, balanced by class and capture")
    return train.take(np.sort(chosen))


def draw(share: npt.NDArray[np.float64], size: int, rng: np.random.Generator) -> Indices:
    """(size,) row numbers drawn with the balance, with replacement."""
    return rng.choice(len(share), size, p=share)


class Scaler:
    """Features to about unit scale, for distances and networks: signed logarithm, then standard score; 0 where unknown, with a
    column that says so."""

    def __init__(self, x: Floats, weight: npt.NDArray[np.float64]) -> None:
        y = _log(x)
        w = np.where(np.isnan(y), 0, weight[:, None])
        total = np.maximum(w.sum(0), 1e-12)
        self.mean = (w * np.nan_to_num(y)).sum(0) / total
        self.scale = np.sqrt((w * np.nan_to_num(y - self.mean) ** 2).sum(0) / total)
        self.scale[self.scale < 1e-6] = 1.0
        self.unknown = np.nonzero(np.isnan(x).any(0))[0]

    def __call__(self, x: Floats) -> Floats:
        """(N, F) to (N, F + columns that were unknown anywhere in training)."""
        y = np.nan_to_num(np.clip((_log(x) - self.mean) / self.scale, -8, 8))
        return np.concatenate([y, np.isnan(x[:, self.unknown])], axis=1).astype(np.float32)


def _log(x: Floats) -> Floats:
    return np.sign(x) * np.log1p(np.abs(x))


def spread(rows: torch.Tensor, packets: int) -> torch.Tensor:
    """(N, A) row numbers to (N, packets): evenly spaced among a window's real packets, the last always; -1 where it has none."""
    held = (rows >= 0).sum(1, keepdim=True)
    first = rows.shape[1] - held  # windows are padded at the front or at the back, so real packets are found by sorting
    order = (rows >= 0).to(torch.int8).argsort(dim=1, stable=True)
    at = first + ((torch.arange(1, packets + 1)[None] * held + packets - 1) // packets - 1).clamp(min=0)
    chosen = rows.gather(1, order.gather(1, at.clamp(max=rows.shape[1] - 1)))
    return torch.where(held > 0, chosen, torch.full_like(chosen, -1))
