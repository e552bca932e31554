"""One task in its own process: select the data, fit, predict every test set, write the result; a failure is a result too."""

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
from training.common import DataError
from training.data.training_set import Encode
from training.data.windows import CLASSES, Examples
from training.evaluate import altered_graphs, captures, occlusion
from training.evaluate.baselines import REGISTRY, on_embeddings, rules
from training.evaluate.baselines.features import packet_mean
from training.evaluate.plan import PLAN, RULES, Plan, Task, hashes, key
from training.evaluate.predictions import OURS, VALIDATION, to_arrays
from training.evaluate.runs import sharing
from training.evaluate.runs.selection import Selection, counts, limited, select
from training.evaluate.runs.store import Result, Store, machine
from training.fit import experiment as experiments
from training.fit.fit import fit
from training.fit.predictor import Predictor, class_embeddings, encode_all
from training.text import texts

OCCLUDED = ("lab", "unseen")
OCCLUDED_WINDOWS = 3000
"""Windows of a test set on which fields are hidden, drawn at random: the prediction is repeated for each group of fields."""

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
        arrays = _arrays(plan, task, store, result)
    except Exception as err:  # whatever went wrong belongs into the report
        known = isinstance(err, SensorError | OSError)
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


def _arrays(plan: Plan, task: Task, store: Store, result: Result) -> Arrays:
    run = task.run
    if run.bundle:
        manifest = Path(run.manifest) if run.manifest else None
        result.facts = {"captures": captures.rows(Path(run.bundle), Path(run.logs), manifest, run.use)}
        return {}
    if run.baseline == RULES:
        result.facts = {"captures": rules.rows(Path(run.logs), Path(run.manifest) if run.manifest else None, run.use)}
        return {}
    selection = select(plan, task)
    evaluated = {VALIDATION: selection.validation, **selection.test}
    parts = {"train": selection.train, **evaluated}
    result.counts = {name: counts(part) for name, part in parts.items()}
    result.split = {name: sorted(set(part.capture)) for name, part in parts.items()}
    arrays: Arrays = {}
    for name, part in evaluated.items():
        arrays |= to_arrays(name, part)
    arrays |= {f"{name}/benign_packets": np.array(count) for name, count in selection.benign_packets.items()}
    if not run.baseline:
        return arrays | _model(plan, task, store, selection, evaluated, result)
    if run.baseline not in REGISTRY:
        raise DataError(f"{run.baseline!r} is no baseline; known are {', '.join(REGISTRY)}")
    predict = REGISTRY[run.baseline](selection.train, task.seed)
    return arrays | {f"{name}/{OURS}": _log(predict(part)) for name, part in evaluated.items()}


def _model(plan: Plan, task: Task, store: Store, selection: Selection, evaluated: dict[str, Examples], result: Result) -> Arrays:
    chosen = experiments.read(Path(task.experiment), [*task.run.overrides, f"seed={task.seed}"])
    result.config = msgspec.to_builtins(chosen)
    known = Path(plan.text_cache) if plan.text_cache else None
    encode = sharing.text_encoder(chosen, store.folder / "texts", known)
    if chosen.model.encoder == "etbert":  # its checkpoints are large and its stages in no other run
        predictor = fit(chosen, selection.train, encode, validation=selection.validation)
    else:
        predictor = sharing.shared_fit(chosen, selection.train, encode, selection.validation, store.folder / "stages")
    result.history = list(predictor.history)
    prompts, words = class_embeddings(predictor.model, encode).numpy(), other_words(predictor, encode)
    arrays: Arrays = {}
    for name, part in evaluated.items():
        logits, embeddings = (np.asarray(x, np.float32) for x in predictor.predict(part))
        arrays[f"{name}/{OURS}"] = logits
        arrays[f"{name}/classes"] = (embeddings @ prompts.T).astype(np.float16)
        arrays[f"{name}/sentences"] = (embeddings @ words.T).astype(np.float16)
    if "embeddings" in task.run.extras and chosen.model.bytes:

        def encode_rows(rows: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
            return encode_all(predictor.model, torch.from_numpy(rows.astype(np.int16))).numpy()

        for baseline, fit_one in on_embeddings(packet_mean(encode_rows)).items():
            predict = fit_one(selection.train, task.seed)
            arrays |= {f"{name}/{baseline}": _log(predict(part)) for name, part in evaluated.items()}
    if "altered" in task.run.extras:
        for way in altered_graphs.WAYS:  # embeddings of packets do not pass through the graphs, so they are kept
            model = altered_graphs.altered(predictor.model, predictor.graphs, way, task.seed)
            other = replace(predictor, model=model)
            arrays |= {f"{name}/{way}": np.asarray(other.predict(part)[0], np.float32) for name, part in evaluated.items()}
    if "occlusion" in task.run.extras:
        arrays |= _occlusion(predictor, selection, task.seed)
    return arrays


@torch.no_grad()
def other_words(predictor: Predictor, encode: Encode) -> npt.NDArray[np.float32]:
    """(C, D) unit norm: the mean of each class's held-out prompts and sentences, in words that training never used of it."""
    return predictor.model.class_means(encode(texts.held_out(name).all) for name in CLASSES).cpu().numpy()


def _occlusion(predictor: Predictor, selection: Selection, seed: int) -> Arrays:
    """Scores with each group of fields hidden, on a sample of each test set, which is a test set of its own."""
    arrays: Arrays = {}
    for name in OCCLUDED:
        if name not in selection.test:
            continue
        few = limited(selection.test[name], OCCLUDED_WINDOWS, seed)
        arrays |= to_arrays(f"{name}, sample", few)
        hidden = {OURS: few} | {f"without {group}": occlusion.hide(few, group) for group in occlusion.GROUPS}
        arrays |= {f"{name}, sample/{key}": np.asarray(predictor.predict(part)[0], np.float32) for key, part in hidden.items()}
    return arrays


def _log(probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    return np.log(np.clip(probabilities, 1e-6, None)).astype(np.float32)


def _commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
