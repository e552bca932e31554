"""Pairs in Parquet to tensors: distinct packet rows once, windows as row numbers, texts as frozen features.

Splits are by capture, never by packet or window: a capture is one place, and windows of one place look alike.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute  # pa.compute is there only once it is imported
import pyarrow.parquet as pq
import torch
from torch import Tensor

from packetclip_sensor.alerts.sentences import window_text
from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.tokens import PAD, ROW_BYTES
from training.common import DataError
from training.data.growing import Growing
from training.missions import CLASS_MISSION, MISSIONS
from training.text import texts

CLASSES = list(CLASS_MISSION)
STEP = 2048
"""Windows read at a time of those kept in a folder."""
GROUPS = ["Benign", *MISSIONS]
GROUP_OF_CLASS = [GROUPS.index(CLASS_MISSION[c]) for c in CLASSES]


NAMES = ("capture", "tool", "view", "source")
"""What each window has a name of."""


@dataclass
class Examples:
    """N windows of A packets over U distinct packet rows."""

    tokens: npt.NDArray[np.uint16]
    """(U, ROW_BYTES)"""
    rows: Tensor
    """(N, A) int64 into `tokens`; -1 is padding."""
    relations: Tensor
    """(N, A, R) float32"""
    label: Tensor
    """(N,) index into CLASSES"""
    capture: npt.NDArray[np.object_]
    """(N,) capture name"""
    tool: npt.NDArray[np.object_]
    facts: list[str]
    """(N,) measured facts as JSON"""
    view: npt.NDArray[np.object_]
    """(N,) name of the view, one of VIEWS: pair, source or destination"""
    source: npt.NDArray[np.object_]
    """(N,) where the capture is from, as `source_of` names it"""
    folder: Path | None = None
    """Where tokens and relations are kept; None where in memory."""

    def __len__(self) -> int:
        return len(self.label)

    @property
    def group(self) -> Tensor:
        """(N,) index into GROUPS: Benign and the missions."""
        return torch.tensor(GROUP_OF_CLASS)[self.label]

    @property
    def packets(self) -> Tensor:
        """(N,) int64, packets in each window."""
        return (self.rows >= 0).sum(1)

    def take(self, chosen: npt.NDArray[np.int64]) -> "Examples":
        """The windows `chosen`; they share the packet rows."""
        at = torch.from_numpy(chosen)
        relations = Growing(self.folder)
        for part in at.split(STEP):
            relations.append(self.relations[part].numpy())
        return replace(
            self,
            rows=self.rows[at],
            relations=torch.from_numpy(relations.array()),
            label=self.label[at],
            facts=[self.facts[i] for i in chosen],
            **{name: getattr(self, name)[chosen] for name in NAMES},
        )


def load(paths: Iterable[Path], folder: Path | None = None) -> Examples:
    """Read Parquet files written by `packetclip pairs`; windows without a label (mixed traffic) are left out.

    Args:
        folder: where to keep tokens and relations, nearly all of the windows, of a data set larger than memory.
    Raises:
        DataError: nothing to read, a file that is none or was cut short, or a label that is not one of the classes.
    """
    index: dict[bytes, int] = {}
    distinct, relations = Growing(folder), Growing(folder)
    rows, labels, facts = [], [], []
    names: dict[str, list[str]] = {name: [] for name in NAMES}
    pad_row = np.full(ROW_BYTES, PAD, np.uint16).tobytes()
    for path in paths:
        try:
            file = pq.ParquetFile(path)
        except pa.ArrowInvalid as err:
            raise DataError(f"{path}: no Parquet file, or one that was cut short; make it anew (make pairs)") from err
        for batch in file.iter_batches(2048):
            labelled = batch.filter(pa.compute.is_valid(batch["label"]))
            n = len(labelled)
            if not n:
                continue
            flat = labelled["tokens"].flatten().to_numpy().reshape(n, -1, ROW_BYTES).astype(np.uint16)
            unique, where = np.unique(flat.reshape(-1, ROW_BYTES).view(f"V{2 * ROW_BYTES}").ravel(), return_inverse=True)
            number = np.empty(len(unique), np.int64)
            for i, raw in enumerate(unique):
                key = raw.tobytes()
                if key == pad_row:
                    number[i] = -1
                    continue
                count = len(index)
                number[i] = index.setdefault(hashlib.blake2b(key, digest_size=16).digest(), count)
                if number[i] == count:
                    distinct.append(np.frombuffer(key, np.uint16)[None])
            rows.append(number[where.ravel()].reshape(n, -1))
            relations.append(
                labelled["relations"].flatten().to_numpy().reshape(n, -1, len(RELATIONS)).astype(np.float32, copy=False)
            )
            for name in labelled["label"].to_pylist():
                if name not in CLASSES:
                    raise DataError(f"{path}: label {name!r} is none of {', '.join(CLASSES)}; mend the labels file")
                labels.append(CLASSES.index(name))
            facts += labelled["facts"].to_pylist()
            for name, held in names.items():
                held.extend([source_of(path)] * n if name == "source" else labelled[name].to_pylist())
    if not rows:
        raise DataError("no labelled window in the pairs given; run `packetclip pairs` on logs with labels first")
    return Examples(
        tokens=distinct.array(),
        rows=torch.from_numpy(np.concatenate(rows)),
        relations=torch.from_numpy(relations.array()),
        label=torch.tensor(labels),
        facts=facts,
        folder=folder,
        **{name: np.array(held, dtype=object) for name, held in names.items()},
    )


def source_of(path: Path) -> str:
    """Where the captures of a file of `training.data.prepare` are from: a lab's name, or a source by others without the class."""
    name = path.stem.removesuffix("-altered")
    kinds = "|".join(klass.replace(" ", "-") for klass in CLASSES)
    return re.sub(rf"^(?:captures|validate)-(?:{kinds})-", "", name)


def shares(examples: Examples, at: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Chance of each of the windows `at` to be drawn, sum 1: captures of a source count alike, and a source by the root of their
    number, so that neither a long capture nor a source with hundreds of alike ones drowns the rest."""
    _, capture, count = np.unique(examples.capture[at].astype(str), return_inverse=True, return_counts=True)
    _, source = np.unique(examples.source[at].astype(str), return_inverse=True)
    weight = 1 / count[capture]
    captures = np.bincount(source, weight)
    weight /= np.sqrt(captures)[source]
    return np.asarray(weight / weight.sum())


def main_classes(examples: Examples) -> dict[str, str]:
    """The class that most attack windows of each capture have; Benign where there is none."""
    names, number = np.unique(examples.capture.astype(str), return_inverse=True)
    out = {}
    label = examples.label.numpy()[np.argsort(number, kind="stable")]
    for capture, inside in zip(names.tolist(), np.split(label, np.cumsum(np.bincount(number))[:-1]), strict=True):
        attacks = inside[inside > 0]
        out[capture] = CLASSES[int(np.bincount(attacks).argmax())] if len(attacks) else "Benign"
    return out


def drawn(captures: Iterable[str], seed: str) -> list[str]:
    """Captures in a random order that depends on the seed and on their names alone."""
    return sorted(captures, key=lambda c: hashlib.sha256(f"{seed} {c}".encode()).digest())


def split(examples: Examples, held_out: float = 0.2, seed: int = 1) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row numbers for training and validation, by capture: every class keeps captures on both sides where it has two."""
    held: set[str] = set()
    classes = main_classes(examples)
    for klass in set(classes.values()):
        order = drawn((c for c in classes if classes[c] == klass), str(seed))
        held.update(order[: min(max(round(held_out * len(order)), 1), len(order) - 1)])
    is_held = np.array([name in held for name in examples.capture], bool)
    return np.nonzero(~is_held)[0], np.nonzero(is_held)[0]


def pair_texts(examples: Examples, seed: int, each: int = 2) -> tuple[list[str], Tensor]:
    """Texts of every window: distinct sentences, and (N, each) numbers of the sentences that describe window i.

    Windows of one class whose facts read the same share their `each` sentences: texts stay as many as there are things to say.
    What is drawn for them depends on the seed and on those facts, so a part of the windows has the texts that the whole has.
    """
    number: dict[str, int] = {}
    known: dict[tuple[int, str], list[int]] = {}
    out = np.empty((len(examples), each), np.int64)
    for i, raw in enumerate(examples.facts):
        facts, label = json.loads(raw), int(examples.label[i])
        key = (label, window_text(facts))
        if key not in known:
            rng = np.random.default_rng([seed, *hashlib.sha256(f"{label} {key[1]}".encode()).digest()[:8]])
            sentences = [texts.pair_text(CLASSES[label], facts, rng)[1] for _ in range(each)]
            known[key] = [number.setdefault(text, len(number)) for text in sentences]
        out[i] = known[key]
    return list(number), torch.from_numpy(out)
