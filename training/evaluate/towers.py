"""Text features shared by all runs of a store: sentences are the slowest part of a small training run.

Every process reads what the others have written and adds a file of its own, so that no two write to one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.data.windows import TextTower
from training.fit.experiment import Experiment

RANDOM = "random"
"""As `text.encoder`: MiniLM's architecture and tokens with random weights, the answer to what pre-trained words are worth."""

SAVED = 1000
"""Features are written each time that so many are new: a run that is stopped has not lost them."""


class Tower:
    """A text tower in front of a folder of known features."""

    def __init__(self, path: str | None, folder: Path, seeded: Path | None = None) -> None:
        """Args:
        path: folder of the encoder, None for the default. folder: of known features. seeded: one more file to read from.
        """
        self._path, self._folder = path, folder
        self._inner: TextTower | None = None
        self._known: dict[str, npt.NDArray[np.float32]] = {}
        self._fresh: list[str] = []
        for part in [*([seeded] if seeded and seeded.exists() else []), *sorted(folder.glob("*.npz"))]:
            with np.load(part, allow_pickle=False) as arrays:
                self._known |= dict(zip(arrays["sentences"].tolist(), arrays["features"], strict=True))

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """(N, features) of N sentences."""
        fresh = [s for s in dict.fromkeys(sentences) if s not in self._known]
        for start in range(0, len(fresh), SAVED):
            part = fresh[start : start + SAVED]
            self._inner = self._inner or TextTower(self._path)
            self._known |= dict(zip(part, self._inner(part).numpy(), strict=True))
            self._fresh += part
            if len(self._fresh) >= SAVED:
                self.save()
        return torch.from_numpy(np.stack([self._known[s] for s in sentences]))

    def save(self) -> None:
        """Keep what was computed here for the runs that come later."""
        if not self._fresh:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("\n".join(self._fresh).encode()).hexdigest()[:16]
        part = self._folder / f".{name}-{os.getpid()}"
        with part.open("wb") as file:
            np.savez(file, sentences=np.array(self._fresh), features=np.stack([self._known[s] for s in self._fresh]))
        part.replace(self._folder / f"{name}.npz")
        self._fresh = []


def shared(experiment: Experiment, folder: Path, seeded: Path | None) -> Tower:
    """The tower that an experiment names, with the features that a store already has of it."""
    name = experiment.text.encoder
    if name is None:
        return Tower(None, folder / "default", seeded)
    path = str(random_encoder(folder / "random-encoder")) if name == RANDOM else name
    return Tower(path, folder / hashlib.sha256(name.encode()).hexdigest()[:16])


def random_encoder(folder: Path) -> Path:
    """A folder with the default encoder's tokens and architecture, and weights never trained (seed 0)."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer  # noqa: PLC0415  (two seconds that only this needs)

    from training.data.windows import _minilm  # noqa: PLC0415

    if not (folder / "config.json").exists():
        part = folder.with_name(f".{folder.name}-{os.getpid()}")
        state = torch.random.get_rng_state()
        torch.manual_seed(0)
        AutoModel.from_config(AutoConfig.from_pretrained(_minilm(), local_files_only=True)).save_pretrained(part)
        torch.random.set_rng_state(state)
        AutoTokenizer.from_pretrained(_minilm(), local_files_only=True).save_pretrained(part)
        part.rename(folder)
    return folder
