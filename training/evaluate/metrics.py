"""Metrics of scores and labels as pure functions of numpy arrays, so that every table counts the same way.

Ties are never broken by the order of rows: equal scores share their rank (AUC) or fall together (average precision, thresholds).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, f1_score, recall_score, roc_auc_score

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
Bools = npt.NDArray[np.bool_]


def auc(score: Floats, positive: Bools, weight: Floats | None = None) -> float:
    """Chance that a positive scores above a negative, a tie counting one half; NaN where one of the two is missing.

    Args:
        score: (N,). positive: (N,) bool. weight: (N,) of each row; None counts all alike.
    """
    return float(roc_auc_score(positive, score, sample_weight=weight)) if positive.any() and not positive.all() else math.nan


def average_precision(score: Floats, positive: Bools) -> float:
    """Mean precision over the positives from the best score down, without interpolation; NaN without a positive."""
    return float(average_precision_score(positive, score)) if positive.any() else math.nan


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on scores and what passes it."""

    recall: float
    threshold: float
    """Scores above it are alarms."""
    false: int
    negatives: int
    enough: bool
    """Whether the rate asked for is at least one negative; otherwise the recall is that without any false positive."""


def recall_at_fpr(score: Floats, positive: Bools, negative: Bools, rate: float) -> OperatingPoint:
    """The recall at the lowest threshold which at most `rate` of the negatives exceed.

    Args:
        score: (N,). positive, negative: (N,) bool; a row may be neither. rate: share of negatives, such as 0.001.
    """
    against = np.sort(np.asarray(score, np.float64)[negative])[::-1]
    allowed = int(np.floor(rate * len(against) + 1e-9))
    limit = float(against[allowed]) if len(against) > allowed else -np.inf
    hits = np.asarray(score, np.float64)[positive] > limit
    return OperatingPoint(
        float(hits.mean()) if len(hits) else math.nan, limit, int((against > limit).sum()), len(against), rate * len(against) >= 1
    )


PER_PACKETS = 100_000
"""Benign packets in which one false alert is allowed."""


def named(own: Floats, benign: Floats, allowed: int) -> Bools:
    """Which attack captures are named at the lowest threshold that at most `allowed` benign captures exceed.

    Args:
        own: (A,) highest score of each attack capture's own mission. benign: (B,) highest of any mission in each benign one.
    """
    against = np.sort(np.asarray(benign, np.float64))[::-1]
    limit = float(against[allowed]) if len(against) > allowed else -np.inf
    return np.asarray(np.asarray(own, np.float64) > limit)


def class_mean(value: Floats | Bools, label: Ints) -> float:
    """Mean over the classes that occur of the mean of their rows."""
    return mean([float(value[label == k].mean()) for k in np.unique(label)])


@dataclass(frozen=True)
class Range:
    """A figure, and between what it lies in 95 of 100 draws of the sources."""

    value: float
    low: float
    high: float


def over_sources(sources: npt.NDArray[Any], measure: Callable[[Ints], float], draws: int = 500, seed: int = 1) -> Range:
    """A figure with its bootstrap interval over sources: as many are drawn with replacement, each with all of its rows.

    Args:
        sources: (N,) of each row. measure: row numbers, which may repeat, to the figure; NaN draws are left out.
    Source: Efron and Tibshirani 1993, chapter 13, percentile interval.
    """
    rng = np.random.default_rng(seed)
    rows = [np.nonzero(sources == name)[0] for name in np.unique(sources)]
    found = [measure(np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])) for _ in range(draws)]
    held = [value for value in found if not math.isnan(value)]
    low, high = np.quantile(held, (0.025, 0.975)).tolist() if held else (math.nan, math.nan)
    return Range(measure(np.arange(len(sources))), low, high)


def macro_f1(truth: Ints, predicted: Ints) -> float:
    """Mean F1 over the classes that occur in truth; a class never predicted counts 0."""
    return (
        float(f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0)) if len(truth) else math.nan
    )


def macro_recall(truth: Ints, predicted: Ints) -> float:
    """Mean recall over the classes that occur in truth."""
    return float(recall_score(truth, predicted, labels=np.unique(truth), average="macro")) if len(truth) else math.nan


def top_k(score: Floats, truth: Ints, k: int) -> float:
    """Share of rows whose true class is among the k best; of classes tied with it, half count as better.

    Args:
        score: (N, C). truth: (N,).
    """
    if not len(truth):
        return math.nan
    own = score[np.arange(len(truth)), truth][:, None]
    rank = (score > own).sum(1) + ((score == own).sum(1) - 1) / 2
    return float((rank < k).mean())


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in bins of equal width."""

    confidence: list[float]
    accuracy: list[float]
    share: list[float]
    error: float
    """Expected calibration error: the mean distance of the two, weighted by share."""


def reliability(probabilities: Floats, truth: Ints, bins: int = 10) -> Reliability:
    """How often the most probable class is right, by its probability; empty bins are left out.

    Source: Guo et al. 2017, arXiv:1706.04599, section 2.
    """
    top, right = probabilities.max(1).astype(np.float64), probabilities.argmax(1) == truth
    at = np.minimum((top * bins).astype(int), bins - 1)
    count = np.bincount(at, minlength=bins)
    held = count > 0
    confidence = np.bincount(at, top, bins)[held] / count[held]
    accuracy = np.bincount(at, right, bins)[held] / count[held]
    share = count[held] / len(truth)
    error = float((share * np.abs(confidence - accuracy)).sum())
    return Reliability(confidence.tolist(), accuracy.tolist(), share.tolist(), error)


def equal_weight(keys: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    """(N,) weights with which every key (a capture) counts alike, whatever its number of rows."""
    _, at = np.unique(keys.astype(str), return_inverse=True)
    return 1.0 / np.bincount(at)[at] if len(keys) else np.zeros(0)


@dataclass(frozen=True)
class Spread:
    """Mean and range of a figure over seeds."""

    mean: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Mean, least and greatest of the values that are numbers."""
    held = [v for v in values if not math.isnan(v)]
    return Spread(float(np.mean(held)), min(held), max(held), len(held)) if held else Spread(math.nan, math.nan, math.nan, 0)


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are numbers; NaN where none is."""
    return spread(values).mean
