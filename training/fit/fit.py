"""A training run as one call: `fit(experiment, train, encode)` gives a predictor.

Evaluation, ablations and the command `python -m training.fit.train` all come through here, so every number is of the same code.
"""

import hashlib
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.common import DataError
from training.data.training_set import Encode, gather
from training.data.windows import CLASSES, GROUP_OF_CLASS, Examples
from training.fit import distributed
from training.fit.engine import Engine, Planned
from training.fit.predictor import Predictor, ZeroShot, encode_all, frozen_features, headed
from training.fit.settings import Experiment
from training.fit.stages import BytesStage, ContrastStage, ReasonStage, Stage, TrainingRun, WordsStage
from training.model.config import ModelConfig
from training.model.etbert import EtBertEncoder
from training.model.graphs import EventNodes, shuffled
from training.model.packetclip import PacketClip
from training.text import knowledge, texts
from training.text.knowledge import Graph


def check(train: Examples, experiment: Experiment) -> list[str]:
    """What is wrong with the training windows, before an hour is spent on them: messages that do not stop training.

    Raises:
        DataError: one side is missing, or `data.strict` is set and a message would have been returned.
    """
    label = train.label.numpy()
    if not (label == 0).any():
        raise DataError("no benign window to train on; give the pairs of captures without attacks as well")
    if not (label > 0).any():
        raise DataError("no window of an attack to train on; give the pairs of captures with labelled attacks as well")
    if not np.isfinite(train.relations.sum().item()):
        raise DataError("windows hold relations that are no numbers; make the pairs again with `packetclip pairs`")
    messages = []
    least = experiment.data.minimum_windows
    for i, name in enumerate(CLASSES):
        own = label == i
        captures = len(set(train.capture[own]))
        if not own.any():
            messages.append(f"class {name} has no window: the model will not know it; record some, or leave it so on purpose")
        elif own.sum() < least:
            messages.append(f"class {name} has {own.sum()} windows, fewer than {least}: it will hardly be learned; record more")
        elif captures == 1:
            text = "the model may learn the place instead; record it a second time elsewhere"
            messages.append(f"class {name} has one capture: {text}")
    if messages and experiment.data.strict:
        raise DataError("; ".join(messages) + "; or set data.strict=false")
    return messages


def fix_heads(model: PacketClip, head: str, seed: int) -> list[str]:
    """Keep linear heads that do not learn: the identity where sizes allow, else a random projection. Returns what was done."""
    messages = []
    generator = torch.Generator().manual_seed(seed + 104729)
    for name, layer in (("packet", model.packet_head), ("text", model.text_head)):
        if head in ("both", name):
            continue
        out, width = layer.weight.shape
        with torch.no_grad():
            if out == width:
                layer.weight.copy_(torch.eye(out))
                messages.append(f"{name} head: fixed, raw features of width {width}")
            else:
                weight = torch.randn(max(out, width), min(out, width), generator=generator)
                basis = torch.linalg.qr(weight).Q
                layer.weight.copy_(basis if out > width else basis.T)
                messages.append(f"{name} head: fixed, random projection of features of width {width} to {out}")
        layer.requires_grad_(False)
    if head in ("text", "none"):
        model.window_head.requires_grad_(False)  # stays the mean
    return messages


def fit(
    experiment: Experiment,
    train: Examples,
    encode: Encode,
    *,
    work: Path | None = None,
    validation: Examples | None = None,
    resume: bool = True,
) -> Predictor:
    """Train a model; the same experiment on the same windows gives the same model.

    Args:
        encode: the frozen text encoder.
        work: folder of checkpoints and TensorBoard curves; a run that stopped goes on from there.
        validation: windows for zero-shot top-1 in the history; they change nothing that is learned.
        resume: False refuses a `work` that holds checkpoints.
    Raises:
        DataError: the windows are unfit. ConfigError: a setting does not fit, or `work` is of another run. TrainingError.
    """
    device = torch.device(distributed.start(chosen_device(experiment)))
    first = not distributed.rank()
    for message in check(train, experiment):
        if first:
            print(f"warning: {message}", file=sys.stderr)
    batches = [chosen.batch for chosen in (experiment.bytes, experiment.words, experiment.contrast, experiment.reason)]
    if any(batch % distributed.world() for batch in batches):
        raise DataError(
            f"{distributed.world()} processes do not divide every batch; change the batch of bytes, words, contrast and reason"
        )
    model, graphs = fresh(experiment, encode, train.rows.shape[1])
    notes = fix_heads(model, experiment.contrast.head, experiment.seed)
    model.to(device)
    data = gather(
        train,
        encode,
        packets=model.config.packets,
        each=experiment.data.texts,
        seed=experiment.seed,
        with_bytes=experiment.model.bytes,
        device=device,
    )
    if first:
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{len(data.texts)} distinct texts; {parameters:,} parameters", *notes, sep="\n")
    # Its weights stay as they are read from their file.
    frozen = experiment.model.encoder == "etbert" and not experiment.contrast.train_encoder
    engine = Engine(
        model,
        experiment,
        work=work,
        fingerprint=fingerprint(train),
        validate=ZeroShot(validation, encode, experiment, work) if validation is not None and len(validation) else None,
        left_out=("packet_encoder.",) if frozen else (),
    )
    engine.run(plan(TrainingRun(model, experiment, data), work), resume=resume)
    return Predictor(model.eval(), experiment, graphs, engine.history, work)


def chosen_device(experiment: Experiment) -> str:
    """cpu or cuda. Raises DataError where cuda is wanted and there is none."""
    wanted = experiment.run.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise DataError("run.device is cuda and there is no CUDA device; set run.device=auto")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def fresh(experiment: Experiment, encode: Encode, window: int) -> tuple[PacketClip, list[Graph]]:
    """The model with its first weights, which are the seed's, and its graphs. Raises ConfigError for an unfit checkpoint."""
    torch.manual_seed(experiment.seed)
    graphs = knowledge.load_all()
    concepts = encode([texts.concept_prompt(c) for g in graphs for level in g.levels for c in level])
    sentences = [encode(texts.event_sentences(c)) for c in CLASSES]
    m = experiment.model
    if m.graph == "shuffled":
        graphs, concepts, sentences = shuffled(graphs, concepts, sentences, experiment.seed)
    events = EventNodes(sentences, GROUP_OF_CLASS, m.events) if m.events and m.graph != "none" else None
    etbert = m.encoder == "etbert"
    encoder = m.etbert if etbert else m
    own = {"width", "layers", "heads", "window", "whiten", "events", "packets"}
    config = ModelConfig(
        **{f.name: getattr(m, f.name) for f in fields(ModelConfig) if f.name not in own},
        width=encoder.width,
        layers=encoder.layers,
        heads=encoder.heads,
        window=window,
        whiten=experiment.contrast.whiten and not experiment.contrast.train_encoder,
        events=m.events if events else 0.0,
        packets=m.window_packets if m.window_packets < window else None,
    )
    return PacketClip(graphs, concepts, config, EtBertEncoder(m.etbert) if etbert else None, events), graphs


def plan(run: TrainingRun, work: Path | None) -> list[Planned]:
    """The stages in order; each is made when its turn comes. A stage without steps, or with nothing to learn, is left out."""
    chosen = run.experiment
    encoder_learns = chosen.model.encoder == "patch" and chosen.model.bytes
    stages = [
        (chosen.bytes.steps if encoder_learns else 0, partial(BytesStage, run)),
        (chosen.words.steps if encoder_learns else 0, partial(WordsStage, run)),
        (chosen.contrast.steps, partial(contrast_stage, run, work)),
        (chosen.reason.steps, partial(reason_stage, run, work)),
    ]
    return [(steps, make) for steps, make in stages if steps]


def contrast_stage(run: TrainingRun, work: Path | None) -> Stage:
    """The contrastive stage; a frozen encoder's features are computed once, and whitened."""
    learns = run.experiment.contrast.train_encoder
    run.model.packet_encoder.requires_grad_(learns)
    table = None
    if run.experiment.model.bytes and not learns:
        table = whitened(run.model, frozen_features(run.model, run.data.tokens, run.experiment, work))
    return ContrastStage(run, table)


def whitened(model: PacketClip, features: Tensor) -> Tensor:
    """Fit the model's whitening, where it has one, to training features (U, width), and return them whitened."""
    if isinstance(model.whitening, nn.Identity):
        return features
    with torch.no_grad():
        model.whitening.fit(features.to(model.device))
        return torch.cat([model.whitening(rows.to(model.device)).cpu() for rows in features.split(8192)])


def reason_stage(run: TrainingRun, work: Path | None) -> Stage:
    """The reasoner stage over embeddings that no longer change."""
    model, experiment, tokens = run.model, run.experiment, run.data.tokens
    if not experiment.model.bytes:
        table = torch.zeros(len(tokens), model.config.embedding)
    elif experiment.contrast.train_encoder:
        table = encode_all(model, tokens)
    else:
        features = frozen_features(model, tokens, experiment, work)
        if not experiment.contrast.steps:
            whitened(model, features)
        table = headed(model, features)
    return ReasonStage(run, table.to(model.device))


def fingerprint(train: Examples) -> str:
    """16 hex digits by which training windows are known."""
    digest = hashlib.sha256(str(tuple(train.rows.shape)).encode())
    for array in (train.rows.numpy(), train.label.numpy(), train.relations.numpy()):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]
