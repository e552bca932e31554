"""Networks on packet bytes: training on windows drawn with the balance, one verdict per distinct row; ET-BERT among them.

ET-BERT's architecture (Lin et al. 2022, arXiv:2202.06335) is trained from scratch on our masked bytes, a packet a sequence of
overlapping pairs of bytes. Encoder and words are those of `training.model.etbert`; its own classifier is on top, [CLS] -> linear
-> tanh -> linear. Nothing is pre-trained, because traffic of that amount is not at hand: these rows measure what the architecture
learns from this data, not what the published weights know. `etbert-reduced` is the same at 2 layers and 128 wide, which one core
trains in a minute.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.windows import GROUPS, Examples
from training.evaluate.baselines.features import Fit, Floats, Predict, balance, draw, spread
from training.model.config import EtBert
from training.model.etbert import EtBertEncoder

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

    def fit(train: Examples, seed: int) -> Predict:
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


class PacketBert(nn.Module):
    """(n, ROW_BYTES) tokens to (n, M+1) logits."""

    def __init__(self, settings: EtBert, outputs: int = len(GROUPS)) -> None:
        super().__init__()
        self.encoder = EtBertEncoder(settings)
        self.head = nn.Sequential(nn.Linear(settings.width, settings.width), nn.Tanh(), nn.Linear(settings.width, outputs))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(tokens))


def _tensor(tokens: npt.NDArray[np.uint16]) -> Tensor:
    return torch.from_numpy(tokens.astype(np.int64))


REDUCED = EtBert(layers=2, width=128, heads=4, inner=512, tokens=64)
ETBERT_REDUCED: Fit = per_packet("etbert-reduced", lambda: PacketBert(REDUCED), _tensor, steps=250, batch=48, learning_rate=1e-3)


def etbert_full(device: str, steps: int = 4000) -> Fit:
    """The full size; on a CPU core a step takes minutes, so it is for a GPU."""
    return per_packet("etbert", lambda: PacketBert(EtBert()), _tensor, steps=steps, batch=128, learning_rate=5e-5, device=device)
