"""The AIS-NIDS form: a packet's bytes as an image, features by a small convolutional autoencoder, then boosted trees.

Source: AIS-NIDS, Computers & Security 144:103982. Only its abstract could be read: it works on single packets, knows unknown
attacks by models learned beforehand and goes on learning. Image, layers and sizes here are chosen, not verified; its open-set and
incremental parts are left out.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from packetclip_sensor.windows.tokens import PAD
from training.data.windows import Examples
from training.evaluate.baselines.features import Floats, Predict, balance, draw, packet_mean
from training.evaluate.baselines.packets import ROWS_AT_ONCE, descend
from training.evaluate.baselines.statistics import xgboost

WIDTH = 16
CODE = 32


def images(tokens: npt.NDArray[np.uint16]) -> Tensor:
    """(n, W) tokens to (n, 2, W / 16, 16): bytes scaled to [0, 1], and 1 where a byte is (not masked, not past the end)."""
    seen = tokens < PAD
    planes = np.stack([np.where(seen, tokens, 0) / 255, seen], axis=1).astype(np.float32)
    return torch.from_numpy(planes).unflatten(2, (-1, WIDTH))


class Autoencoder(nn.Module):
    """(n, 2, height, 16) to the same, through a code of 32."""

    def __init__(self, height: int) -> None:
        super().__init__()
        cells = 32 * (height // 4) * (WIDTH // 4)
        self.encode = nn.Sequential(
            nn.Conv2d(2, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(cells, CODE),
        )  # fmt: skip
        self.decode = nn.Sequential(
            nn.Linear(CODE, cells), nn.ReLU(), nn.Unflatten(1, (32, height // 4, WIDTH // 4)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose2d(16, 2, 4, stride=2, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


def encoder(train: Examples, seed: int, steps: int = 600, batch: int = 256) -> Callable[[npt.NDArray[np.uint16]], Floats]:
    """Train the autoencoder on the packets of `train`, without labels; tokens to codes."""
    share, rng = balance(train), np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Autoencoder(train.tokens.shape[1] // WIDTH)

        def loss_of() -> Tensor:
            at = draw(share, batch, rng)
            rows = train.rows[at].numpy()
            row = rows[np.arange(batch), rng.integers(rows.shape[1], size=batch)]
            x = images(train.tokens[np.where(row < 0, rows[:, -1], row)])
            return F.mse_loss(model(x), x)

        descend("packet images", model, loss_of, steps, 3e-3)

    @torch.no_grad()
    def encode(tokens: npt.NDArray[np.uint16]) -> Floats:
        parts = np.split(tokens, range(ROWS_AT_ONCE, len(tokens), ROWS_AT_ONCE))
        return np.concatenate([model.encode(images(part)).numpy() for part in parts])

    return encode


def image_trees(train: Examples, seed: int) -> Predict:
    """XGBoost on the window's mean code."""
    encode = packet_mean(encoder(train, seed))
    return xgboost(lambda _: encode)(train, seed)
