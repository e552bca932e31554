"""What the model was meant to reach, beside what was measured: nothing is left out because it was missed."""

import math
from collections.abc import Iterator

from training.evaluate import metrics
from training.evaluate.altered_graphs import MUTE, SHUFFLED, shown
from training.evaluate.baselines.cost import OURS as OUR_COST
from training.evaluate.baselines.cost import REFERENCE, measure
from training.evaluate.predictions import OURS
from training.evaluate.report.ablations import SEEN, TESTS, altered_loss, difference, unlabelled_loss
from training.evaluate.report.detection import predictors, totals
from training.evaluate.report.results import MISSING, Results, cell, signed
from training.evaluate.report.zero_shot import left_out, zero_shot

GRAPHS_MATTER = (
    ("ours", "ablation/{}", ""),
    ("scarce/10", "scarce by {}/10", ", a tenth of the captures to train on"),
)
"""Runs with the graphs, the same with other forms of them, and what both had to learn from."""
FORMS = ("no graph", "shuffled graph")


def targets(results: Results) -> str:
    """A row for each target: the target, what was measured, and whether the target is met."""
    rows = [
        _auc(results, "Mean AUC, split by capture, at least 0.99", "lab", 0.99),
        _auc(results, "Mean AUC, tools never seen, at least 0.95", "unseen", 0.95),
        _ahead(results),
        *_captures(results),
        *_zero_shot(results),
        *_left_out(results),
        _scarce(results),
        *_cost(),
        *_graphs(results),
    ]
    return results.table(["target", "measured", "met"], rows)


def _row(asked: str, measured: metrics.Spread | float | str, holds: bool | None) -> list[str]:
    return [asked, cell(measured), "–" if holds is None else "yes" if holds else "**no**"]


def _mean_auc(results: Results, run: str, test: str, predictor: str = OURS) -> metrics.Spread | str:
    found = results.over_seeds(run, test, lambda j: [j.mean_auc], predictor)
    return found if isinstance(found, str) else found[0]


def _auc(results: Results, asked: str, test: str, least: float) -> list[str]:
    found = _mean_auc(results, "ours", test)
    return _row(asked, found, None if isinstance(found, str) else found.mean >= least)


def _ahead(results: Results) -> list[str]:
    asked = "Ahead of every baseline on tools never seen"
    ours = _mean_auc(results, "ours", "unseen")
    others = {name: _mean_auc(results, run, "unseen", predictor) for name, run, predictor in predictors(results)[1:]}
    known = {name: value.mean for name, value in others.items() if not isinstance(value, str)}
    if isinstance(ours, str) or not known:
        return _row(asked, ours if isinstance(ours, str) else MISSING, None)
    best = max(known, key=lambda name: known[name])
    lacking = len(others) - len(known)
    text = f"ours {ours.mean:.3f}, best other {best} {known[best]:.3f}" + (f"; {lacking} not measured" if lacking else "")
    return _row(asked, text, ours.mean > known[best])


def _captures(results: Results) -> Iterator[list[str]]:
    for run in results.named("pipeline/"):
        done = results.done(run.name)
        name = run.name.removeprefix("pipeline/")
        asked = (f"Attack captures detected, {name}, at least 90 %", f"False alerts, {name}, at most 1 in 100,000 benign packets")
        if not done or done[0].result is None:
            yield from (_row(a, results.why(run.name), None) for a in asked)
            continue
        attacks, found, packets, false = totals(done[0].result.facts["captures"])
        if attacks:
            yield _row(asked[0], f"{found} of {attacks}", found >= 0.9 * attacks)
        enough = packets >= 100_000
        text = f"{false} in {packets:,}" + ("" if enough else "; too few packets for a rate")
        yield _row(asked[1], text, false <= packets / 100_000 if enough or false > 1 else None)


def _zero_shot(results: Results) -> Iterator[list[str]]:
    for run, when in (
        ("contrast/both heads", "after the contrastive stage"),
        ("contrast/both heads, 85 % benign windows", "after the contrastive stage, with 85 % benign windows"),
        ("ours", "after the reasoner's stage too"),
    ):
        found = results.over_seeds(run, "lab", lambda j: [zero_shot(j)["top-1"], zero_shot(j)["macro recall"]])
        text, met = (found, None) if isinstance(found, str) else (
            f"{cell(found[0])}; macro recall {cell(found[1])}", found[0].mean >= 0.9
        )  # fmt: skip
        yield _row(f"Zero-shot top-1 of classes seen, at least 0.90: {when}", text, met)


def _left_out(results: Results) -> list[list[str]]:
    asked = "Zero-shot top-1 of a class left out of contrast, mean at least 0.60"
    found = [(math.nan, math.nan) if isinstance(f, str) else (f[0].mean, f[2].mean) for _, f, _ in left_out(results)]
    rows = []
    for i, how in enumerate(("nearest prompts", "nearest prompts with a margin chosen on other classes")):
        known = metrics.spread([pair[i] for pair in found])
        if not known.count:
            rows.append(_row(f"{asked}: {how}", MISSING, None))
            continue
        lacking = len(found) - known.count
        text = f"{known.mean:.3f} ({known.low:.3f}–{known.high:.3f})" + (f"; {lacking} classes not measured" if lacking else "")
        rows.append(_row(f"{asked}: {how}", text, known.mean >= 0.6))
    return rows


def _scarce(results: Results) -> list[str]:
    asked = "With 30 % of the training captures, at least 98 % of the mean AUC"
    few, full = _mean_auc(results, "scarce/30", "lab"), _mean_auc(results, "ours", "lab")
    if isinstance(few, str) or isinstance(full, str):
        return _row(asked, few if isinstance(few, str) else str(full), None)
    return _row(asked, f"{few.mean / full.mean:.1%}", few.mean >= 0.98 * full.mean)


def _cost() -> list[list[str]]:
    costs = measure()
    reference = costs[REFERENCE]
    share = costs[OUR_COST].parameters / reference.parameters
    rows = [_row("Whole model below 1 % of ET-BERT's parameters", f"{share:.2%}", share < 0.01)]
    asked = "Whole model below 1/1,000 of ET-BERT's FLOPs a packet"
    for name, c in costs.items():
        if name.startswith("ours"):
            times = reference.packet / c.packet
            rows.append(_row(f"{asked} ({name}: {c.note})", f"1/{times:,.0f}", times > 1000))
    return rows


def _graphs(results: Results) -> Iterator[list[str]]:
    for base, run, when in GRAPHS_MATTER:
        for form in FORMS:
            found = {test: difference(results, run.format(form), test, base) for test in SEEN}
            yield _worse(f"Worse with {form}, in every seed: difference in mean AUC{when}", found)
    for form in FORMS:
        asked = f"Worse with {form}, mean over classes never labelled: difference in the AUC of their own mission"
        yield _worse(asked, {test: unlabelled_loss(results, form, test) for test in SEEN}, every=False)
    for way in (SHUFFLED, MUTE):
        asked = f"Worse with {shown(way)} in the trained model, in every seed: difference in mean AUC"
        yield _worse(asked, {test: altered_loss(results, test, way) for test in SEEN})


def _worse(asked: str, found: dict[str, metrics.Spread | str], *, every: bool = True) -> list[str]:
    known = [v for v in found.values() if not isinstance(v, str)]
    each = [f"{TESTS[test]} {signed(value)}" for test, value in found.items()]
    text = "; ".join(each) if known else " and ".join({str(value): None for value in found.values()})
    return _row(asked, text, all((v.high if every else v.mean) < 0 for v in known) if known else None)
