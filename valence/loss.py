"""The loss: 1 - CCC of a whole batch, from sums that add up over workers."""

from __future__ import annotations

import torch
from torch import Tensor

from valence.distributed import sum_over_workers


def pair_sums(prediction: Tensor, target: Tensor) -> Tensor:
    """Sums over all workers that CCC follows from, float64 `[6, targets]`, differentiable.

    Count, Σp, Σy, Σp², Σy², Σpy of predictions and labels `[windows, targets]`.
    """
    p, y = prediction.double(), target.double()
    parts = (torch.ones_like(p), p, y, p.square(), y.square(), p * y)
    return sum_over_workers(torch.stack([part.sum(dim=0) for part in parts]))


def ccc_of_sums(sums: Tensor) -> Tensor:
    """CCC of each target, float64 `[targets]`, from `pair_sums`; 0 where nothing varies.

    Lin (1989), with population variances.
    """
    n, p, y, pp, yy, py = sums
    mean_p, mean_y = p / n, y / n
    spread = (pp / n - mean_p.square()) + (yy / n - mean_y.square())
    bottom = spread + (mean_p - mean_y).square()
    top = 2 * (py / n - mean_p * mean_y)
    varies = bottom > 0
    return torch.where(varies, top / torch.where(varies, bottom, 1.0), 0.0)


def ccc_loss(sums: Tensor) -> Tensor:
    """1 - CCC, the mean over targets, from `pair_sums`."""
    return 1 - ccc_of_sums(sums).mean()
