"""Losses as pure functions of tensors: contrastive (paper and multi-positive) and the reasoner's."""

import torch
from torch import Tensor
from torch.nn import functional as F


def contrastive_loss(packet_emb: Tensor, text_emb: Tensor, logit_scale: Tensor, text_id: Tensor, label: Tensor) -> Tensor:
    """Symmetric cross-entropy with several positives; other texts of the same class are not negatives.

    Args:
        packet_emb: (B, D) unit norm; row i matches row i of text_emb.
        text_emb: (B, D) unit norm.
        logit_scale: scalar, already exponentiated.
        text_id: (B,) equal for equal texts: all such pairs are positives.
        label: (B,) class of each pair.
    Returns:
        Scalar, nats, mean of the two directions.
    Source: Yang et al. 2022 (UniCL), arXiv:2204.03610, equation 3; Radford et al. 2021, figure 3, arXiv:2103.00020.
    """
    logits = logit_scale * packet_emb @ text_emb.T
    positive = text_id[:, None] == text_id[None, :]
    logits = logits.masked_fill((label[:, None] == label[None, :]) & ~positive, float("-inf"))
    weight = positive.to(logits.dtype)

    def one_way(x: Tensor) -> Tensor:
        log_p = F.log_softmax(x, dim=1).masked_fill(~positive, 0.0)
        return -((log_p * weight).sum(1) / weight.sum(1)).mean()

    return (one_way(logits) + one_way(logits.T)) / 2


def paper_contrastive_loss(packet_emb: Tensor, text_emb: Tensor, logit_scale: Tensor) -> Tensor:
    """Equation 4 of PacketCLIP as printed: text to packet only, and the positive stands not in the denominator.

    Args and shapes as in `contrastive_loss`. Returns a scalar in nats, which may be negative.
    """
    logits = logit_scale * text_emb @ packet_emb.T
    others = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool, device=logits.device), float("-inf"))
    return (torch.logsumexp(others, dim=1) - logits.diagonal()).mean()


def suppressed(logits: Tensor, target: Tensor, threshold: float) -> Tensor:
    """MissionGNN's decaying threshold: an attack is taught as benign while its anomaly mass is at most 1 - threshold.

    Args:
        logits: (B, M+1) at the window's end, Benign first. target: (B,). threshold: 1 at the start, falling; see `reason.losses`.
    Returns:
        (B,) targets.
    Source: MissionGNN, arXiv:2406.18815; made for labels of whole videos. Ours are of packets, so it adds noise: default off.
    """
    anomaly = 1 - logits.detach().softmax(1)[:, 0]
    return torch.where(anomaly <= 1 - threshold, torch.zeros_like(target), target)


def reasoner_loss(
    logits: Tensor,
    target: Tensor,
    padding: Tensor,
    weight: Tensor,
    *,
    smoothing: float = 1e-3,
    sparsity: float = 1e-3,
) -> Tensor:
    """Weighted cross-entropy at the window's end, smoothness of the anomaly mass over the window, and its sparsity.

    Args:
        logits: (B, A, M+1), Benign first. target: (B,) class of the window. padding: (B, A) bool. weight: (M+1,) class weights.
        smoothing, sparsity: weights of the two terms.
    Returns:
        Scalar, nats.
    Source: MissionGNN, arXiv:2406.18815, section 3; the smoothing term after AnomalyCLIP's public code.
    """
    anomaly = 1 - logits.softmax(2)[:, :, 0]
    step = (anomaly[:, 1:] - anomaly[:, :-1]).square()
    both = (~padding[:, 1:]) & (~padding[:, :-1])
    smooth = (step * both).sum(1).mean()
    held = ~padding
    sparse = ((anomaly * held).sum(1) / held.sum(1).clamp(min=1)).mean()
    return F.cross_entropy(logits[:, -1], target, weight=weight) + smoothing * smooth + sparsity * sparse
