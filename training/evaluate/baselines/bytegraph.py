"""TFE-GNN and CLE-TFE as architectures: bytes of a packet as graphs, a recurrent network over the packets.

Described in Zhang et al. 2023 (TFE-GNN, arXiv:2307.16713) and Zhang et al. 2024 (CLE-TFE, arXiv:2402.07501); sizes and details
are facts from the released repositories, no code is. A packet gives two graphs, of header and payload. A node is a distinct byte
value, an edge joins values whose pointwise mutual information in windows of 5 bytes is positive. Four GraphSAGE layers with mean
aggregation, all four outputs joined and averaged over nodes; each graph's vector gates the other's; a two-layer bidirectional
LSTM over the packets; two linear layers. CLE-TFE is the same network over 15 packets with a head for single packets, trained with
supervised contrastive losses between a flow and an augmented copy. Not verified: the results that the papers print. What differs:
our masked bytes (a masked byte is one more value), UDP and ICMP beside TCP, windows instead of flows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from packetclip_sensor.windows import headers
from packetclip_sensor.windows.tokens import PAD, VOCABULARY
from training.data.windows import GROUPS

CO_OCCURRENCE = 5


@dataclass(frozen=True)
class Sizes:
    """Defaults are the released ones; `reduced` trains on one core in a minute."""

    embedding: int = 64
    hidden: int = 128
    header_bytes: int = 40
    payload_bytes: int = 150
    packets: int = 50

    @staticmethod
    def reduced() -> "Sizes":
        """A quarter as wide, eight packets."""
        return Sizes(embedding=16, hidden=32, header_bytes=40, payload_bytes=48, packets=8)


@dataclass
class ByteGraphs:
    """n graphs as one: V nodes, E directed edges."""

    value: Tensor
    """(V,) byte value"""
    graph: Tensor
    """(V,) which of the n graphs"""
    edges: Tensor
    """(2, E) from, to; every node also has an edge to itself"""
    count: int

    def without(self, share: float, generator: torch.Generator) -> "ByteGraphs":
        """A copy that lost `share` of the edges and of the nodes by chance."""
        stays = torch.rand(len(self.value), generator=generator) >= share
        number = stays.cumsum(0) - 1
        kept = (torch.rand(self.edges.shape[1], generator=generator) >= share) & stays[self.edges].all(0)
        return ByteGraphs(self.value[stays], self.graph[stays], number[self.edges[:, kept]], self.count)


def byte_graphs(values: Tensor) -> ByteGraphs:
    """(n, L) byte values, PAD past the end, to their graphs; values without an edge to another are left out, as in the source.

    With N[w, a] the count of value a in window w, pairs are counted by C = N' N, and f[a] is the number of windows that hold a;
    the mutual information of a and b is positive where C[a, b] * windows > f[a] * f[b].
    """
    n, length = values.shape
    here = values != PAD
    same = (values[:, :, None] == values[:, None, :]) & here[:, :, None] & here[:, None, :]
    first = here & ~(same & torch.ones(length, length, dtype=torch.bool).tril(-1)).any(2)
    total = F.pad(same.float().cumsum(1), (0, 0, 1, 0))
    inside = total[:, CO_OCCURRENCE:] - total[:, :-CO_OCCURRENCE]
    whole = here[:, CO_OCCURRENCE - 1 :]
    whole = torch.cat([whole[:, :1] | here[:, :1], whole[:, 1:]], dim=1)  # a packet shorter than a window is one window
    inside = inside * whole[:, :, None]
    frequency = (inside > 0).float().sum(1)
    joint = inside.transpose(1, 2) @ inside
    windows = whole.float().sum(1)[:, None, None]
    linked = (joint * windows > frequency[:, :, None] * frequency[:, None, :]) & first[:, :, None] & first[:, None, :]
    linked &= ~torch.eye(length, dtype=torch.bool)
    node = linked.any(2)
    number = torch.full((n, length), -1)
    number[node] = torch.arange(int(node.sum()))
    graph, a, b = linked.nonzero(as_tuple=True)
    itself = torch.arange(int(node.sum()))
    edges = torch.cat([torch.stack([number[graph, a], number[graph, b]]), torch.stack([itself, itself])], dim=1)
    return ByteGraphs(values[node], torch.arange(n)[:, None].expand(n, length)[node], edges, n)


def _mean_by(x: Tensor, to: Tensor, count: int) -> Tensor:
    """Mean of the rows of x that go to each of `count` places; 0 where none does."""
    total = torch.zeros(count, x.shape[1]).index_add_(0, to, x)
    return total / torch.bincount(to, minlength=count).clamp(min=1)[:, None]


class SageLayer(nn.Module):
    """GraphSAGE with mean aggregation, batch norm and PReLU. Source: Hamilton et al. 2017, arXiv:1706.02216."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.own, self.near = nn.Linear(inputs, outputs, bias=False), nn.Linear(inputs, outputs)
        self.norm, self.activation = nn.BatchNorm1d(outputs), nn.PReLU(outputs)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return self.norm(self.activation(self.own(x) + self.near(_mean_by(x[edges[0]], edges[1], len(x)))))


class GraphEncoder(nn.Module):
    """n byte graphs to (n, 4 * hidden)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.value = nn.Embedding(VOCABULARY, sizes.embedding)
        self.layers = nn.ModuleList(SageLayer(sizes.embedding if i == 0 else sizes.hidden, sizes.hidden) for i in range(4))

    def forward(self, graphs: ByteGraphs) -> Tensor:
        x, all_layers = self.value(graphs.value), []
        for layer in self.layers:
            x = layer(x, graphs.edges)
            all_layers.append(x)
        return _mean_by(torch.cat(all_layers, dim=1), graphs.graph, graphs.count)


class ByteGraphNetwork(nn.Module):
    """Packets by `encode`, flows by `classify`."""

    def __init__(self, sizes: Sizes, *, packet_head: bool = False, outputs: int = len(GROUPS)) -> None:
        super().__init__()
        self.sizes = sizes
        width = 4 * sizes.hidden
        self.header, self.payload = GraphEncoder(sizes), GraphEncoder(sizes)
        self.gates = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.PReLU(), nn.Linear(width, width), nn.Sigmoid()) for _ in range(2)
        )
        self.recurrent = nn.LSTM(2 * width, 2 * width, num_layers=2, bidirectional=True, batch_first=True)
        self.flow_head = nn.Sequential(nn.Linear(4 * width, width), nn.PReLU(width), nn.Linear(width, outputs))
        self.packet_head = (
            nn.Sequential(nn.Linear(2 * width, width), nn.PReLU(width), nn.Linear(width, outputs)) if packet_head else None
        )

    def gated(self, header: Tensor, payload: Tensor) -> Tensor:
        """(n, 4 hidden) twice to (n, 8 hidden): each gates the other."""
        return torch.cat([self.gates[0](header) * payload, self.gates[1](payload) * header], dim=1)

    def encode(self, header: ByteGraphs, payload: ByteGraphs) -> Tensor:
        """n packets to (n, 8 hidden)."""
        return self.gated(self.header(header), self.payload(payload))

    def flow(self, packets: Tensor) -> Tensor:
        """(B, P, 8 hidden) packets to (B, 16 hidden): the last states of both directions of the upper layer."""
        _, (state, _) = self.recurrent(packets)
        return torch.cat([state[-1], state[-2]], dim=1)

    def classify(self, packets: Tensor) -> Tensor:
        """(B, P, 8 hidden) to (B, M+1) logits."""
        return self.flow_head(self.flow(packets))


def header_and_payload(tokens: npt.NDArray[np.uint16], sizes: Sizes) -> tuple[Tensor, Tensor]:
    """(n, W) tokens to (n, header bytes) and (n, payload bytes), PAD past the end of each.

    Where a packet's header ends is read from its own bytes: none of those that say it is masked.
    """
    data = np.where(tokens < PAD, tokens, 0).astype(np.uint8)
    captured = (tokens != PAD).sum(1)
    size = captured.astype(np.int64)
    end = size - headers.parse(data, size, size).payload_bytes
    position = np.arange(tokens.shape[1])
    header = np.where(position < end[:, None], tokens, PAD)[:, : sizes.header_bytes]
    at = end[:, None] + np.arange(sizes.payload_bytes)
    inside = at < tokens.shape[1]
    payload = np.where(inside, np.take_along_axis(tokens, np.where(inside, at, 0), axis=1), PAD)
    return torch.from_numpy(header.astype(np.int64)), torch.from_numpy(payload.astype(np.int64))


def random_packets(n: int, sizes: Sizes, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Packets full of random bytes, as encrypted payload is: the most that these networks have to do."""
    header = torch.randint(PAD, (n, sizes.header_bytes), generator=generator)
    return header, torch.randint(PAD, (n, sizes.payload_bytes), generator=generator)
