"""The model as the sensor runs it: the three modules that are exported, each for itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.model.graph_inference import InferenceGraph
from training.model.packetclip import PacketClip


class Encoder(nn.Module):
    """tokens (N, W) int32 to embedding (N, D)."""

    def __init__(self, model: PacketClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.encode(tokens.long())


class Reasoner(nn.Module):
    """embedding (B, A, D), relations (B, A, R), padding (B, A) to logits (B, M+1): what every window goes through."""

    def __init__(self, model: PacketClip) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("nodes", _event_nodes(model))
        with torch.no_grad():
            concepts = model.encode_text(model.concepts).split(model.sizes)
        self.graphs = nn.ModuleList(InferenceGraph(graph, list(concepts[levels])) for graph, levels in model.by_mission())

    def forward(self, embedding: Tensor, relations: Tensor, padding: Tensor) -> Tensor:
        sensor = self.model.sensor(embedding, relations)
        packets = sensor.flatten(0, 1)
        frames = torch.cat([graph(packets) for graph in self.graphs], dim=1)
        logits = self.model.temporal(frames.unflatten(0, (-1, padding.shape[1])), padding, last=True)
        return (logits + self.model.evidence(sensor, padding, nodes=self.nodes))[:, 0]


class Explainer(nn.Module):
    """The same with keep (B or 1, C), to logits, window embedding, node states and leaves: what an alert's explanation needs."""

    def __init__(self, model: PacketClip) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("nodes", _event_nodes(model))

    def forward(self, embedding: Tensor, relations: Tensor, padding: Tensor, keep: Tensor) -> tuple[Tensor, ...]:
        sensor = self.model.sensor(embedding, relations)
        logits, states, ends = self.model.reason(sensor, padding, keep, last=True, nodes=self.nodes)
        return logits[:, 0], self.model.window_embedding(sensor, padding), torch.cat(states, dim=2), torch.cat(ends, dim=2)


@torch.no_grad()
def _event_nodes(model: PacketClip) -> Tensor | None:
    """The nodes, so that no file holds the hundreds of sentences that they are made of."""
    return None if model.events is None else model.event_nodes()
