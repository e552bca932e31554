"""Runs that differ only in the reasoner share the contrastive stage of their seed: it is trained once and kept in the store.

What is shared is a checkpoint at the stage's end, so a run that goes on from it is the run that would have been made without
sharing, bit for bit, where its model has the same parts. A run with another graph takes the encoder, heads and relations from the
checkpoint and its graph and temporal model fresh from its own seed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from training.data.windows import Examples
from training.evaluate.towers import Tower
from training.fit import checkpoints
from training.fit import fit as fitting
from training.fit.experiment import Experiment, Model, Reason, from_dict, said
from training.fit.predictor import Fitted

CONTRASTED = ("packet_encoder.", "packet_head.", "text_head.", "sensor.", "window_head.", "whitening.", "log_logit_scale")
"""Prefixes of the weights that the contrastive stage learns."""


def shared_fit(experiment: Experiment, train: Examples, tower: Tower, validation: Examples, folder: Path) -> Fitted:
    """`fitting.fit`, with the stages before the reasoner's taken from `folder` or put there."""
    base = before_reasoning(experiment)
    asked = {k: v for k, v in said(base).items() if k != "run"}
    key = hashlib.sha256((json.dumps(asked, sort_keys=True) + fitting.fingerprint(train)).encode()).hexdigest()[:16]
    with _alone(folder / f"{key}.lock"):  # a second process waits for the first one's stage instead of training it too
        fitted = fitting.fit(base, train, tower, work=folder / key, validation=validation)
    if not experiment.reason.steps and experiment.model == base.model:
        return fitted
    state = checkpoints.load(folder / key)
    if state is None:  # the base has no steps at all
        return fitting.fit(experiment, train, tower, validation=validation)
    state["experiment"] = json.dumps(msgspec.to_builtins(experiment))
    if experiment.model.graph != base.model.graph:
        kept = {k: v for k, v in state["model"].items() if k.startswith(CONTRASTED)}
        state["model"] = fitting.fresh(experiment, tower, train.rows.shape[1])[0].state_dict() | kept
    with tempfile.TemporaryDirectory(prefix="packetclip-evaluate-") as work:
        checkpoints.save(Path(work), state["stage"], state["step"], state)
        fitted = fitting.fit(experiment, train, tower, work=Path(work), validation=validation)
        fitted.work = None
    return fitted


def before_reasoning(experiment: Experiment) -> Experiment:
    """The experiment without what only the reasoner's stage sees."""
    raw = msgspec.to_builtins(experiment)
    raw["reason"] = msgspec.to_builtins(Reason()) | {"steps": 0}
    raw["model"] |= {"graph": Model().graph, "events": Model().events}
    raw["name"] = "shared"
    return from_dict(raw)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
