"""What a step of training sees: balanced draws of windows, and random changes of their bytes and relations."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.tokens import MASK, PAD
from training.data.windows import CLASSES, Examples, shares

GAPS = [RELATIONS.index(name) for name in ("log_gap", "history_log_gap")]
AGES = [RELATIONS.index(name) for name in ("log_age", "history_log_age", "history_log_duration")]
SIZES = [RELATIONS.index(name) for name in ("log_size", "log_payload")]
Pool = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]
"""Rows, and the chance that one up to each of them is drawn."""
TTL_AT = {4: 8, 6: 7}
"""Offset of the hop limit by IP version: it depends on the place, so it is masked at random in training."""


class Sampler:
    """Draws balanced batches.

    Attack classes count alike; within one, sources and captures as `shares` has it. Benign windows are drawn so as well, or by
    what they look like (the text of their facts), half and half: a traceroute, seen in five captures, counts as much as
    browsing, seen in all.
    """

    def __init__(self, examples: Examples, seed: int, looks: npt.NDArray[np.object_], without: Sequence[str] = ()) -> None:
        self.rng = np.random.default_rng(seed)
        label = examples.label.numpy()

        def pool(at: npt.NDArray[np.int64]) -> Pool:
            return at, np.cumsum(shares(examples, at))

        self._attacks = [pool(np.nonzero(label == k)[0]) for k in np.unique(label) if k and CLASSES[k] not in without]
        benign = np.nonzero(label == 0)[0]
        _, look, count = np.unique(looks[benign].astype(str), return_inverse=True, return_counts=True)
        self._benign = [pool(benign), (benign, np.cumsum(1 / count[look] / len(count)))]

    def __call__(self, size: int, benign: float) -> Tensor:
        """(size,) row numbers, `benign` of them benign."""
        rng = self.rng
        out = np.empty(size, np.int64)
        for i in range(size):
            kinds = self._benign if i < benign * size else self._attacks
            at, upto = kinds[rng.integers(len(kinds))]
            out[i] = at[min(np.searchsorted(upto, rng.random()), len(at) - 1)]
        return torch.from_numpy(out)


def masked(tokens: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Tokens with `share` of their bytes masked at random, and the hop limit in half of the rows."""
    drop = torch.rand(tokens.shape, generator=generator) < share
    hop = torch.rand(len(tokens), generator=generator) < 0.5
    version = tokens[:, 0] >> 4
    for number, at in TTL_AT.items():
        drop[:, at] |= hop & (version == number)
    return torch.where(drop & (tokens < PAD), torch.full_like(tokens, MASK), tokens)


def kept_bytes(shape: torch.Size, byte_dropout: float, packet_dropout: float, generator: torch.Generator) -> Tensor:
    """(B, n) to (B, n, 1) factors, 0 where a packet's bytes are dropped: in whole windows, and of single packets."""
    window = torch.rand(shape[0], 1, 1, generator=generator) >= byte_dropout
    return (window & (torch.rand(*shape, 1, generator=generator) >= packet_dropout)).float()


def augmented(
    relations: Tensor, padding: Tensor, generator: torch.Generator, *, time: float, size: float, drop: float, noise: float
) -> Tensor:
    """Relations of windows that could have been: another pace, other sizes, a field missing, a little noise.

    (B, n, R) and (B, n) bool to (B, n, R). Times and sizes are logarithms, so a factor is a shift; what is zero stays so.

    Args:
        time, size, drop, noise: as in the settings `augment`.
    """

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    out = relations.clone()
    pace, scale = normal(len(out), 1, 1) * time, normal(len(out), 1, 1) * size
    for columns, span, shift in ((GAPS, 8.0, pace), (AGES, 5.0, pace), (SIZES, 8.0, scale)):
        values = relations[:, :, columns]
        out[:, :, columns] = values + (values > 0) * shift / span
    out *= torch.rand(len(out), 1, out.shape[2], generator=generator) >= drop
    out += normal(*out.shape) * noise
    return out * (~padding)[:, :, None]
