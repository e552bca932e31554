"""Parameters and FLOPs of whole models, counted in one way.

    python -m training.evaluate.baselines.cost --figure runs/figures/cost.png

FLOPs are those of matrix products, convolutions and recurrent layers as torch.utils.flop_counter sees them; a multiply-add counts
as two. Element-wise work, sums over neighbours and table look-ups count nothing, for any model. A packet is a row of 128 bytes
without padding. Parameters are all that are trained; the frozen text encoder is not among them, since no verdict needs it.

"Amortised": a window of A packets is judged once for each A packets that arrive. A busy stream costs less: it is judged once a
second however many packets it saw, and equal rows are encoded once. "Not amortised": a window is judged anew for every packet; in
"three views" it is for the host pair, the source and the destination, the most that a sensor can ever have to do.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.tokens import ROW_BYTES
from packetclip_sensor.windows.windows import VIEWS
from training.common import argument, command
from training.data.windows import CLASSES, GROUP_OF_CLASS, GROUPS
from training.evaluate.baselines.bytegraph import ByteGraphNetwork, Sizes, byte_graphs, random_packets
from training.model.config import TEXT_DIM, ModelConfig
from training.model.graphs import EventNodes, MissionGraph
from training.model.inference import Encoder, Reasoner
from training.model.packetclip import PacketClip
from training.text import knowledge

REFERENCE = "ET-BERT, 128 tokens"
OURS = "ours, amortised"
RELEASED_WORDS = 60_005
BERT_WIDTH = 768


@dataclass(frozen=True)
class Cost:
    """What a model costs."""

    parameters: int
    packet: float
    """FLOPs for one packet."""
    window: float
    """FLOPs for one judged window, its packets included."""
    note: str = ""


def flops(call: Callable[[], object]) -> int:
    """FLOPs of one call, in evaluation and without gradients."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # With oneDNN a recurrent layer is one call that the counter does not know.
        with torch.backends.mkldnn.flags(enabled=False), torch.no_grad(), FlopCounterMode(display=False) as counter:
            call()
    return counter.get_total_flops()


def size(*modules: nn.Module) -> int:
    """Trained parameters."""
    return sum(p.numel() for module in modules for p in module.parameters())


def our_model() -> PacketClip:
    """The default model with random weights; what it costs does not depend on them."""
    graphs = knowledge.load_all()
    concepts = torch.zeros(sum(len(level) for g in graphs for level in g.levels), TEXT_DIM)
    events = EventNodes([torch.zeros(1, TEXT_DIM)] * len(CLASSES), GROUP_OF_CLASS, ModelConfig().events)
    return PacketClip(graphs, concepts, ModelConfig(), events=events).eval()


def ours(model: PacketClip) -> dict[str, Cost]:
    """Encoder and heads, relations, folded graphs and temporal layer, as the sensor runs them."""
    packets, width = model.config.window, model.config.embedding
    encoder, reasoner = Encoder(model).eval(), Reasoner(model).eval()
    encode = flops(lambda: encoder(torch.zeros(1, ROW_BYTES, dtype=torch.int32)))
    window = (torch.zeros(1, packets, width), torch.zeros(1, packets, len(RELATIONS)), torch.zeros(1, packets, dtype=torch.bool))
    reason = flops(lambda: reasoner(*window))
    whole, n = packets * encode + reason, size(model)
    return {
        OURS: Cost(n, whole / packets, whole, f"{encode:,} a packet to encode, {reason:,} a window to judge"),
        "ours, not amortised": Cost(n, encode + reason, whole, "a window judged for every packet"),
        "ours, three views": Cost(n, encode + len(VIEWS) * reason, whole, "three windows judged for every packet"),
    }


class Classifier(nn.Module):
    """BERT at ET-BERT's released size with its classifier; `released` builds it without memory."""

    def __init__(self, layers: int, width: int, heads: int) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel  # noqa: PLC0415  (two seconds that only this needs)

        config = BertConfig(
            vocab_size=RELEASED_WORDS, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
            intermediate_size=4 * width, max_position_embeddings=512, type_vocab_size=3, attn_implementation="eager",
        )  # fmt: skip
        self.bert = BertModel(config, add_pooling_layer=False)
        self.head = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, len(GROUPS)))

    def forward(self, words: Tensor) -> Tensor:
        """(n, L) word numbers to (n, M+1)."""
        return self.head(self.bert(words).last_hidden_state[:, 0])


def etbert(tokens: int, packets: int, layers: int = 12, width: int = BERT_WIDTH, heads: int = 12) -> Cost:
    """ET-BERT judges single packets; a window is all of its packets."""
    with torch.device("meta"):
        model = Classifier(layers, width, heads).eval()
        packet = flops(lambda: model(torch.zeros(1, tokens, dtype=torch.long)))
    return Cost(size(model), packet, packets * packet, f"{layers} layers, {width} wide")


def byte_graph(packets: int, sizes: Sizes, *, packet_head: bool) -> Cost:
    """TFE-GNN or CLE-TFE on packets full of random bytes, which is what encrypted payload looks like; graphs are given."""
    generator = torch.Generator().manual_seed(1)
    model = ByteGraphNetwork(sizes, packet_head=packet_head).eval()
    header, payload = (byte_graphs(x) for x in random_packets(packets, sizes, generator))
    whole = flops(lambda: model.classify(model.encode(header, payload)[None]))
    return Cost(
        size(model), whole / packets, whole, f"a flow of {packets} packets, {len(payload.value) / packets:.0f} nodes a payload"
    )


class PaperHead(nn.Module):
    """What the paper trains: its graphs on 768 wide embeddings, unfolded, and MissionGNN's temporal layer.

    Source: PacketCLIP section III-D, MissionGNN's released configuration; graphs are ours, the paper prints no number of nodes.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        graphs = knowledge.load_all()
        config = ModelConfig(embedding=BERT_WIDTH, window=window, message="product")
        self.graphs = nn.ModuleList(MissionGraph(graph, config) for graph in graphs)
        width = config.graph_width * len(graphs)
        self.temporal = nn.TransformerEncoderLayer(width, config.temporal_heads, config.temporal_inner, batch_first=True)
        self.head = nn.Linear(width, len(GROUPS))

    def frames(self, sensor: Tensor) -> Tensor:
        """(B, A, 768) to (B, A, M*H)."""
        concepts = [[torch.zeros(len(level), BERT_WIDTH) for level in graph.levels] for graph in self.graphs]
        return torch.cat([graph(sensor, c)[0] for graph, c in zip(self.graphs, concepts, strict=True)], dim=2)

    def constants(self) -> None:
        """The part of `frames` that depends on no packet and that a fair count leaves out."""
        for graph in self.graphs:
            graph.constants([torch.zeros(len(level), BERT_WIDTH) for level in graph.levels])

    def classify(self, frames: Tensor) -> Tensor:
        """(B, A, M*H) to (B, M+1)."""
        return self.head(self.temporal(frames)[:, -1])


def paper(packets: int, encoder: Cost) -> dict[str, Cost]:
    """The head alone, which the paper compares, and with the encoder that it needs to judge."""
    # In training mode: the fast path of evaluation is one call that the counter does not know.
    head = PaperHead(packets).train().requires_grad_(requires_grad=False)
    for module in head.modules():
        if isinstance(module, nn.BatchNorm1d | nn.Dropout):
            module.eval()
    frame = flops(lambda: head.frames(torch.zeros(1, 1, BERT_WIDTH))) - flops(head.constants)
    time_s = flops(lambda: head.classify(torch.zeros(1, packets, sum(g.norm[0].num_features for g in head.graphs))))
    window = packets * frame + time_s
    note = f"{frame:,} a packet, {time_s:,} a window"
    return {
        "paper's head alone": Cost(size(head), frame + time_s, window, note),
        "paper's whole model": Cost(
            size(head) + encoder.parameters,
            frame + time_s + encoder.packet,
            window + encoder.window,
            "the head and ET-BERT, 128 tokens",
        ),
    }


@cache
def measure() -> dict[str, Cost]:
    """Costs of all models by name, ours first."""
    model = our_model()
    packets = model.config.window
    reference = etbert(128, packets)
    return {
        **ours(model),
        REFERENCE: reference,
        "ET-BERT, 64 tokens": etbert(64, packets),
        "ET-BERT reduced, 64 tokens": etbert(64, packets, layers=2, width=128, heads=4),
        "TFE-GNN": byte_graph(50, Sizes(), packet_head=False),
        "CLE-TFE": byte_graph(15, Sizes(packets=15), packet_head=True),
        **paper(packets, reference),
    }


def verdict(costs: dict[str, Cost]) -> list[str]:
    """The comparison with ET-BERT, a line for each way of counting, whatever comes out."""
    lines = []
    for theirs in (REFERENCE, "ET-BERT, 64 tokens"):
        for name in (n for n in costs if n.startswith("ours")):
            a, b = costs[name], costs[theirs]
            share, ratio = a.parameters / b.parameters, b.packet / a.packet
            word = "holds" if share < 0.01 and ratio > 1000 else "does not hold"
            lines.append(
                f"{name} against {theirs}: {share:.3%} of the parameters, 1/{ratio:,.0f} of the FLOPs a packet; "
                f"below 1 % and 1/1,000 {word}"
            )
    return lines


def draw(path: Path, costs: dict[str, Cost]) -> None:
    """Parameters and FLOPs a packet of each model, both on logarithmic scales."""
    figure = Figure(figsize=(10, 0.42 * len(costs) + 1.2), layout="constrained")
    names = list(costs)[::-1]
    colours = ["#1f6f8b" if name.startswith("ours") else "#b0b0b0" for name in names]
    for axis, values, title in zip(
        figure.subplots(1, 2, sharey=True),
        ([costs[n].parameters for n in names], [costs[n].packet for n in names]),
        ("parameters", "FLOPs a packet"),
        strict=True,
    ):
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, labels=[_short(v) for v in values], padding=3, fontsize=8)
        axis.set(xscale="log", title=title, xlim=(min(values) / 3, max(values) * 12))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _short(value: float) -> str:
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.0f}"


@command(argument("--figure", type=Path, default=Path("runs/figures/cost.png"), help="file to draw to"))
def main(args: argparse.Namespace) -> None:
    """Print and draw. Exit codes: 0 done, 2 the figure cannot be written."""
    costs = measure()
    print("whole models, multiply-add = 2 FLOPs")
    print(f"{'model':28}{'parameters':>14}{'FLOPs a packet':>18}{'FLOPs a window':>18}  what")
    for name, cost in costs.items():
        print(f"{name:28}{cost.parameters:14,}{cost.packet:18,.0f}{cost.window:18,.0f}  {cost.note}")
    print(*verdict(costs), sep="\n")
    draw(args.figure, costs)
    print(f"drawn to {args.figure}")


if __name__ == "__main__":
    sys.exit(main())
