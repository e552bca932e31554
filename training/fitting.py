"""A training run as one call: `fit(experiment, train, tower)` gives a model that predicts.

Evaluation, ablations and the command `python -m training.train` all come through here, so that every number is of the same code.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from packetclip_sensor import payload
from packetclip_sensor.describe import window_text
from packetclip_sensor.tokens import PAD
from training import knowledge, parallel, texts
from training.checkpoints import write_whole
from training.data import CLASSES, DataError, Examples, TextTower, pair_texts
from training.engine import Engine
from training.etbert import EtBertEncoder
from training.experiment import Experiment
from training.export import ReasonerGraph
from training.knowledge import Graph
from training.model import ModelConfig, PacketClip, shuffled
from training.stages import BytesStage, ContrastStage, Material, ReasonStage, Stage, WordsStage


@dataclass
class Fitted:
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
        folded = None if model.config.graph == "none" else ReasonerGraph(model).eval()
        logits, embeddings = [], []
        for embedding, relations, padding in self._windows(examples):
            sensor = model.sensor(embedding, relations)
            out = model.reason(sensor, padding, last=True)[0][:, 0] if folded is None else folded(embedding, relations, padding)
            logits.append(out.cpu())
            embeddings.append(model.window_embedding(sensor, padding).cpu())
        return torch.cat(logits), torch.cat(embeddings)

    @torch.no_grad()
    def embed(self, examples: Examples) -> Tensor:
        """(N, D) unit norm window embeddings alone, on the CPU."""
        model = self.model.eval()
        return torch.cat([model.window_embedding(model.sensor(e, r), p).cpu() for e, r, p in self._windows(examples)])

    def _windows(self, examples: Examples, size: int = 512) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        device = self.model.log_logit_scale.device
        table = self._embeddings(examples)
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
        if len(fresh) and hears(self.experiment):
            tokens = torch.from_numpy(examples.tokens.astype(np.int16))[fresh]
            if self.experiment.contrast.train_encoder:
                table[fresh] = encode_all(self.model, tokens)
            else:
                key_of_rows = hashlib.sha256(tokens.numpy().tobytes()).hexdigest()
                if key_of_rows not in self._features:
                    self._features[key_of_rows] = frozen_features(self.model, tokens, self.experiment, self.work)
                table[fresh] = headed(self.model, self._features[key_of_rows])
        known |= wanted
        return table


def hears(experiment: Experiment) -> bool:
    """Whether bytes reach the model at all."""
    return experiment.model.bytes and experiment.model.encoder != "none"


@torch.no_grad()
def encode_all(model: PacketClip, tokens: Tensor) -> Tensor:
    """(U, W) rows to (U, D), on the CPU."""
    model.eval()
    device = model.log_logit_scale.device
    return torch.cat([model.encode(rows.to(device).long()).cpu() for rows in tokens.split(2048)])


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
        path = work / f"features-{digest.hexdigest()[:16]}.npy"
        if path.exists():
            return torch.from_numpy(np.load(path, allow_pickle=False))
    model.eval()
    device = model.log_logit_scale.device
    size = experiment.model.etbert.batch if slow else 2048
    out = torch.cat([model.packet_encoder(rows.to(device).long()).cpu() for rows in tokens.split(size)])
    if path and not parallel.rank():
        held = io.BytesIO()
        np.save(held, out.numpy(), allow_pickle=False)
        try:
            write_whole(path, held.getbuffer())
        except OSError as err:
            print(f"warning: {path}: {err.strerror or err}; features will be computed again", file=sys.stderr)
    return out


@torch.no_grad()
def headed(model: PacketClip, features: Tensor) -> Tensor:
    """(U, width) features of a frozen encoder to (U, D), on the CPU."""
    model.eval()
    device = model.log_logit_scale.device
    return torch.cat([model.project(model.whitening(rows.to(device))).cpu() for rows in features.split(8192)])


@torch.no_grad()
def class_embeddings(model: PacketClip, tower: TextTower) -> Tensor:
    """(classes, D) unit norm: the mean of each class's held-out prompts, which zero-shot compares windows with."""
    device = model.log_logit_scale.device
    prompts = [model.encode_text(tower(texts.class_prompts(c)).to(device)).mean(0) for c in CLASSES]
    return F.normalize(torch.stack(prompts), dim=1).cpu()


def macro_recall(nearest: Tensor, label: Tensor, classes: Sequence[int] | None = None) -> float:
    """Mean over classes that have windows of the share of their windows named right."""
    chosen = range(len(CLASSES)) if classes is None else classes
    recalls = [float((nearest[label == i] == i).float().mean()) for i in chosen if (label == i).any()]
    return float(np.mean(recalls)) if recalls else float("nan")


def check(train: Examples, experiment: Experiment) -> list[str]:
    """What is wrong with the training windows, before an hour is spent on them: messages that do not stop training.

    Raises:
        DataError: there is nothing to tell apart, or `data.strict` is set and a message would have been returned.
    """
    label = train.label.numpy()
    if not (label == 0).any():
        raise DataError("no benign window to train on; give the pairs of captures without attacks as well")
    if not (label > 0).any():
        raise DataError("no window of an attack to train on; give the pairs of captures with labelled attacks as well")
    if not np.isfinite(train.relations.sum().item()):
        raise DataError("windows hold relations that are no numbers; make the pairs again with `packetclip pairs`")
    said = []
    least = experiment.data.minimum_windows
    for i, name in enumerate(CLASSES):
        own = label == i
        captures = len(set(train.capture[own]))
        if not own.any():
            said.append(f"class {name} has no window: the model will not know it; record some, or leave it so on purpose")
        elif own.sum() < least:
            said.append(f"class {name} has {own.sum()} windows, fewer than {least}: it will hardly be learned; record more")
        elif captures == 1:
            said.append(f"class {name} has one capture: the model may learn the place instead; record it a second time elsewhere")
    if said and experiment.data.strict:
        raise DataError("; ".join(said) + "; or set data.strict=false")
    return said


def fix_heads(model: PacketClip, head: str, seed: int) -> list[str]:
    """Keep linear heads that do not learn: the identity where sizes allow, else a random projection. Returns what was done."""
    said = []
    generator = torch.Generator().manual_seed(seed + 104729)
    for name, layer in (("packet", model.packet_head), ("text", model.text_head)):
        if head in ("both", name):
            continue
        out, width = layer.weight.shape
        with torch.no_grad():
            if out == width:
                layer.weight.copy_(torch.eye(out))
                said.append(f"{name} head: fixed, raw features of width {width}")
            else:
                weight = torch.randn(max(out, width), min(out, width), generator=generator)
                basis = torch.linalg.qr(weight).Q
                layer.weight.copy_(basis if out > width else basis.T)
                said.append(f"{name} head: fixed, random projection of features of width {width} to {out}")
        layer.requires_grad_(False)
    if head in ("text", "none"):
        model.window_head.requires_grad_(False)  # stays the mean
    return said


class ZeroShot:
    """Top-1 of held-out prompts on a fixed few of the validation windows, for the training curves."""

    def __init__(self, validation: Examples, tower: TextTower, experiment: Experiment, work: Path | None) -> None:
        rng = np.random.default_rng(experiment.seed)
        label = validation.label.numpy()
        few = experiment.run.validate_windows
        own = [np.nonzero(label == k)[0] for k in range(len(CLASSES))]
        self._examples = validation.take(np.concatenate([np.sort(rng.permutation(at)[:few]) for at in own]))
        self._tower, self._without = tower, [CLASSES.index(name) for name in experiment.contrast.without]
        self._stage, self._experiment, self._work = "", experiment, work
        self._fitted: Fitted | None = None

    def __call__(self, stage: Stage) -> dict[str, float]:
        """The figures of the model as it is."""
        if stage.name in ("bytes", "words"):
            return {}
        if self._fitted is None:
            self._fitted = Fitted(stage.model, self._experiment, [], [], self._work)
        if stage.name == "contrast" or self._stage != stage.name:
            self._fitted.forget()
        self._stage = stage.name
        embeddings = self._fitted.embed(self._examples)
        nearest = (embeddings @ class_embeddings(stage.model, self._tower).T).argmax(1)
        out = {"zero_shot_top1": macro_recall(nearest, self._examples.label)}
        if self._without:
            out["zero_shot_top1_left_out"] = macro_recall(nearest, self._examples.label, self._without)
        return out


def fit(
    experiment: Experiment,
    train: Examples,
    tower: TextTower,
    *,
    work: Path | None = None,
    validation: Examples | None = None,
    resume: bool = True,
) -> Fitted:
    """Train a model; the same experiment on the same windows gives the same model.

    Args:
        work: folder of checkpoints and TensorBoard curves; a run that stopped goes on from there.
        validation: windows for zero-shot top-1 in the history; they change nothing that is learned.
        resume: False refuses a `work` that holds checkpoints.
    Raises:
        DataError: the windows are unfit. ConfigError: a setting does not fit, or `work` is of another run. TrainingError.
    """
    for message in check(train, experiment):
        if not parallel.rank():
            print(f"warning: {message}", file=sys.stderr)
    if any(
        chosen.batch % parallel.world() for chosen in (experiment.bytes, experiment.words, experiment.contrast, experiment.reason)
    ):
        raise DataError(
            f"{parallel.world()} processes do not divide every batch; change the batch of bytes, words, contrast and reason"
        )
    device = torch.device(parallel.start(chosen_device(experiment)))
    torch.manual_seed(experiment.seed)
    graphs = knowledge.load_all()
    concepts = tower([texts.concept_prompt(c) for g in graphs for level in g.levels for c in level])
    if experiment.model.graph == "shuffled":
        graphs, concepts = shuffled(graphs, concepts, experiment.seed)
    model = build(experiment, graphs, concepts, train.rows.shape[1])
    notes = fix_heads(model, experiment.contrast.head, experiment.seed)
    material = gathered(model.to(device), experiment, train, tower, device)
    if not parallel.rank():
        print(
            f"{len(material.features)} distinct texts; {sum(p.numel() for p in model.parameters()):,} parameters",
            *notes,
            sep="\n",
        )
    zero_shot = ZeroShot(validation, tower, experiment, work) if validation is not None and len(validation) else None
    stages = plan(material, work)
    engine = Engine(
        model,
        experiment,
        work=work,
        fingerprint=fingerprint(train),
        validate=zero_shot,
        left_out=("packet_encoder.",) if frozen_etbert(experiment) else (),
    )
    engine.run(stages, resume=resume)
    return Fitted(model.eval(), experiment, graphs, engine.history, work)


def chosen_device(experiment: Experiment) -> str:
    """cpu or cuda. Raises DataError where cuda is wanted and there is none."""
    wanted = experiment.run.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise DataError("run.device is cuda and there is no CUDA device; set run.device=auto")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def frozen_etbert(experiment: Experiment) -> bool:
    """Whether the encoder's weights stay as they are read from their file."""
    return experiment.model.encoder == "etbert" and not experiment.contrast.train_encoder


def build(experiment: Experiment, graphs: list[Graph], concepts: Tensor, window: int) -> PacketClip:
    """The model with fresh weights. Raises ConfigError for an unfit checkpoint."""
    m, frozen = experiment.model, not experiment.contrast.train_encoder
    config = ModelConfig(
        width=m.etbert.width if m.encoder == "etbert" else m.width,
        layers=m.etbert.layers if m.encoder == "etbert" else m.layers,
        heads=m.etbert.heads if m.encoder == "etbert" else m.heads,
        patch=m.patch,
        embedding=m.embedding,
        graph_width=m.graph_width,
        temporal_heads=m.temporal_heads,
        temporal_inner=m.temporal_inner,
        window=window,
        encoder=m.encoder,
        whiten=frozen and experiment.contrast.whiten,
        relations=m.relations,
        bytes=m.bytes,
        graph=m.graph,
        message=m.message,
        segments=m.segments,
        packets=m.window_packets if m.window_packets < window else None,
    )
    return PacketClip(graphs, concepts, config, EtBertEncoder(m.etbert) if m.encoder == "etbert" else None)


def gathered(model: PacketClip, experiment: Experiment, train: Examples, tower: TextTower, device: torch.device) -> Material:
    """What the stages learn from: texts, their features, and the rows that training windows hold."""
    looks = np.array([window_text(json.loads(facts)) for facts in train.facts], dtype=object)
    sentences, text_of = pair_texts(train, experiment.seed, experiment.data.texts)
    rows = train.rows
    if model.config.packets is not None:
        rows = rows.clone()
        rows[:, : -model.config.packets] = -1
    used, number = rows[rows >= 0].unique(return_inverse=True)
    rows = torch.full_like(rows, -1).masked_scatter(rows >= 0, number)
    tokens = torch.from_numpy(train.tokens[used.numpy()].astype(np.int16))
    phrases, phrase_of = (
        phrased(train.tokens[used.numpy()]) if hears(experiment) else (["nothing"], np.zeros(len(used), np.int64))
    )
    features, said = tower(sentences).to(device), tower([texts.packet_prompt(p) for p in phrases]).to(device)
    bare, bare_of = without_facts(sentences, text_of, looks)
    seen, seen_of = np.unique(looks.astype(str), return_inverse=True)
    return Material(
        model,
        experiment,
        train,
        looks,
        tokens,
        rows,
        features=features,
        text_of=text_of,
        bare=tower(bare).to(device),
        bare_of=bare_of,
        seen=tower(seen.tolist()).to(device),
        seen_of=torch.from_numpy(seen_of.astype(np.int64)),
        phrases=said,
        phrase_of=torch.from_numpy(phrase_of),
        device=device,
    )


def without_facts(sentences: list[str], text_of: Tensor, looks: npt.NDArray[np.object_]) -> tuple[list[str], Tensor]:
    """The sentences of texts without the facts that follow them: the distinct ones, and the (S,) number of each text's."""
    look_of = dict(zip(text_of.flatten().tolist(), np.repeat(looks, text_of.shape[1]), strict=True))
    bare = [text.removesuffix(look_of.get(i, "")).strip() for i, text in enumerate(sentences)]
    number = {text: i for i, text in enumerate(dict.fromkeys(bare))}
    return list(number), torch.tensor([number[text] for text in bare])


def phrased(rows: npt.NDArray[np.uint16]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """What packets say: (U, W) tokens to the distinct phrases and the (U,) number of each row's."""
    data, captured = np.where(rows < PAD, rows, 0).astype(np.uint8), (rows != PAD).sum(1)
    said = [payload.words(row[:n].tobytes()) for row, n in zip(data, captured, strict=True)]
    phrases, number = np.unique(np.array(said, dtype=object).astype(str), return_inverse=True)
    return phrases.tolist(), number.astype(np.int64)


def plan(material: Material, work: Path | None) -> list[Callable[[], Stage]]:
    """The stages in order; each is made when its turn comes. A stage without steps, or with nothing to learn, is left out."""
    experiment = material.experiment
    out: list[Callable[[], Stage]] = []
    if experiment.bytes.steps and experiment.model.encoder == "patch" and experiment.model.bytes:
        out.append(partial(BytesStage, material))
    if experiment.words.steps and experiment.model.encoder == "patch" and experiment.model.bytes:
        out.append(partial(WordsStage, material))
    if experiment.contrast.steps:
        out.append(partial(contrast_stage, material, work))
    if experiment.reason.steps:
        out.append(partial(reason_stage, material, work))
    return out


def contrast_stage(material: Material, work: Path | None) -> Stage:
    """The contrastive stage; a frozen encoder's features are computed once, and whitened."""
    model = material.model
    model.packet_encoder.requires_grad_(material.experiment.contrast.train_encoder)
    table = None
    if material.hears and not material.experiment.contrast.train_encoder:
        features = frozen_features(model, material.tokens, material.experiment, work)
        table = whitened(model, features)
    return ContrastStage(material, table)


def whitened(model: PacketClip, features: Tensor) -> Tensor:
    """Fit the model's whitening, where it has one, to training features (U, width), and return them whitened."""
    if isinstance(model.whitening, nn.Identity):
        return features
    with torch.no_grad():
        model.whitening.fit(features.to(model.log_logit_scale.device))
        return torch.cat([model.whitening(rows.to(model.log_logit_scale.device)).cpu() for rows in features.split(8192)])


def reason_stage(material: Material, work: Path | None) -> Stage:
    """The reasoner stage over embeddings that no longer change."""
    model, experiment = material.model, material.experiment
    if not material.hears:
        table = torch.zeros(len(material.tokens), model.config.embedding)
    elif experiment.contrast.train_encoder:
        table = encode_all(model, material.tokens)
    else:
        features = frozen_features(model, material.tokens, experiment, work)
        if not experiment.contrast.steps:
            whitened(model, features)
        table = headed(model, features)
    return ReasonStage(material, table.to(material.device))


def fingerprint(train: Examples) -> str:
    """16 hex digits that tell training windows apart."""
    digest = hashlib.sha256(str(tuple(train.rows.shape)).encode())
    for array in (train.rows.numpy(), train.label.numpy(), train.relations.numpy()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
