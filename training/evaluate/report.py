"""RESULTS.md and its figures from the store. What was not run stands as missing, what failed as failed, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from training.data.windows import CLASSES, GROUPS
from training.evaluate import detection, figures, inside, metrics, targets, zero_shot
from training.evaluate.plan import Plan
from training.evaluate.results import Results, source, table
from training.evaluate.store import Store

NOTES = Path(__file__).with_name("notes.md")

HEAD = Path(__file__).with_name("head.md")


def write(plan: Plan, plan_path: Path, store: Store, out: Path, folder: Path) -> list[Path]:
    """Write the report and the figures for which there are results; returns what was written."""
    results = Results(plan, store)
    written: list[Path] = []

    def figure(name: str, title: str, draw: Callable[[Path], None]) -> str:
        path = folder / f"{name}.png"
        draw(path)
        written.append(path)
        shown = path.relative_to(out.parent) if path.is_relative_to(out.parent) else path
        return f"![{title}]({shown})"

    scarce, lines = detection.scarcity(results)
    if lines:
        scarce += "\n\n" + figure("scarcity", "Mean AUC by share of training captures", lambda p: figures.scarcity(p, lines))
    sections = {
        "Targets": targets.section(results),
        "Table I: zero-shot": zero_shot.table_one(results),
        "Table II: groups, split by capture": detection.table_two(results, "lab"),
        "Table II: groups, tools never seen": detection.table_two(results, "unseen"),
        "Captures by others": detection.by_others(results),
        "Robustness: attacks that evade": detection.evasions(results),
        "Data scarcity": scarce,
        "Classes never labelled": inside.unlabelled(results),
        "What the graphs contribute": inside.graphs(results),
        "Ablations": inside.ablations(results),
        "Views": detection.views(results),
        "Hidden fields": inside.hidden(results, figure),
        "Parameters and FLOPs": inside.cost(figure),
        "Training curves": inside.curves(results, figure),
        "Confusion and calibration": _confusion(results, figure),
        "What did not help": NOTES.read_text().strip() if NOTES.exists() else "missing",
        "All runs": _runs(results, plan_path, store),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f"{HEAD.read_text().strip()}\n\n{_summary(results, plan_path, store)}\n\n{body}\n")
    return [out, *written]


def _summary(results: Results, plan_path: Path, store: Store) -> str:
    states = [o.state for o in results.outcomes]
    minutes = sum(o.result.minutes for o in results.outcomes if o.result)
    machines = sorted({o.result.machine for o in results.outcomes if o.result})
    return (
        f"{states.count('done')} of {len(states)} runs done, {states.count('failed')} failed, {states.count('missing')} missing; "
        "together "
        f"{minutes:.0f} minutes of one core. Machine: {'; '.join(machines) or 'none yet'}. Plan `{plan_path.name}`, "
        f"store `{store.folder.name}`."
    )


def _confusion(results: Results, figure: Callable[[str, str, Callable[[Path], None]], str]) -> str:
    done = results.done("ours")
    judged = results.judged(done[0], "lab") if done else None
    if judged is None:
        return results.why("ours")
    counts = np.zeros((len(CLASSES), len(GROUPS)), np.int64)
    np.add.at(counts, (judged.label, judged.probabilities.argmax(1)), 1)
    held = {
        label: metrics.reliability(j.probabilities, j.group)
        for label, test in (("test captures", "lab"), ("tools never seen", "unseen"), ("captures by others", "others"))
        if (j := results.judged(done[0], test)) is not None
    }
    one = figure(
        "confusion", "Classes and the group judged most probable", lambda p: figures.confusion(p, counts, CLASSES, GROUPS)
    )
    two = figure("calibration", "Probability against accuracy", lambda p: figures.calibration(p, held))
    said = f"Of seed {done[0].task.seed}, all judged windows. Class proportions are the lab's."
    return f"{said}\n\n{one}\n\n{two}\n\n{source(results, 'ours', 'lab')}"


def _runs(results: Results, plan_path: Path, store: Store) -> str:
    rows = []
    for o in results.outcomes:
        r = o.result
        if r is None:
            rows.append([f"`{o.task.run.name}`", str(o.task.seed), "**missing**", "", "", "", "", ""])
            continue
        train = r.counts.get("train", {})
        data = " ".join(f"{Path(p).name}:{h[:8]}" for p, h in r.data.items() if len(r.data) <= 4) or f"{len(r.data)} files"
        rows.append([
            f"`{r.run}`", str(r.seed), "done" if not r.error else f"**failed**: {r.error}".replace("|", "/"),
            f"{train.get('windows', 0):,}" if train else "–", str(train.get("captures", "–")), data,
            f"{r.minutes:.1f}", f"{r.memory_mb:,}",
        ])  # fmt: skip
    head = ["run", "seed", "state", "training windows", "training captures", "data (SHA-256)", "minutes", "MB"]
    return (
        "In the plan's order. Each is made again by `python -m training.evaluate one NAME --seed SEED --plan "
        f"{plan_path.name} --store {store.folder.name}`; "
        "its JSON in the store has all settings, the captures of each side, and the machine.\n\n" + table(head, rows)
    )
