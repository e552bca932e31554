"""Every setting of a training run, with its default, its range and what it does. The defaults are the shipped recipe."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from packetclip_sensor.windows.tokens import ROW_BYTES
from training.missions import CLASS_MISSION, MISSIONS
from training.model.config import EtBert

Steps = Annotated[int, Meta(ge=0, le=10_000_000, description="optimiser steps; 0 leaves the stage out")]
Batch = Annotated[int, Meta(ge=2, le=65536, description="rows or windows a step, over all processes")]
Rate = Annotated[float, Meta(gt=0, le=1, description="Adam's learning rate; the peak where the schedule is one_cycle")]
Beta = Annotated[float, Meta(ge=0, lt=1)]
Betas = Annotated[
    tuple[Beta, Beta],
    Meta(description="Adam's two betas; one_cycle moves the first between 0.85 and 0.95"),
]
Schedule = Annotated[Literal["one_cycle", "constant"], Meta(description="course of the learning rate over the stage")]
Weight = Annotated[float, Meta(ge=0, le=1000)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A group of settings."""


class Data(Section):
    """Windows, and what must be there before training starts."""

    held_out: Annotated[float, Meta(gt=0, lt=1, description="share of each class's captures held out to calibrate on")] = 0.2
    texts: Annotated[int, Meta(ge=1, le=64, description="sentences for windows of one class whose facts read the same")] = 2
    minimum_windows: Annotated[int, Meta(ge=1, description="a class with fewer windows causes a warning")] = 20
    strict: Annotated[bool, Meta(description="true: a class without windows, with too few or of one capture is an error")] = False


class Model(Section):
    """Architecture and ablations."""

    encoder: Annotated[Literal["patch", "etbert"], Meta(description="packet encoder")] = "patch"
    relations: Annotated[bool, Meta(description="false: relations are zero in training and prediction")] = True
    bytes: Annotated[bool, Meta(description="false: byte embeddings are zero in training and prediction")] = True
    graph: Annotated[
        Literal["mission", "none", "shuffled"],
        Meta(description="none: a plain MLP of as many parameters; shuffled: edges within levels and concepts permuted by seed"),
    ] = "mission"
    segments: Annotated[
        int, Meta(ge=0, le=64, description="parts that a relation's range is cut into for the network; 0 gives it plain numbers")
    ] = 8
    message: Annotated[
        Literal["similarity", "product"],
        Meta(description="message to key concepts: partial cosines with their words, or equation 7 as printed"),
    ] = "similarity"
    events: Annotated[
        float,
        Meta(ge=0, le=100, description="weight of the log-odds of a mission's attack texts for a window; 0 leaves them out"),
    ] = 1.0
    window_packets: Annotated[int, Meta(ge=1, le=1024, description="packets of a window that are seen, the last ones")] = 30
    width: Annotated[int, Meta(ge=4, le=2048, description="patch encoder's width")] = 64
    layers: Annotated[int, Meta(ge=1, le=24, description="patch encoder's layers")] = 2
    heads: Annotated[int, Meta(ge=1, le=32, description="patch encoder's attention heads")] = 4
    patch: Annotated[int, Meta(ge=1, le=ROW_BYTES, description="bytes a patch")] = 8
    embedding: Annotated[int, Meta(ge=2, le=2048, description="width of the space that packets and texts share")] = 64
    graph_width: Annotated[int, Meta(ge=1, le=512, description="width of a mission's graph; the paper's D")] = 8
    temporal_heads: Annotated[int, Meta(ge=1, le=64, description="attention heads over the window")] = 8
    temporal_inner: Annotated[int, Meta(ge=1, le=8192, description="feed-forward width over the window")] = 128
    byte_dropout: Annotated[Share, Meta(description="share of training windows without bytes: relations must be enough")] = 0.5
    packet_dropout: Annotated[Share, Meta(description="share of the other windows' packets whose bytes are hidden")] = 0.2
    etbert: EtBert = EtBert()

    def __post_init__(self) -> None:
        """Checks that need two settings; msgspec adds the section's name to the message."""
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        if ROW_BYTES % self.patch:
            raise ValueError(f"patch {self.patch} does not divide a row's {ROW_BYTES} bytes")
        if self.embedding % self.graph_width:
            raise ValueError(f"embedding {self.embedding} is no multiple of graph_width {self.graph_width}")
        if self.graph_width * len(MISSIONS) % self.temporal_heads:
            raise ValueError(
                f"{len(MISSIONS)} times graph_width {self.graph_width} is no multiple of temporal_heads {self.temporal_heads}"
            )


class Text(Section):
    """The text encoder, frozen."""

    encoder: Annotated[str | None, Meta(description="folder of a Hugging Face encoder; null is MiniLM of the package")] = None


class Augment(Section):
    """Chance changes of a training window's relations: another pace, other sizes, a field that is missing."""

    time: Annotated[Weight, Meta(description="standard deviation of the factor on all times of a window, decades")] = 0.5
    size: Annotated[Weight, Meta(description="standard deviation of the factor on all sizes of a window, in units of e")] = 0.36
    drop: Annotated[Share, Meta(description="chance that a relation is zero in the whole window")] = 0.1
    noise: Annotated[Weight, Meta(description="standard deviation of what is added to each relation")] = 0.02


class Bytes(Section):
    """Masked-byte pre-training of the patch encoder."""

    steps: Steps = 100
    batch: Batch = 256
    learning_rate: Rate = 1e-3
    betas: Betas = (0.9, 0.999)
    schedule: Schedule = "constant"
    hidden: Annotated[Share, Meta(description="share of bytes to guess")] = 0.3


class Words(Section):
    """Packets against the words for what they say (`packetclip_sensor.windows.payload`): the encoder learns content."""

    steps: Steps = 500
    batch: Batch = 384
    learning_rate: Rate = 2e-3
    betas: Betas = (0.9, 0.999)
    schedule: Schedule = "one_cycle"
    hidden: Annotated[Share, Meta(description="share of bytes masked by chance")] = 0.05


class Contrast(Section):
    """Contrastive stage: windows against texts, single packets against their words."""

    steps: Steps = 600
    batch: Batch = 256
    learning_rate: Rate = 1e-3
    betas: Betas = (0.9, 0.98)
    schedule: Schedule = "one_cycle"
    loss: Annotated[Literal["multi-positive", "paper"], Meta(description="UniCL's targets, or equation 4 as printed")] = (
        "multi-positive"
    )
    head: Annotated[
        Literal["both", "packet", "text", "none"],
        Meta(description="linear heads that learn; the others stay the identity where sizes allow, else a random projection"),
    ] = "both"
    train_encoder: Annotated[bool, Meta(description="false: the packet encoder is frozen and its features are cached")] = False
    whiten: Annotated[bool, Meta(description="frozen features are centred and decorrelated on the training rows")] = False
    without: Annotated[tuple[str, ...], Meta(description="classes whose windows and texts stay out of contrast")] = ()
    packets: Annotated[int, Meta(ge=1, le=1024, description="packets drawn where the encoder learns, the last one always")] = 6
    class_weight: Annotated[
        Weight, Meta(description="weight of the loss with all texts of a class as positives, every other step bare sentences")
    ] = 1.0
    facts_weight: Annotated[Weight, Meta(description="weight of the loss with the words of a window's facts alone")] = 0.5
    packet_weight: Annotated[Weight, Meta(description="weight of the loss of single packets against their words")] = 0.3
    hidden: Annotated[Share, Meta(description="share of bytes masked by chance")] = 0.05
    benign: Annotated[Share, Meta(description="share of benign windows in a batch")] = 0.5

    def __post_init__(self) -> None:
        """`without` holds attack classes."""
        _check_attacks(self.without)


class Losses(Section):
    """Weights of the reasoner's losses beside cross-entropy."""

    smoothing: Annotated[Weight, Meta(description="of the steps of the anomaly mass within a window")] = 1e-3
    sparsity: Annotated[Weight, Meta(description="of the mean anomaly mass")] = 1e-3
    decay: Annotated[
        float, Meta(ge=0, le=1, description="MissionGNN's threshold: its factor a step, 0.9999 there; 0 switches it off")
    ] = 0.0


class Reason(Section):
    """Reasoner stage: relations, graphs and the temporal model; the packet encoder is fixed."""

    steps: Steps = 1000
    batch: Batch = 256
    learning_rate: Rate = 2e-3
    betas: Betas = (0.9, 0.98)
    schedule: Schedule = "one_cycle"
    weight_decay: Annotated[Weight, Meta(description="decoupled, as in AdamW")] = 1e-2
    clip: Annotated[float, Meta(gt=0, description="largest norm of the gradient")] = 1.0
    contrast: Annotated[Weight, Meta(description="weight of the contrastive loss beside the reasoner's")] = 0.3
    contrast_every: Annotated[int, Meta(ge=1, description="it is added in every so many steps")] = 2
    benign: Annotated[Share, Meta(description="share of benign windows in a batch")] = 0.5
    without: Annotated[tuple[str, ...], Meta(description="classes whose windows the reasoner never sees")] = ()
    losses: Losses = Losses()

    def __post_init__(self) -> None:
        """`without` holds attack classes."""
        _check_attacks(self.without)


def _check_attacks(names: Sequence[str]) -> None:
    for name in names:
        if CLASS_MISSION.get(name, "Benign") == "Benign":
            attacks = ", ".join(c for c, mission in CLASS_MISSION.items() if mission != "Benign")
            raise ValueError(f"without: {name!r} is not a class of attacks; there are {attacks}")


class Run(Section):
    """How to run; nothing here changes what is learned, but for rounding on another device."""

    device: Annotated[Literal["auto", "cpu", "cuda"], Meta(description="auto: cuda where there is one")] = "auto"
    checkpoint_steps: Annotated[int, Meta(ge=1, description="a checkpoint every so many steps of a stage")] = 200
    checkpoint_seconds: Annotated[float, Meta(gt=0, description="or after so many seconds, whichever comes first")] = 60.0
    log_steps: Annotated[int, Meta(ge=1, description="an entry of history and TensorBoard every so many steps")] = 20
    validate_steps: Annotated[int, Meta(ge=0, description="zero-shot top-1 every so many steps; 0 never")] = 200
    validate_windows: Annotated[int, Meta(ge=1, description="windows of each class that it is measured on")] = 40


class Experiment(Section):
    """All settings of a training run."""

    name: Annotated[str, Meta(min_length=1, pattern=r"^[A-Za-z0-9._-]+$", description="name of the run in logs")] = "default"
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1, description="of weights, batches, masks and the held-out captures")] = 1
    data: Data = Data()
    model: Model = Model()
    text: Text = Text()
    augment: Augment = Augment()
    bytes: Bytes = Bytes()
    words: Words = Words()
    contrast: Contrast = Contrast()
    reason: Reason = Reason()
    run: Run = Run()
