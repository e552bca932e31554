"""One task in its own process: select the data, fit, predict every test set, write the result; a failure is a result too."""

from __future__ import annotations

import resource
import shlex
import subprocess
import time
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from packetclip_sensor.errors import SensorError
from training.data.training_set import hears
from training.data.windows import CLASSES, DataError, Examples
from training.evaluate import altered, captures, occlusion, towers
from training.evaluate.baselines import REGISTRY, on_embeddings
from training.evaluate.baselines.features import packet_mean
from training.evaluate.judged import OURS, VALIDATION, to_arrays
from training.evaluate.plan import PLAN, Plan, Task, hashes, key
from training.evaluate.selection import Selection, counts, limited, select
from training.evaluate.sharing import shared_fit
from training.evaluate.store import Result, Store, machine
from training.fit import experiment as experiments
from training.fit.fit import fit
from training.fit.predictor import Fitted, class_embeddings, encode_all
from training.text import texts

OCCLUDED = ("lab", "unseen")
OCCLUDED_WINDOWS = 3000
"""Windows of a test set on which fields are hidden, drawn by chance: the prediction is repeated for each group of fields."""

Arrays = dict[str, npt.NDArray[Any]]


def command(task: Task, plan: Path, store: Path) -> str:
    """The command that makes this one result again."""
    words = ["python", "-m", "training.evaluate", "one", task.run.name, "--seed", str(task.seed)]
    if plan != PLAN:  # where the project lies on this machine is of no use to anyone else
        words += ["--plan", str(plan)]
    return shlex.join([*words, "--store", str(store)])


def execute(plan: Plan, task: Task, store: Store, again: str) -> Result:
    """Do the task and write its result, also where it failed; the error's text is then its place in the code and its message."""
    torch.set_num_threads(1)
    started = time.monotonic()
    result = Result(name=task.name, key=key(task), run=task.run.name, seed=task.seed, command=again, machine=machine())
    arrays: Arrays = {}
    try:
        result.data = hashes(plan, task)
        arrays = _judge(plan, task, store, result)
    except Exception as err:  # whatever went wrong belongs into the report
        known = isinstance(err, DataError | SensorError | OSError)
        at = traceback.extract_tb(err.__traceback__)[-1]
        result.error = str(err) if known else f"{type(err).__name__}: {err} ({Path(at.filename).name}:{at.lineno})"
        if not known:
            traceback.print_exc()
    result.minutes = round((time.monotonic() - started) / 60, 2)
    result.memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    result.finished = datetime.now(UTC).isoformat(timespec="seconds")
    result.commit = _commit()
    store.write(task, result, {} if result.error else arrays)
    return result


def _judge(plan: Plan, task: Task, store: Store, result: Result) -> Arrays:
    run = task.run
    if run.bundle:
        result.facts = {
            "captures": captures.rows(Path(run.bundle), Path(run.logs), Path(run.manifest) if run.manifest else None, run.use)
        }
        return {}
    selection = select(plan, task)
    parts = {"train": selection.train, VALIDATION: selection.validation, **selection.test}
    result.counts = {name: counts(part) for name, part in parts.items()}
    result.split = {name: sorted(set(part.capture)) for name, part in parts.items()}
    judged = {VALIDATION: selection.validation, **selection.test}
    arrays: Arrays = {}
    for name, part in judged.items():
        arrays |= to_arrays(name, part)
    if run.baseline:
        if run.baseline not in REGISTRY:
            raise DataError(f"{run.baseline!r} is no baseline; known are {', '.join(REGISTRY)}")
        predict = REGISTRY[run.baseline](selection.train, task.seed)
        arrays |= {f"{name}/{OURS}": _log(predict(part)) for name, part in judged.items()}
        return arrays
    return arrays | _model(plan, task, store, selection, judged, result)


def _model(plan: Plan, task: Task, store: Store, selection: Selection, judged: dict[str, Examples], result: Result) -> Arrays:
    chosen = experiments.read(Path(task.experiment), [*task.run.overrides, f"seed={task.seed}"])
    result.config = msgspec.to_builtins(chosen)
    tower = towers.shared(chosen, store.folder / "texts", Path(plan.text_cache) if plan.text_cache else None)
    if chosen.model.encoder == "etbert":  # its checkpoints are large and its stages in no other run
        fitted = fit(chosen, selection.train, tower, validation=selection.validation)
    else:
        fitted = shared_fit(chosen, selection.train, tower, selection.validation, store.folder / "stages")
    tower.save()
    result.history = list(fitted.history)
    prompts, words = class_embeddings(fitted.model, tower).numpy(), other_words(fitted, tower)
    arrays: Arrays = {}
    for name, part in judged.items():
        logits, embeddings = (np.asarray(x, np.float32) for x in fitted.predict(part))
        arrays[f"{name}/{OURS}"] = logits
        arrays[f"{name}/classes"] = (embeddings @ prompts.T).astype(np.float16)
        arrays[f"{name}/sentences"] = (embeddings @ words.T).astype(np.float16)
    if "embeddings" in task.run.extras and hears(chosen):

        def encode_rows(rows: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
            return encode_all(fitted.model, torch.from_numpy(rows.astype(np.int16))).numpy()

        for baseline, fit_one in on_embeddings(packet_mean(encode_rows)).items():
            predict = fit_one(selection.train, task.seed)
            arrays |= {f"{name}/{baseline}": _log(predict(part)) for name, part in judged.items()}
    if "altered" in task.run.extras:
        for way in altered.WAYS:  # embeddings of packets do not pass through the graphs, so they are kept
            other = replace(fitted, model=altered.altered(fitted.model, fitted.graphs, way, task.seed))
            arrays |= {f"{name}/{way}": np.asarray(other.predict(part)[0], np.float32) for name, part in judged.items()}
    if "occlusion" in task.run.extras:
        arrays |= _occlusion(fitted, selection, task.seed)
    return arrays


@torch.no_grad()
def other_words(fitted: Fitted, tower: towers.Tower) -> npt.NDArray[np.float32]:
    """(C, D) unit norm: the mean of each class's held-out prompts and sentences, in words that training never used of it."""
    held = [texts.held_out(name) for name in CLASSES]
    return fitted.model.class_means(tower([*h.prompts, *(s.text for s in h.sentences)]) for h in held).cpu().numpy()


def _occlusion(fitted: Fitted, selection: Selection, seed: int) -> Arrays:
    """Scores with each group of fields hidden, on a sample of each test set, which is a test set of its own."""
    arrays: Arrays = {}
    for name in OCCLUDED:
        if name not in selection.test:
            continue
        few = limited(selection.test[name], OCCLUDED_WINDOWS, seed)
        arrays |= to_arrays(f"{name}, sample", few)
        arrays[f"{name}, sample/{OURS}"] = np.asarray(fitted.predict(few)[0], np.float32)
        for group in occlusion.GROUPS:
            arrays[f"{name}, sample/without {group}"] = np.asarray(fitted.predict(occlusion.hide(few, group))[0], np.float32)
    return arrays


def _log(probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    return np.log(np.clip(probabilities, 1e-6, None)).astype(np.float32)


def _commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
