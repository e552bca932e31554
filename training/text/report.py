"""`python -m training.text.texts`: how large and how varied the bank is, and how well the text tower tells its classes apart.

A class whose sentences lie close to another's gives the contrastive stage nothing to pull the two apart by, so each class's
nearest other class is printed, and the held-out sentences are looked up among the classes' means.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from training.missions import CLASS_MISSION, MissionError
from training.text.texts import TEXTS, bank, class_prompts, held_out, normalised, text_id

Tower = Callable[[Sequence[str]], npt.NDArray[np.float32]]
CLASSES = list(CLASS_MISSION)


def unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows at length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def similarity(features: Mapping[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
    """(C, C) mean cosine of two different sentences, of one class or of two.

    Args:
        features: (N, D) unit norm of each class, N at least 2.
    """
    sums = np.stack([rows.sum(0, dtype=np.float64) for rows in features.values()])
    counts = np.array([len(rows) for rows in features.values()])
    out = sums @ sums.T / np.outer(counts, counts)
    own = (np.diagonal(sums @ sums.T) - counts) / (counts * (counts - 1))  # a sentence with itself does not count
    out[np.diag_indices(len(counts))] = own
    return np.asarray(out)


def nearest(features: Mapping[str, npt.NDArray[np.float32]], asked: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, float]:
    """Share of each class's asked texts whose nearest class mean is their own."""
    means = unit(np.stack([unit(rows.mean(0)) for rows in features.values()]))
    names = list(features)
    return {name: float(np.mean((rows @ means.T).argmax(1) == names.index(name))) for name, rows in asked.items()}


@dataclass(frozen=True)
class Row:
    """A class in the report."""

    klass: str
    sentences: int
    words: int
    within: float
    closest: str
    across: float
    sentences_found: float
    prompts_found: float


def report(tower: Tower, every: int = 1) -> tuple[list[Row], npt.NDArray[np.float64]]:
    """The classes' rows and their (C, C) similarities; `every` looks at each n-th sentence only."""
    features = {name: tower(TEXTS[name][::every]) for name in CLASSES}
    found = nearest(features, {name: tower([s.text for s in held_out(name).sentences]) for name in CLASSES})
    prompts = nearest(features, {name: tower([*held_out(name).prompts, *class_prompts(name)]) for name in CLASSES})
    alike = similarity(features)
    rows = []
    for i, name in enumerate(CLASSES):
        other = int(np.where(np.arange(len(CLASSES)) == i, -np.inf, alike[i]).argmax())
        words = {word for s in bank(name) for word in normalised(s.text).split()}
        across = float(alike[i, other])
        rows.append(
            Row(name, len(TEXTS[name]), len(words), float(alike[i, i]), CLASSES[other], across, found[name], prompts[name])
        )
    return rows, alike


def draw(alike: npt.NDArray[np.float64], path: Path) -> None:
    """The similarities as a table in colours."""
    figure = Figure(figsize=(7.2, 6.2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(alike, cmap="Blues", vmin=0, vmax=float(alike.max()))
    for (i, j), value in np.ndenumerate(alike):
        colour = "white" if value > 0.65 * alike.max() else "black"
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour, weight="bold" if i == j else "normal")
    axes.set_xticks(range(len(CLASSES)), CLASSES, rotation=40, ha="right")
    axes.set_yticks(range(len(CLASSES)), CLASSES)
    axes.set_title("mean cosine of two different training sentences", fontsize=11)
    figure.colorbar(image, shrink=0.8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the text encoder or a file of the bank cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m training.text.texts",
        description="Size and variety of the bank of texts, and how well the text tower tells its classes apart.",
        epilog="example: python -m training.text.texts --figure docs/img/texts.png",
    )
    parser.add_argument("--text-encoder", help="folder of another text encoder than the packaged MiniLM")
    parser.add_argument("--every", type=int, default=1, help="look at each n-th sentence only, which is faster")
    parser.add_argument("--figure", type=Path, help="PNG file for the similarities")
    args = parser.parse_args(argv)
    from training.data.windows import DataError, TextTower  # noqa: PLC0415  (torch, which --help does not need)

    try:
        tower = TextTower(args.text_encoder)
        rows, alike = report(lambda texts: np.asarray(tower(texts), np.float32), max(args.every, 1))
    except (DataError, MissionError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    print(
        f"{'class':<19}{'sentences':>10}{'words':>7}{'within':>8}{'nearest other':>20}{'across':>8}{'held out':>10}{'prompts':>9}"
    )
    for r in rows:
        print(
            f"{r.klass:<19}{r.sentences:>10}{r.words:>7}{r.within:>8.2f}{r.closest:>20}{r.across:>8.2f}"
            f"{r.sentences_found:>10.2f}{r.prompts_found:>9.2f}"
        )
    distinct = len({text_id(t) for texts in TEXTS.values() for t in texts})
    found, prompts = np.mean([r.sentences_found for r in rows]), np.mean([r.prompts_found for r in rows])
    print(
        f"{distinct} distinct sentences; nearest class mean right for {found:.2f} of held-out sentences, {prompts:.2f} of prompts"
    )
    if args.figure:
        draw(alike, args.figure)
        print(args.figure)
    return 0
