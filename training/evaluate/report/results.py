"""What a report asks of a store: the outcome of every planned task, figures over seeds, and words for what is not there."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from training.evaluate import metrics, predictions
from training.evaluate.plan import Plan, Run, Task, tasks
from training.evaluate.predictions import OURS, Predictions
from training.evaluate.runs.store import Result, Store

MISSING, FAILED = "missing", "failed"
NO_FIGURE = frozenset(("", "–", "0", MISSING))
"""Cells of a row of what was not run."""
PAPER = "*paper, on its data:* "
"""Before a row of the paper's own figures, which are on its own data (ACI-IoT-2023, split not stated) and not comparable.

Source: PacketCLIP, arXiv 2503.03747v1: Table I, Table II, section IV-G and figure 7 (read off the text: "~").
"""


@dataclass(frozen=True)
class Outcome:
    """One task and what became of it."""

    task: Task
    result: Result | None

    @property
    def state(self) -> str:
        """ "done", "missing" or "failed"."""
        return MISSING if self.result is None else FAILED if self.result.error else "done"


class Results:
    """The outcomes of a plan."""

    def __init__(self, plan: Plan, store: Store, *, done_only: bool = False) -> None:
        """`done_only`: without rows and tables of what was not run."""
        self.plan, self.done_only = plan, done_only
        self.outcomes = [Outcome(task, store.read(task)) for task in tasks(plan)]
        self._predictions = lru_cache(maxsize=512)(self._read)
        self._task = {o.task.name: o.task for o in self.outcomes}
        self._arrays = lru_cache(maxsize=4)(lambda name: store.arrays(self._task[name]))

    def named(self, prefix: str) -> list[Run]:
        """The plan's runs whose name begins so, in its order."""
        return [run for run in self.plan.runs if run.name.startswith(prefix)]

    def of(self, name: str) -> list[Outcome]:
        """A run's outcomes, one for each seed."""
        return sorted((o for o in self.outcomes if o.task.run.name == name), key=lambda o: o.task.seed)

    def done(self, name: str) -> list[Outcome]:
        """Only those that went well."""
        return [o for o in self.of(name) if o.state == "done"]

    def predictions(self, outcome: Outcome, test: str, predictor: str = OURS) -> Predictions | None:
        """A test set of one of a task's predictors; None where it was not asked for."""
        return self._predictions(outcome.task.name, test, predictor)

    def _read(self, name: str, test: str, predictor: str) -> Predictions | None:
        return predictions.of(self._arrays(name), test, predictor)

    def predictors(self, name: str, test: str) -> list[str]:
        """Every predictor of a test set in a run, the run's own model first."""
        found = {key for o in self.done(name) for key in self._arrays(o.task.name) if key.startswith(f"{test}/")}
        beside = {key.removeprefix(f"{test}/") for key in found} - {OURS, *predictions.CIRCUMSTANCES}
        return [OURS, *sorted(beside)]

    def over_seeds(
        self, name: str, test: str, measure: Callable[[Predictions], Sequence[float]], predictor: str = OURS
    ) -> list[metrics.Spread] | str:
        """Each figure's spread over the seeds that are there, or why there is none."""
        found = [j for o in self.done(name) if (j := self.predictions(o, test, predictor)) is not None]
        if not found:
            return self.why(name)
        return [metrics.spread(values) for values in zip(*(measure(j) for j in found), strict=True)]

    def cells(
        self, name: str, test: str, measure: Callable[[Predictions], Sequence[float]], count: int, predictor: str = OURS
    ) -> list[str]:
        """The same as `count` cells of a table."""
        return cells(self.over_seeds(name, test, measure, predictor), count)

    def why(self, name: str) -> str:
        """ "failed" where every task of the run failed, else "missing"."""
        states = {o.state for o in self.of(name)}
        return FAILED if states == {FAILED} else MISSING

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]], labels: int = 1) -> str:
        """A Markdown table; every row has a cell for each column, first `labels` that only say what it is about. Without rows it
        is what stands for a figure that is not there."""
        rows = [row for row in rows if not (self.done_only and MISSING in row and NO_FIGURE.issuperset(row[labels:]))]
        assert all(len(row) == len(head) for row in rows), (head, rows)
        if not rows:
            return "" if self.done_only else MISSING
        return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def cell(value: metrics.Spread | float | str, digits: int = 3) -> str:
    """A figure in a table: the mean, and the range where there are several seeds."""
    if isinstance(value, str):
        return value
    if isinstance(value, float | int):
        return "–" if math.isnan(value) else f"{value:.{digits}f}"
    if not value.count:
        return "–"
    if value.count == 1:
        return f"{value.mean:.{digits}f}"
    return f"{value.mean:.{digits}f} ({value.low:.{digits}f}–{value.high:.{digits}f})"


def cells(values: list[metrics.Spread] | str, count: int, digits: int = 3) -> list[str]:
    """`count` cells, each saying "missing" where there are no values."""
    return [values] * count if isinstance(values, str) else [cell(v, digits) for v in values]


def source(results: Results, name: str, test: str) -> str:
    """Data, split, seeds and command of a run's figures, in a line below its table."""
    done = results.done(name)
    if not done:
        return "" if results.done_only and results.why(name) == MISSING else f"Run `{name}`: {results.why(name)}."
    first = done[0].result
    assert first is not None
    train, held = first.counts.get("train", {}), first.counts.get(test, {})
    seeds = ", ".join(str(o.task.seed) for o in done)
    split = "by capture" if test in done[0].task.run.train else "by source: no capture of the test set is trained on"
    return (
        f"Data of seed {done[0].task.seed}: trained on {' + '.join(done[0].task.run.train)} ({_size(train)}), tested on {test} "
        f"({_size(held)}), split {split}. Seeds {seeds}. Command: `{first.command}`."
    )


def _size(counts: dict[str, int]) -> str:
    return f"{counts.get('windows', 0):,} windows of {counts.get('captures', 0)} captures"


def signed(found: metrics.Spread | str) -> str:
    """A difference in a table: the mean, and the range where there are several."""
    if isinstance(found, str):
        return found
    return f"{found.mean:+.3f}" if found.count == 1 else f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
