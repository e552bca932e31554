"""What the runs of a store share: features of texts, and the contrastive stage of runs that differ only in the reasoner.

The stage is trained once for each seed and kept as a checkpoint at its end, so a run that goes on from it is the run that would
have been made without sharing, bit for bit, where its model has the same parts. A run with another graph takes the encoder, heads
and relations from the checkpoint and its graph and temporal model fresh from its own seed.
"""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch

from training.data.training_set import Encode
from training.data.windows import Examples
from training.fit import checkpoints
from training.fit.experiment import from_dict, identity
from training.fit.fit import fingerprint, fit, fresh
from training.fit.predictor import Predictor
from training.fit.settings import Experiment, Model, Reason
from training.text.text_encoder import TextEncoder, minilm

CONTRASTED = ("packet_encoder.", "packet_head.", "text_head.", "sensor.", "window_head.", "whitening.", "log_logit_scale")
"""Prefixes of the weights that the contrastive stage learns."""
RANDOM = "random"
"""As `text.encoder`: MiniLM's architecture and tokens with random weights, to measure what pre-trained words are worth."""


def shared_fit(experiment: Experiment, train: Examples, encode: Encode, validation: Examples, folder: Path) -> Predictor:
    """`fit`, with the stages before the reasoner's taken from `folder` or put there."""
    base = before_reasoning(experiment)
    asked = {k: v for k, v in identity(base).items() if k != "run"}
    key = hashlib.sha256((json.dumps(asked, sort_keys=True) + fingerprint(train)).encode()).hexdigest()[:16]
    with _alone(folder / f"{key}.lock"):  # a second process waits for the first one's stage instead of training it too
        predictor = fit(base, train, encode, work=folder / key, validation=validation)
    if not experiment.reason.steps and experiment.model == base.model:
        return predictor
    state = checkpoints.load(folder / key)
    if state is None:  # the base has no steps at all
        return fit(experiment, train, encode, validation=validation)
    state["experiment"] = json.dumps(msgspec.to_builtins(experiment))
    if experiment.model.graph != base.model.graph:
        kept = {k: v for k, v in state["model"].items() if k.startswith(CONTRASTED)}
        state["model"] = fresh(experiment, encode, train.rows.shape[1])[0].state_dict() | kept
    with tempfile.TemporaryDirectory(prefix="packetclip-evaluate-") as work:
        checkpoints.save(Path(work), state["stage"], state["step"], state)
        predictor = fit(experiment, train, encode, work=Path(work), validation=validation)
        predictor.work = None
    return predictor


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


def text_encoder(experiment: Experiment, folder: Path, known: Path | None) -> TextEncoder:
    """The encoder that an experiment names, with the features that a store already has of it.

    Args:
        folder: of the store's features. known: one more file of features of the default encoder.
    """
    name = experiment.text.encoder
    if name is None:
        return TextEncoder(None, folder / "default", known)
    path = str(_random_encoder(folder / "random-encoder")) if name == RANDOM else name
    return TextEncoder(path, folder / hashlib.sha256(name.encode()).hexdigest()[:16])


def _random_encoder(folder: Path) -> Path:
    """A folder with the default encoder's tokens and architecture, and weights never trained (seed 0)."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer  # noqa: PLC0415  (two seconds that only this needs)

    if not (folder / "config.json").exists():
        part = folder.with_name(f".{folder.name}-{os.getpid()}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            AutoModel.from_config(AutoConfig.from_pretrained(minilm(), local_files_only=True)).save_pretrained(part)
        AutoTokenizer.from_pretrained(minilm(), local_files_only=True).save_pretrained(part)
        part.rename(folder)
    return folder
