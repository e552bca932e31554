"""Batch normalisation over all processes that train together, so that they normalise as one process would.

`torch.nn.SyncBatchNorm` does the same, but on GPUs alone.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class BatchNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` of (n, H), where every process has as many rows n."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the statistics of all processes' rows."""
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        world = dist.get_world_size()
        mean = all_reduce(x.mean(0)) / world
        variance = all_reduce(((x - mean) ** 2).mean(0)) / world
        with torch.no_grad():
            rows = len(x) * world
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * rows / max(rows - 1, 1), self.momentum)
            self.num_batches_tracked += 1
        return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
