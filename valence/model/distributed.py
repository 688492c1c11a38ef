"""Exchange values between the workers of a training: differentiable sums, objects, statistics.

Without a process group, or with one worker, values stay as they are.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


def world_size() -> int:
    """Return the number of workers."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this worker, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


class _Sum(torch.autograd.Function):
    """Sum over workers.

    Every worker computes the same loss from the sum, so each one gets its share of the gradient
    times the number of workers. The mean over workers in `average_gradients` removes this factor.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def sum_over_workers(tensor: Tensor) -> Tensor:
    """Sum the `tensor` of all workers, differentiably."""
    if world_size() == 1:
        return tensor
    total: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return total


def sum_in_place(tensor: Tensor) -> Tensor:
    """Replace `tensor` by its sum over all workers and return it, for use inside a derivative."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace each gradient by its mean over workers, in one exchange."""
    workers = world_size()
    if workers == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= workers
    for gradient, part in zip(
        gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True
    ):
        gradient.copy_(part.view_as(gradient))


def gather(value: T) -> list[T]:
    """Collect the `value` of each worker, in the workers' order; it can be any picklable object."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute mean, variance (ddof 0) and count of each channel over all workers' batches.

    Parameters
    ----------
    x
        `[n, channels, height, width]`; `n` may differ between workers.

    Returns
    -------
    Mean and variance, `[channels]`, differentiable, float64 if `x` is and else float32; and the
    count, float64 `[]`.
    """
    x = x if x.dtype == torch.float64 else x.float()
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    # Raw second moments can be merged exactly enough only in float64.
    mean, variance = mean.double(), variance.double()
    count = mean.new_full((1,), x.numel() / x.shape[1])
    sums = sum_over_workers(torch.cat([count, mean * count, (variance + mean.square()) * count]))
    total, first, second = torch.split(sums, [1, x.shape[1], x.shape[1]])
    mean = first / total
    variance = second / total - mean.square()
    return mean.to(x), variance.to(x), total.detach().squeeze(0)
