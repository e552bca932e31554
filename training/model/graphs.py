"""Reasoning over the mission graphs: message passing, its dense form, and what replaces a graph in ablations.

Shapes: B windows of A packets, D the shared embedding, H the width of a mission's graph (the paper's D = 8). Sources: PacketCLIP
(arXiv 2503.03747) section III-D; MissionGNN (arXiv 2406.18815); the corrections are listed in docs/decisions.md.
"""

import math
import random
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.model.config import ModelConfig
from training.model.norm import BatchNorm
from training.text.knowledge import Graph

Affine = tuple[Tensor, Tensor]
"""Weight (out, in) and bias (out,)."""


class MissionGraph(nn.Module):
    """One mission's graph: sensor -> key -> associated (N rounds) -> embedding node, one strict level a layer.

    Layer l transforms every node, h = W x + b (eq. 6); a node of level l becomes ELU(BN(h_v * mean of its parents' h)) (eq. 7,
    with the activation after the mean as in MissionGNN's code, so that an edge's share of the message is exact). A node that gets
    no message in a layer keeps its own h; read literally, eq. 7 would erase every associated concept in layer 1.

    `config.message` is how a key concept receives the sensor node. As printed ("product"), W brings both to H dimensions before
    they are multiplied, so every concept receives the same H numbers, scaled, and which words are in the graph hardly
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
        self.norm = nn.ModuleList(BatchNorm(width) for _ in range(self.depth + 1))
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
            raise ValueError(f"mission {graph.mission}: a concept has no parent; run python -m training.text.knowledge validate")

    def constants(self, concepts: list[Tensor]) -> list[Tensor]:
        """h of each level's nodes at the layer in which they get their message, the embedding node's last: [(n_l, H)], but (n, D)
        for key concepts that receive by similarity."""
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

    def dense(self, concepts: list[Tensor]) -> tuple[list[Affine], list[Affine]]:
        """The graph between two activations, as one affine map each: all of a level's nodes from all of the level before.

        Returns:
            For each level (n_l * H, n_(l-1) * H) and (n_l * H,), the first from (D,); and for each level with leaves what they
            send to the embedding node, (H, n_l * H) and (H,). Computed from the weights, so gradients pass.
        """
        own = self.constants(concepts)
        first = self.transform[0]
        # By similarity a key concept receives H groups of the D products.
        message = own[0][:, None, :] * self.groups.T if self.similar else torch.diag_embed(own[0])
        message = message.flatten(0, 1)
        levels = [(message @ first.weight, message @ first.bias)]
        for i in range(1, self.depth):
            to = self.transform[i]
            weight = torch.einsum("vh,vu,hk->vhuk", own[i], getattr(self, f"adjacency_{i}"), to.weight)
            levels.append((weight.flatten(2).flatten(0, 1), (own[i] * to.bias).flatten()))
        ends = []
        count = sum(len(leaves) for leaves in self.leaves)
        for i, leaves in enumerate(self.leaves):
            if not len(leaves):
                continue
            weight, bias = self.way(i)
            chosen = torch.zeros(len(self.levels[i]), device=weight.device).index_fill(0, leaves.to(weight.device), 1.0)
            ends.append(
                (
                    ((own[-1][0, :, None] * weight)[:, None, :] * (chosen / count)[None, :, None]).flatten(1),
                    own[-1][0] * bias * (len(leaves) / count),
                )
            )
        return levels, ends

    def way(self, level: int) -> Affine:
        """What a leaf's state goes through on its way to the embedding node, as one map: (H, H) and (H,)."""
        weight, bias = self.transform[level + 1].weight, self.transform[level + 1].bias
        for later in range(level + 2, self.depth + 1):
            weight, bias = self.transform[later].weight @ weight, self.transform[later](bias)
        return weight, bias

    def frames(self, sensor: Tensor, concepts: list[Tensor]) -> Tensor:
        """The embedding nodes alone, (..., D) to (..., H): what training asks for, in a third of the time of `forward`."""
        levels, ends = self.dense(concepts)
        x, total, sending = sensor.flatten(0, -2), torch.zeros((), device=sensor.device), iter(ends)
        for i, (weight, bias) in enumerate(levels):
            y = F.linear(x, weight, bias)
            x = F.elu(self.norm[i](y.reshape(-1, self.width))).reshape(y.shape)
            if self.has_leaves[i]:
                total = total + F.linear(x, *next(sending))
        return F.elu(self.norm[self.depth](total)).unflatten(0, sensor.shape[:-1])

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


class EventNodes(nn.Module):
    """Where each mission's graph ends: its attacks, whose texts lie in the contrastive space beside the window.

    A mission has as much evidence as its attacks together, each the more the nearer its texts are to the window's embedding;
    Benign has texts of its own. Contrast learns which windows are like which words, and the graph has which attack is of which
    mission: so a mission also gets evidence of an attack that its reasoner was never shown, and of windows far from those of
    training (training/DIARY.md, run 26).
    """

    SHARPNESS = 10.0
    """Multiplies cosines; on the stored predictions of run 25 10, 20 and 40 did alike."""

    def __init__(self, sentences: list[Tensor], missions: list[int], weight: float) -> None:
        """Take the frozen features of each class's sentences, (n, T) each, and the mission of each class, 0 for Benign."""
        super().__init__()
        self.weight = weight
        owner = F.one_hot(torch.arange(len(sentences)).repeat_interleave(torch.tensor([len(s) for s in sentences])))
        self.register_buffer("sentences", torch.cat(sentences), persistent=False)
        self.register_buffer("mean", owner.T / owner.sum(0)[:, None], persistent=False)
        self.register_buffer("missions", F.one_hot(torch.tensor(missions)).float(), persistent=False)

    def embeddings(self, sentences: Tensor) -> Tensor:
        """The nodes, (classes, D) unit norm, from the (n, D) embeddings of `self.sentences`."""
        return F.normalize(self.mean @ sentences, dim=-1)

    def forward(self, window: Tensor, nodes: Tensor) -> Tensor:
        """Evidence in nats: (B, D) windows and (classes, D) nodes to (B, M+1)."""
        return self.weight * ((self.SHARPNESS * window @ nodes.T).exp() @ self.missions).log().log_softmax(1)


def without_concepts(window: Tensor, concepts: Tensor, keep: Tensor) -> Tensor:
    """Windows less what they have in common with concepts: (B, D), (C, D) and (B or 1, C), 0 takes a concept away, to (B, D).

    What a window has in common with one concept is projected away, where it is positive; with several, the one direction in which
    they are together like it, so that concepts that say alike are not taken twice. All of unit norm.
    """
    together = F.normalize((F.relu(window @ concepts.T) * (1 - keep)) @ concepts, dim=-1)
    return F.normalize(window - (window * together).sum(-1, keepdim=True) * together, dim=-1)


class PlainMission(nn.Module):
    """What replaces a mission's graph in the ablation without graphs: an MLP of about as many parameters, concepts unused."""

    def __init__(self, graph: Graph, config: ModelConfig) -> None:
        super().__init__()
        self.depth = len(graph.levels)
        self.levels = [list(level) for level in graph.levels]
        wanted = sum(p.numel() for p in MissionGraph(graph, config).parameters())
        hidden = max(round((wanted - 3 * config.graph_width) / (config.embedding + config.graph_width + 3)), 1)
        self.inner = nn.Linear(config.embedding, hidden)
        self.inner_norm = BatchNorm(hidden)
        self.out = nn.Linear(hidden, config.graph_width)
        self.norm = BatchNorm(config.graph_width)

    def forward(
        self, sensor: Tensor, concepts: list[Tensor], keep: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """As `MissionGraph.forward`; there are no states and no leaves."""
        x = self.frames(sensor, concepts)
        return x, [], x[:, :, None][:, :, :0]

    def frames(self, sensor: Tensor, concepts: list[Tensor]) -> Tensor:
        """(..., D) to (..., H)."""
        x = F.elu(self.inner_norm(self.inner(sensor.flatten(0, -2))))
        return F.elu(self.norm(self.out(x))).unflatten(0, sensor.shape[:-1])


def shuffled(
    graphs: list[Graph], concepts: Tensor, sentences: list[Tensor], seed: int
) -> tuple[list[Graph], Tensor, list[Tensor]]:
    """Graphs that mean nothing any more, for the ablation: same sizes, same degrees, other edges and other concepts.

    Edges trade their ends within a level, which keeps every node's number of parents and of children; the (C, T) concept features
    are permuted over all graphs, and so are the sentences of the attacks, all but the first, which are Benign's.
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
    attacks = list(range(1, len(sentences)))
    rng.shuffle(attacks)
    return out, concepts[order], [sentences[0], *(sentences[i] for i in attacks)]
