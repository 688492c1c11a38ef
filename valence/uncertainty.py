"""Compute intervals of a CCC, and of the difference of two CCCs, from a few subjects.

Sequences of one person are not independent, so the intervals count people, never sequences.
Resampling a few people gives intervals that are too narrow: with two subjects, two predictors of
equal skill were found different in half of all cases. The methods of this module were checked
against a simulation (`tests/test_uncertainty.py`).

- A single CCC gets an interval of Student's t around its Fisher transform. The standard error comes
  from leaving out each subject in turn (the jackknife).
- A difference is judged in two ways, and its interval covers the intervals of both. First, the
  difference is divided among the subjects (`shares_of_difference`). If both predictors are equally
  good and err in the same manner, the share of a subject is equally likely to have the opposite
  sign. Flipping the signs in all possible ways gives an exact test. The differences that this test
  does not reject form an interval, whose ends are means of subsets of the shares (Hartigan, 1969,
  "Using subsample values as typical values"). Second, the jackknife judges the difference of the
  two Fisher transforms.

Neither judgement is enough alone. If one predictor errs between subjects and the other within
subjects, the shares of most subjects have the opposite sign of the sum, and flipping signs found
equal predictors different in up to 10 % of the cases. If one predictor knows the people and the
other knows the moments, the jackknife found a false difference in up to 9 % of the cases. When both
must agree, the error was at most 5 %, at the price of some true differences that are not found.

With fewer than six subjects there are too few ways to flip signs for an error of 5 %, so no
interval is given.

One limit remains for every number of subjects up to 20. A rare subject whose errors are many times
larger than those of the others is usually not among so few subjects, and the data give no sign of
such a subject. See `_LEVEL`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]
Interval = tuple[float, float]

# The share of all ways to flip the signs that may lie beyond each end. Six subjects cannot reach a
# smaller share.
_TAIL = 1 / 64
# Intervals of Student's t at 95 % contained the true CCC in only 90 to 94 % of simulated cases,
# because few subjects give too low a standard error; at 97 % they contained it in 93 to 96 %. If
# errors differ among subjects by a log-normal factor of sigma 1 and nothing else is wrong, the
# intervals at 97 % contained the true CCC in 78 to 90 % of the cases, and it lay below them in the
# others. If only one of two equal predictors errs in this way, they were found different in 5 to
# 19 % of the cases. Relatives of BCa (a correction of bias, of skewness or of degrees of freedom,
# and a studentised bootstrap) contained the true CCC in 70 to 91 %, and t at 99 % in 83 to 95 %
# with intervals a quarter wider everywhere.
_LEVEL = 0.97
# Up to this number of subjects, all ways are tried; for more subjects, random ones are drawn.
_ALL_WAYS = 14
_FEWEST_DRAWS = 1000
# Number of signs that are drawn and held at once.
_BLOCK = 2**22
# The largest CCC whose Fisher transform is taken; that of 1 is not finite.
_MOST = 1 - 1e-12
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


def fewest_subjects(comparisons: int = 1) -> int:
    """Return the smallest number of subjects for which a verdict is possible.

    Parameters
    ----------
    comparisons
        Number of differences that are judged together.

    >>> fewest_subjects(), fewest_subjects(3)
    (6, 8)
    """
    return math.ceil(math.log2(comparisons / _TAIL))


FEWEST = fewest_subjects()


def sums_by_subject(y: Array, prediction: Array, subjects: NDArray[Any]) -> Array:
    """Compute for each subject the sums from which a CCC is computed.

    Parameters
    ----------
    y, prediction
        Labels and predictions `[n]`. Values far from 0 lose digits, so subtract a common origin.
    subjects
        The subject of each value, `[n]`.

    Returns
    -------
    `[subjects, 6]`: count, sum of y, of p, of y², of p², of y p.
    """
    names, member = np.unique(subjects, return_inverse=True)
    columns = (np.ones_like(y), y, prediction, y * y, prediction * prediction, y * prediction)
    return np.stack([np.bincount(member, each, minlength=len(names)) for each in columns], axis=1)


def ccc_of_sums(sums: Array) -> Array:
    """Compute the CCC of sums `[..., 6]`; 0 where nothing varies."""
    n, y, p, _, _, yp = np.moveaxis(sums, -1, 0)
    top, bottom = 2 * (yp - y * p / n), _bottom(sums)
    found: Array = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
    return found


def shares_of_difference(first: Array, second: Array) -> Array:
    """Divide the CCC of `second` minus the CCC of `first` among the subjects.

    The slope of the CCC is averaged along the straight path from the sums of one predictor to the
    sums of the other (Aumann and Shapley, 1974, "Values of Non-Atomic Games"). The share of a
    subject is its change of sums multiplied by this slope. All shares add up to the difference. If
    the two predictors exchange their predictions for one subject, only the sign of this subject's
    share changes.

    Parameters
    ----------
    first, second
        Sums by subject of the two predictors, `[subjects, 6]`, for the same labels.

    Returns
    -------
    Shares `[subjects]`.
    """
    middle = (first.sum(axis=-2) + second.sum(axis=-2)) / 2
    half = (second.sum(axis=-2) - first.sum(axis=-2)) / 2
    slope = np.zeros_like(middle)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        slope += weight / 2 * _slope(middle + node * half)
    shares: Array = ((second - first) * np.expand_dims(slope, -2)).sum(axis=-1)
    return shares


def interval_of_difference(
    first: Array,
    second: Array,
    *,
    comparisons: int = 1,
    draws: int = _FEWEST_DRAWS,
    seed: int = 0,
) -> Interval | None:
    """Find the differences that flipped signs or the jackknife do not reject, jointly at 95 %.

    Parameters
    ----------
    first, second
        Sums by subject of the two predictors, `[subjects, 6]`, for the same labels.
    comparisons, draws, seed
        See `interval_of_mean_share`.

    Returns
    -------
    Both ends for the CCC of `second` minus the CCC of `first`, or None with fewer than
    `fewest_subjects(comparisons)` subjects.
    """
    shares = shares_of_difference(first, second)
    turned = interval_of_mean_share(shares, comparisons=comparisons, draws=draws, seed=seed)
    if turned is None:
        return None
    left_out = _jackknifed_difference(first, second, comparisons)
    return min(turned[0], left_out[0]), max(turned[1], left_out[1])


def interval_of_mean_share(
    shares: Array, *, comparisons: int = 1, draws: int = _FEWEST_DRAWS, seed: int = 0
) -> Interval | None:
    """Find the differences that flipped signs do not reject, at a joint level of 95 %.

    Parameters
    ----------
    shares
        The share of each subject in the difference, `[subjects]`.
    comparisons
        Number of differences that are judged together; each gets an equal part of the error
        (Bonferroni).
    draws, seed
        Number of random ways for each comparison (at least 1,000), and the seed; used only with
        more than 14 subjects.

    Returns
    -------
    Both ends for the whole difference, or None with fewer than
    `fewest_subjects(comparisons)` subjects.
    """
    subjects = len(shares)
    if subjects < fewest_subjects(comparisons):
        return None
    # If all shares are equal, rounded means of subsets would differ from this value.
    if np.ptp(shares) == 0:
        return float(subjects * shares[0]), float(subjects * shares[0])
    means = np.sort(_subset_means(shares, max(draws, _FEWEST_DRAWS) * comparisons, seed))
    beyond = math.floor(_TAIL / comparisons * (len(means) + 1) + 1e-9)
    low, high = means[beyond - 1], means[-beyond]
    return float(subjects * low), float(subjects * high)


def interval_of_ccc(sums: Array) -> Interval | None:
    """Find the 95 % interval of the CCC of sums by subject `[subjects, 6]`.

    Returns
    -------
    Both ends, or None with fewer than `FEWEST` subjects.
    """
    if len(sums) < FEWEST:
        return None
    found = _transformed(sums)
    reach = _reach(found, 1 - _LEVEL)
    return float(np.tanh(found[0] - reach)), float(np.tanh(found[0] + reach))


def _transformed(sums: Array) -> Array:
    """Compute Fisher transforms of the CCC: of all subjects, then without each subject."""
    whole = sums.sum(axis=0)
    found: Array = np.arctanh(np.clip(ccc_of_sums(np.vstack([whole, whole - sums])), -_MOST, _MOST))
    return found


def _reach(found: Array, error: float) -> float:
    """Compute the half-width of the interval around the first value of `found`."""
    subjects = len(found) - 1
    # Deviations are taken from the value of all subjects and not from the mean, so that bias counts
    # as uncertainty too.
    deviation = math.sqrt((subjects - 1) * float(np.mean((found[1:] - found[0]) ** 2)))
    return float(stdtrit(subjects - 1, 1 - error / 2)) * deviation


def _jackknifed_difference(first: Array, second: Array, comparisons: int) -> Interval:
    """Compute the interval of the difference of transforms, as CCCs about their middle."""
    one, other = _transformed(first), _transformed(second)
    difference, middle = other - one, (one[0] + other[0]) / 2
    reach = _reach(difference, (1 - _LEVEL) / comparisons)
    low, high = (
        float(np.tanh(middle + end / 2) - np.tanh(middle - end / 2))
        for end in (difference[0] - reach, difference[0] + reach)
    )
    return low, high


def _bottom(sums: Array) -> Array:
    """Compute the denominator of the CCC times the count."""
    n, y, p, yy, pp, _ = np.moveaxis(sums, -1, 0)
    bottom: Array = yy + pp - 2 * y * p / n
    return bottom


def _slope(sums: Array) -> Array:
    """Compute the derivatives of the CCC by the sums, both `[..., 6]`; 0 if nothing varies."""
    n, y, p, _, _, _ = np.moveaxis(sums, -1, 0)
    zero, one = np.zeros_like(n), np.ones_like(n)
    bottom = _bottom(sums)
    top = np.stack([2 * y * p / n**2, -2 * p / n, -2 * y / n, zero, zero, 2 * one], -1)
    below = np.stack([2 * y * p / n**2, -2 * p / n, -2 * y / n, one, one, zero], -1)
    found = top - ccc_of_sums(sums)[..., None] * below
    bottom = bottom[..., None]
    slope: Array = np.divide(found, bottom, out=np.zeros_like(found), where=bottom > 0)
    return slope


def _subset_means(shares: Array, draws: int, seed: int) -> Array:
    """Compute the means of all subsets that are not empty, or of `draws` random ones."""
    subjects = len(shares)
    if subjects <= _ALL_WAYS:
        ways = np.arange(1, 2**subjects)[:, None] >> np.arange(subjects) & 1
        means: Array = ways @ shares / ways.sum(axis=1)
        return means
    generator = np.random.default_rng(seed)
    found = []
    rows = max(1, _BLOCK // subjects)
    for start in range(0, draws, rows):
        ways = generator.integers(0, 2, (min(rows, draws - start), subjects), dtype=np.int8)
        # On average, at most one way in 2^15 is the empty subset. It has no mean, so the full set
        # takes its place.
        ways[~ways.any(axis=1)] = 1
        found.append(ways @ shares / ways.sum(axis=1))
    return np.concatenate(found)
