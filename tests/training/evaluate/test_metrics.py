"""Metrics against values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from training.evaluate import metrics
from training.evaluate.report import detection


def array(*values: float) -> np.ndarray:
    return np.array(values)


YES, NO = True, False


@pytest.mark.parametrize(
    ("measure", "score", "truth", "expected"),
    [
        (metrics.auc, (0.9, 0.5, 0.4, 0.1), (YES, NO, YES, NO), 0.75),  # three of four pairs in the right order
        (metrics.auc, (0.5, 0.5, 0.5), (YES, NO, NO), 0.5),  # a tie counts half
        (metrics.auc, (0.7, 0.7, 0.2), (YES, NO, NO), 0.75),
        (metrics.auc, (0.1, 0.2), (YES, YES), math.nan),
        (
            metrics.average_precision,
            (0.9, 0.8, 0.7, 0.1),
            (YES, NO, YES, NO),
            5 / 6,
        ),  # 1/1 and 2/3 at the positives
        (metrics.average_precision, (1, 1, 1, 1), (YES, NO, NO, NO), 0.25),  # all tied: the share of positives
        (metrics.average_precision, (1, 2), (NO, NO), math.nan),
        # class 0: 2*2/(2+3) = 0.8; class 1: 0, never predicted; class 2 does not occur
        (lambda predicted, truth: metrics.macro_f1(truth, predicted), (0, 0, 0), (0, 0, 1), 0.4),
        (lambda predicted, truth: metrics.macro_recall(truth, predicted), (0, 0, 0, 1, 0), (0, 0, 0, 0, 1), 0.375),
    ],
)
def test_a_measure_is_what_counting_by_hand_gives(
    measure: Callable[[np.ndarray, np.ndarray], float], score: tuple[float, ...], truth: tuple[float, ...], expected: float
) -> None:
    assert measure(np.array(score), np.array(truth)) == pytest.approx(expected, nan_ok=True)


def test_auc_by_weights_lets_a_capture_count_once() -> None:
    # the negative at 0.5 stands three times; weighted by capture it counts like the one at 0.1
    score, truth = array(0.4, 0.5, 0.5, 0.5, 0.1), array(YES, NO, NO, NO, NO)
    assert metrics.auc(score, truth) == 0.25
    weight = metrics.equal_weight(np.array(["a", "b", "b", "b", "c"], object))
    assert weight.tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3, 1])
    assert metrics.auc(score, truth, weight) == pytest.approx(0.5)


def test_recall_at_a_rate_lets_that_many_negatives_pass() -> None:
    score = np.concatenate([np.arange(1000) / 1000, array(0.9985, 0.9995, 0.2)])
    positive = np.arange(1003) >= 1000
    found = metrics.recall_at_fpr(score, positive, ~positive, 0.001)
    assert (found.recall, found.false, found.negatives, found.enough) == (pytest.approx(2 / 3), 1, 1000, True)
    assert found.threshold == pytest.approx(0.998)


@pytest.mark.parametrize(
    ("score", "positive", "negative", "expected"),
    [
        ((0.1, 0.9, 0.5, 0.95), (NO, NO, YES, YES), (YES, YES, NO, NO), (0.5, 0, 2, False)),  # few negatives are called few
        ((0.9, 0.9), (NO, YES), (YES, NO), (0.0, 0, 1, False)),  # as probable as the limit does not pass
        ((0.9, 0.5, 0.1), (NO, YES, NO), (NO, NO, YES), (1.0, 0, 1, False)),  # rows that are neither count nowhere
    ],
)
def test_recall_at_a_rate_of_few_rows(score: tuple, positive: tuple, negative: tuple, expected: tuple) -> None:
    found = metrics.recall_at_fpr(np.array(score), np.array(positive), np.array(negative), 0.001)
    assert (found.recall, found.false, found.negatives, found.enough) == expected


def test_top_k_is_not_fooled_by_ties() -> None:
    score, truth = np.array([[0.1, 0.9, 0.5], [0.5, 0.5, 0.5]]), np.array([2, 0])
    assert metrics.top_k(score, truth, 1) == 0.0
    assert metrics.top_k(score, truth, 2) == 1.0


def test_reliability_is_the_distance_of_confidence_and_accuracy() -> None:
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.45, 0.55], [0.45, 0.55]])
    found = metrics.reliability(probabilities, np.array([0, 0, 1, 0]))
    assert found.confidence == pytest.approx([0.55, 0.95])
    assert found.accuracy == pytest.approx([0.5, 1.0])
    assert found.error == pytest.approx(0.05)


def test_spread_leaves_out_what_is_no_number() -> None:
    assert metrics.spread([0.5, 1.0, math.nan]) == metrics.Spread(0.75, 0.5, 1.0, 2)


def test_captures_are_named_above_what_the_allowed_benign_ones_reach() -> None:
    own, benign = array(0.9, 0.7, 0.5), array(0.8, 0.6, 0.1)
    assert metrics.named(own, benign, 0).tolist() == [True, False, False]
    assert metrics.named(own, benign, 1).tolist() == [True, True, False]
    assert metrics.named(own, benign, 3).all()
    assert metrics.class_mean(array(1, 0, 1), np.array([1, 1, 4])) == 0.75


def test_an_interval_over_sources_holds_the_figure_and_is_wide_where_one_source_decides() -> None:
    hit = array(1, 1, 1, 1, 0)
    alone = metrics.over_sources(np.array(list("aaaab")), lambda at: float(hit[at].mean()))
    assert (alone.value, alone.low, alone.high) == (0.8, 0.0, 1.0)  # two sources: either may be drawn twice
    alike = metrics.over_sources(np.array(list("abcde")), lambda at: 0.5)
    assert (alike.low, alike.high) == (0.5, 0.5)


def test_whole_captures_are_counted_with_the_interval_of_draws_of_their_sources() -> None:
    def captures(label: str, source: str, **counted: int) -> list[dict[str, Any]]:
        found = {"right": 0, "other": 0, "packets": 50_000} | counted
        return [{"capture": f"{source}{i}", "label": label, "source": source} | found for i in range(2)]

    facts = [*captures("Slowloris", "a", right=1), *captures("Port Scan", "b"), *captures("Benign", "a", other=1)]
    detected, share, over_classes, false, packets, rate = detection.with_intervals([*facts, *captures("Benign", "c")])
    assert (detected, false, packets) == ("2 of 4", "2", "200,000")
    assert share == over_classes == "0.50 (0.00–1.00)"
    assert rate == "1.00 (0.00–2.00)"
    assert detection.with_intervals(facts[:2])[5] == "–"
