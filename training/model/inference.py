"""The model as the sensor runs it: three modules to export, and graphs in which what no packet changes is folded.

A sum over nodes and a map of H numbers stay two products. One matrix for both, from level to level, is what training is fastest
with (`MissionGraph.dense`), but a whole window then takes twice the FLOPs. The N packets stand last, so that products are long.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from packetclip_sensor.windows.tokens import PAD
from training.model.encoders import PatchEncoder
from training.model.graphs import Affine, MissionGraph
from training.model.packetclip import PacketClip


class Encoder(nn.Module):
    """tokens (N, W) int32 to embedding (N, D): what `PacketClip.encode` gives, in less time.

    Linear layers have the patches of all rows as one matrix, so that onnxruntime adds the bias within the product, and all sizes
    but N are constants. A patch holds a byte where its first token is one, for padding is only at a row's end.
    """

    def __init__(self, model: PacketClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        model, encoder = self.model, self.model.packet_encoder
        if not isinstance(encoder, PatchEncoder):
            return model.encode(tokens.long())
        count, width = encoder.position.shape
        held = (tokens.reshape(-1, count, encoder.patch)[:, :, 0] != PAD).to(encoder.position.dtype)
        rows = encoder.byte(tokens).reshape(-1, encoder.project.in_features)
        x = encoder.project(rows).reshape(-1, count, width) + encoder.position
        for layer in encoder.encoder:
            attention, (before, behind) = layer.attention, layer.norms
            rows = before(x).reshape(-1, width)
            key, value = (
                F.linear(rows, *half) for half in zip(*(p.chunk(2) for p in attention.key_value.parameters()), strict=True)
            )
            each = (y.reshape(-1, count, attention.heads, attention.depth) for y in (attention.query(rows), key, value))
            q, k, v = (y.transpose(1, 2) for y in each)
            seen = (q @ k.transpose(2, 3) / math.sqrt(attention.depth)).softmax(3) @ v
            x = x + attention.out(seen.transpose(1, 2).reshape(-1, width)).reshape(-1, count, width)
            x = x + layer.inner(behind(x).reshape(-1, width)).reshape(-1, count, width)
        x = encoder.norm(x) * held[:, :, None]
        return model.project(model.whitening(x.sum(1) / held.sum(1, keepdim=True).clamp(min=1)))


class Reasoner(nn.Module):
    """embedding (B, A, D), relations (B, A, R), padding (B, A) to logits (B, M+1): what every window goes through."""

    def __init__(self, model: PacketClip) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("nodes", _event_nodes(model))
        self.graphs = _inference_graphs(model)

    def forward(self, embedding: Tensor, relations: Tensor, padding: Tensor) -> Tensor:
        sensor = self.model.sensor(embedding, relations)
        packets = sensor.flatten(0, 1)
        frames = torch.cat([graph(packets) for graph in self.graphs], dim=1)
        logits = self.model.temporal(frames.unflatten(0, (-1, padding.shape[1])), padding, last=True)
        return (logits + self.model.evidence(sensor, padding, nodes=self.nodes))[:, 0]


class Explainer(nn.Module):
    """The same with keep (k, C), to logits, window embedding, node states and leaves: what an alert's explanation needs.

    One window with k rows of keep, or B windows with one row of ones. Graphs share nothing before the temporal model, and most
    rows of keep take something from one graph alone: each graph is computed for the rows that take something from it, and once
    for all others.
    """

    def __init__(self, model: PacketClip) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("nodes", _event_nodes(model))
        self.graphs = _inference_graphs(model)

    def forward(self, embedding: Tensor, relations: Tensor, padding: Tensor, keep: Tensor) -> tuple[Tensor, ...]:
        model, sensor = self.model, self.model.sensor(embedding, relations)
        packets, length = sensor.flatten(0, 1), padding.shape[1]
        concepts, kept = (x.split(model.sizes, dim) for x, dim in ((model.encode_text(model.concepts), 0), (keep, 1)))
        windows, frames, states, ends = torch.arange(sensor.shape[0]), [], [], []
        for (graph, levels), inference in zip(model.by_mission(), self.graphs, strict=True):
            own = torch.cat(kept[levels], dim=1)
            taken = (own < 1).any(1).long()
            rows = torch.cat([torch.ones_like(own[:1]), own[taken.nonzero()[:, 0]]]).split(model.sizes[levels], 1)
            frame = inference(packets, list(rows)).unflatten(0, (-1, length))
            frames.append(frame[taken * taken.cumsum(0) + windows])
            _, sent, end = graph(sensor, list(concepts[levels]))
            states.extend(sent)
            ends.append(end)
        logits = model.temporal(torch.cat(frames, dim=2), padding, last=True)
        evidence = model.evidence(sensor, padding, nodes=self.nodes, keep=keep)
        embedded = model.window_embedding(sensor, padding)
        return (logits + evidence)[:, 0], embedded, torch.cat(states, dim=2), torch.cat(ends, dim=2)


@torch.no_grad()
def _inference_graphs(model: PacketClip) -> nn.ModuleList:
    concepts = model.encode_text(model.concepts).split(model.sizes)
    return nn.ModuleList(InferenceGraph(graph, list(concepts[levels])) for graph, levels in model.by_mission())


@torch.no_grad()
def _event_nodes(model: PacketClip) -> Tensor | None:
    """The nodes, so that no file holds the hundreds of sentences that they are made of."""
    return None if model.events is None else model.event_nodes()


class InferenceMessage(nn.Module):
    """What nodes receive from the level before: each a weighted sum of its nodes, then H numbers of H, with a bias."""

    def __init__(self, shares: Tensor, pair: Affine, lost: Tensor) -> None:
        """Take the (v, u) weight of each node before for each node here, (v, H, H) and (v, H), and how much of the bias (v, H)
        comes with the nodes before, and goes where they are occluded."""
        super().__init__()
        self.register_buffer("shares", shares)
        self.register_buffer("weight", pair[0])
        self.register_buffer("bias", pair[1][:, :, None])
        self.register_buffer("lost", lost[:, :, None], persistent=False)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """(u, H, N) to (v, H, N); with keep (k, u), which is in `x` already, (u, H, k * N) to (v, H, k * N)."""
        nodes, before = self.shares.shape
        received = self.shares @ x.reshape(before, -1)
        message = self.weight @ received.reshape(nodes, self.weight.shape[2], -1)
        if keep is None:
            return message + self.bias
        bias = self.bias - self.lost * (self.shares @ (1 - keep).T)[:, None]
        return (message.reshape(*bias.shape, -1) + bias[:, :, :, None]).flatten(2)


class InferenceGraph(nn.Module):
    """A trained MissionGraph in evaluation mode: equal to it, and several times as fast."""

    @torch.no_grad()
    def __init__(self, graph: MissionGraph, concepts: list[Tensor]) -> None:
        super().__init__()
        graph.eval()
        own = graph.constants(concepts)
        self.width, self.norm = graph.width, graph.norm[graph.depth]
        # All key concepts receive the same sensor node, so there is no sum over nodes to take out.
        weight, bias = (x.unflatten(0, (-1, self.width)) for x in graph.dense(concepts)[0][0])
        weight, bias = _normalised((weight, bias), graph.norm[0])
        self.register_buffer("weight", weight.flatten(0, 1)[None])
        self.register_buffer("bias", bias.flatten()[None, :, None])
        self.levels, self.ends = nn.ModuleList(), nn.ModuleList()
        for i in range(1, graph.depth):
            to, norm = graph.transform[i], graph.norm[i]
            pair = _normalised((own[i][:, :, None] * to.weight, own[i] * to.bias), norm)
            self.levels.append(InferenceMessage(getattr(graph, f"adjacency_{i}"), pair, own[i] * to.bias * _scale(norm)))
        count = sum(len(leaves) for leaves in graph.leaves)
        self.has_leaves = graph.has_leaves
        for i, leaves in enumerate(graph.leaves):
            if self.has_leaves[i]:
                weight, bias = graph.way(i)
                nothing = torch.zeros_like(bias)  # what an occluded leaf sends, and what later layers make of it
                for later in range(i + 2, graph.depth + 1):
                    nothing = graph.transform[later](nothing)
                shares = weight.new_zeros(1, len(graph.levels[i])).index_fill(1, leaves.to(weight.device), 1 / count)
                pair = (own[-1][:, :, None] * weight, own[-1] * bias * (len(leaves) / count))
                self.ends.append(InferenceMessage(shares, pair, own[-1] * (bias - nothing)))

    def forward(self, sensor: Tensor, keep: list[Tensor] | None = None) -> Tensor:
        """(N, D) sensor nodes to (N, H) embedding nodes; with keep, [(k, n_l)] for each level, to (k * N, H), row after row."""
        x = (self.weight @ sensor.T[None] + self.bias).reshape(self.bias.shape[1] // self.width, self.width, -1)
        total, sending = None, iter(self.ends)
        for level, leaves in enumerate(self.has_leaves):
            x = elu(self.levels[level - 1](x, keep[level - 1] if keep else None) if level else x)
            if keep:
                each = keep[level].T[:, None, :, None]
                x = (x.reshape(x.shape[0], self.width, -1, sensor.shape[0]) * each).flatten(2)
            if leaves:
                sent = next(sending)(x, keep[level] if keep else None)
                total = sent if total is None else total + sent
        return elu(self.norm(total.reshape(self.width, -1).T))


def _scale(norm: nn.BatchNorm1d) -> Tensor:
    return norm.weight / (norm.running_var + norm.eps).sqrt()


def _normalised(pair: Affine, norm: nn.BatchNorm1d) -> Affine:
    """Maps to H dimensions, (n, H, K) and (n, H), with the batch normalisation, in evaluation mode, behind them."""
    weight, bias = pair
    scale = _scale(norm)
    return weight * scale[:, None], bias * scale + (norm.bias - norm.running_mean * scale)


def elu(x: Tensor) -> Tensor:
    """ELU of operators that onnxruntime has vectorised; its own ELU takes longer than all matrix products together."""
    return torch.relu(x) - torch.relu(1 - x.exp())
