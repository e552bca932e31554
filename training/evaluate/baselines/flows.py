"""Training TFE-GNN and CLE-TFE on windows, in the reduced size that one core can train."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.data.windows import GROUPS, Examples
from training.evaluate.baselines.bytegraph import ByteGraphNetwork, Sizes, byte_graphs, header_and_payload
from training.evaluate.baselines.features import Fit, Floats, Predict, balance, draw, spread
from training.evaluate.baselines.packets import by_distinct_row, descend

LOST = 0.1
"""Share of nodes and of edges that CLE-TFE's augmented graphs lose."""
PACKETS_KEPT = 0.8
"""Share of packets in its augmented flows."""
TEMPERATURE = 0.07


def supervised_contrast(a: Tensor, b: Tensor, label: Tensor) -> Tensor:
    """Supervised contrastive loss of two views, nats.

    Args:
        a, b: (n, F), any norm. label: (n,).
    Source: Khosla et al. 2020, arXiv:2004.11362, equation 2 (the mean outside the logarithm).
    """
    x, y = F.normalize(torch.cat([a, b]), dim=1), torch.cat([label, label])
    itself = torch.eye(len(x), dtype=torch.bool)
    similar = (x @ x.T / TEMPERATURE).masked_fill(itself, -torch.inf)
    log_p = (similar - similar.logsumexp(1, keepdim=True)).masked_fill(itself, 0.0)
    alike = (y[:, None] == y[None]) & ~itself
    return -((log_p * alike).sum(1) / alike.sum(1).clamp(min=1)).mean()


def byte_graph_flows(name: str, *, contrast: bool, steps: int = 150, batch: int = 40, learning_rate: float = 3e-3) -> Fit:
    """TFE-GNN, or with `contrast` CLE-TFE: cross-entropy of both heads and the contrasts of flows and of graphs, summed."""

    def fit(train: Examples, seed: int) -> Predict:
        sizes = Sizes.reduced()
        rows, group, share = spread(train.rows, sizes.packets), train.group, balance(train)
        rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = ByteGraphNetwork(sizes, packet_head=contrast)

            def loss_of() -> Tensor:
                at = torch.from_numpy(draw(share, batch, rng))
                header, payload = (byte_graphs(x) for x in header_and_payload(train.tokens[rows[at].flatten().numpy()], sizes))
                of_header, of_payload = model.header(header), model.payload(payload)
                packets = model.gated(of_header, of_payload)
                flows, label = packets.unflatten(0, (batch, sizes.packets)), group[at]
                state = model.flow(flows)
                loss = F.cross_entropy(model.flow_head(state), label)
                if not contrast or model.packet_head is None:
                    return loss
                other_header = model.header(header.without(LOST, generator))
                other_payload = model.payload(payload.without(LOST, generator))
                other = model.gated(other_header, other_payload).unflatten(0, (batch, sizes.packets))
                kept = torch.rand(batch, sizes.packets, generator=generator).topk(int(PACKETS_KEPT * sizes.packets)).indices
                other = other.gather(1, kept.sort(1).values[:, :, None].expand(-1, -1, other.shape[2]))
                of_packet = label.repeat_interleave(sizes.packets)
                graphs = [
                    supervised_contrast(a, b, of_packet) for a, b in ((of_header, other_header), (of_payload, other_payload))
                ]
                return (
                    loss
                    + F.cross_entropy(model.packet_head(packets), of_packet)
                    + supervised_contrast(state, model.flow(other), label)
                    + 0.5 * (graphs[0] + graphs[1])
                )

            descend(name, model, loss_of, steps, learning_rate)
        present = torch.bincount(group, minlength=len(GROUPS)) > 0

        @torch.no_grad()
        def predict(test: Examples) -> Floats:
            packets = by_distinct_row(
                test, spread(test.rows, sizes.packets),
                lambda t: model.encode(*(byte_graphs(x) for x in header_and_payload(t, sizes))),
            )  # fmt: skip
            logits = torch.cat([model.classify(part) for part in packets.split(1024)])
            return logits.masked_fill(~present, -torch.inf).softmax(1).numpy()

        return predict

    return fit


TFE_GNN_REDUCED: Fit = byte_graph_flows("tfe-gnn-reduced", contrast=False)
CLE_TFE_REDUCED: Fit = byte_graph_flows("cle-tfe-reduced", contrast=True)
