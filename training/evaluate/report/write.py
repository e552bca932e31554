"""RESULTS.md and its figures from the store: the text is `results.md`, a template, and the tables are computed here.

What was not run is shown as missing, what failed as failed, with the reason.
"""

import re
from collections.abc import Callable, Sized
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from training.data.windows import CLASSES, GROUPS
from training.evaluate import metrics
from training.evaluate.baselines.cost import REFERENCE, draw, measure, verdict
from training.evaluate.plan import Plan
from training.evaluate.predictions import OPENING_PACKETS, RATE
from training.evaluate.report import ablations, detection, figures, zero_shot
from training.evaluate.report.results import MISSING, Results, source
from training.evaluate.report.targets import targets
from training.evaluate.runs.store import Store

TEMPLATE, NOTES = (Path(__file__).with_name(name) for name in ("results.md", "notes.md"))
Figure = Callable[[str, str, Callable[[Path, Any], None], Sized], str]
"""Name of the file, title, what draws it, what it shows, to its Markdown; "" where there is nothing to show."""


def write(plan: Plan, plan_path: Path, store: Store, out: Path, folder: Path, *, done: bool = False) -> list[Path]:
    """Write the report and the figures for which there are results; returns what was written.

    Args:
        done: leave out rows, tables and sections of what was not run.
    """
    results = Results(plan, store, done_only=done)
    written: list[Path] = []

    def figure(name: str, title: str, draw: Callable[[Path, Any], None], shown: Sized) -> str:
        if not len(shown):
            return ""
        path = folder / f"{name}.png"
        draw(path, shown)
        written.append(path)
        return f"![{title}]({path.relative_to(out.parent) if path.is_relative_to(out.parent) else path})"

    scarce, lines = detection.scarcity(results)
    hidden, bars = ablations.hidden(results)
    tables = (
        targets, zero_shot.table_one, zero_shot.left_out_table, detection.groups, detection.at_rate, detection.by_others,
        detection.decisive, detection.encrypted,
        detection.whole_captures, detection.pipelines, detection.evasions, detection.views, ablations.ablations,
        ablations.ablation_settings, ablations.unlabelled, ablations.graphs, ablations.altered, source,
    )  # fmt: skip
    context = {f.__name__: partial(f, results) for f in tables} | {
        "outcomes": results.outcomes,
        "named": lambda prefix: [run.name for run in results.named(prefix)],
        "plan": plan_path.name,
        "store": store.folder.name,
        "rate": f"{RATE:.1%}",
        "opening_packets": OPENING_PACKETS,
        "scarcity": scarce,
        "scarcity_figure": figure("scarcity", "Mean AUC by share of training captures", figures.scarcity, lines),
        "hidden": hidden,
        "hidden_figure": figure("hidden", "Loss of mean AUC by hidden fields", figures.hidden, bars),
        "costs": _costs(results),
        "verdict": verdict(measure()),
        "cost_figure": figure("cost", "Parameters and FLOPs a packet of whole models", draw, measure()),
        "curves": _curves(results, figure),
        "confusion": _confusion(results, figure),
        "notes": NOTES.read_text().strip(),
        "done": done,
        "runs": _runs(results),
    }
    # Markdown, not HTML: nothing is to be escaped.
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string(TEMPLATE.read_text())  # noqa: S701
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(re.sub(r"\n{3,}", "\n\n", template.render(context)).strip() + "\n")
    return [out, *written]


def _costs(results: Results) -> str:
    """Parameters and FLOPs of whole models, encoder and head together, which depend on their form and not on their weights."""
    reference = measure()[REFERENCE]
    rows = [
        [
            name, f"{c.parameters:,}", f"{c.parameters / reference.parameters:.3%}",
            f"{c.packet:,.0f}", f"1/{reference.packet / c.packet:,.0f}", c.note,
        ]
        for name, c in measure().items()
    ]  # fmt: skip
    return results.table(["", "parameters", "of ET-BERT's", "FLOPs a packet", "of ET-BERT's", "what"], rows)


def _curves(results: Results, figure: Figure) -> str:
    """Zero-shot accuracy on validation captures while training (the paper's figure 4); empty where there is none."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for name in ("ours", *(run.name for run in results.named("contrast/"))):
        for o in results.done(name)[:1]:
            points, before, stage, last = [], 0.0, "", 0.0
            for entry in o.result.history if o.result else []:  # steps begin anew with each stage
                if entry["stage"] != stage:
                    before, stage = before + last, entry["stage"]
                last = float(entry["step"])
                if "zero_shot_top1" in entry:
                    points.append((before + last, float(entry["zero_shot_top1"])))
            if len(points) > 1:
                lines[name.removeprefix("contrast/")] = points
    return figure("curves", "Zero-shot top-1 while training", figures.curves, lines)


def _confusion(results: Results, figure: Figure) -> tuple[int, str, str] | str:
    """The seed shown and two figures, or why there are none."""
    done = results.done("ours")
    predictions = results.predictions(done[0], "lab") if done else None
    if predictions is None:
        return results.why("ours")
    counts = np.zeros((len(CLASSES), len(GROUPS)), np.int64)
    np.add.at(counts, (predictions.label, predictions.probabilities.argmax(1)), 1)
    held = {
        label: metrics.reliability(j.probabilities, j.group)
        for test, label in ablations.TESTS.items()
        if test != "evade" and (j := results.predictions(done[0], test)) is not None
    }
    one = figure("confusion", "Classes and the group judged most probable", figures.confusion, counts)
    two = figure("calibration", "Probability against accuracy", figures.calibration, held)
    return done[0].task.seed, one, two


def _runs(results: Results) -> str:
    rows = []
    for o in results.outcomes:
        r = o.result
        if r is None:
            if not results.done_only:
                rows.append([f"`{o.task.run.name}`", str(o.task.seed), f"**{MISSING}**", "", "", "", "", ""])
            continue
        train = r.counts.get("train", {})
        data = " ".join(f"{Path(p).name}:{h[:8]}" for p, h in r.data.items() if len(r.data) <= 4) or f"{len(r.data)} files"
        rows.append([
            f"`{r.run}`", str(r.seed), "done" if not r.error else f"**failed**: {r.error}".replace("|", "/"),
            f"{train.get('windows', 0):,}" if train else "–", str(train.get("captures", "–")), data,
            f"{r.minutes:.1f}", f"{r.memory_mb:,}",
        ])  # fmt: skip
    head = ["run", "seed", "state", "training windows", "training captures", "data (SHA-256)", "minutes", "MB"]
    return results.table(head, rows)
