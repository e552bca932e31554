"""Batch normalisation over all processes that train together, so that they normalise as one process would.

`torch.nn.SyncBatchNorm` does the same, but on GPUs alone.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; a row's gradient is the sum of what all their losses say of it."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad


class BatchNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` of (n, H) rows, of which each process has some."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the statistics of all processes' rows."""
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        total = _Sum.apply(torch.cat([x.sum(0), x.new_tensor([len(x)])]))
        rows = total[-1].detach()
        mean = total[:-1] / rows
        variance = _Sum.apply(((x - mean) ** 2).sum(0)) / rows
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * rows / (rows - 1).clamp(min=1), self.momentum)
            self.num_batches_tracked += 1
        return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
