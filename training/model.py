"""The model: patch encoder, contrastive heads, hierarchical GNN over the mission graphs, temporal transformer.

Shapes: B windows of A packets, W bytes a packet, D the shared embedding, H the width of a mission's graph (the paper's D = 8),
R relations, M missions, C concepts of all missions together. Sources: PacketCLIP (arXiv 2503.03747) sections III-C and III-D;
MissionGNN (arXiv 2406.18815); the corrections are listed in docs/decisions.md.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from packetclip_sensor.tokens import PAD, ROW_BYTES, VOCABULARY
from packetclip_sensor.windows import RELATIONS
from training.knowledge import Graph

TEXT_DIM = 384


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the model; saved beside the weights and in the bundle's manifest."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    patch: int = 8
    embedding: int = 64
    graph_width: int = 8
    temporal_heads: int = 8
    temporal_inner: int = 128
    window: int = 30

    def as_dict(self) -> dict[str, int]:
        """Plain values for JSON."""
        return asdict(self)


class Attention(nn.Module):
    """Multi-head self-attention, written out so that its ONNX form takes any batch size (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.depth = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """(N, L, width), and (N, L) bool, True where a position must not be seen."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, self.depth)).permute(2, 0, 3, 1, 4).unbind(0)
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

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """(N, L, width) to the same."""
        if self.first:
            x = x + self.drop(self.attention(self.norms[0](x), padding))
            return x + self.drop(self.inner(self.norms[1](x)))
        x = self.norms[0](x + self.drop(self.attention(x, padding)))
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


class SensorNode(nn.Module):
    """x_s = g_P(f_P(bytes)) + R(relations): a packet and its place in the window, in the shared space."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.relations = nn.Sequential(
            nn.Linear(len(RELATIONS), 128),
            nn.GELU(),
            nn.Linear(128, 128),
            nn.GELU(),
            nn.Linear(128, config.embedding, bias=False),
        )

    def forward(self, embedding: Tensor, relations: Tensor) -> Tensor:
        """(..., D) byte embeddings and (..., R) relations to (..., D)."""
        return embedding + self.relations(relations)


class MissionGraph(nn.Module):
    """One mission's graph: sensor -> key -> associated (N rounds) -> embedding node, one strict level a layer.

    Layer l transforms every node, h = W x + b (eq. 6); a node of level l becomes ELU(BN(h_v * mean of its parents' h)) (eq. 7, with
    the activation after the mean as in MissionGNN's code, so that an edge's share of the message is exact). A node that gets no
    message in a layer keeps its own h; read literally, eq. 7 would erase every associated concept in layer 1.
    """

    def __init__(self, graph: Graph, config: ModelConfig) -> None:
        super().__init__()
        self.levels = [list(level) for level in graph.levels]
        self.depth = len(self.levels)
        width = config.graph_width
        self.transform = nn.ModuleList(nn.Linear(config.embedding if i == 0 else width, width) for i in range(self.depth + 1))
        self.norm = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(self.depth + 1))
        self.embedding_node = nn.Parameter(torch.randn(config.embedding) / math.sqrt(config.embedding))
        edges = set(graph.edges)
        parents = {v for _, v in edges}
        for i in range(1, self.depth):
            matrix = torch.tensor([[float((u, v) in edges) for u in self.levels[i - 1]] for v in self.levels[i]])
            self.register_buffer(f"adjacency_{i}", matrix / matrix.sum(1, keepdim=True).clamp(min=1))
        to_embedding = set(graph.to_embedding())
        self.leaves = [
            torch.tensor([j for j, c in enumerate(level) if c in to_embedding], dtype=torch.long) for level in self.levels
        ]
        self.has_leaves = [len(leaves) > 0 for leaves in self.leaves]
        if not all(c in parents for level in self.levels[1:] for c in level):
            raise ValueError(f"mission {graph.mission}: a concept has no parent; run python -m training.knowledge validate")

    def constants(self, concepts: list[Tensor]) -> list[Tensor]:
        """h of each level's nodes at the layer in which they get their message: [(n_l, H)], the embedding node's last."""
        out = []
        for level, x in enumerate([*concepts, self.embedding_node[None]]):
            h = x
            for layer in range(level + 1):
                h = self.transform[layer](h)
            out.append(h)
        return out

    def normalise(self, layer: int, x: Tensor) -> Tensor:
        """BatchNorm over packets and nodes together, then ELU: (B, A, n, H)."""
        return F.elu(self.norm[layer](x.flatten(0, 2)).reshape(x.shape))

    def forward(
        self, sensor: Tensor, concepts: list[Tensor], keep: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """Pass messages for B windows of A packets.

        Args:
            sensor: (B, A, D) sensor nodes. concepts: [(n_l, D)] concept embeddings by level.
            keep: [(B or 1, n_l)] factor on each concept's outgoing message, 0 occludes it.
        Returns:
            (B, A, H) embedding node; [(B, A, n_l, H)] the h that each level's nodes send; (B, A, leaves, H) what arrives at the
            embedding node, in the order of `Graph.to_embedding`.
        """
        own = self.constants(concepts)
        h = self.transform[0](sensor)[:, :, None, :]
        sent: list[Tensor] = []
        arrived: list[Tensor] = []
        for level in range(self.depth):
            mean = h if level == 0 else torch.einsum("vu,bauh->bavh", getattr(self, f"adjacency_{level}"), h)
            x = self.normalise(level, own[level] * mean)
            h = self.transform[level + 1](x)
            if keep is not None:
                h = h * keep[level][:, None, :, None]
            sent.append(h)
            if self.has_leaves[level]:
                leaf = h[:, :, self.leaves[level]]
                for later in range(level + 2, self.depth + 1):
                    leaf = self.transform[later](leaf)
                arrived.append(leaf)
        at_end = torch.cat(arrived, dim=2)
        return self.normalise(self.depth, own[-1] * at_end.mean(2, keepdim=True))[:, :, 0], sent, at_end


class Temporal(nn.Module):
    """One transformer encoder layer over the window, padding masked, positions learned, then an MLP at each packet (eq. 9)."""

    def __init__(self, config: ModelConfig, missions: int) -> None:
        super().__init__()
        width = config.graph_width * missions
        self.position = nn.Parameter(torch.randn(config.window, width) * 0.02)
        self.layer = EncoderLayer(width, config.temporal_heads, config.temporal_inner, first=False, dropout=0.1)
        self.head = nn.Sequential(nn.Linear(2 * width, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, missions + 1))

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """(B, A, M*H) and (B, A) bool, True on padding, to (B, A, M+1) logits; each packet also sees the mean of its window."""
        y = self.layer(x + self.position, padding)
        held = (~padding).to(y.dtype)[:, :, None]
        mean = (y * held).sum(1, keepdim=True) / held.sum(1, keepdim=True).clamp(min=1)
        return self.head(torch.cat([y, mean.expand_as(y)], dim=2))


class PacketClip(nn.Module):
    """All of it; `encode`, `window_embedding` and `reason` are the three things that are exported or trained."""

    def __init__(self, graphs: list[Graph], concepts: Tensor, config: ModelConfig) -> None:
        """concepts: (C, TEXT_DIM) frozen text features of every graph's concepts, key level first, graph after graph."""
        super().__init__()
        self.config = config
        self.packet_encoder = PatchEncoder(config)
        self.packet_head = nn.Linear(config.width, config.embedding, bias=False)
        self.text_head = nn.Linear(TEXT_DIM, config.embedding, bias=False)
        self.sensor = SensorNode(config)
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.graphs = nn.ModuleList(MissionGraph(g, config) for g in graphs)
        self.temporal = Temporal(config, len(graphs))
        self.sizes = [len(level) for g in self.graphs for level in g.levels]
        self.register_buffer("concepts", concepts)

    @property
    def logit_scale(self) -> Tensor:
        """Multiplies cosines; clamped to 100 as in CLIP."""
        return self.log_logit_scale.clamp(0, math.log(100)).exp()

    def encode(self, tokens: Tensor) -> Tensor:
        """g_P(f_P(bytes)): (N, W) int to (N, D)."""
        return self.packet_head(self.packet_encoder(tokens))

    def encode_text(self, features: Tensor) -> Tensor:
        """g_T of frozen text features: (N, TEXT_DIM) to (N, D), unit norm."""
        return F.normalize(self.text_head(features), dim=-1)

    def window_embedding(self, sensor: Tensor, padding: Tensor) -> Tensor:
        """Mean of the window's sensor nodes: (B, A, D), (B, A) to (B, D), unit norm."""
        held = (~padding).to(sensor.dtype)[:, :, None]
        return F.normalize((sensor * held).sum(1) / held.sum(1).clamp(min=1), dim=-1)

    def reason(self, sensor: Tensor, padding: Tensor, keep: Tensor | None = None) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Graphs, then time.

        Args:
            sensor: (B, A, D). padding: (B, A) bool. keep: (B or 1, C), 0 occludes a concept.
        Returns:
            (B, A, M+1) logits; for each graph and level (B, A, n, H) sent states, and for each graph what arrives at its embedding node
            (while training, of the real packets only).
        """
        concepts = self.encode_text(self.concepts).split(self.sizes)
        kept = None if keep is None else keep.split(self.sizes, dim=1)
        # Padding must not enter the batch statistics, so training sees the real packets as one long window.
        packets = sensor[~padding][None] if self.training else sensor
        frames, states, ends, at = [], [], [], 0
        for graph in self.graphs:
            levels = slice(at, at + graph.depth)
            at += graph.depth
            frame, sent, end = graph(packets, list(concepts[levels]), None if kept is None else list(kept[levels]))
            frames.append(frame)
            states.extend(sent)
            ends.append(end)
        frame = torch.cat(frames, dim=2)
        if self.training:
            frame = torch.zeros(*padding.shape, frame.shape[2], dtype=frame.dtype).masked_scatter(~padding[:, :, None], frame)
        return self.temporal(frame, padding), states, ends
