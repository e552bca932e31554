"""A packet's way into the shared space: patch encoder, attention, and the sensor node of bytes and relations.

Shapes: B windows of A packets, W bytes a packet, D the shared embedding, R relations. Source: PacketCLIP (arXiv 2503.03747)
section III-C; the corrections are listed in docs/decisions.md.
"""

import math

import torch
from torch import Tensor, nn

from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.tokens import PAD, ROW_BYTES, VOCABULARY
from training.model.config import ModelConfig

FLAGS = frozenset(
    (
        "is_orig", "fin", "syn", "rst", "psh", "ack", "urg", "tcp", "udp", "icmp", "icmp_echo",
        "first_of_connection", "new_connection", "new_resp_p", "new_resp_h", "new_orig_h", "new_size",
    )
)  # fmt: skip
"""Relations that are -1, 0 or 1 and need no segments."""


class Attention(nn.Module):
    """Multi-head self-attention, written out so that its ONNX form takes any batch size (Vaswani et al. 2017,
    arXiv:1706.03762)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.depth = heads, width // heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, padding: Tensor | None = None, *, last: bool = False) -> Tensor:
        """(N, L, width), and (N, L) bool, True where a position must not be seen, to (N, L or 1, width)."""
        q = self.query(x[:, -1:] if last else x).unflatten(2, (self.heads, self.depth)).transpose(1, 2)
        k, v = self.key_value(x).unflatten(2, (2, self.heads, self.depth)).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(2, 3) / math.sqrt(self.depth)
        if padding is not None:
            scores = scores.masked_fill(padding[:, None, None, :], -1e4)
        return self.out((scores.softmax(3) @ v).transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """One transformer encoder layer; `first` puts the norms before the sublayers, else behind them as in the paper's."""

    def __init__(self, width: int, heads: int, inner: int, *, first: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.inner = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.first, self.drop = first, nn.Dropout(dropout)

    def forward(self, x: Tensor, padding: Tensor | None = None, *, last: bool = False) -> Tensor:
        """(N, L, width) to the same, or to (N, 1, width) for the last position alone."""
        own = x[:, -1:] if last else x
        if self.first:
            x = own + self.drop(self.attention(self.norms[0](x), padding, last=last))
            return x + self.drop(self.inner(self.norms[1](x)))
        x = self.norms[0](own + self.drop(self.attention(x, padding, last=last)))
        return self.norms[1](x + self.drop(self.inner(x)))


class PatchEncoder(nn.Module):
    """f_P: byte embedding, patches of bytes, pre-norm transformer, mean over the patches that hold a byte."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.byte = nn.Embedding(VOCABULARY, 16)
        self.project = nn.Linear(16 * config.patch, config.width)
        self.position = nn.Parameter(torch.randn(ROW_BYTES // config.patch, config.width) * 0.02)
        self.encoder = nn.Sequential(
            *(EncoderLayer(config.width, config.heads, 2 * config.width, first=True) for _ in range(config.layers))
        )
        self.norm = nn.LayerNorm(config.width)

    def patches(self, tokens: Tensor) -> Tensor:
        """(N, W) int to (N, W / patch, width)."""
        x = self.byte(tokens).flatten(2).unflatten(1, (-1, self.patch)).flatten(2)
        return self.norm(self.encoder(self.project(x) + self.position))

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, W) int to (N, width)."""
        held = (tokens.unflatten(1, (-1, self.patch)) != PAD).any(2).to(self.position.dtype)
        x = self.patches(tokens) * held[:, :, None]
        return x.sum(1) / held.sum(1, keepdim=True).clamp(min=1)


class Whitening(nn.Module):
    """Centres and decorrelates features; frozen encoders' features lie in a narrow cone that a linear head cannot part.

    Source: the effect on traffic encoders is arXiv:2509.23089; the transform is ZCA.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("matrix", torch.eye(width))

    def fit(self, features: Tensor, floor: float = 1e-3) -> None:
        """Fit to (N, width). Directions with less than `floor` of the mean variance are damped instead of blown up."""
        x = features.double()
        mean = x.mean(0)
        values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / max(len(x) - 1, 1))
        scale = (values.clamp(min=0) + floor * values.mean().clamp(min=1e-12)).rsqrt()
        self.mean.copy_(mean)
        self.matrix.copy_(vectors @ torch.diag(scale) @ vectors.T)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width) to the same."""
        return (x - self.mean) @ self.matrix


class Segments(nn.Module):
    """Piecewise-linear encoding: beside each relation that is no flag, how far it fills each of `count` parts of 0 to 1.

    A plain layer bends little; a network that is given the parts learns thresholds as a tree does (training/DIARY.md, run 15).
    The parts are equal and not quantiles of the training windows, so nothing of a place is learned here; the layer behind starts
    with the plain numbers alone (`first_layer`), so that a part which no training packet reaches adds nothing.

    Source: Gorishniy et al. 2022, "On embeddings for numerical features in tabular deep learning", arXiv:2203.05556.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        cut = [i for i, name in enumerate(RELATIONS) if name not in FLAGS] if count else []
        self.count = count
        chosen = torch.eye(len(RELATIONS))[cut].repeat_interleave(count, 0)
        # A product, with one number that is not 0 in a column: onnxruntime takes longer to gather columns than to add zeros.
        self.register_buffer("scale", count * chosen.T, persistent=False)
        self.register_buffer("below", torch.tensor([float(k) for _ in cut for k in range(count)]), persistent=False)

    def forward(self, relations: Tensor) -> Tensor:
        """(..., R) to (..., R + count for each relation that is no flag)."""
        if not self.count:
            return relations
        parts = (relations @ self.scale - self.below).clamp(0.0, 1.0)
        return torch.cat([relations, parts], dim=-1)

    def first_layer(self, width: int) -> nn.Linear:
        """The layer behind: fresh weights for the plain numbers, zero for the parts."""
        plain, layer = nn.Linear(len(RELATIONS), width), nn.Linear(len(RELATIONS) + len(self.below), width)
        with torch.no_grad():
            layer.weight.zero_()[:, : len(RELATIONS)] = plain.weight
            layer.bias.copy_(plain.bias)
        return layer


class SensorNode(nn.Module):
    """x_s = g_P(f_P(bytes)) + R(relations): a packet and its place in the window, in the shared space."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.use_bytes, self.use_relations = config.bytes, config.relations
        segments = Segments(config.segments)
        self.relations = nn.Sequential(
            segments,
            segments.first_layer(128),
            nn.GELU(),
            nn.Linear(128, 128),
            nn.GELU(),
            nn.Linear(128, config.embedding, bias=False),
        )

    def forward(self, embedding: Tensor, relations: Tensor) -> Tensor:
        """(..., D) byte embeddings and (..., R) relations to (..., D)."""
        # Times zero instead of left out: an exported model keeps both inputs.
        if not self.use_bytes:
            embedding = embedding * 0.0
        if not self.use_relations:
            relations = relations * 0.0
        return embedding + self.relations(relations)
