"""A trained model that predicts: logits and embeddings of windows, each distinct packet row encoded once."""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.common import write_arrays
from training.data.training_set import Encode
from training.data.windows import CLASSES, Examples
from training.fit import distributed
from training.fit.settings import Experiment
from training.fit.stages import Stage
from training.model.inference import Reasoner
from training.model.packetclip import PacketClip
from training.text import texts
from training.text.knowledge import Graph


@dataclass
class Predictor:
    """A trained model with what made it."""

    model: PacketClip
    experiment: Experiment
    graphs: list[Graph]
    history: list[dict[str, Any]]
    """An entry every `run.log_steps` steps: stage, step, loss; zero_shot_top1 where it was measured."""
    work: Path | None = None
    _known: dict[int, tuple[npt.NDArray[np.uint16], Tensor, Tensor]] = field(default_factory=dict, repr=False)
    _features: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def forget(self) -> None:
        """Compute embeddings anew: the model's weights have changed."""
        self._known.clear()

    @torch.no_grad()
    def predict(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """(N, M+1) logits at the end of each window and (N, D) unit norm window embeddings, float32 on the CPU."""
        model = self.model.eval()
        reasoner = None if model.config.graph == "none" else Reasoner(model).eval()
        logits, embeddings = [], []
        for embedding, relations, padding in self._windows(examples):
            sensor = model.sensor(embedding, relations)
            plain = reasoner is None
            out = model.reason(sensor, padding, last=True)[0][:, 0] if plain else reasoner(embedding, relations, padding)
            logits.append(out.cpu())
            embeddings.append(model.window_embedding(sensor, padding).cpu())
        return torch.cat(logits), torch.cat(embeddings)

    @torch.no_grad()
    def embed(self, examples: Examples) -> Tensor:
        """(N, D) unit norm window embeddings alone, on the CPU."""
        model = self.model.eval()
        return torch.cat([model.window_embedding(model.sensor(e, r), p).cpu() for e, r, p in self._windows(examples)])

    def _windows(self, examples: Examples, size: int = 512) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        table, device = self._embeddings(examples), self.model.device
        for start in range(0, len(examples), size):
            rows = examples.rows[start : start + size]
            padding = (rows < 0).to(device)
            embedding = table[rows.clamp(min=0)].to(device) * (~padding)[:, :, None]
            yield embedding, examples.relations[start : start + size].to(device), padding

    def _embeddings(self, examples: Examples) -> Tensor:
        """(U, D) embeddings of the rows that the windows hold, each computed once; other rows are zero."""
        count = len(examples.tokens)
        key = id(examples.tokens)
        if key not in self._known:  # the array is kept, so that no other one can get its id
            self._known[key] = (
                examples.tokens,
                torch.zeros(count, self.model.config.embedding),
                torch.zeros(count, dtype=torch.bool),
            )
        _, table, known = self._known[key]
        wanted = torch.zeros(count, dtype=torch.bool)
        wanted[examples.rows[examples.rows >= 0]] = True
        fresh = (wanted & ~known).nonzero()[:, 0]
        if len(fresh) and self.experiment.model.bytes:
            tokens = torch.from_numpy(examples.tokens[fresh.numpy()].astype(np.int16))
            if self.experiment.contrast.train_encoder:
                table[fresh] = encode_all(self.model, tokens)
            else:
                key_of_rows = hashlib.sha256(tokens.numpy().tobytes()).hexdigest()
                if key_of_rows not in self._features:
                    self._features[key_of_rows] = frozen_features(self.model, tokens, self.experiment, self.work)
                table[fresh] = headed(self.model, self._features[key_of_rows])
        known |= wanted
        return table


@torch.no_grad()
def encode_all(model: PacketClip, tokens: Tensor) -> Tensor:
    """(U, W) rows to (U, D), on the CPU."""
    model.eval()
    return torch.cat([model.encode(rows.to(model.device).long()).cpu() for rows in tokens.split(2048)])


@torch.no_grad()
def frozen_features(model: PacketClip, tokens: Tensor, experiment: Experiment, work: Path | None) -> Tensor:
    """(U, W) rows to (U, width) features before whitening, kept in `work` where an encoder is slow."""
    slow = experiment.model.encoder == "etbert"
    path = None
    if slow and work:
        digest = hashlib.sha256(tokens.numpy().tobytes())
        for weight in model.packet_encoder.state_dict().values():
            digest.update(weight.cpu().numpy().tobytes())
        digest.update(repr(experiment.model.etbert).encode())
        path = work / f"features-{digest.hexdigest()[:16]}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as arrays:
                return torch.from_numpy(arrays["features"])
    model.eval()
    size = experiment.model.etbert.batch if slow else 2048
    out = torch.cat([model.packet_encoder(rows.to(model.device).long()).cpu() for rows in tokens.split(size)])
    if path and not distributed.rank():
        try:
            write_arrays(path, features=out.numpy())
        except OSError as err:
            print(f"warning: {path}: {err.strerror or err}; features will be computed again", file=sys.stderr)
    return out


@torch.no_grad()
def headed(model: PacketClip, features: Tensor) -> Tensor:
    """(U, width) features of a frozen encoder to (U, D), on the CPU."""
    model.eval()
    return torch.cat([model.project(model.whitening(rows.to(model.device))).cpu() for rows in features.split(8192)])


@torch.no_grad()
def class_embeddings(model: PacketClip, encode: Encode) -> Tensor:
    """(classes, D) unit norm: the mean of each class's held-out prompts, which zero-shot compares windows with."""
    return model.class_means(encode(texts.class_prompts(c)) for c in CLASSES).cpu()


def macro_recall(nearest: Tensor, label: Tensor, classes: Sequence[int] | None = None) -> float:
    """Mean over classes that have windows of the share of their windows named right."""
    chosen = range(len(CLASSES)) if classes is None else classes
    recalls = [float((nearest[label == i] == i).float().mean()) for i in chosen if (label == i).any()]
    return float(np.mean(recalls)) if recalls else float("nan")


class ZeroShot:
    """Top-1 of held-out prompts on a fixed few of the validation windows, for the training curves."""

    def __init__(self, validation: Examples, encode: Encode, experiment: Experiment, work: Path | None) -> None:
        rng = np.random.default_rng(experiment.seed)
        label = validation.label.numpy()
        few = experiment.run.validate_windows
        own = [np.nonzero(label == k)[0] for k in range(len(CLASSES))]
        self._examples = validation.take(np.concatenate([np.sort(rng.permutation(at)[:few]) for at in own]))
        self._encode, self._without = encode, [CLASSES.index(name) for name in experiment.contrast.without]
        self._stage, self._experiment, self._work = "", experiment, work
        self._predictor: Predictor | None = None

    def __call__(self, stage: Stage) -> dict[str, float]:
        """The figures of the model as it is."""
        if stage.name in ("bytes", "words"):
            return {}
        if self._predictor is None:
            self._predictor = Predictor(stage.model, self._experiment, [], [], self._work)
        if stage.name == "contrast" or self._stage != stage.name:
            self._predictor.forget()
        self._stage = stage.name
        embeddings = self._predictor.embed(self._examples)
        nearest = (embeddings @ class_embeddings(stage.model, self._encode).T).argmax(1)
        out = {"zero_shot_top1": macro_recall(nearest, self._examples.label)}
        if self._without:
            out["zero_shot_top1_left_out"] = macro_recall(nearest, self._examples.label, self._without)
        return out
