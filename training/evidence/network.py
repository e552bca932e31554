"""The evidence model's fit: a small network, one loss a stream so that an hour of one client weighs no more than a minute's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from packetclip_sensor.evidence.model import EvidenceModel, Layer
from packetclip_sensor.evidence.streams import input_names
from training.evidence.table import Capture
from training.missions import MISSIONS

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """How the network is fitted."""

    hidden: int = 8
    steps: int = 150
    rate: float = 0.02
    decay: float = 0.03
    """Of the squares of the weights, of those that the window's own log-odds begin with their change."""
    quiet: float = 64.0
    """Weight of a benign stream's highest row, an attack's is 1."""
    seed: int = 0
    rows: int = 12
    """Rows of a stream taken at most, spread evenly over it."""
    columns: tuple[str, ...] = ("look", "view")
    """Beginnings of the names of inputs that are hidden."""


def hidden_columns(recipe: Recipe) -> npt.NDArray[np.bool_]:
    """(inputs,) True for those that the recipe hides."""
    return np.array([name.startswith(recipe.columns) if recipe.columns else False for name in input_names(len(MISSIONS))])


def _table(captures: Sequence[Capture], recipe: Recipe) -> tuple[Floats, Floats, Floats, Floats]:
    """Inputs, right answers, streams and captures of the rows taken."""
    inputs, right, stream, capture, streams = [], [], [], [], 0
    for number, c in enumerate(captures):
        if not len(c.second):
            continue
        order = np.argsort(c.stream, kind="stable")
        sizes = np.bincount(c.stream)
        place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        step = np.maximum(sizes / recipe.rows, 1.0)[c.stream[order]]
        taken = order[np.floor((place + 1) / step) > np.floor(place / step)]
        inputs.append(c.inputs[taken])
        right.append(c.right[taken])
        stream.append(c.stream[taken] + streams)
        capture.append(np.full(len(taken), number))
        streams += len(sizes)
    return tuple(map(np.concatenate, (inputs, right, stream, capture)))  # type: ignore[return-value]


class Net(nn.Module):
    """Scaled inputs to one logit a mission."""

    def __init__(self, inputs: int, recipe: Recipe) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, recipe.hidden)
        self.last = nn.Linear(recipe.hidden, len(MISSIONS))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.direct = nn.Linear(inputs, len(MISSIONS))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.direct(x) + self.last(torch.tanh(self.first(x)))
        return out


def fit(captures: Sequence[Capture], recipe: Recipe) -> EvidenceModel:
    """Fit a network on captures."""
    torch.manual_seed(recipe.seed)
    inputs, right, stream, capture = _table(captures, recipe)
    mean, scale = inputs.mean(0), inputs.std(0)
    scale[(scale < 1e-3) | hidden_columns(recipe)] = 1e6
    x = torch.tensor(((inputs - mean) / scale).clip(-5, 5), dtype=torch.float32)
    net = Net(x.shape[1], recipe)
    window = torch.zeros(len(MISSIONS), x.shape[1])  # the fit begins with the window's own log-odds, and is drawn back there
    window[range(len(MISSIONS)), range(len(MISSIONS))] = torch.tensor(scale[: len(MISSIONS)])
    with torch.no_grad():
        net.direct.weight.copy_(window)
        net.direct.bias.copy_(torch.tensor(mean[: len(MISSIONS)]))
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=recipe.steps)
    parts = []
    for m in range(len(MISSIONS)):
        for value, of in ((0, stream), (1, capture)):  # a benign stream must be quiet, an attack must show somewhere
            (rows,) = np.nonzero(right[:, m] == value)
            groups, which = np.unique(of[rows], return_inverse=True)
            parts.append((m, value, torch.tensor(rows), torch.tensor(which), len(groups)))
    for _ in range(recipe.steps):
        z = net(x)
        loss = torch.zeros(())
        for m, value, rows, which, groups in parts:
            if not groups:
                continue
            mine, sign = z[rows, m], 1.0 if value else -1.0
            top = torch.full((groups,), -1e9).scatter_reduce(0, which, mine, "amax")
            size = torch.bincount(which, minlength=groups).float()
            each = nn.functional.softplus(-sign * mine) / size[which]
            both = nn.functional.softplus(-sign * top).sum() + 0.5 * each.sum()
            loss = loss + both / (groups if value else groups / recipe.quiet)
        loss = loss + recipe.decay * ((net.direct.weight - window) ** 2).sum()
        loss = loss + recipe.decay * sum((w**2).sum() for w in (net.first.weight, net.last.weight))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    layers = [
        Layer(layer.weight.detach().double().numpy().T.round(6).tolist(), layer.bias.detach().double().numpy().round(6).tolist())
        for layer in (net.direct, net.first, net.last)
    ]
    return EvidenceModel(
        input_names(len(MISSIONS)), mean.astype(float).round(6).tolist(), scale.astype(float).round(6).tolist(),
        layers[0], layers[1:],
        list(MISSIONS),
    )  # fmt: skip
