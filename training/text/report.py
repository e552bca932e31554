"""How large and how varied the bank of texts is, and how well the text encoder distinguishes its classes.

    python -m training.text.report --figure docs/img/texts.png

A class whose sentences lie close to another's gives the contrastive stage nothing to pull the two apart by, so each class's
nearest other class is printed, and the held-out sentences are looked up among the classes' means.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from training.common import argument, command
from training.missions import CLASS_MISSION
from training.text.text_encoder import TextEncoder
from training.text.texts import TEXTS, bank, class_prompts, held_out, normalised, text_id

Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]
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


def report(encode: Encode) -> tuple[list[tuple[str, str]], npt.NDArray[np.float64], str]:
    """Each class and its line, the (C, C) similarities, and a line of means."""
    features = {name: encode(TEXTS[name]) for name in CLASSES}
    found = nearest(features, {name: encode([s.text for s in held_out(name).sentences]) for name in CLASSES})
    prompts = nearest(features, {name: encode([*held_out(name).prompts, *class_prompts(name)]) for name in CLASSES})
    alike = similarity(features)
    rows = []
    for i, name in enumerate(CLASSES):
        other = int(np.where(np.arange(len(CLASSES)) == i, -np.inf, alike[i]).argmax())
        words = {word for s in bank(name) for word in normalised(s.text).split()}
        measured = f"{CLASSES[other]:>20}{alike[i, other]:>8.2f}{found[name]:>10.2f}{prompts[name]:>9.2f}"
        rows.append((name, f"{len(TEXTS[name]):>10}{len(words):>7}{alike[i, i]:>8.2f}{measured}"))
    distinct = len({text_id(t) for texts in TEXTS.values() for t in texts})
    means = [f"{np.mean(list(shares.values())):.2f}" for shares in (found, prompts)]
    text = f"{distinct} distinct sentences; nearest class mean right for {means[0]} of held-out sentences, {means[1]} of prompts"
    return rows, alike, text


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


@command(
    argument("--text-encoder", help="folder of another text encoder than the packaged MiniLM"),
    argument("--figure", type=Path, help="PNG file for the similarities"),
)
def main(args: argparse.Namespace) -> None:
    """Exit codes: 0 done, 2 the text encoder or a file of the bank cannot be used."""
    encoder = TextEncoder(args.text_encoder)
    rows, alike, means = report(lambda texts: np.asarray(encoder(texts), np.float32))
    head = ("sentences", "words", "within", "nearest other", "across", "held out", "prompts")
    for name, measured in [("class", "{:>10}{:>7}{:>8}{:>20}{:>8}{:>10}{:>9}".format(*head)), *rows]:
        print(f"{name:<19}{measured}")
    print(means)
    if args.figure:
        draw(alike, args.figure)
        print(args.figure)


if __name__ == "__main__":
    sys.exit(main())
