"""The plan: which data there is and which runs are made of it, in order of importance, read from YAML."""

import hashlib
import re
from functools import cache
from glob import glob
from pathlib import Path
from typing import Literal

import msgspec

from packetclip_sensor.errors import ConfigError
from training.fit import experiment as experiments

PLAN = Path(__file__).with_name("plan.yaml")
RULES = "rules"
"""Name of the baseline that judges whole captures by plain rates (training.evaluate.baselines.rules)."""
Extra = Literal["embeddings", "occlusion", "altered"]


class Files(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One source of windows: cut finely for training, and as the sensor judges them (each second) for tests."""

    train: list[str] = []
    test: list[str] = []
    captures: str = ""
    """Regular expression: only test captures whose name holds it; empty is all."""


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the plan: the same run with several seeds."""

    name: str
    seeds: list[int] = msgspec.field(default_factory=lambda: [1])
    experiment: str = ""
    """Experiment YAML; empty is the plan's."""
    overrides: list[str] = []
    baseline: str = ""
    """Name in training.evaluate.baselines.REGISTRY, or RULES; empty is the model."""
    train: list[str] = []
    test: list[str] = []
    share: float = 1.0
    """Share of the training captures that is used."""
    extras: list[Extra] = []
    """What is measured beside: baselines on this model's embeddings, altered graphs, and with the first seed hidden fields."""
    bundle: str = ""
    """Bundle folder: the run judges whole captures with the shipped pipeline, and nothing is trained."""
    logs: str = ""
    """Folder of such captures' logs; labels from labels.json, or from the manifest."""
    manifest: str = ""
    use: str = "test only"
    """Captures of the manifest to judge: of one use, or "any" for all from sources that the bundle was not trained on."""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of it; paths are relative to the working directory."""

    experiment: str
    overrides: list[str] = []
    """For every run, before its own."""
    data: dict[str, Files]
    runs: list[Run]
    text_cache: str = ""
    """File of text features that runs start from; each adds its own beside it."""


class Task(msgspec.Struct, frozen=True):
    """A run with one seed: what one process does."""

    run: Run
    seed: int
    experiment: str

    @property
    def name(self) -> str:
        """Name of the result's files."""
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.run.name).strip("-") + f"-{self.seed}"


def read(path: Path) -> Plan:
    """Read a plan.

    Raises:
        ConfigError: not readable, an unknown key, or a run that names data the plan does not have.
    """
    try:
        plan = msgspec.yaml.decode(path.read_bytes(), type=Plan)
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror}; name a plan, see training/evaluate/plan.yaml") from err
    except (msgspec.DecodeError, msgspec.ValidationError) as err:
        raise ConfigError(f"{path}: {err}; training/evaluate/plan.yaml shows the form of a plan") from err
    for run in plan.runs:
        for part, names in (("train", run.train), ("test", run.test)):
            for name in names:
                if not getattr(plan.data.get(name, Files()), part):
                    raise ConfigError(
                        f"{path}: run {run.name!r} has no {part} files of {name!r}; the data are {', '.join(plan.data)}"
                    )
    names = [task.name for task in tasks(plan)]
    if twice := {n for n in names if names.count(n) > 1}:
        raise ConfigError(f"{path}: {', '.join(sorted(twice))} stands twice; give each run its own name")
    return plan


def tasks(plan: Plan) -> list[Task]:
    """All tasks in the plan's order: first every run's first seed, then the others, so that an early end still has all rows."""
    found = [(seed != run.seeds[0], task_of(plan, run, seed)) for run in plan.runs for seed in run.seeds]
    return [task for late in (False, True) for is_late, task in found if is_late == late]


def task_of(plan: Plan, run: Run, seed: int) -> Task:
    """A run with one seed, and with everything that the plan says of it."""
    extras: list[Extra] = run.extras if seed == run.seeds[0] else [e for e in run.extras if e != "occlusion"]
    own = msgspec.structs.replace(run, extras=extras, overrides=[*plan.overrides, *run.overrides])
    return Task(own, seed, run.experiment or plan.experiment)


def key(task: Task) -> str:
    """Hash of everything that is asked of a task but the data: another key is another run.

    Of the experiment's settings those that are empty say nothing, so a new one of these leaves the keys as they were.
    """
    run = msgspec.structs.replace(task.run, seeds=[], name="")
    recipe: object = None
    if not (run.baseline or run.bundle):  # what the recipe says is not asked of them
        recipe = experiments.identity(experiments.read(Path(task.experiment), run.overrides))
    asked = msgspec.json.encode((msgspec.structs.replace(run, experiment="", overrides=[]), task.seed, recipe), order="sorted")
    return hashlib.sha256(asked).hexdigest()[:16]


def files(plan: Plan, task: Task) -> dict[str, list[Path]]:
    """The files that a task reads, by "train NAME" and "test NAME".

    Raises:
        ConfigError: a pattern that matches nothing.
    """
    if task.run.bundle:
        held = [str(Path(task.run.bundle, "manifest.json")), *([task.run.manifest] if task.run.manifest else [])]
        return {"bundle": _matching(held)}  # the bundle's manifest holds the hashes of its other files
    if task.run.baseline == RULES:
        return {"labels": _matching([task.run.manifest or f"{task.run.logs}/*/labels.json"])}
    out = {f"train {n}": _matching(plan.data[n].train) for n in task.run.train}
    tests = dict.fromkeys([*task.run.test, *task.run.train])
    out |= {f"test {n}": _matching(plan.data[n].test) for n in tests if plan.data[n].test}
    return out


def _matching(patterns: list[str]) -> list[Path]:
    found = []
    for pattern in patterns:
        here = sorted(Path(p) for p in glob(pattern))  # noqa: PTH207  (patterns may be absolute)
        if not here:
            raise ConfigError(f"{pattern}: no such file; docs/evaluation.md says which files a run needs and what makes them")
        found += here
    return found


def hashes(plan: Plan, task: Task) -> dict[str, str]:
    """16 hex digits of the SHA-256 of each file that a task reads, by path."""
    return {str(p): _digest(str(p), p.stat().st_mtime_ns) for paths in files(plan, task).values() for p in paths}


@cache
def _digest(path: str, _changed: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
