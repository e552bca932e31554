"""Tables on the model itself: ablations, what the graphs contribute, hidden fields."""

import math
from collections.abc import Callable
from functools import partial

from training.data.windows import CLASSES, GROUP_OF_CLASS
from training.evaluate import metrics
from training.evaluate.altered_graphs import WAYS, shown
from training.evaluate.occlusion import GROUPS as HIDDEN
from training.evaluate.predictions import OURS, Predictions
from training.evaluate.report.results import MISSING, Results, cell, cells, signed
from training.evaluate.report.zero_shot import zero_shot

TESTS = {"lab": "test captures", "unseen": "tools never seen", "evade": "attacks that evade", "others": "captures by others"}
SEEN = {test: TESTS[test] for test in ("lab", "unseen")}
FORMS = {"": "with the graphs", " by no graph": "a plain network", " by shuffled graph": "shuffled graphs"}
"""What may be between the classes and the missions, by how the runs are named."""
WITHOUT_GRAPHS = ("no graph", "shuffled graph", "graphs without their events")


def difference(
    results: Results,
    name: str,
    test: str,
    base: str = "ours",
    figure: Callable[[Predictions], float] = lambda j: j.mean_auc,
    predictor: str = OURS,
) -> metrics.Spread | str:
    """A figure of a run, by default mean AUC, less that of another with the same seed, over the seeds that both have.

    `predictor` of the run: its own model or one that was measured beside it; in the other it is always its own model.
    """
    whole = {o.task.seed: o for o in results.done(base)}
    found = []
    for o in results.done(name):
        if o.task.seed in whole:
            one, other = results.predictions(o, test, predictor), results.predictions(whole[o.task.seed], test)
            if one is not None and other is not None:
                found.append(figure(one) - figure(other))
    return metrics.spread(found) if found else "–" if results.done(name) else results.why(name)


def ablations(results: Results) -> str:
    """Mean AUC of every ablation beside the whole model, with the paired difference over the seeds that both have."""

    def measure(j: Predictions) -> list[float]:
        return [j.mean_auc, j.opening.mean_auc, zero_shot(j).get("macro recall", math.nan)]

    rows = []
    for name in ("ours", *(run.name for run in results.named("ablation/"))):
        row, whole = [name.removeprefix("ablation/")], name == "ours"
        for test in SEEN:
            row += [*results.cells(name, test, measure, 3), "" if whole else signed(difference(results, name, test))]
        rows.append(["**whole model**" if whole else row[0], *row[1:], str(len(results.done(name)))])
    per_test = ["mean AUC", "of opening windows", "zero-shot macro recall", "difference in mean AUC"]
    return results.table(["", *(f"{m}, {t}" for t in SEEN.values() for m in per_test), "seeds"], rows)


def ablation_settings(results: Results) -> str:
    """What each ablation changes."""
    return "; ".join(f"{run.name.removeprefix('ablation/')}: `{' '.join(run.overrides)}`" for run in results.named("ablation/"))


def _of_class(name: str, j: Predictions) -> list[float]:
    own, score = j.label == CLASSES.index(name), j.probabilities[:, GROUP_OF_CLASS[CLASSES.index(name)]]
    held = own | (j.label == 0)
    return [metrics.auc(score[held], own[held])]


def _unlabelled_classes(results: Results) -> list[str]:
    names = [run.name.removeprefix("unlabelled/") for run in results.named("unlabelled/")]
    return [name for name in names if " by " not in name]


def unlabelled_loss(results: Results, form: str, test: str) -> metrics.Spread | str:
    """AUC of a class's mission on its windows, never labelled, with another form of the graphs less that with the graphs: over
    the classes that both have, with the first seed of each."""
    found = []
    for name in _unlabelled_classes(results):
        one, other = (results.over_seeds(f"unlabelled/{name}{x}", test, partial(_of_class, name)) for x in ("", f" by {form}"))
        if not isinstance(one, str) and not isinstance(other, str):
            found.append(other[0].mean - one[0].mean)
    return metrics.spread(found) if found else MISSING


def unlabelled(results: Results) -> str:
    """AUC of a mission on a class of it whose windows the reasoner never saw, for each form of the graphs; empty without runs."""
    rows = []
    for name in _unlabelled_classes(results):
        for test, label in SEEN.items():
            runs = (*(f"unlabelled/{name}{form}" for form in FORMS), "ours")
            rows.append([name, label, *(results.cells(run, test, partial(_of_class, name), 1)[0] for run in runs)])
    return results.table(["class", "windows", *FORMS.values(), "labelled"], rows, labels=2) if rows else ""


def graphs(results: Results) -> str:
    """What is lost with each form of the graphs, also on windows far from training."""
    figures: dict[str, Callable[[Predictions], float]] = {
        "mean AUC": lambda j: j.mean_auc,
        "zero-shot top-1": lambda j: zero_shot(j).get("top-1", math.nan),
        "zero-shot macro recall": lambda j: zero_shot(j).get("macro recall", math.nan),
    }
    rows = [
        [form, label, *(signed(difference(results, f"ablation/{form}", test, figure=figure)) for figure in figures.values())]
        for form in WITHOUT_GRAPHS
        for test, label in TESTS.items()
    ]
    return results.table(["in place of the graphs", "windows", *figures], rows, labels=2)


def altered_loss(results: Results, test: str, way: str) -> metrics.Spread | str:
    """Mean AUC of the trained model with its graphs altered, less that of the same model as it is, over the seeds."""
    return difference(results, "altered", test, "altered", predictor=way)


def altered(results: Results) -> str:
    """What the trained model loses when its graphs are wrong or zero, and it is not trained anew."""
    rows = [[shown(way), *(signed(altered_loss(results, test, way)) for test in TESTS)] for way in WAYS]
    return results.table(["", *TESTS.values()], rows)


def hidden(results: Results) -> tuple[str, dict[str, float]]:
    """Mean AUC with a group of fields hidden at test time, and what is lost of it on the test captures."""
    samples = [f"{test}, sample" for test in SEEN]

    def measured(predictor: str) -> dict[str, list[metrics.Spread] | str]:
        return {test: results.over_seeds("ours", test, lambda j: [j.mean_auc], predictor) for test in samples}

    whole = {test: found[0].mean for test, found in measured(OURS).items() if not isinstance(found, str)}
    rows, bars = [["nothing hidden", *(cells(found, 1)[0] for found in measured(OURS).values()), "", ""]], {}
    for group in HIDDEN:
        found = measured(f"without {group}")
        lost = {test: whole[test] - f[0].mean for test, f in found.items() if test in whole and not isinstance(f, str)}
        losses = (cell(lost[test]) if test in lost else results.why("ours") for test in samples)
        rows.append([group, *(cells(f, 1)[0] for f in found.values()), *losses])
        if samples[0] in lost:
            bars[group] = lost[samples[0]]
    return results.table(["hidden", *(f"{m}, {t}" for m in ("mean AUC", "loss") for t in SEEN.values())], rows), bars
