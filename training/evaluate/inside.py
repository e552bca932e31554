"""Report sections on the model itself: ablations, hidden fields, cost, training curves."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

from training.data.windows import CLASSES, GROUP_OF_CLASS
from training.evaluate import figures, metrics
from training.evaluate.altered import WAYS, shown
from training.evaluate.baselines.cost import REFERENCE, draw, measure, verdict
from training.evaluate.detection import with_mean
from training.evaluate.judged import OURS, Predictions
from training.evaluate.occlusion import GROUPS as HIDDEN
from training.evaluate.results import Results, cell, cells, mean, source, table
from training.evaluate.zero_shot import zero_shot

Figure = Callable[[str, str, Callable[[Path], None]], str]


def ablations(results: Results) -> str:
    """Mean AUC of every ablation beside the whole model, with the paired difference over the seeds that both have."""

    def measure(j: Predictions) -> list[float]:
        return [mean(j.auc()), mean(j.opening.auc()), zero_shot(j).get("macro recall", math.nan)]

    rows = []
    for name in ("ours", *(run.name for run in results.named("ablation/"))):
        row = ["**whole model**" if name == "ours" else name.removeprefix("ablation/")]
        for test in ("lab", "unseen"):
            row += [
                *cells(results.over_seeds(name, test, measure), 3),
                "" if name == "ours" else _difference(results, name, test),
            ]
        rows.append([*row, str(len(results.done(name)))])
    per_test = ["mean AUC", "of opening windows", "zero-shot macro recall", "difference in mean AUC"]
    head = ["", *(f"{m}, {t}" for t in ("test captures", "tools never seen") for m in per_test), "seeds"]
    runs = "; ".join(f"{run.name.removeprefix('ablation/')}: `{' '.join(run.overrides)}`" for run in results.named("ablation/"))
    return (
        "The difference is to the whole model with the same seed and split, all judged windows; with one seed it may be chance: "
        f"compare it with the whole model's range over seeds.\n\n{table(head, rows)}\n\n{source(results, 'ours', 'lab')} "
        f"Settings: {runs}."
    )


FORMS = {"": "with the graphs", " by no graph": "a plain network", " by shuffled graph": "shuffled graphs"}
"""What may stand between the classes and the missions, by how the runs are named."""


def unlabelled_loss(results: Results, form: str, test: str) -> metrics.Spread | str:
    """AUC of a class's mission on its windows, never labelled, with another form of the graphs less that with the graphs: over
    the classes that both have, with the first seed of each."""
    found = []
    for run in results.named("unlabelled/"):
        name = run.name.removeprefix("unlabelled/")
        if " by " not in name:
            one, other = (
                results.over_seeds(f"unlabelled/{name}{x}", test, partial(_of_class, name)) for x in ("", f" by {form}")
            )
            if not isinstance(one, str) and not isinstance(other, str):
                found.append(other[0].mean - one[0].mean)
    return metrics.spread(found) if found else "missing"


def _of_class(name: str, j: Predictions) -> list[float]:
    own, score = j.label == CLASSES.index(name), j.probabilities[:, GROUP_OF_CLASS[CLASSES.index(name)]]
    held = own | (j.label == 0)
    return [metrics.auc(score[held], own[held])]


def unlabelled(results: Results) -> str:
    """AUC of a mission on a class of it whose windows the reasoner never saw, for each form of the graphs."""
    names = [run.name.removeprefix("unlabelled/") for run in results.named("unlabelled/")]
    classes = [name for name in names if " by " not in name]
    rows = []
    for name in classes:
        for test in ("lab", "unseen"):
            found = [results.over_seeds(f"unlabelled/{name}{form}", test, partial(_of_class, name)) for form in FORMS]
            labelled = results.over_seeds("ours", test, partial(_of_class, name))
            rows.append(
                [name, "test captures" if test == "lab" else "tools never seen", *(cells(f, 1)[0] for f in (*found, labelled))]
            )
    if not rows:
        return ""
    return (
        "The reasoner's stage never sees a window of the class; the contrastive stage does, with its texts. AUC of the class's "
        "mission on its windows against the benign ones: what the graphs contribute for an attack without labels.\n\n"
        + table(["class", "windows", *FORMS.values(), "labelled"], rows)
        + "\n\n"
        + source(results, f"unlabelled/{classes[0]}", "lab")
    )


def difference(
    results: Results,
    name: str,
    test: str,
    base: str = "ours",
    figure: Callable[[Predictions], float] = lambda j: mean(j.auc()),
    predictor: str = OURS,
) -> metrics.Spread | str:
    """A figure of a run, by default mean AUC, less that of another with the same seed, over the seeds that both have.

    `predictor`: what judged in the run, its own model or what was measured beside it; in the other it is always its own model.
    """
    whole = {o.task.seed: o for o in results.done(base)}
    found = []
    for o in results.done(name):
        if o.task.seed in whole:
            one, other = results.judged(o, test, predictor), results.judged(whole[o.task.seed], test)
            if one is not None and other is not None:
                found.append(figure(one) - figure(other))
    return metrics.spread(found) if found else "–" if results.done(name) else results.why(name)


def _difference(results: Results, name: str, test: str) -> str:
    return signed(difference(results, name, test))


def signed(found: metrics.Spread | str) -> str:
    """A difference in a table: the mean, and the range where there are several."""
    if isinstance(found, str):
        return found
    return f"{found.mean:+.3f}" if found.count == 1 else f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


WITHOUT_GRAPHS = ("no graph", "shuffled graph", "graphs without their events")
TESTS = {"lab": "test captures", "unseen": "tools never seen", "evade": "attacks that evade", "others": "captures by others"}


def graphs(results: Results) -> str:
    """What is lost with each form of the graphs, also on windows far from training."""
    figures: dict[str, Callable[[Predictions], float]] = {
        "mean AUC": lambda j: mean(j.auc()),
        "zero-shot top-1": lambda j: zero_shot(j).get("top-1", math.nan),
        "zero-shot macro recall": lambda j: zero_shot(j).get("macro recall", math.nan),
    }
    rows = [
        [form, label, *(signed(difference(results, f"ablation/{form}", test, figure=figure)) for figure in figures.values())]
        for form in WITHOUT_GRAPHS
        for test, label in TESTS.items()
    ]
    return (
        "Difference to the whole model with the same seed; below zero the graphs help. "
        "Zero-shot is nearest prompts after the reasoner's stage.\n\n"
        + table(["in place of the graphs", "windows", *figures], rows)
        + "\n\n"
        + source(results, "ablation/no graph", "others")
        + "\n\n"
        + _altered(results)
    )


def altered_loss(results: Results, test: str, way: str) -> metrics.Spread | str:
    """Mean AUC of the trained model with its graphs altered, less that of the same model as it is, over the seeds."""
    return difference(results, "altered", test, "altered", predictor=way)


def _altered(results: Results) -> str:
    """What the trained model loses when its graphs are wrong or silent, and it is not trained anew."""
    rows = []
    for way in WAYS:
        rows.append([shown(way), *(signed(altered_loss(results, test, way)) for test in TESTS)])
    return (
        "The same trained model with its graphs replaced or zeroed afterwards: difference in mean AUC. A plain network can learn "
        "from labels what the graphs provide; this measures how much of a verdict rests on them.\n\n"
        + table(["", *TESTS.values()], rows)
        + "\n\n"
        + source(results, "altered", "lab")
    )


def hidden(results: Results, figure: Figure) -> str:
    """Loss of mean AUC when a group of fields is hidden at test time."""
    rows, bars = [], {}
    tests = ("lab, sample", "unseen, sample")
    whole = {test: results.over_seeds("ours", test, lambda j: with_mean(j.auc())) for test in tests}
    rows.append(["nothing hidden", *(x for test in tests for x in cells(whole[test], 5)[-1:]), "", ""])
    for group in HIDDEN:
        row, losses = [group], []
        for test in tests:
            found = results.over_seeds("ours", test, lambda j: with_mean(j.auc()), f"without {group}")
            row += cells(found, 5)[-1:]
            full = whole[test]
            losses.append(found if isinstance(found, str) or isinstance(full, str) else cell(full[-1].mean - found[-1].mean))
            if test == tests[0] and not isinstance(found, str) and not isinstance(full, str):
                bars[group] = full[-1].mean - found[-1].mean
        rows.append([*row, *losses])
    text = (
        "Fields are hidden at test time from a model trained with them (bytes masked, relations zero), on windows drawn at "
        "random from each test set. Ports, addresses, ids, checksums, sequence numbers and timestamps never reach the model, in "
        "training or test, so they cannot be hidden: what they would add was not measured.\n\n"
        + table(
            ["hidden", "mean AUC, test captures", "mean AUC, tools never seen", "loss, test captures", "loss, tools never seen"],
            rows,
        )
    )
    if bars:
        text += "\n\n" + figure(
            "hidden", "Loss of mean AUC by hidden fields", lambda p: figures.bars(p, bars, "loss of mean AUC, test captures")
        )
    return text + "\n\n" + source(results, "ours", "lab")


def cost(figure: Figure) -> str:
    """Parameters and FLOPs of whole models, encoder and head together, which depend on their form and not on their weights."""
    costs = measure()
    reference = costs[REFERENCE]
    rows = [
        [
            name, f"{c.parameters:,}", f"{c.parameters / reference.parameters:.3%}",
            f"{c.packet:,.0f}", f"1/{reference.packet / c.packet:,.0f}", c.note,
        ]
        for name, c in costs.items()
    ]  # fmt: skip
    out = [
        "Whole models, from packet bytes to the verdict; the paper counts only the head behind its frozen encoder. "
        "docs/baselines.md has how FLOPs are counted.",
        table(["", "parameters", "of ET-BERT's", "FLOPs a packet", "of ET-BERT's", "what"], rows),
        "\n".join(f"- {line}" for line in verdict(costs)),
        figure("cost", "Parameters and FLOPs a packet of whole models", lambda p: draw(costs, p)),
        "Counted when this report was written. Command: `python -m training.evaluate.baselines.cost`.",
    ]
    return "\n\n".join(out)


def curves(results: Results, figure: Figure) -> str:
    """Zero-shot accuracy on validation captures while training (the paper's figure 4)."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for name in ("ours", *(run.name for run in results.named("contrast/"))):
        for o in results.done(name)[:1]:
            assert o.result is not None
            points, before, stage, last = [], 0.0, "", 0.0
            for entry in o.result.history:  # steps begin anew with each stage
                if entry["stage"] != stage:
                    before, stage = before + last, entry["stage"]
                last = float(entry["step"])
                if "zero_shot_top1" in entry:
                    points.append((before + last, float(entry["zero_shot_top1"])))
            if len(points) > 1:
                lines[name.removeprefix("contrast/")] = points
    if not lines:
        return "missing"
    drawn = figure(
        "curves", "Zero-shot top-1 while training", lambda p: figures.curves(p, lines, "zero-shot top-1, validation captures")
    )
    said = "Zero-shot top-1 on validation windows, as many of each class, while training."
    return f"{said}\n\n{drawn}\n\n{source(results, 'ours', 'lab')}"
