"""A block of the CNN: convolution, batch normalisation, ELU, maximum pooling.

ELU is monotonic, so pooling before it gives the same values and computes a quarter of the ELUs. On
a CPU, the memory limits the speed of a training step. There a block processes its batch in chunks
that stay in the cache, and repeats convolutions instead of storing and reloading their values.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from valence.model.distributed import batch_statistics, sum_in_place, world_size

aten = torch.ops.aten

# Number of values in a chunk after the convolution: 1 MiB in float32, a core's share of the cache.
_CHUNK_VALUES = 2**18

_POOL = [2, 2]
_ONE = [1, 1]
_ZERO = [0, 0]


class Block(nn.Module):
    """Convolution (3 x 3), batch normalisation, ELU, maximum pooling (2 x 2).

    The convolution has no bias, because the normalisation would remove it again.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[n, inputs, height, width]` to `[n, outputs, height // 2, width // 2]`.

        Both tensors have the memory format channels-last.
        """
        if not self.training:
            return self._evaluate(x)
        compiled = torch.compiler.is_compiling()
        if x.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and not compiled:
            return self._train_in_chunks(x)
        y = self.conv(x)
        y = self.norm(y) if world_size() == 1 else self._normalize(y)
        return F.elu(F.max_pool2d(y, 2))

    def _evaluate(self, x: Tensor) -> Tensor:
        # In evaluation the normalisation is fixed, so it can be folded into the convolution.
        mean, variance = self._running()
        scale = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
        shift = self.norm.bias - mean * scale
        y = F.conv2d(x, self.conv.weight * scale[:, None, None, None], shift, padding=1)
        return F.elu(F.max_pool2d(y, 2))

    def _train_in_chunks(self, x: Tensor) -> Tensor:
        around, _ = self._running()
        y, mean, variance, count = _ChunkedBlock.apply(  # type: ignore[no-untyped-call]
            x, self.conv.weight, self.norm.weight, self.norm.bias, around.clone(), self.norm.eps
        )
        self._update_running(mean, variance, count)
        assert isinstance(y, Tensor)
        return y

    def _normalize(self, y: Tensor) -> Tensor:
        """Normalise `y` by the statistics of all workers' batches."""
        mean, variance, count = batch_statistics(y)
        self._update_running(mean.detach(), variance.detach(), count)
        scale = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
        shift = self.norm.bias - mean * scale
        whole = torch.addcmul(shift[:, None, None], y.to(scale), scale[:, None, None])
        # Return the precision of `y`, so that the blocks that follow compute in it too.
        return whole.to(y)

    def _running(self) -> tuple[Tensor, Tensor]:
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        return self.norm.running_mean, self.norm.running_var

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        running_mean, running_variance = self._running()
        assert self.norm.momentum is not None
        assert self.norm.num_batches_tracked is not None
        unbiased = variance * (count / (count - 1)).to(variance.dtype)
        running_mean.lerp_(mean, self.norm.momentum)
        running_variance.lerp_(unbiased, self.norm.momentum)
        self.norm.num_batches_tracked += 1


class _ChunkedBlock(torch.autograd.Function):
    """The block in training, chunk after chunk, with the statistics of all workers' batches.

    Let v be the normalised convolution times the sign of the normalisation's weight. Pooling v and
    then scaling it by the weight's magnitude gives the values that the study pools, for both signs.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, around: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        n, outputs = len(x), len(weight)
        chunk = max(1, _CHUNK_VALUES // (outputs * x.shape[2] * x.shape[3]))
        mean, variance, count = _statistics(x, weight, around, chunk)
        deviation = torch.rsqrt(variance + eps)
        sign = torch.where(gamma < 0, -1.0, 1.0).to(deviation)
        scale = (sign * deviation).to(x)
        scaled = weight * scale[:, None, None, None]
        shift = (-mean * sign * deviation).to(x)
        size = (n, outputs, x.shape[2] // 2, x.shape[3] // 2)
        pooled, activated = (
            torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last) for _ in range(2)
        )
        where = torch.empty(size, dtype=torch.int64, memory_format=torch.channels_last)
        magnitude, offset = gamma.abs()[:, None, None], beta[:, None, None]
        for at in range(0, n, chunk):
            part = slice(at, at + chunk)
            v = F.conv2d(x[part], scaled, shift, padding=1)
            aten.max_pool2d_with_indices.out(v, _POOL, out=pooled[part], indices=where[part])
            torch.addcmul(offset, pooled[part], magnitude, out=activated[part])
            F.elu_(activated[part])
        ctx.save_for_backward(x, weight, gamma, scale, scaled, shift, pooled, where, activated)
        ctx.count, ctx.chunk = count, chunk
        running = mean.to(x), variance.to(x), count
        ctx.mark_non_differentiable(*running)
        return activated, *running

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, gamma, scale, scaled, shift, pooled, where, activated = ctx.saved_tensors
        # The pooling passes a gradient only to the greatest of four values ...
        magnitude = gamma.abs()
        sums = torch.zeros(2, len(gamma), dtype=torch.float64)
        parts = []
        for at in range(0, len(x), ctx.chunk):
            part = slice(at, at + ctx.chunk)
            gradient = aten.elu_backward(gradients[0][part], 1, 1, 1, True, activated[part])
            sums[0] += gradient.sum((0, 2, 3))
            sums[1] += (gradient * pooled[part]).sum((0, 2, 3))
            parts.append(gradient.mul_(magnitude[:, None, None]))
        to_beta, to_magnitude = sums.to(x)
        whole = sum_in_place(sums) / ctx.count
        constant, slope = (whole * magnitude.double()).to(x)
        # ... but all four values get one through the mean and the variance, and it is linear in v.
        through, through_shift = scaled * slope[:, None, None, None], shift * slope + constant
        of_input = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight)
        for index, gradient in enumerate(parts):
            part = slice(index * ctx.chunk, (index + 1) * ctx.chunk)
            linear = F.conv2d(x[part], through, through_shift, padding=1)
            dense = aten.max_pool2d_with_indices_backward(
                gradient, linear, _POOL, _POOL, _ZERO, _ONE, False, where[part]
            )
            dense -= linear
            chunk_input, chunk_weight, _ = aten.convolution_backward(
                dense, x[part], weight * scale[:, None, None, None], None, _ONE, _ONE, _ONE, False,
                _ZERO, 1, [of_input is not None, True, False],
            )  # fmt: skip
            of_weight += chunk_weight
            if of_input is not None:
                of_input[part] = chunk_input
        of_weight *= scale[:, None, None, None]
        of_gamma = torch.where(gamma < 0, -to_magnitude, to_magnitude)
        return of_input, of_weight, of_gamma, to_beta, None, None


def _statistics(
    x: Tensor, weight: Tensor, around: Tensor, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute mean and variance of each channel of the convolution, and the count, in float64.

    Deviations are taken from `around`, an estimate of the mean, so that their squares stay exact.
    """
    outputs = len(weight)
    sums = torch.zeros(2 * outputs + 1, dtype=torch.float64)
    for part in torch.split(x, chunk):
        y = F.conv2d(part, weight, -around, padding=1).permute(0, 2, 3, 1).reshape(-1, outputs)
        sums[:outputs] += y.sum(dim=0)
        sums[outputs:-1] += y.square().sum(dim=0)
        sums[-1] += len(y)
    first, second, count = torch.split(sum_in_place(sums), [outputs, outputs, 1])
    mean = first / count
    return mean + around, second / count - mean.square(), count.squeeze(0)
