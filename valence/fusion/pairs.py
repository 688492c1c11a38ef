"""Compare raters two by two, and each with the mean of others, where both have values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from valence.fusion.ratings import Values
from valence.metrics import PairMoments

FEWEST_STEPS = 3
"""Fewer common steps than this say nothing about two curves: two points always correlate fully."""

# Values lie in [-1, 1]; a filter or a mean leaves differences of this size in a constant.
_ROUNDING = 1e-12
# Shared steps in which a rater shows less than this part of the own spread do not show how large
# that spread is beside another one.
_LEAST_SPREAD = 0.1
# A curve of another shape shows little about the level: a flat one would draw the high parts down
# and the low ones up. It still counts where nothing else is known.
_LEAST_WEIGHT = 1e-6


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
    """Tell whether two curves have enough common steps, and both vary there beyond rounding."""
    if moments.n < FEWEST_STEPS:
        return False
    sides = ((moments.mean_y, moments.square_y), (moments.mean_p, moments.square_p))
    return all(
        square > moments.n * (_ROUNDING * max(1.0, abs(mean))) ** 2 for mean, square in sides
    )


def varies(values: Values) -> bool:
    """Tell whether any row of values `[raters, steps]` without NaN varies beyond rounding."""
    size = max(1.0, float(np.abs(values).max(initial=0.0)))
    return bool(values.size) and float(np.ptp(values, axis=1).max()) > 2 * _ROUNDING * size


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


@dataclass(frozen=True)
class PairLevels:
    """Level and spread of raters over the steps that two share; entry [i, j] is of i, beside j.

    Every two raters show by how much the spread of one exceeds that of the other, and by how much
    its values lie higher. The factors and offsets of all raters are the weighted least-squares
    solution of all these differences together.

    Attributes
    ----------
    mean, spread
        Mean of rater i, about its mean over all own steps, and its standard deviation, float64
        `[raters, raters]`.
    weight
        Shared steps times the squared correlation; a correlation below 0 counts as 0. The weight
        is 0 for too few shared steps.
    shows_spread
        Whether both raters vary enough there to compare their spreads.
    """

    mean: Values
    spread: Values
    weight: Values
    shows_spread: NDArray[np.bool_]

    @classmethod
    def of(cls, values: Values, spread: Values) -> PairLevels:
        """Compare every two raters.

        Parameters
        ----------
        values
            float64 `[raters, steps]`, with NaN; each rater about its own mean.
        spread
            Standard deviation of each rater over all own steps, `[raters]`.
        """
        known = np.isfinite(values).astype(np.float64)
        filled = np.where(known > 0, values, 0.0)
        n = known @ known.T
        enough = (n >= FEWEST_STEPS) & ~np.eye(len(values), dtype=bool)
        share = np.divide(1.0, n, out=np.zeros_like(n), where=enough)
        mean = (filled @ known.T) * share
        variance = np.maximum((filled**2 @ known.T) * share - mean**2, 0.0)
        found = np.sqrt(variance)
        varies = (spread > 0)[:, None] & (found >= _LEAST_SPREAD * spread[:, None])
        both = enough & varies & varies.T
        product = (filled @ filled.T) * share - mean * mean.T
        correlation = np.divide(product, found * found.T, out=np.zeros_like(n), where=both)
        weight = n * np.clip(correlation, np.sqrt(_LEAST_WEIGHT), 1.0) ** 2
        return cls(mean, found, np.where(enough, weight, 0.0), both)

    def factors(self, groups: NDArray[np.intp], spread: Values, anchor: Values) -> Values:
        """Find the factor of each rater that makes the spreads of all pairs equal, `[raters]`.

        Parameters
        ----------
        groups
            Raters with the same number have the same factor, `[raters]`.
        spread
            Standard deviation of each rater over all own steps, `[raters]`.
        anchor
            The spreads whose average the raters keep who are joined by pairs, `[raters]`.
        """
        weight = np.where(self.shows_spread, self.weight, 0.0)
        # Logarithms turn the ratio of two spreads into a difference.
        change, joined = _balanced(np.log(np.where(weight > 0, self.spread, 1.0)), weight, groups)
        factor = np.exp(change)
        former = np.bincount(joined, weights=anchor)
        now = np.bincount(joined, weights=factor * spread)
        return np.asarray(
            factor * np.divide(former, now, out=np.ones_like(now), where=now > 0)[joined]
        )

    def offsets(
        self, groups: NDArray[np.intp], mean: Values, factor: Values, anchor: Values
    ) -> Values:
        """Find the mean of each rater over all own steps that makes those of all pairs equal.

        Parameters
        ----------
        groups
            Raters with the same number are moved by the same amount, `[raters]`.
        mean
            Mean of each rater over all own steps, `[raters]`.
        factor
            The factors of the raters' deviations from their own means, `[raters]`.
        anchor
            The means whose average the raters keep who are joined by pairs, `[raters]`.
        """
        change, joined = _balanced(mean[:, None] + self.mean * factor[:, None], self.weight, groups)
        placed = mean + change
        excess = np.bincount(joined, weights=placed - anchor) / np.bincount(joined)
        return np.asarray(placed - excess[joined])


def _balanced(
    level: Values, weight: Values, groups: NDArray[np.intp]
) -> tuple[Values, NDArray[np.intp]]:
    """Find what to add to the levels of each rater, so that both raters of all pairs have the same.

    Parameters
    ----------
    level
        Level of rater i beside rater j, `[raters, raters]`.
    weight
        Weight of the pair, symmetric.
    groups
        Raters with the same number are changed alike, `[raters]`.

    Returns
    -------
    The change of each rater, `[raters]`; and a number that raters share who are joined by pairs.
    Changes of raters who are not joined have no relation.
    """
    members = np.eye(int(groups.max()) + 1)[groups]
    between = members.T @ weight @ members
    pull = members.T @ (weight * (level.T - level)).sum(axis=1)
    # The normal equations of least squares; pairs within a group drop out of both sides.
    change = np.linalg.lstsq(np.diag(between.sum(axis=1)) - between, pull, rcond=None)[0]
    _, joined = connected_components(between > 0, directed=False)
    return change[groups], np.asarray(joined, np.intp)[groups]


def _mean(scores: Sequence[float]) -> float:
    return float(np.mean(scores)) if scores else math.nan
