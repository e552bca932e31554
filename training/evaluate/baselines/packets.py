"""What the networks on packet bytes share: training on windows drawn with the balance, one judgement per distinct row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.windows import GROUPS, Examples
from training.evaluate.baselines.features import balance, draw, spread
from training.evaluate.baselines.types import Fit, Floats, Predictor

ROWS_AT_ONCE = 512


def descend(name: str, model: nn.Module, loss_of: Callable[[], Tensor], steps: int, learning_rate: float) -> None:
    """Minimise `loss_of()` by Adam, the learning rate rising and falling once (Smith & Topin 2019, arXiv:1708.07120)."""
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps)
    for _ in track(range(steps), name, transient=True):
        optimiser.zero_grad()
        loss_of().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    model.eval()


@torch.no_grad()
def by_distinct_row(examples: Examples, rows: Tensor, answer: Callable[[npt.NDArray[np.uint16]], Tensor]) -> Tensor:
    """(N, P) row numbers, -1 is padding, to (N, P, F): each distinct row is answered once, padding gets zeros.

    Args:
        answer: (n, ROW_BYTES) tokens to (n, F).
    """
    used, place = torch.unique(rows, return_inverse=True)
    real = used >= 0
    tokens = examples.tokens[used[real].numpy()]
    parts = [answer(tokens[i : i + ROWS_AT_ONCE]).cpu() for i in range(0, len(tokens), ROWS_AT_ONCE)]
    known = torch.cat(parts)
    table = torch.zeros(len(used), known.shape[1])
    table[real] = known
    return table[place]


def per_packet(
    name: str,
    make: Callable[[], nn.Module],
    inputs: Callable[[npt.NDArray[np.uint16]], Tensor],
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    packets: int = 5,
    device: str = "cpu",
) -> Fit:
    """A network that judges single packets; a window's probabilities are the mean over `packets` of its packets.

    Args:
        make: a new network, inputs to (n, M+1) logits.
        inputs: (n, ROW_BYTES) tokens to what the network takes.
    """

    def fit(train: Examples, seed: int) -> Predictor:
        share, group = balance(train), train.group
        rng = np.random.default_rng(seed)
        last = train.rows.shape[1] - 1
        held = (train.rows >= 0).sum(1).numpy()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = make().to(device)

            def loss_of() -> Tensor:
                at = draw(share, batch, rng)
                column = last - (rng.random(batch) * held[at]).astype(np.int64)  # windows are padded at the front
                tokens = train.tokens[train.rows[at, column].numpy()]
                return F.cross_entropy(model(inputs(tokens).to(device)), group[at].to(device))

            descend(name, model, loss_of, steps, learning_rate)
        present = torch.bincount(group, minlength=len(GROUPS)) > 0

        def predict(test: Examples) -> Floats:
            rows = spread(test.rows, packets)
            p = by_distinct_row(
                test, rows, lambda t: model(inputs(t).to(device)).cpu().masked_fill(~present, -torch.inf).softmax(1)
            )
            total: Floats = p.mean(1).numpy()
            return total / np.maximum(total.sum(1, keepdims=True), 1e-12)

        return predict

    return fit
