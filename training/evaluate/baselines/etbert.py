"""ET-BERT's architecture trained from scratch on our masked bytes, a packet a sequence of overlapping pairs of bytes.

Source: Lin et al. 2022, arXiv:2202.06335. Encoder and words are those of `training.model.etbert`; on top stands ET-BERT's own
classifier, [CLS] -> linear -> tanh -> linear. Nothing is pre-trained: traffic of that amount is not at hand, so these rows say
what the architecture learns from this data, not what the published weights know. `etbert-reduced` is the same at 2 layers and 128
wide, which one core trains in a minute.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from training.data.windows import GROUPS
from training.evaluate.baselines.packets import per_packet
from training.evaluate.baselines.types import Fit
from training.fit.experiment import EtBert
from training.model.etbert import EtBertEncoder

REDUCED = EtBert(layers=2, width=128, heads=4, inner=512, tokens=64)
FULL = EtBert()


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


ETBERT_REDUCED: Fit = per_packet("etbert-reduced", lambda: PacketBert(REDUCED), _tensor, steps=250, batch=48, learning_rate=1e-3)


def etbert_full(device: str, steps: int = 4000) -> Fit:
    """The full size; on a CPU core a step takes minutes, so it is for a GPU."""
    return per_packet("etbert", lambda: PacketBert(FULL), _tensor, steps=steps, batch=128, learning_rate=5e-5, device=device)
