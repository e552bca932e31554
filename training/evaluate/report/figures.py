"""Figures of the report, all in one plain style."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from training.data.windows import CLASSES, GROUPS
from training.evaluate.metrics import Reliability, Spread

COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#edae49", "#8d5a97", "#5c5c5c", "#2e4057", "#a3a948", "#00798c", "#c17767")
STYLE = {
    "figure.dpi": 130,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


@contextmanager
def drawn(path: Path, size: tuple[float, float] = (6.0, 3.4)) -> Iterator[Axes]:
    """Axes to draw on; the figure is saved at the end."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        axes.set_prop_cycle(color=COLOURS)
        yield axes
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None})
        plt.close(figure)


def scarcity(path: Path, lines: Mapping[str, Mapping[int, Spread]]) -> None:
    """Mean AUC by share of training captures, with the range over seeds."""
    with drawn(path) as axes:
        for name, points in lines.items():
            x = sorted(points)
            (line,) = axes.plot(x, [points[p].mean for p in x], marker="o", label=name)
            axes.fill_between(x, [points[p].low for p in x], [points[p].high for p in x], alpha=0.15, color=line.get_color())
        axes.set(xlabel="share of training captures, %", ylabel="mean AUC, test captures", xticks=[10, 30, 40, 50, 70, 100])
        axes.legend(loc="lower right")


def curves(path: Path, lines: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Lines of (step, zero-shot top-1)."""
    with drawn(path) as axes:
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), label=name)
        axes.set(xlabel="training step", ylabel="zero-shot top-1, validation captures")
        axes.legend(fontsize=8)


def confusion(path: Path, counts: npt.NDArray[np.int64]) -> None:
    """Counts of classes by the most probable group, as shares of each row, with the numbers written in."""
    total = counts.sum(1, keepdims=True)
    share = counts / np.maximum(total, 1)
    with drawn(path, (6.0, 0.9 + 0.34 * len(CLASSES))) as axes:
        axes.grid(visible=False)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(share):
            text = f"{value:.2f}" if total[i, 0] else "–"
            axes.text(j, i, text, ha="center", va="center", color="white" if value > 0.6 else "black", fontsize=8)
        axes.set_xticks(range(len(GROUPS)), GROUPS)
        axes.set_yticks(range(len(CLASSES)), [f"{c} ({n:,})" for c, n in zip(CLASSES, total[:, 0], strict=True)])
        axes.set(xlabel="most probable", ylabel="true class (windows)")


def calibration(path: Path, lines: Mapping[str, Reliability]) -> None:
    """Confidence against accuracy; the marker's area is the bin's share of windows."""
    with drawn(path, (4.6, 4.2)) as axes:
        axes.plot([0, 1], [0, 1], color="#999999", lw=1, ls="--", label="calibrated")
        for name, r in lines.items():
            (line,) = axes.plot(r.confidence, r.accuracy, label=f"{name}: error {r.error:.3f}")
            axes.scatter(r.confidence, r.accuracy, s=[12 + 150 * s for s in r.share], color=line.get_color(), alpha=0.6)
        axes.set(xlabel="probability of the most probable group", ylabel="share that is right", xlim=(0.2, 1.02), ylim=(0, 1.05))
        axes.legend(loc="upper left", fontsize=8)


def hidden(path: Path, losses: Mapping[str, float]) -> None:
    """Loss of mean AUC by group of fields, as horizontal bars in the order given, top down."""
    with drawn(path, (6.4, 0.8 + 0.24 * len(losses))) as axes:
        names = list(losses)[::-1]
        axes.barh(names, [losses[n] for n in names], color=[COLOURS[0] if losses[n] >= 0 else COLOURS[1] for n in names])
        axes.axvline(0, color="black", lw=0.8)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("loss of mean AUC, test captures")
