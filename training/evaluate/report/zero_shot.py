"""Table I: the nearest of all classes by words, for classes seen and for each class left out of contrastive training."""

import math
from collections.abc import Sequence

import numpy as np

from training.data.windows import CLASSES, GROUP_OF_CLASS
from training.evaluate import metrics
from training.evaluate.metrics import mean
from training.evaluate.predictions import VALIDATION, Predictions
from training.evaluate.report.results import PAPER, Results, cell, cells

TABLE_I = {
    "ET-BERT": (0.730, None),
    "no head": (0.001, 0.955),
    "head on packets": (0.831, 0.991),
    "heads on both": (0.856, 0.961),
}
"""The paper's top-1 and top-5 by method."""
MARGINS = np.arange(0, 41) / 100


def zero_shot(predictions: Predictions) -> dict[str, float]:
    """Top-1, top-5 and macro recalls over all classes by cosine with their prompts, and the recall of each class."""
    if predictions.classes is None:
        return {}
    nearest = predictions.classes.argmax(1)
    further = nearest if predictions.sentences is None else predictions.sentences.argmax(1)
    out = {
        "top-1": metrics.top_k(predictions.classes, predictions.label, 1),
        "top-5": metrics.top_k(predictions.classes, predictions.label, 5),
        "macro recall": metrics.macro_recall(predictions.label, nearest),
        "macro recall, other words": metrics.macro_recall(predictions.label, further),
    }
    for i, name in enumerate(CLASSES):
        if (predictions.label == i).any():
            out[name] = float((nearest[predictions.label == i] == i).mean())
    return out


def table_one(results: Results) -> str:
    """Zero-shot by variants of the heads, then the paper's."""
    measures = ("top-1", "top-5", "macro recall", "macro recall, other words")
    runs = {run.name: run.name.removeprefix("contrast/") for run in results.named("contrast/")}
    runs["ours"] = "heads on both, after the reasoner's stage too (`ours`)"
    rows = [
        [label, *results.cells(name, "lab", lambda j: [zero_shot(j)[m] for m in measures], 4)] for name, label in runs.items()
    ]
    for name, (one, five) in TABLE_I.items():
        rows.append([PAPER + name, f"{one:.3f}", "–" if five is None else f"{five:.3f}", "–", "–"])
    return results.table(["contrastive stage", *measures], rows)


def with_margin(predictions: Predictions, name: str, margin: float) -> tuple[float, float]:
    """Recall of class `name` and mean recall of the others, when `margin` is added to the cosine with its prompts.

    A class that was never trained lies further from all prompts than those that were, so the nearest is rarely its own. Who adds
    a class by its words knows which one is new and may lift it: calibrated stacking, Chao et al. 2016, arXiv:1605.04253.
    """
    assert predictions.classes is not None
    own = CLASSES.index(name)
    nearest = (predictions.classes + margin * (np.arange(len(CLASSES)) == own)).argmax(1)
    of_class = [predictions.label == i for i in range(len(CLASSES))]
    recall = [float((nearest[held] == i).mean()) if held.any() else math.nan for i, held in enumerate(of_class)]
    return recall[own], mean([r for i, r in enumerate(recall) if i != own])


def margin_of_others(results: Results, name: str) -> float:
    """The margin with the best mean of harmonic means of own recall and the others', over the validation windows of the runs that
    left out another class; NaN where there is no such run. Neither the class nor a test window has a say in it."""
    curves = []
    for run in results.named("without/"):
        other = run.name.removeprefix("without/")
        for outcome in results.done(run.name) if other != name else []:
            predictions = results.predictions(outcome, VALIDATION)
            if predictions is None or predictions.classes is None:
                continue
            pairs = [with_margin(predictions, other, float(m)) for m in MARGINS]
            if not math.isnan(pairs[0][0]):
                curves.append([2 * a * b / (a + b) if a + b else 0.0 for a, b in pairs])
    return float(MARGINS[int(np.mean(curves, axis=0).argmax())]) if curves else math.nan


def left_out(results: Results) -> list[tuple[str, list[metrics.Spread] | str, float]]:
    """For each class left out: own top-1, others' mean recall, the same two with the margin, own mission; and the margin."""
    out = []
    for run in results.named("without/"):
        name = run.name.removeprefix("without/")
        margin = margin_of_others(results, name)

        def measure(j: Predictions, name: str = name, margin: float = margin) -> Sequence[float]:
            lifted = (math.nan, math.nan) if math.isnan(margin) else with_margin(j, name, margin)
            return [*with_margin(j, name, 0.0), *lifted, _right_group(j, name)]

        out.append((name, results.over_seeds(run.name, "lab", measure), margin))
    return out


def left_out_table(results: Results) -> str:
    """The same as a table with the means below; empty where no class was left out."""
    rows, known = [], []
    for name, found, margin in left_out(results):
        full = results.cells("contrast/both heads", "lab", lambda j, name=name: [zero_shot(j).get(name, math.nan)], 1)
        measured = cells(found, 5)
        rows.append([name, *measured[:4], cell(margin, 2), measured[4], *full])
        if not isinstance(found, str):
            known.append([spread.mean for spread in found])
    if known:
        own = [cell(mean([k[i] for k in known])) for i in range(5)]
        rows.append(["mean", *own[:4], "", own[4], ""])
    head = ["class left out", "own top-1", "others", "own, margin", "others, margin", "margin", "own mission", "own when seen"]
    return results.table(head, rows) if rows else ""


def _right_group(predictions: Predictions, name: str) -> float:
    if predictions.classes is None:
        return math.nan
    of_class = predictions.label == CLASSES.index(name)
    nearest = np.array(GROUP_OF_CLASS)[predictions.classes[of_class].argmax(1)]
    return float((nearest == predictions.group[of_class]).mean()) if of_class.any() else math.nan
