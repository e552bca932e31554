"""Several processes as one: torchrun's environment, gathered embeddings, averaged gradients.

One process needs none of it, and every function is then the identity. Batches are drawn whole by every process from equal
generators; each process works on its own part, so that two processes see the batches that one would.
"""

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """This process's number, 0 where there is one alone."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def start(device: str) -> str:
    """Join torchrun's processes, where its environment is set. Returns the device of this process, such as cuda:1."""
    if "WORLD_SIZE" in os.environ and "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    if device == "cuda":
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
        torch.cuda.set_device(device)
    return device


def stop() -> None:
    """Leave the group, where there is one."""
    if world() > 1:
        dist.destroy_process_group()


def part(x: Tensor) -> Tensor:
    """This process's rows of a batch that every process has drawn."""
    return x[rank() :: world()]


def together(x: Tensor) -> Tensor:
    """A batch that every process has drawn, in the order in which `gather` puts its rows."""
    return x if world() == 1 else torch.cat([x[i :: world()] for i in range(world())])


class _Gather(torch.autograd.Function):
    """All rows of all processes. Each computes the whole loss, so the gradient of a row is the mean over processes times
    their number, which the averaging of the parameters' gradients divides away again.

    Source: open_clip's `gather_features` with gradient (Ilharco et al. 2021), the arithmetic from arXiv:2103.00020, section 2.4.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad.chunk(world())[rank()]


def gather(x: Tensor) -> Tensor:
    """(B / processes, ...) of each process to (B, ...) of all, with gradient; every part has as many rows."""
    return x if world() == 1 else _Gather.apply(x)


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, in one message."""
    held = list(tensors)
    if world() == 1 or not held:
        return
    flat = torch.cat([x.detach().flatten() for x in held])
    dist.all_reduce(flat)
    flat /= world()
    with torch.no_grad():
        for x, mean in zip(held, flat.split([x.numel() for x in held]), strict=True):
            x.copy_(mean.view_as(x))


def from_first(tensors: Iterable[Tensor]) -> None:
    """Give every process the first one's values."""
    if world() > 1:
        for x in tensors:
            dist.broadcast(x.data, 0)


def of_all(state: Tensor) -> Tensor:
    """(n,) uint8 of each process to (processes, n), without gradient."""
    if world() == 1:
        return state[None]
    device = torch.device("cuda") if dist.get_backend() == "nccl" else state.device
    parts = [torch.empty_like(state, device=device) for _ in range(world())]
    dist.all_gather(parts, state.to(device))
    return torch.stack(parts).cpu()
