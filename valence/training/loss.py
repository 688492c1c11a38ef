"""Compute the loss, 1 - CCC of a whole batch, from sums over all workers."""

from __future__ import annotations

import torch
from torch import Tensor

from valence.model.distributed import sum_over_workers

# Relative to the mean square, a variance from raw sums is exact to this share. Float32 values with
# a smaller variance differ by rounding alone.
_ROUNDING = 1e-12


def pair_sums(prediction: Tensor, target: Tensor) -> Tensor:
    """Compute the sums over all workers that give the CCC, float64 `[6, targets]`, differentiable.

    They are count, Σp, Σy, Σp², Σy² and Σpy of predictions p and labels y, `[windows, targets]`.
    """
    p, y = prediction.double(), target.double()
    parts = (torch.ones_like(p), p, y, p.square(), y.square(), p * y)
    return sum_over_workers(torch.stack([part.sum(dim=0) for part in parts]))


def ccc_of_sums(sums: Tensor) -> Tensor:
    """Compute the CCC of each target, float64 `[..., targets]`, from `pair_sums`.

    The sums are `[..., 6, targets]`. The formula is that of Lin (1989), with population variances.
    The CCC is 0 if predictions or labels are constant; its gradient then still leads away from
    constant predictions. It is NaN if a sum is NaN.
    """
    n, p, y, pp, yy, py = sums.unbind(-2)
    mean_p, mean_y = p / n, y / n
    spread = (pp / n - mean_p.square()) + (yy / n - mean_y.square())
    bottom = spread + (mean_p - mean_y).square()
    top = 2 * (py / n - mean_p * mean_y)
    alike = bottom <= _ROUNDING * (pp + yy) / n
    ccc = torch.where(alike, 0.0, top / torch.where(alike, 1.0, bottom))
    return torch.where(is_constant(sums), ccc - ccc.detach(), ccc)


def is_constant(sums: Tensor) -> Tensor:
    """Return whether predictions or labels vary by rounding alone, bool `[..., targets]`."""
    n, p, y, pp, yy, _ = sums.unbind(-2)
    constant_p = pp / n - (p / n).square() <= _ROUNDING * pp / n
    return constant_p | (yy / n - (y / n).square() <= _ROUNDING * yy / n)


def ccc_loss(sums: Tensor) -> Tensor:
    """Compute 1 - mean CCC over targets, float64 `[...]`, from `pair_sums` `[..., 6, targets]`."""
    return 1 - ccc_of_sums(sums).mean(-1)
