"""The model: patch encoder, contrastive heads, hierarchical GNN over the mission graphs, temporal transformer.

Shapes: B windows of A packets, W bytes a packet, D the shared embedding, H the width of a mission's graph (the paper's D = 8),
M missions, C concepts of all missions together. Sources: PacketCLIP (arXiv 2503.03747) sections III-C and III-D;
MissionGNN (arXiv 2406.18815); the corrections are listed in docs/decisions.md.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.model.config import ModelConfig
from training.model.encoders import EncoderLayer, PatchEncoder, SensorNode, Whitening
from training.model.graphs import EventNodes, MissionGraph, PlainMission, without_concepts
from training.text.knowledge import Graph


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
            x: (B, A, M*H) embedding nodes, of which a sensor leaves out those in front that are padding. padding: (B, A) bool.
        Returns:
            (B, A, M+1) logits, or (B, 1, M+1) with `last`. Each packet also sees mean and spread of its window's nodes.
        """
        padding = seen_only(padding, self.packets)
        mean, spread = moments(x, padding)
        y = self.layer(x + self.position[-padding.shape[1] :], padding, last=last)
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

    def __init__(
        self,
        graphs: list[Graph],
        concepts: Tensor,
        config: ModelConfig,
        encoder: nn.Module | None = None,
        events: EventNodes | None = None,
    ) -> None:
        """Build the model with fresh weights.

        Args:
            concepts: (C, T) frozen text features of every graph's concepts, key level first, graph after graph; T is the text
                encoder's width.
            encoder: f_P where `config.encoder` is etbert: (N, W) int to (N, config.width).
            events: evidence of the texts of attacks; None adds nothing.
        """
        super().__init__()
        self.config = config
        self.packet_encoder = PatchEncoder(config) if encoder is None else encoder
        self.whitening = Whitening(config.width) if config.whiten else nn.Identity()
        self.packet_head = nn.Linear(config.width, config.embedding, bias=False)
        # At first the mean alone counts.
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
        self.events = events

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.log_logit_scale.device

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

    def class_means(self, features: Iterable[Tensor]) -> Tensor:
        """(classes, D) unit norm: the mean of each class's texts, of whose frozen features there are (n, T)."""
        return F.normalize(torch.stack([self.encode_text(x.to(self.device)).mean(0) for x in features]), dim=1)

    def window_embedding(self, sensor: Tensor, padding: Tensor) -> Tensor:
        """Mean, spread and last of the window's sensor nodes, brought into the shared space: (B, A, D), (B, A) to (B, D), unit
        norm."""
        return self.pooled(sensor, seen_only(padding, self.config.packets))

    def pooled(self, sensor: Tensor, padding: Tensor) -> Tensor:
        """The same of any packets that were drawn of the window: (B, n, D), (B, n) to (B, D), unit norm."""
        mean, spread = moments(sensor, padding)
        return F.normalize(self.window_head(torch.cat([mean[:, 0], spread[:, 0], sensor[:, -1]], dim=1)), dim=-1)

    def evidence(self, sensor: Tensor, padding: Tensor, *, nodes: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """Evidence of attacks' texts for each window, in nats: (B, A, D), (B, A) to (B, 1, M+1), or zeros without event nodes.

        Args:
            nodes: `event_nodes()`, where they are known. keep: (B or 1, C), 0 takes from the window what it has in common with a
                concept.
        """
        if self.events is None:
            return sensor.new_zeros(1, 1, len(self.graphs) + 1)
        window = self.window_embedding(sensor, padding)
        if keep is not None:
            window = without_concepts(window, self.encode_text(self.concepts), keep)
        return self.events(window, self.event_nodes() if nodes is None else nodes)[:, None]

    def event_nodes(self) -> Tensor:
        """(classes, D) unit norm: the mean of each class's sentences, where there are event nodes."""
        return self.events.embeddings(self.encode_text(self.events.sentences))

    def by_mission(self) -> Iterator[tuple[nn.Module, slice]]:
        """Each graph with the place of its levels among all."""
        at = 0
        for graph in self.graphs:
            yield graph, slice(at, at + graph.depth)
            at += graph.depth

    def logits(self, sensor: Tensor, padding: Tensor) -> Tensor:
        """Graphs, then time: (B, A, D) sensor nodes and (B, A) bool to (B, A, M+1), as training asks for them."""
        padding = seen_only(padding, self.config.packets)
        concepts = self.encode_text(self.concepts).split(self.sizes)
        # Padding must not enter the batch statistics.
        packets = sensor[~padding]
        frame = torch.cat([graph.frames(packets, list(concepts[levels])) for graph, levels in self.by_mission()], dim=1)
        whole = frame.new_zeros(*padding.shape, frame.shape[1]).masked_scatter(~padding[:, :, None], frame)
        return self.temporal(whole, padding) + self.evidence(sensor, padding)

    def reason(
        self,
        sensor: Tensor,
        padding: Tensor,
        keep: Tensor | None = None,
        *,
        last: bool = False,
        nodes: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The same with all that an explanation asks for.

        Args:
            sensor: (B, A, D). padding: (B, A) bool. keep: (B or 1, C), 0 occludes a concept: its message in the graph, and what
                the window has in common with it before the events. nodes: `event_nodes()`, where they are known.
        Returns:
            (B, A, M+1) logits, or (B, 1, M+1) with `last`; for each graph and level (B, A, n, H) sent states, and for each graph
            what arrives at its embedding node.
        """
        padding = seen_only(padding, self.config.packets)
        concepts = self.encode_text(self.concepts).split(self.sizes)
        kept = None if keep is None else keep.split(self.sizes, dim=1)
        frames, states, ends = [], [], []
        for graph, levels in self.by_mission():
            frame, sent, end = graph(sensor, list(concepts[levels]), None if kept is None else list(kept[levels]))
            frames.append(frame)
            states.extend(sent)
            ends.append(end)
        return (
            self.temporal(torch.cat(frames, dim=2), padding, last=last) + self.evidence(sensor, padding, nodes=nodes, keep=keep),
            states,
            ends,
        )
