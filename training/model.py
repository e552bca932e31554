"""The model: patch encoder, contrastive heads, hierarchical GNN over the mission graphs, temporal transformer.

Shapes: B windows of A packets, W bytes a packet, D the shared embedding, H the width of a mission's graph (the paper's D = 8),
R relations, M missions, C concepts of all missions together. Sources: PacketCLIP (arXiv 2503.03747) sections III-C and III-D;
MissionGNN (arXiv 2406.18815); the corrections are listed in docs/decisions.md.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from packetclip_sensor.relations import RELATIONS
from packetclip_sensor.tokens import PAD, ROW_BYTES, VOCABULARY
from training.knowledge import Graph

TEXT_DIM = 384
FLAGS = frozenset(
    (
        "is_orig", "fin", "syn", "rst", "psh", "ack", "urg", "tcp", "udp", "icmp", "icmp_echo",
        "first_of_connection", "new_connection", "new_resp_p", "new_resp_h", "new_orig_h", "new_size",
    )
)  # fmt: skip
"""Relations that are -1, 0 or 1 and need no segments."""


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
    encoder: str = "patch"
    """patch, none, or etbert, whose `width` is its hidden size"""
    whiten: bool = False
    """A frozen encoder's features are centred and decorrelated before the packet head."""
    relations: bool = True
    bytes: bool = True
    segments: int = 8
    """Parts that a relation's range is cut into (see Segments); 0 gives the network the plain numbers"""
    message: str = "similarity"
    """How key concepts hear the sensor node: similarity, or product as printed (see MissionGraph)"""
    graph: str = "mission"
    """mission, none (a plain MLP stands for each graph), or shuffled (see `shuffled`)"""
    packets: int | None = None
    """Packets at the window's end that are seen; None is all of them."""

    def as_dict(self) -> dict[str, int | str | bool | None]:
        """Plain values for JSON."""
        return asdict(self)


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


class NoEncoder(nn.Module):
    """Stands where a packet encoder would: zeros, so that relations must do alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.width = config.width

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, W) int to (N, width)."""
        return torch.zeros(len(tokens), self.width, device=tokens.device)


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
    """Piecewise-linear encoding: each relation that is no flag as `count` numbers, how far it fills each part of 0 to 1.

    A plain layer bends little; a network that is given the parts learns thresholds as a tree does (training/DIARY.md, run 15).
    The parts are equal and not quantiles of the training windows, so nothing of a place is learned here.

    Source: Gorishniy et al. 2022, "On embeddings for numerical features in tabular deep learning", arXiv:2203.05556.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        column, low = [], []
        for i, name in enumerate(RELATIONS):
            parts = 1 if name in FLAGS else count
            column += [i] * parts
            low += [k / parts for k in range(parts)]
        self.width = len(column)
        own = [1.0 if RELATIONS[i] in FLAGS else float(count) for i in column]
        self.register_buffer("column", torch.tensor(column), persistent=False)
        self.register_buffer("scale", torch.tensor(own), persistent=False)
        self.register_buffer("shift", torch.tensor([-a * b for a, b in zip(low, own, strict=True)]), persistent=False)
        self.register_buffer("least", torch.tensor([-1.0 if RELATIONS[i] in FLAGS else 0.0 for i in column]), persistent=False)

    def forward(self, relations: Tensor) -> Tensor:
        """(..., R) to (..., width)."""
        return torch.maximum((relations[..., self.column] * self.scale + self.shift).clamp(max=1.0), self.least)


class SensorNode(nn.Module):
    """x_s = g_P(f_P(bytes)) + R(relations): a packet and its place in the window, in the shared space."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.use_bytes, self.use_relations = config.bytes, config.relations
        segments = Segments(config.segments) if config.segments else nn.Identity()
        self.relations = nn.Sequential(
            segments,
            nn.Linear(segments.width if config.segments else len(RELATIONS), 128),
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


class MissionGraph(nn.Module):
    """One mission's graph: sensor -> key -> associated (N rounds) -> embedding node, one strict level a layer.

    Layer l transforms every node, h = W x + b (eq. 6); a node of level l becomes ELU(BN(h_v * mean of its parents' h)) (eq. 7,
    with the activation after the mean as in MissionGNN's code, so that an edge's share of the message is exact). A node that gets
    no message in a layer keeps its own h; read literally, eq. 7 would erase every associated concept in layer 1.

    `config.message` says how a key concept hears the sensor node. As printed ("product"), W brings both to H dimensions before
    they are multiplied, so every concept hears the same H numbers, louder or softer, and which words stand in the graph hardly
    matters. By default ("similarity") they are multiplied in the D dimensions of the contrastive space and summed in H groups:
    H partial cosines between the packet and the concept's own words.
    """

    def __init__(self, graph: Graph, config: ModelConfig) -> None:
        super().__init__()
        self.levels = [list(level) for level in graph.levels]
        self.depth = len(self.levels)
        width = config.graph_width
        self.width, self.similar = width, config.message == "similarity"
        first = nn.Linear(config.embedding, config.embedding if self.similar else width)
        self.transform = nn.ModuleList([first, *(nn.Linear(width, width) for _ in range(self.depth))])
        self.norm = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(self.depth + 1))
        size = width if self.similar else config.embedding
        self.embedding_node = nn.Parameter(torch.randn(size) / math.sqrt(size))
        if self.similar:
            nn.init.eye_(first.weight)
            nn.init.zeros_(first.bias)
            # A product with ones: splitting the last dimension would fix all the others in the exported model.
            self.register_buffer("groups", torch.eye(width).repeat_interleave(config.embedding // width, 0), persistent=False)
            self.own = nn.ModuleList(nn.Linear(config.embedding, width) for _ in range(self.depth - 1))
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
        """h of each level's nodes at the layer in which they get their message, the embedding node's last: [(n_l, H)], but (n, D)
        for key concepts that hear by similarity."""
        if self.similar:
            later = [own(x) for own, x in zip(self.own, concepts[1:], strict=True)]
            return [self.transform[0](concepts[0]), *later, self.embedding_node[None]]
        out = []
        for level, x in enumerate([*concepts, self.embedding_node[None]]):
            h = x
            for layer in range(level + 1):
                h = self.transform[layer](h)
            out.append(h)
        return out

    def grouped(self, x: Tensor) -> Tensor:
        """Sum the dimensions of the first message in H groups: (..., D or H) to (..., H)."""
        return x @ self.groups if x.shape[-1] != self.width else x

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
            x = self.normalise(level, self.grouped(own[level] * mean))
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


@torch.no_grad()
def _affine(function: Callable[[Tensor], Tensor], inputs: int, device: torch.device) -> nn.Linear:
    """The layer equal to an affine function of (N, inputs)."""
    bias = function(torch.zeros(1, inputs, device=device))
    layer = nn.Linear(inputs, bias.shape[1], device=device)
    layer.weight.copy_((function(torch.eye(inputs, device=device)) - bias).T)
    layer.bias.copy_(bias[0])
    return layer


class FoldedGraph(nn.Module):
    """A trained MissionGraph as a chain of linear layers and ELU: between two activations all is affine once the concepts are
    fixed.

    Equal to MissionGraph in evaluation mode without occlusion, and several times as fast; the sensor judges with it.
    """

    def __init__(self, graph: MissionGraph, concepts: list[Tensor]) -> None:
        super().__init__()
        graph.eval()
        own = [x.detach() for x in graph.constants(concepts)]
        width = graph.width

        def norm(layer: int, x: Tensor) -> Tensor:
            return graph.norm[layer](x.flatten(0, 1)).reshape(x.shape).flatten(1)

        def level(i: int, x: Tensor) -> Tensor:
            if i == 0:
                return norm(0, graph.grouped(own[0] * graph.transform[0](x)[:, None, :]))
            h = graph.transform[i](x.unflatten(1, (-1, width)))
            return norm(i, own[i] * torch.einsum("vu,nuh->nvh", getattr(graph, f"adjacency_{i}"), h))

        count = sum(len(leaves) for leaves in graph.leaves)

        def arriving(i: int, x: Tensor) -> Tensor:
            h = x.unflatten(1, (-1, width))[:, graph.leaves[i]]
            for later in range(i + 1, graph.depth + 1):
                h = graph.transform[later](h)
            return own[-1] * h.sum(1) / count

        sizes = [graph.transform[0].in_features, *(len(level) * width for level in graph.levels)]
        self.levels = nn.ModuleList(_affine(partial(level, i), sizes[i], own[0].device) for i in range(graph.depth))
        self.ends = nn.ModuleList(_affine(partial(arriving, i), sizes[i + 1], own[0].device) for i in range(graph.depth))
        self.norm = graph.norm[graph.depth]
        self.has_leaves = graph.has_leaves

    def forward(self, sensor: Tensor) -> Tensor:
        """(N, D) sensor nodes to (N, H) embedding nodes."""
        x, total = sensor, None
        for layer, end, leaves in zip(self.levels, self.ends, self.has_leaves, strict=True):
            x = F.elu(layer(x))
            if leaves:
                total = end(x) if total is None else total + end(x)
        return F.elu(self.norm(total))


class PlainMission(nn.Module):
    """What stands for a mission's graph in the ablation without graphs: an MLP of about as many parameters, concepts unused."""

    def __init__(self, graph: Graph, config: ModelConfig) -> None:
        super().__init__()
        self.depth = len(graph.levels)
        self.levels = [list(level) for level in graph.levels]
        wanted = sum(p.numel() for p in MissionGraph(graph, config).parameters())
        hidden = max(round((wanted - 3 * config.graph_width) / (config.embedding + config.graph_width + 3)), 1)
        self.inner = nn.Linear(config.embedding, hidden)
        self.inner_norm = nn.BatchNorm1d(hidden)
        self.out = nn.Linear(hidden, config.graph_width)
        self.norm = nn.BatchNorm1d(config.graph_width)

    def forward(
        self, sensor: Tensor, concepts: list[Tensor], keep: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """As `MissionGraph.forward`; there are no states and no leaves."""
        x = F.elu(self.inner_norm(self.inner(sensor.flatten(0, 1))))
        x = F.elu(self.norm(self.out(x))).unflatten(0, sensor.shape[:2])
        return x, [], x[:, :, None][:, :, :0]


def shuffled(graphs: list[Graph], concepts: Tensor, seed: int) -> tuple[list[Graph], Tensor]:
    """Graphs that mean nothing any more, for the ablation: same sizes, same degrees, other edges and other concepts.

    Edges trade their ends within a level, which keeps every node's number of parents and of children, and the (C, T) concept
    features are permuted over all graphs.
    """
    rng = random.Random(f"shuffled {seed}")
    out = []
    for graph in graphs:
        edges: list[tuple[str, str]] = []
        for level in graph.levels:
            own = [e for e in graph.edges if e[0] in set(level)]
            present = set(own)
            for _ in range(20 * len(own)):
                i, j = rng.randrange(len(own)), rng.randrange(len(own))
                (a, b), (c, d) = own[i], own[j]
                if (a, d) in present or (c, b) in present:
                    continue
                present -= {(a, b), (c, d)}
                present |= {(a, d), (c, b)}
                own[i], own[j] = (a, d), (c, b)
            edges += own
        out.append(replace(graph, edges=edges))
    order = list(range(len(concepts)))
    rng.shuffle(order)
    return out, concepts[order]


class Temporal(nn.Module):
    """One transformer encoder layer over the window, padding masked, positions learned, then an MLP at each packet (eq. 9)."""

    def __init__(self, config: ModelConfig, missions: int) -> None:
        super().__init__()
        width = config.graph_width * missions
        self.packets = config.packets
        self.position = nn.Parameter(torch.randn(config.window, width) * 0.02)
        self.layer = EncoderLayer(width, config.temporal_heads, config.temporal_inner, first=False, dropout=0.1)
        self.head = nn.Sequential(nn.Linear(4 * width, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, missions + 1))

    def forward(self, x: Tensor, padding: Tensor, *, last: bool = False) -> Tensor:
        """Judge each packet of each window, or only the last one, which is what a sensor asks for and costs a thirtieth.

        Args:
            x: (B, A, M*H) embedding nodes. padding: (B, A) bool.
        Returns:
            (B, A, M+1) logits, or (B, 1, M+1) with `last`. Each packet also sees mean and spread of its window's nodes.
        """
        padding = seen_only(padding, self.packets)
        mean, spread = moments(x, padding)
        y = self.layer(x + self.position, padding, last=last)
        n = y.shape[1]
        return self.head(torch.cat([y, mean.expand(-1, n, -1), spread.expand(-1, n, -1), x[:, -n:]], dim=2))


def moments(x: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the packets of a window: (B, A, D), (B, A) bool to (B, 1, D) each."""
    held = (~padding).to(x.dtype)[:, :, None]
    count = held.sum(1, keepdim=True).clamp(min=1)
    mean = (x * held).sum(1, keepdim=True) / count
    return mean, (((x - mean) * held).square().sum(1, keepdim=True) / count + 1e-5).sqrt()


def seen_only(padding: Tensor, packets: int | None) -> Tensor:
    """(B, A) bool: what lies before the window's last `packets` packets is padding too."""
    if packets is None or packets >= padding.shape[1]:
        return padding
    older = torch.arange(padding.shape[1], device=padding.device) < padding.shape[1] - packets
    return padding | older


class PacketClip(nn.Module):
    """All of it; `encode`, `window_embedding` and `reason` are the three things that are exported or trained."""

    def __init__(self, graphs: list[Graph], concepts: Tensor, config: ModelConfig, encoder: nn.Module | None = None) -> None:
        """Build the model with fresh weights.

        Args:
            concepts: (C, T) frozen text features of every graph's concepts, key level first, graph after graph; T is the text
                encoder's width.
            encoder: f_P where `config.encoder` is etbert: (N, W) int to (N, config.width).
        """
        super().__init__()
        self.config = config
        if encoder is None:
            encoder = NoEncoder(config) if config.encoder == "none" else PatchEncoder(config)
        self.packet_encoder = encoder
        self.whitening = Whitening(config.width) if config.whiten else nn.Identity()
        self.packet_head = nn.Linear(config.width, config.embedding, bias=False)
        # At first the mean alone speaks.
        self.window_head = nn.Linear(3 * config.embedding, config.embedding, bias=False)
        with torch.no_grad():
            self.window_head.weight.copy_(torch.eye(config.embedding, 3 * config.embedding))
        self.text_head = nn.Linear(concepts.shape[1], config.embedding, bias=False)
        self.sensor = SensorNode(config)
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.graphs = nn.ModuleList((PlainMission if config.graph == "none" else MissionGraph)(g, config) for g in graphs)
        self.temporal = Temporal(config, len(graphs))
        self.sizes = [len(level) for g in self.graphs for level in g.levels]
        self.register_buffer("concepts", concepts)

    @property
    def logit_scale(self) -> Tensor:
        """Multiplies cosines; clamped to 100 as in CLIP."""
        return self.log_logit_scale.clamp(0, math.log(100)).exp()

    def encode(self, tokens: Tensor) -> Tensor:
        """g_P(f_P(bytes)): (N, W) int to (N, D), unit norm."""
        return self.project(self.features(tokens))

    def project(self, features: Tensor) -> Tensor:
        """g_P of a packet encoder's features: (N, width) to (N, D), unit norm."""
        return F.normalize(self.packet_head(features), dim=-1)

    def features(self, tokens: Tensor) -> Tensor:
        """f_P(bytes), whitened where the encoder is frozen: (N, W) int to (N, width)."""
        return self.whitening(self.packet_encoder(tokens))

    def encode_text(self, features: Tensor) -> Tensor:
        """g_T of frozen text features: (N, T) to (N, D), unit norm."""
        return F.normalize(self.text_head(features), dim=-1)

    def window_embedding(self, sensor: Tensor, padding: Tensor) -> Tensor:
        """Mean, spread and last of the window's sensor nodes, brought into the shared space: (B, A, D), (B, A) to (B, D), unit
        norm."""
        return self.pooled(sensor, seen_only(padding, self.config.packets))

    def pooled(self, sensor: Tensor, padding: Tensor) -> Tensor:
        """The same of any packets that were drawn of the window: (B, n, D), (B, n) to (B, D), unit norm."""
        mean, spread = moments(sensor, padding)
        return F.normalize(self.window_head(torch.cat([mean[:, 0], spread[:, 0], sensor[:, -1]], dim=1)), dim=-1)

    def reason(
        self, sensor: Tensor, padding: Tensor, keep: Tensor | None = None, *, last: bool = False
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Graphs, then time.

        Args:
            sensor: (B, A, D). padding: (B, A) bool. keep: (B or 1, C), 0 occludes a concept.
        Returns:
            (B, A, M+1) logits; for each graph and level (B, A, n, H) sent states, and for each graph what arrives at its
            embedding node (while training, of the real packets only).
        """
        padding = seen_only(padding, self.config.packets)
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
            frame = frame.new_zeros(*padding.shape, frame.shape[2]).masked_scatter(~padding[:, :, None], frame)
        return self.temporal(frame, padding, last=last), states, ends
