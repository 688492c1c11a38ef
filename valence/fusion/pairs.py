"""Compare raters two by two, and each with the mean of others, where both have values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from valence.fusion.ratings import Values
from valence.metrics import PairMoments

FEWEST_STEPS = 3
"""Fewer common steps than this say nothing about two curves: two points always correlate fully."""


def shared_moments(first: Values, second: Values) -> PairMoments:
    """Compute the statistics of two curves `[n]` over the steps in which both have a value."""
    both = np.isfinite(first) & np.isfinite(second)
    return PairMoments.of(first[both], second[both])


def pcc(moments: PairMoments) -> float:
    """Return the correlation; NaN for a constant curve, or fewer than `FEWEST_STEPS` steps."""
    return moments.pcc if is_defined(moments) else math.nan


def ccc(moments: PairMoments) -> float:
    """Return the concordance; NaN for a constant curve, or fewer than `FEWEST_STEPS` steps."""
    return moments.ccc if is_defined(moments) else math.nan


def is_defined(moments: PairMoments) -> bool:
    """Tell whether two curves have enough common steps, and both vary there."""
    return moments.n >= FEWEST_STEPS and not moments.constant


def pairwise(values: Values) -> dict[tuple[int, int], PairMoments]:
    """Compute the statistics of every pair of raters.

    Parameters
    ----------
    values
        float64 `[raters, steps]`, with NaN.

    Returns
    -------
    The statistics by the rows of a pair, the smaller one first; pairs that say nothing (see
    `is_defined`) are left out.
    """
    pairs = {
        (a, b): shared_moments(values[a], values[b])
        for a in range(len(values))
        for b in range(a + 1, len(values))
    }
    return {pair: moments for pair, moments in pairs.items() if is_defined(moments)}


def mean_with_others(values: Values, scores: dict[tuple[int, int], float]) -> Values:
    """Average the scores of each rater's pairs, float64 `[raters]`; NaN for one without a pair."""
    return np.array(
        [
            _mean([score for pair, score in scores.items() if row in pair])
            for row in range(len(values))
        ]
    )


def mean_over(values: Values, rows: Sequence[int] | None = None) -> Values:
    """Average raters in every step over those who have a value there, float64 `[steps]`.

    Parameters
    ----------
    values
        float64 `[raters, steps]`, with NaN.
    rows
        The rows of the raters to average; None for all.
    """
    chosen = values if rows is None else values[list(rows)]
    known = np.isfinite(chosen)
    count = known.sum(axis=0)
    mean = np.full(chosen.shape[1], np.nan)
    total = np.where(known, chosen, 0.0).sum(axis=0)
    mean[count > 0] = total[count > 0] / count[count > 0]
    return mean


def correlation_with_all(values: Values) -> Values:
    """Correlate each rater with the mean of all raters, `[raters]`; NaN where it is undefined."""
    mean = mean_over(values)
    return np.array([pcc(shared_moments(row, mean)) for row in values])


def correlation_with_others(values: Values) -> Values:
    """Correlate each rater with the mean of the others, `[raters]`; NaN where it is undefined."""
    return np.array(
        [pcc(shared_moments(row, others(values, place))) for place, row in enumerate(values)]
    )


def others(values: Values, row: int) -> Values:
    """Average all raters but one in every step, float64 `[steps]`."""
    return mean_over(values, [each for each in range(len(values)) if each != row])


def _mean(scores: Sequence[float]) -> float:
    return float(np.mean(scores)) if scores else math.nan
