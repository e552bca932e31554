"""Metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.evaluate import metrics


def array(*values: float) -> np.ndarray:
    return np.array(values)


YES, NO = True, False


def test_auc_counts_pairs_in_the_right_order() -> None:
    # positives 0.9, 0.4 against negatives 0.5, 0.1: three of four pairs
    assert metrics.auc(array(0.9, 0.5, 0.4, 0.1), array(YES, NO, YES, NO)) == 0.75


def test_a_tie_counts_half_in_auc() -> None:
    assert metrics.auc(array(0.5, 0.5, 0.5), array(YES, NO, NO)) == 0.5
    assert metrics.auc(array(0.7, 0.7, 0.2), array(YES, NO, NO)) == 0.75


def test_auc_of_one_class_is_no_number() -> None:
    assert math.isnan(metrics.auc(array(0.1, 0.2), array(YES, YES)))


def test_auc_by_weights_lets_a_capture_count_once() -> None:
    # the negative at 0.5 stands three times; weighted by capture it counts like the one at 0.1
    score, truth = array(0.4, 0.5, 0.5, 0.5, 0.1), array(YES, NO, NO, NO, NO)
    assert metrics.auc(score, truth) == 0.25
    weight = metrics.equal_weight(np.array(["a", "b", "b", "b", "c"], object))
    assert weight.tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3, 1])
    assert metrics.auc(score, truth, weight) == pytest.approx(0.5)


def test_average_precision_is_the_mean_precision_at_each_positive() -> None:
    # 1/1 at the first positive, 2/3 at the second
    assert metrics.average_precision(array(0.9, 0.8, 0.7, 0.1), array(YES, NO, YES, NO)) == pytest.approx(5 / 6)


def test_average_precision_of_all_tied_scores_is_the_share_of_positives() -> None:
    assert metrics.average_precision(array(1, 1, 1, 1), array(YES, NO, NO, NO)) == 0.25
    assert math.isnan(metrics.average_precision(array(1, 2), array(NO, NO)))


def test_recall_at_a_rate_lets_that_many_negatives_pass() -> None:
    score = np.concatenate([np.arange(1000) / 1000, array(0.9985, 0.9995, 0.2)])
    positive = np.arange(1003) >= 1000
    found = metrics.recall_at_fpr(score, positive, ~positive, 0.001)
    assert (found.recall, found.false, found.negatives, found.enough) == (pytest.approx(2 / 3), 1, 1000, True)
    assert found.threshold == pytest.approx(0.998)


def test_few_negatives_are_said_to_be_few() -> None:
    score, positive = array(0.1, 0.9, 0.5, 0.95), array(NO, NO, YES, YES)
    found = metrics.recall_at_fpr(score, positive, ~positive, 0.001)
    assert (found.recall, found.false, found.enough) == (0.5, 0, False)


def test_an_alarm_as_probable_as_the_limit_does_not_pass() -> None:
    score, positive = array(0.9, 0.9), array(NO, YES)
    assert metrics.recall_at_fpr(score, positive, ~positive, 0.001).recall == 0.0


def test_rows_that_are_neither_count_nowhere() -> None:
    score = array(0.9, 0.5, 0.1)
    found = metrics.recall_at_fpr(score, array(NO, YES, NO), array(NO, NO, YES), 0.001)
    assert (found.recall, found.negatives) == (1.0, 1)


def test_macro_f1_counts_a_class_never_said_as_zero() -> None:
    # class 0: 2*2/(2+3) = 0.8; class 1: 0; class 2 does not occur
    assert metrics.macro_f1(np.array([0, 0, 1]), np.array([0, 0, 0])) == pytest.approx(0.4)


def test_macro_recall_counts_classes_alike() -> None:
    assert metrics.macro_recall(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 0])) == pytest.approx(0.375)


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
