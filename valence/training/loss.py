"""The loss: 1 - CCC of a whole batch, from sums that add up over workers."""

from __future__ import annotations

import torch
from torch import Tensor

from valence.model.distributed import sum_over_workers

# A variance from raw sums is known to this share of the mean square: float32 values that vary by
# less are equal but for rounding.
_ROUNDING = 1e-12


def pair_sums(prediction: Tensor, target: Tensor) -> Tensor:
    """Sums over all workers that CCC follows from, float64 `[6, targets]`, differentiable.

    Count, Σp, Σy, Σp², Σy², Σpy of predictions and labels `[windows, targets]`.
    """
    p, y = prediction.double(), target.double()
    parts = (torch.ones_like(p), p, y, p.square(), y.square(), p * y)
    return sum_over_workers(torch.stack([part.sum(dim=0) for part in parts]))


def ccc_of_sums(sums: Tensor) -> Tensor:
    """CCC of each target, float64 `[..., targets]`, from `pair_sums` `[..., 6, targets]`.

    Lin (1989), with population variances. It is 0 where predictions or labels are constant, with
    the gradient that leads away from constant predictions; what is no number stays none.
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
    """Whether predictions or labels vary by no more than rounding, bool `[..., targets]`."""
    n, p, y, pp, yy, _ = sums.unbind(-2)
    constant_p = pp / n - (p / n).square() <= _ROUNDING * pp / n
    return constant_p | (yy / n - (y / n).square() <= _ROUNDING * yy / n)


def ccc_loss(sums: Tensor) -> Tensor:
    """1 - CCC, the mean over targets, float64 `[...]`, from `pair_sums` `[..., 6, targets]`."""
    return 1 - ccc_of_sums(sums).mean(-1)
