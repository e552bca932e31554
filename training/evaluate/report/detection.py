"""Tables on detection: groups (Table II), data scarcity, views, captures by others, evasions."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from training.data.windows import CLASSES, GROUPS
from training.evaluate import metrics
from training.evaluate.metrics import mean
from training.evaluate.predictions import OURS, Predictions
from training.evaluate.report.results import MISSING, PAPER, Results, cell

TABLE_II = {
    "ET-BERT, fine-tuned": (0.717, 0.731, 0.752, 0.784, 0.746),
    "PacketCLIP + XGBoost": (0.522, 0.500, 0.477, 0.458, 0.489),
    "PacketCLIP + LightGBM": (0.961, 0.544, 0.974, 0.567, 0.761),
    "PacketCLIP + DNN": (0.978, 0.724, 0.996, 0.623, 0.830),
    "PacketCLIP + GNN reasoning": (0.996, 0.930, 0.999, 0.909, 0.946),
}
"""The paper's AUC of TABLE_II_GROUPS, and their mean as printed (its rows round by themselves)."""
TABLE_II_GROUPS = ("Benign", "DoS", "Reconnaissance", "Brute Force")
SCARCE = {100: (0.95, 0.70), 30: (0.95, 0.50)}
"""Percent of training data to mean AUC of PacketCLIP and of ET-BERT, both "~" in the paper's figure 7."""


def table_ii(name: str, groups: Sequence[str]) -> list[str]:
    """A row of Table II: the AUC of each of our groups, none for one that the paper does not have, and the mean."""
    *values, mean = TABLE_II[name]
    of = dict(zip(TABLE_II_GROUPS, values, strict=True))
    return [*(f"{of[g]:.3f}" if g in of else "–" for g in groups), f"{mean:.3f}"]


AUCS = [f"AUC {g}" for g in GROUPS]
QUIET = 6
"""Benign captures without an alert that are listed one by one; more are one row."""
EVASION = re.compile(r"evade-(.+?)-\d+$")


def predictors(results: Results) -> list[tuple[str, str, str]]:
    """(row's name, run, predictor): ours, what stands on our embeddings, and the baselines."""
    rows = [("**PacketCLIP sensor (ours)**", "ours", OURS)]
    rows += [(f"{name} of our encoder", "ours", name) for name in results.predictors("ours", "lab") if ", embeddings" in name]
    return rows + [(run.baseline, run.name, OURS) for run in results.named("baseline/")]


def _part(j: Predictions, opening: bool) -> Predictions:
    return j.opening if opening else j


def groups(results: Results, test: str, opening: bool) -> str:
    """Every measure of Table II on one test set, for all judged windows or for those that may open an episode."""

    def measure(j: Predictions) -> list[float]:
        own = _part(j, opening)
        return [*own.aucs, mean(own.auc(by_capture=True)), mean(own.average_precision()), own.macro_f1]

    rows = [
        [name, *results.cells(run, test, measure, len(GROUPS) + 4, predictor)] for name, run, predictor in predictors(results)
    ]
    if test == "lab":
        rows += [[PAPER + name, *table_ii(name, GROUPS), "–", "–", "–"] for name in TABLE_II]
    return results.table(["", *AUCS, "mean AUC", "mean AUC, captures weighted equally", "mean AP", "macro-F1"], rows)


def at_rate(results: Results, test: str, opening: bool) -> tuple[int, bool, str]:
    """Benign windows of the last seed, whether they are enough in every seed, and the recalls at RATE false positives."""
    rows = [
        [name, *results.cells(run, test, lambda j: [o.recall for o in _part(j, opening).at_rate()], len(GROUPS), predictor)]
        for name, run, predictor in predictors(results)
    ]
    made = [j for outcome in results.done("ours") if (j := results.predictions(outcome, test)) is not None]
    at = [_part(j, opening).at_rate()[0] for j in made]
    return at[-1].negatives if at else 0, all(a.enough for a in at), results.table(["", "any attack", *GROUPS[1:]], rows)


def decisive(results: Results, test: str) -> str:
    """Recall of each class at RATE false positives, and captures named at one false alert in PER_PACKETS packets, by seed 1."""
    rows = []
    for name, run, predictor in predictors(results):
        made = [j for outcome in results.done(run) if (j := results.predictions(outcome, test, predictor)) is not None]
        if not made:
            rows.append([name, *[results.why(run)] * (len(CLASSES) + 2)])
            continue
        recall, mean_recall = made[0].class_recall()
        ranges = [ranged(mean_recall), *([ranged(r) for r in made[0].named()] if made[0].benign_packets else ["–"] * 2)]
        rows.append([name, *(cell(recall.get(k, math.nan), 2) for k in range(1, len(CLASSES))), *ranges])
    return results.table(["", *CLASSES[1:], "mean over classes", "captures named", "captures named, mean over classes"], rows)


def ranged(found: metrics.Range) -> str:
    """A figure in a table with its interval."""
    return f"{found.value:.2f} ({found.low:.2f}–{found.high:.2f})"


def encrypted(results: Results) -> str:
    """Traffic that nobody can read: AUC, recall and captures named, beside the same captures as they are."""
    rows = []
    for name, run, predictor in predictors(results):
        for test in ("unseen", "world-unseen", "unreadable", "encrypted"):
            if found := [j for o in results.done(run) if (j := results.predictions(o, test, predictor)) is not None]:
                captures = ranged(found[0].named()[0]) if found[0].benign_packets else "–"
                figures = [found[0].mean_auc, found[0].opening.mean_auc]
                rows.append([name, test, *(cell(x) for x in figures), ranged(found[0].class_recall()[1]), captures])
    head = ["", "test", "mean AUC", "mean AUC, opening windows", "recall at the rate, mean over classes", "captures named"]
    return results.table(head, rows)


def scarcity(results: Results) -> tuple[str, dict[str, dict[int, metrics.Spread]]]:
    """Mean AUC by share of the training captures, and the points of its figure."""
    lines: dict[str, dict[int, metrics.Spread]] = {}
    rows = []
    series = {"PacketCLIP sensor": ("ours", "scarce/")}
    if trees := results.named("scarce trees/"):
        series[trees[0].baseline] = (f"baseline/{trees[0].baseline}", "scarce trees/")
    for label, (full, prefix) in series.items():
        whole: float | None = None
        for share, name in [(100, full), *((round(100 * run.share), run.name) for run in results.named(prefix))]:
            row = [label, f"{share} %", *results.cells(name, "lab", lambda j: j.aucs, len(GROUPS) + 1)]
            found = results.over_seeds(name, "lab", lambda j: [j.mean_auc])
            if isinstance(found, str):
                rows.append([*row, found])
                continue
            lines.setdefault(label, {})[share] = found[0]
            whole = found[0].mean if share == 100 else whole
            rows.append([*row, f"{found[0].mean / whole:.1%}" if whole else MISSING])
    for share, (ours, theirs) in SCARCE.items():
        rows.append([PAPER + "PacketCLIP, ET-BERT", f"{share} %", "", "", "", "", f"~{ours}, ~{theirs}", ""])
    return results.table(["", "training captures", *AUCS, "mean AUC", "of full"], rows, labels=2), lines


def views(results: Results) -> str:
    """AUC of windows of each view alone."""
    rows = []
    for view in ("pair", "source", "destination"):
        for test in ("lab", "unseen"):
            found = results.over_seeds("ours", test, lambda j, v=view: [float((j.view == v).sum())])
            count = found if isinstance(found, str) else f"{found[0].mean:,.0f}"
            row = results.cells("ours", test, lambda j, v=view: j.where(j.view == v).aucs, len(GROUPS) + 1)
            rows.append([view, test, count, *row])
    return results.table(["view", "test", "windows", *AUCS, "mean AUC"], rows, labels=2)


def evasions(results: Results) -> str:
    """Recall by kind of evasion at the operating thresholds, against the same classes unevaded, before and after hardening."""
    head = [
        "evasion", "attack windows", "recall, same classes unevaded", "recall evaded", "loss", "captures detected",
        "recall after hardening", "captures detected after hardening",
    ]  # fmt: skip
    runs = ("ours", "hardened")
    evaded = [j for name in runs for o in results.done(name) if (j := results.predictions(o, "evade"))]
    kinds = sorted({m[1] for j in evaded for capture in set(j.capture.tolist()) if (m := EVASION.match(capture))})
    if not kinds:
        return results.table(head, [[results.why("ours"), *[""] * 7]])
    rows = []
    for kind in kinds:
        ours, hard = (results.over_seeds(name, "evade", lambda j, kind=kind: _figures(_of_kind(j, kind))) for name in runs)
        if isinstance(ours, str):
            rows.append([kind, *[ours] * 7])
            continue
        usual = metrics.spread([
            _unevaded(plain, hidden, kind)
            for o in results.done("ours")
            if (plain := results.predictions(o, "lab")) and (hidden := results.predictions(o, "evade"))
        ])  # fmt: skip
        loss = metrics.Spread(usual.mean - ours[1].mean, math.nan, math.nan, 1)
        unevaded = [f"{ours[0].mean:,.0f}", cell(usual), cell(ours[1]), cell(loss)]
        rows.append([kind, *unevaded, _detected(ours, 0), *_hardened(hard, 0)])
    for label, test in (("no evasion: the lab's test captures", "lab"), ("no evasion: tools never seen", "unseen")):
        ours, hard = (results.over_seeds(name, test, _figures) for name in runs)
        if not isinstance(ours, str):
            plain_row = [f"{ours[0].mean:,.0f}", cell(ours[1]), "", ""]
            rows.append([label, *plain_row, _detected(ours, 1), *_hardened(hard, 1)])
    return results.table(head, rows)


def _figures(j: Predictions) -> list[float]:
    """Attack windows, recall, captures detected, captures with attacks."""
    return [float((j.group > 0).sum()), j.recall(), *map(float, j.captures_found())]


def _detected(found: Sequence[metrics.Spread], digits: int) -> str:
    return f"{found[2].mean:.1f} of {found[3].mean:.{digits}f}"


def _hardened(found: list[metrics.Spread] | str, digits: int) -> list[str]:
    return [found] * 2 if isinstance(found, str) else [cell(found[1]), _detected(found, digits)]


def _of_kind(made: Predictions, kind: str) -> Predictions:
    return made.where(np.array([bool((m := EVASION.match(name)) and m[1] == kind) for name in made.capture.tolist()], bool))


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
    """AUC on windows of captures by others, of the model and the baselines."""
    rows = []
    for name in ("ours", *(run.name for run in results.named("baseline/"))):
        found = results.cells(name, "others", lambda j: [*j.aucs, j.opening.mean_auc], len(GROUPS) + 2)
        rows.append(["**ours**" if name == "ours" else name.removeprefix("baseline/"), *found])
    return results.table(["", *AUCS, "mean AUC", "mean AUC, opening windows"], rows)


def pipelines(results: Results) -> Iterator[str]:
    """A paragraph and a table for each run of whole captures through the sensor."""
    for run in results.named("pipeline/"):
        done = results.done(run.name)
        if done and done[0].result:
            text = _pipeline(results, done[0].result.facts["captures"], done[0].result.command)
        elif results.done_only and results.why(run.name) == MISSING:
            continue
        else:
            text = results.why(run.name) + "".join(f": {o.result.error}" for o in results.of(run.name) if o.result)
        yield f"**{run.name.removeprefix('pipeline/')}**: {text}"


FOLDS = "pipeline/sources of fold "
"""Beginning of the names of the runs whose bundles each know all sources but those that they are tested on."""


def whole_captures(results: Results) -> str:
    """What each run over whole captures named, and its false alerts, with intervals; the folds together as one."""
    facts = {
        run.name: done[0].result.facts["captures"]
        for run in results.named("pipeline/")
        if (done := results.done(run.name)) and done[0].result
    }
    folds = [facts.pop(name) for name in [*facts] if name.startswith(FOLDS)]
    if folds:
        facts["pipeline/all folds by source"] = [capture for fold in folds for capture in fold]
    rows = [[name.removeprefix("pipeline/"), *with_intervals(captures)] for name, captures in facts.items()]
    head = ["captures", "detected", "share", "mean over classes", "false alerts", "benign packets", "in 100,000"]
    return results.table(head, rows)


def with_intervals(facts: list[dict[str, Any]]) -> list[str]:
    """Cells of `whole_captures`. Sources are drawn, or captures where all are of one source."""
    attacks, found, packets, false = totals(facts)
    attacked = [c for c in facts if c["label"] != "Benign"]
    several = len({c.get("source") for c in facts}) > 1
    units = np.array([c["source"] if several else c["capture"] for c in facts])
    own = np.array([c["label"] != "Benign" for c in facts])
    hit, label = np.array([bool(c["right"]) for c in attacked]), np.array([c["label"] for c in attacked])
    _, classes = np.unique(label, return_inverse=True)
    alerts, size = (np.array([c[key] for c in facts if c["label"] == "Benign"]) for key in ("other", "packets"))
    share = metrics.over_sources(units[own], lambda rows: float(hit[rows].mean())) if attacks else None
    mean_share = metrics.over_sources(units[own], lambda rows: metrics.class_mean(hit[rows], classes[rows])) if attacks else None
    rate = metrics.over_sources(units[~own], lambda rows: 1e5 * alerts[rows].sum() / size[rows].sum()) if packets else None
    return [
        f"{found} of {attacks}", *(ranged(r) if r else "–" for r in (share, mean_share)),
        str(false), f"{packets:,}", ranged(rate) if rate else "–",
    ]  # fmt: skip


def totals(facts: list[dict[str, Any]]) -> tuple[int, int, int, int]:
    """Attack captures, those detected, benign packets, and false alerts in benign captures."""
    attacks, benign = ([c for c in facts if (c["label"] == "Benign") == b] for b in (False, True))
    found = sum(bool(c["right"]) for c in attacks)
    return len(attacks), found, sum(c["packets"] for c in benign), sum(c["other"] for c in benign)


def _pipeline(results: Results, facts: list[dict[str, Any]], command: str) -> str:
    quiet = [c for c in facts if c["label"] == "Benign" and not c["other"]]
    many, rows = len(quiet) > QUIET, []
    for c in [c for c in facts if c["label"] != "Benign" or c["other"]] if many else facts:
        rows.append([
            c["capture"], c["label"], f"{c['packets']:,}",
            "–" if c["label"] == "Benign" else f"yes, {c['probability']:.2f}" if c["right"] else "**no**",
            c["classes"] or "–", str(c["other"]), c["titles"] or "–",
        ])  # fmt: skip
    if many:
        count = f"{sum(c['packets'] for c in quiet):,}"
        rows.append([f"{len(quiet)} more without an alert", "Benign", count, "–", "–", "0", "–"])
    attacks, found, packets, false = totals(facts)
    rate = f"{100_000 * false / packets:.2f} in 100,000" if packets else "no benign capture"
    detected = (
        f"detected {found} of {attacks} attack captures, by an alert of the right mission on the right hosts "
        f"({found / attacks:.0%}); "
        if attacks
        else "no attack in them; "
    )
    few = " Fewer than 100,000 benign packets are too few for a rate." if 0 < packets < 100_000 else ""
    head = ["capture", "label", "packets", "detected, probability", "classes named", "other alerts", "which"]
    return (
        f"{detected}{false} false alerts in {packets:,} benign packets ({rate}).{few} Command: `{command}`.\n\n"
        + results.table(head, rows)
    )
