"""What a sensor needs to bring sentences into the space of windows, as one file of the bundle.

`python -m training.text.text_encoder DIR`: a bundle that was exported without the file gets it. The head g_T is found among the
constants of its `explainer.onnx`, and is refused unless it gives the embeddings that stand in `texts.npz`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from packetclip_sensor.hunt.text_encoder import FILE
from packetclip_sensor.model.bundle import MANIFEST, sealed
from training.data.windows import CLASSES, TextTower
from training.text import texts

ENCODER = "all-MiniLM-L6-v2"
KNOWN_EACH = 24
"""Taught sentences of each class whose features are kept, to say how near a question is to them."""
FAMILIAR_SHARE = 0.95
"""Share of the held-out sentences that count as familiar."""
MOST_DIFFERENCE = 1e-4
"""Bound for the head's embeddings against those of `texts.npz`."""
Array = npt.NDArray[np.float32]


def write(head: Array, tower: TextTower, out: Path) -> bool:
    """Write `FILE` into the bundle folder; False, and no file, where the text encoder is not the one that a sensor can run.

    Args:
        head: (T, D), features to embedding before the norm.
    """
    path = out / FILE
    vocabulary = getattr(tower, "wordpieces", lambda: None)()
    if vocabulary is None:
        path.unlink(missing_ok=True)
        return False
    known = [s for name in CLASSES for s in _spread([*texts.TEXTS[name], *texts.class_prompts(name)], KNOWN_EACH)]
    held = [s for name in CLASSES for s in _held_out(name)]
    features = tower([*known, *held]).numpy()
    taught, asked = features[: len(known)], features[len(known) :]
    likeness = (asked @ taught.T).max(1)
    probes = held[:: max(1, len(held) // 4)][:4]
    np.savez_compressed(
        path,
        head=head.astype(np.float32),
        vocabulary=np.frombuffer("\n".join(vocabulary).encode(), np.uint8),
        encoder=np.array(ENCODER),
        probes=np.array(probes),
        probe_features=tower(probes).numpy().astype(np.float32),
        known=np.array(known),
        known_features=np.round(taught / np.abs(taught).max() * 127).astype(np.int8),
        familiar=np.float32(np.quantile(likeness, 1 - FAMILIAR_SHARE)),
    )
    return True


def _held_out(name: str) -> list[str]:
    held = texts.held_out(name)
    return [*held.prompts, *(s.text for s in held.sentences)]


def _spread(items: Sequence[str], count: int) -> list[str]:
    return [items[i * len(items) // count] for i in range(min(count, len(items)))]


def head_of(bundle: Path, tower: TextTower) -> tuple[Array, float]:
    """The head among the explainer's constants, (T, D), and the largest difference of its embeddings to those of `texts.npz`.

    Raises:
        ValueError: no constant of the explainer is the head of this text encoder.
    """
    import onnx  # noqa: PLC0415  (only a bundle that lacks the file needs it)
    from onnx import numpy_helper  # noqa: PLC0415

    with np.load(bundle / "texts.npz", allow_pickle=False) as arrays:
        sentences, wanted = arrays["texts"].tolist()[::20], arrays["text_embeddings"][::20]
    features = tower(sentences).numpy()
    best: tuple[Array, float] | None = None
    for constant in onnx.load(str(bundle / "explainer.onnx")).graph.initializer:
        if list(constant.dims) == [features.shape[1], wanted.shape[1]]:
            head = numpy_helper.to_array(constant)
            found = features @ head
            found /= np.linalg.norm(found, axis=1, keepdims=True)
            difference = float(np.abs(found - wanted).max())
            if best is None or difference < best[1]:
                best = head, difference
    if best is None or best[1] > MOST_DIFFERENCE:
        raise ValueError(f"{bundle}: no constant of explainer.onnx is the head of this text encoder; export the model again")
    return best


def main(argv: Sequence[str] | None = None) -> int:
    """Add the file to a bundle and renew the manifest's hashes. Exit codes: 0 added, 1 the bundle's head was not found."""
    parser = argparse.ArgumentParser(prog="python -m training.text.text_encoder", description=__doc__)
    parser.add_argument("bundle", type=Path, help="folder of a bundle, for example packetclip_sensor/model")
    bundle: Path = parser.parse_args(argv).bundle
    tower = TextTower()
    try:
        head, difference = head_of(bundle, tower)
    except ValueError as err:
        print(f"text_tower: {err}", file=sys.stderr)
        return 1
    write(head, tower, bundle)
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(sealed(manifest, bundle), indent=1) + "\n")
    size = (bundle / FILE).stat().st_size
    print(f"{bundle / FILE}: {size / 1e3:.0f} kB; embeddings differ from texts.npz by at most {difference:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
