"""Report sections on detection: zero-shot (Table I), groups (Table II), data scarcity, views, captures by others, evasions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from training.data.windows import CLASSES, GROUPS
from training.evaluate import metrics, paper
from training.evaluate.judged import OPENING_PACKETS, OURS, RATE, Predictions
from training.evaluate.paper import PAPER
from training.evaluate.results import Results, cell, cells, mean, source, table

QUIET = 6
"""Benign captures without an alert that are listed one by one; more are one row."""


def with_mean(values: Sequence[float]) -> list[float]:
    """The values and their mean."""
    return [*values, mean(values)]


def predictors(results: Results) -> list[tuple[str, str, str]]:
    """(row's name, run, predictor): ours, what stands on our embeddings, and the baselines."""
    rows = [("**PacketCLIP sensor (ours)**", "ours", OURS)]
    rows += [(f"{name} of our encoder", "ours", name) for name in results.predictors("ours", "lab") if ", embeddings" in name]
    return rows + [(run.baseline, run.name, OURS) for run in results.named("baseline/")]


def table_two(results: Results, test: str) -> str:
    """Every measure of Table II on one test set, for all judged windows and for those that may open an episode."""
    out = []
    for title, opening in (
        ("All judged windows", False),
        (f"Windows that may open an episode (at least {OPENING_PACKETS} packets)", True),
    ):

        def part(j: Predictions, opening: bool = opening) -> Predictions:
            return j.opening if opening else j

        rows = []
        for name, run, predictor in predictors(results):
            auc = results.over_seeds(run, test, lambda j: with_mean(part(j).auc()), predictor)
            rest = results.over_seeds(
                run, test,
                lambda j: [mean(part(j).auc(by_capture=True)), mean(part(j).average_precision()), part(j).macro_f1], predictor,
            )  # fmt: skip
            rows.append([name, *cells(auc, len(GROUPS) + 1), *cells(rest, 3)])
        if test == "lab":
            rows += [[PAPER + name, *paper.table_ii(name, GROUPS), "–", "–", "–"] for name in paper.TABLE_II]
        head = ["", *(f"AUC {g}" for g in GROUPS), "mean AUC", "mean AUC, captures weighted equally", "mean AP", "macro-F1"]
        out += [f"**{title}**: one against rest.", table(head, rows), _at_rate(results, test, opening=opening)]
    return "\n\n".join([*out, source(results, "ours", test)])


def _at_rate(results: Results, test: str, *, opening: bool) -> str:
    rows, negatives, enough = [], 0, True
    for name, run, predictor in predictors(results):

        def measure(j: Predictions) -> list[float]:
            return [o.recall for o in (j.opening if opening else j).at_rate()]

        rows.append([name, *cells(results.over_seeds(run, test, measure, predictor), len(GROUPS))])
    for outcome in results.done("ours"):
        j = results.judged(outcome, test)
        if j is not None:
            at = (j.opening if opening else j).at_rate()[0]
            negatives, enough = at.negatives, enough and at.enough
    few = "" if enough else (
        f" **With {negatives:,} benign windows, {RATE:.1%} is less than one: the recall is that without any false positive.**"
    )  # fmt: skip
    return (
        f"Recall at {RATE:.1%} false positives among the benign windows of the test set ({negatives:,} of the last seed); of any "
        f"attack, and of each mission.{few}\n\n" + table(["", "any attack", *GROUPS[1:]], rows)
    )


def scarcity(results: Results) -> tuple[str, dict[str, dict[int, metrics.Spread]]]:
    """Mean AUC by share of the training captures, and the points of its figure."""
    lines: dict[str, dict[int, metrics.Spread]] = {}
    rows = []
    series = {"PacketCLIP sensor": ("ours", "scarce/")}
    trees = results.named("scarce trees/")
    if trees:
        series[trees[0].baseline] = (f"baseline/{trees[0].baseline}", "scarce trees/")
    for label, (full, prefix) in series.items():
        runs = [(100, full), *((round(100 * run.share), run.name) for run in results.named(prefix))]
        whole: float | None = None
        for share, name in runs:
            found = results.over_seeds(name, "lab", lambda j: with_mean(j.auc()))
            row = [label, f"{share} %", *cells(found, len(GROUPS) + 1)]
            if isinstance(found, str):
                rows.append([*row, found])
                continue
            lines.setdefault(label, {})[share] = found[-1]
            whole = found[-1].mean if share == 100 else whole
            rows.append([*row, f"{found[-1].mean / whole:.1%}" if whole else "missing"])
    for share, (ours, theirs) in paper.SCARCE.items():
        rows.append([PAPER + "PacketCLIP, ET-BERT", f"{share} %", *[""] * len(GROUPS), f"~{ours}, ~{theirs}", ""])
    head = ["", "training captures", *(f"AUC {g}" for g in GROUPS), "mean AUC", "of full"]
    text = (
        "Training captures are left out, not windows, the same share of each class (at least one capture), a smaller share "
        "within a larger; the test captures stay. All judged windows.\n\n"
        + table(head, rows)
        + "\n\n"
        + source(results, "ours", "lab")
    )
    return text, lines


def views(results: Results) -> str:
    """AUC of windows of each view alone."""
    rows = []
    for view in ("pair", "source", "destination"):
        for test in ("lab", "unseen"):
            found = results.over_seeds(
                "ours", test, lambda j, v=view: [float((j.view == v).sum()), *with_mean(j.where(j.view == v).auc())]
            )
            row = cells(found, len(GROUPS) + 2)
            if not isinstance(found, str):
                row[0] = f"{found[0].mean:,.0f}"
            rows.append([view, test, *row])
    return (
        "One model judges all views; here each view's windows are scored alone.\n\n"
        + table(["view", "test", "windows", *(f"AUC {g}" for g in GROUPS), "mean AUC"], rows)
        + "\n\n" + source(results, "ours", "lab")
    )  # fmt: skip


EVASION = re.compile(r"evade-(.+?)-\d+$")


def evasions(results: Results) -> str:
    """Recall by kind of evasion at the operating thresholds, against the same classes unevaded, before and after hardening."""
    rows: dict[str, list[str]] = {}
    runs = ["ours", "hardened"]
    kinds = sorted({k for name in runs for o in results.done(name) if (j := results.judged(o, "evade")) for k in kinds_of(j)})
    for kind in kinds:
        values: dict[str, list[metrics.Spread] | str] = {
            name: results.over_seeds(name, "evade", lambda j, kind=kind: _kind(j, kind)) for name in runs
        }
        before = [
            _unevaded(plain, evaded, kind)
            for o in results.done("ours")
            if (plain := results.judged(o, "lab")) and (evaded := results.judged(o, "evade"))
        ]
        usual = metrics.spread(before)
        ours, hard = values["ours"], values["hardened"]
        rows[kind] = [kind]
        if isinstance(ours, str):
            rows[kind] += [ours] * 7
            continue
        loss = metrics.Spread(usual.mean - ours[2].mean, math.nan, math.nan, 1)
        rows[kind] += [
            f"{ours[0].mean:,.0f}", cell(usual), cell(ours[2]), cell(loss), f"{ours[3].mean:.1f} of {ours[1].mean:.0f}",
            hard if isinstance(hard, str) else cell(hard[2]),
            hard if isinstance(hard, str) else f"{hard[3].mean:.1f} of {hard[1].mean:.0f}",
        ]  # fmt: skip
    head = [
        "evasion", "attack windows", "recall, same classes unevaded", "recall evaded", "loss", "captures detected",
        "recall after hardening", "captures detected after hardening",
    ]  # fmt: skip
    note = (
        f"Recall of attack windows at the operating thresholds: those that {RATE:.1%} of the validation captures' benign windows "
        "pass, of the mission that the window belongs to. Unevaded: the lab's test captures, weighted to the same "
        f"classes. A capture is detected when one of its windows with at least {OPENING_PACKETS} packets exceeds its mission's "
        "threshold. "
        "Hardening adds captures that evade in training (other captures than the test's); its "
        "effect on plain attacks is in the last rows."
    )
    if not kinds:
        return f"{note}\n\n{table(head, [[results.why('ours'), *[''] * 7]])}\n\n{source(results, 'ours', 'evade')}"
    for label, test in (("no evasion: the lab's test captures", "lab"), ("no evasion: tools never seen", "unseen")):
        found = {
            name: results.over_seeds(name, test, lambda j: [float((j.group > 0).sum()), j.recall(), *j.captures_found()])
            for name in runs
        }
        ours, hard = found["ours"], found["hardened"]
        if isinstance(ours, str):
            continue
        after = [hard] * 2 if isinstance(hard, str) else [cell(hard[1]), f"{hard[2].mean:.1f} of {hard[3].mean:.1f}"]
        rows[label] = [label, f"{ours[0].mean:,.0f}", cell(ours[1]), "", "", f"{ours[2].mean:.1f} of {ours[3].mean:.1f}", *after]
    return "\n\n".join([note, table(head, rows.values()), source(results, "ours", "evade"), source(results, "hardened", "evade")])


def kinds_of(judged: Predictions) -> set[str]:
    """Kinds of evasion among the captures' names."""
    return {m[1] for name in set(judged.capture.tolist()) if (m := EVASION.match(name))}


def _of_kind(judged: Predictions, kind: str) -> Predictions:
    return judged.where(np.array([bool((m := EVASION.match(name)) and m[1] == kind) for name in judged.capture.tolist()], bool))


def _kind(judged: Predictions, kind: str) -> list[float]:
    held = _of_kind(judged, kind)
    found, every = held.captures_found()
    return [float((held.group > 0).sum()), float(every), held.recall(), float(found)]


def _unevaded(plain: Predictions, evaded: Predictions, kind: str) -> float:
    """Recall of `plain`'s windows, each class weighted as in the evaded ones of `kind`."""
    held = _of_kind(evaded, kind)
    total, weight = 0.0, 0
    for i in range(1, len(CLASSES)):
        n, of_class = int((held.label == i).sum()), plain.label == i
        if n and of_class.any():
            total += n * plain.where(of_class).recall()
            weight += n
    return total / weight if weight else math.nan


def by_others(results: Results) -> str:
    """Captures by others: the model trained in the lab alone on their windows, then the shipped pipeline capture by capture."""
    rows = []
    for name in ("ours", *(run.name for run in results.named("baseline/"))):
        found = results.over_seeds(name, "others", lambda j: [*with_mean(j.auc()), mean(j.opening.auc())])
        rows.append(["**ours**" if name == "ours" else name.removeprefix("baseline/"), *cells(found, len(GROUPS) + 2)])
    out = [
        "Trained on the lab alone, judged on windows of captures by others. Nearly all windows of the UDP floods are a few "
        "packets of one reflector, which only the destination's window shows to be a flood; the last column leaves out "
        "windows of fewer than 20 packets.",
        table(["", *(f"AUC {g}" for g in GROUPS), "mean AUC", "mean AUC, opening windows"], rows),
        source(results, "ours", "others"),
    ]
    for run in results.named("pipeline/"):
        out += [f"**{run.name.removeprefix('pipeline/')}**: {_pipeline(results, run.name)}"]
    return "\n\n".join(out)


def _pipeline(results: Results, name: str) -> str:
    done = results.done(name)
    if not done or not done[0].result:
        return results.why(name) + "".join(f": {o.result.error}" for o in results.of(name) if o.result)
    facts, rows = done[0].result.facts["captures"], []
    attacks = [c for c in facts if c["label"] != "Benign"]
    benign = [c for c in facts if c["label"] == "Benign"]
    quiet = [c for c in benign if not c["other"]]
    many = len(quiet) > QUIET
    for c in [c for c in facts if c["label"] != "Benign" or c["other"]] if many else facts:
        rows.append([
            c["capture"], c["label"], f"{c['packets']:,}",
            "–" if c["label"] == "Benign" else f"yes, {c['probability']:.2f}" if c["right"] else "**no**",
            c["classes"] or "–", str(c["other"]), c["titles"] or "–",
        ])  # fmt: skip
    if many:
        rows.append(
            [f"{len(quiet)} more without an alert", "Benign", f"{sum(c['packets'] for c in quiet):,}", "–", "–", "0", "–"]
        )
    packets, false = sum(c["packets"] for c in benign), sum(c["other"] for c in benign)
    found = sum(bool(c["right"]) for c in attacks)
    rate = f"{100_000 * false / packets:.2f} in 100,000" if packets else "no benign capture"
    detected = (
        f"detected {found} of {len(attacks)} attack captures, by an alert of the right mission on the right hosts "
        f"({found / len(attacks):.0%}); "
        if attacks
        else "no attack in them; "
    )
    few = " Fewer than 100,000 benign packets are too few for a rate." if 0 < packets < 100_000 else ""
    return (
        f"{detected}{false} false alerts in {packets:,} benign packets ({rate}).{few} Command: `{done[0].result.command}`.\n\n"
        + table(["capture", "label", "packets", "detected, probability", "classes named", "other alerts", "which"], rows)
    )
