"""A training run as one call: `fit(experiment, train, tower)` gives a model that predicts.

Evaluation, ablations and the command `python -m training.fit.train` all come through here, so every number is of the same code.
"""

from __future__ import annotations

import hashlib
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.data.training_set import Material, gathered
from training.data.windows import CLASSES, GROUP_OF_CLASS, DataError, Examples, TextTower
from training.fit import distributed
from training.fit.engine import Engine, Planned
from training.fit.experiment import Experiment
from training.fit.predictor import Fitted, ZeroShot, encode_all, frozen_features, headed
from training.fit.stages import BytesStage, ContrastStage, ReasonStage, Stage, WordsStage
from training.model.config import ModelConfig
from training.model.etbert import EtBertEncoder
from training.model.graphs import EventNodes, shuffled
from training.model.packetclip import PacketClip
from training.text import knowledge, texts
from training.text.knowledge import Graph


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
        if not distributed.rank():
            print(f"warning: {message}", file=sys.stderr)
    if any(
        chosen.batch % distributed.world()
        for chosen in (experiment.bytes, experiment.words, experiment.contrast, experiment.reason)
    ):
        raise DataError(
            f"{distributed.world()} processes do not divide every batch; change the batch of bytes, words, contrast and reason"
        )
    device = torch.device(distributed.start(chosen_device(experiment)))
    model, graphs = fresh(experiment, tower, train.rows.shape[1])
    notes = fix_heads(model, experiment.contrast.head, experiment.seed)
    material = gathered(model.to(device), experiment, train, tower, device)
    if not distributed.rank():
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


def fresh(experiment: Experiment, tower: TextTower, window: int) -> tuple[PacketClip, list[Graph]]:
    """The model with its first weights, which are the seed's, and its graphs. Raises ConfigError for an unfit checkpoint."""
    torch.manual_seed(experiment.seed)
    graphs = knowledge.load_all()
    concepts = tower([texts.concept_prompt(c) for g in graphs for level in g.levels for c in level])
    sentences = [tower(texts.event_sentences(c)) for c in CLASSES]
    if experiment.model.graph == "shuffled":
        graphs, concepts, sentences = shuffled(graphs, concepts, sentences, experiment.seed)
    events = None
    if experiment.model.events and experiment.model.graph != "none":
        events = EventNodes(sentences, GROUP_OF_CLASS, experiment.model.events)
    return _build(experiment, graphs, concepts, events, window), graphs


def _build(experiment: Experiment, graphs: list[Graph], concepts: Tensor, events: EventNodes | None, window: int) -> PacketClip:
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
        events=m.events if events else 0.0,
        packets=m.window_packets if m.window_packets < window else None,
    )
    return PacketClip(graphs, concepts, config, EtBertEncoder(m.etbert) if m.encoder == "etbert" else None, events)


def plan(material: Material, work: Path | None) -> list[Planned]:
    """The stages in order; each is made when its turn comes. A stage without steps, or with nothing to learn, is left out."""
    experiment = material.experiment
    out: list[Planned] = []
    if experiment.bytes.steps and experiment.model.encoder == "patch" and experiment.model.bytes:
        out.append((experiment.bytes.steps, partial(BytesStage, material)))
    if experiment.words.steps and experiment.model.encoder == "patch" and experiment.model.bytes:
        out.append((experiment.words.steps, partial(WordsStage, material)))
    if experiment.contrast.steps:
        out.append((experiment.contrast.steps, partial(contrast_stage, material, work)))
    if experiment.reason.steps:
        out.append((experiment.reason.steps, partial(reason_stage, material, work)))
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
