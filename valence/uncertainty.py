"""Intervals of a CCC, and of the difference of two, from a few subjects.

Sequences of one person are not independent, so people are counted, never sequences. Resampling
people finds too narrow intervals where there are few: two predictors of equal skill were told
apart in half of all cases with two subjects. What stands here was held against a simulation
(`tests/test_uncertainty.py`).

- A single CCC gets the interval of Student's t around its Fisher transform, with the standard
  error that leaving out each subject in turn gives (the jackknife).
- A difference is judged twice, and its interval reaches as far as the wider judgement. First, it
  is divided among the subjects (`shares_of_difference`). If both predictors are equally good and
  err in the same manner, a subject's share is as likely to have the other sign. All ways to turn
  the signs give an exact test, and the differences that it does not reject are an interval: its
  ends are means of subsets of the shares (Hartigan, 1969, "Using subsample values as typical
  values"). Second, the jackknife judges the difference of both Fisher transforms.

Neither judgement is enough alone. Where one predictor errs between subjects and the other within
them, most subjects' shares have the sign that their sum has not, and turning signs told equals
apart in up to 10 % of the cases; where one predictor knows the people and the other the moments,
the jackknife did so in up to 9 %. Where both must agree, it was at most 5 %. A CCC of 0.6
was told from one of 0.4 by turning signs alone in 7 to 38 % of the cases with 8 to 20 subjects,
and by both in 4 to 30 %.

Under six subjects too few signs can be turned for an error of 5 %, so nothing is told.

One limit remains, at every number of subjects up to 20: a rare subject with errors many times
those of the others is mostly not among so few, and nothing in the data tells of it. See `_LEVEL`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Interval = tuple[float, float]

# The share of all ways to turn the signs that may lie beyond each end: the least that six subjects
# can reach.
_TAIL = 1 / 64
# Student's t at 95 % held the true CCC in 90 to 94 % of simulated cases, for few subjects give too
# low an error; at 97 % it was held in 93 to 96 %. Where errors differ among subjects by a
# log-normal factor of sigma 1 and nothing else is wrong, it was held in 78 to 90 %, and lay below
# the interval elsewhere; equals of which one errs so were told apart in 5 to 19 %. BCa's relatives
# (a correction of bias, of skewness, of degrees of freedom, a studentised bootstrap) held it in 70
# to 91 %, and t at 99 % in 83 to 95 %, a quarter wider everywhere.
_LEVEL = 0.97
# All ways are tried for as many subjects, and some drawn by chance for more.
_ALL_WAYS = 14
_FEWEST_DRAWS = 1000
# Products drawn and held at once.
_BLOCK = 2**22
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


def fewest_subjects(comparisons: int = 1) -> int:
    """Return the number of subjects from which on a verdict can be given.

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
    """Add up what a CCC is made of, for each subject.

    Parameters
    ----------
    y, prediction
        Labels and predictions `[n]`. Values far from 0 lose digits: take a common origin away.
    subjects
        Who speaks, `[n]`.

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
    """Divide the CCC of `second` less that of `first` among the subjects.

    The CCC's slope is averaged along the straight way from the sums of one predictor to those of
    the other (Aumann and Shapley, 1974, "Values of Non-Atomic Games"), and each subject's change
    of sums is taken times it. The shares add up to the difference. If a subject's predictions
    change places, the sign of the subject's share changes, and the others' stay.

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
    """Find the differences that turning signs or the jackknife does not reject, jointly at 95 %.

    Parameters
    ----------
    first, second
        Sums by subject of the two predictors, `[subjects, 6]`, for the same labels.
    comparisons, draws, seed
        See `interval_of_mean_share`.

    Returns
    -------
    Both ends of the CCC of `second` less that of `first`, or None with fewer than
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
    """Find the differences that turning signs does not reject, at a joint level of 95 %.

    Parameters
    ----------
    shares
        What each subject adds to the difference, `[subjects]`.
    comparisons
        Number of differences that are judged together; each gets its part of the error
        (Bonferroni).
    draws, seed
        How many ways are drawn by chance for each comparison where there are more than 14
        subjects, at least 1,000, and the seed.

    Returns
    -------
    Both ends in units of the whole difference, or None with fewer than
    `fewest_subjects(comparisons)` subjects.
    """
    subjects = len(shares)
    if subjects < fewest_subjects(comparisons):
        return None
    # Means of subsets of shares that are all one value would differ from it by rounding.
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


_MOST = 1 - 1e-12


def _transformed(sums: Array) -> Array:
    """Fisher transforms of the CCC of all subjects, then without each of them."""
    whole = sums.sum(axis=0)
    # A CCC of 1 has no finite transform.
    found: Array = np.arctanh(np.clip(ccc_of_sums(np.vstack([whole, whole - sums])), -_MOST, _MOST))
    return found


def _reach(found: Array, error: float) -> float:
    """How far Student's t goes to each side of the first value, by those without a subject."""
    subjects = len(found) - 1
    # Squares about the whole's value, not the mean's: what is off by bias is uncertain, too.
    deviation = math.sqrt((subjects - 1) * float(np.mean((found[1:] - found[0]) ** 2)))
    return float(stats.t.ppf(1 - error / 2, subjects - 1)) * deviation


def _jackknifed_difference(first: Array, second: Array, comparisons: int) -> Interval:
    """The interval of the difference of both transforms, as one of CCC about their middle."""
    one, other = _transformed(first), _transformed(second)
    difference, middle = other - one, (one[0] + other[0]) / 2
    reach = _reach(difference, (1 - _LEVEL) / comparisons)
    low, high = (
        float(np.tanh(middle + end / 2) - np.tanh(middle - end / 2))
        for end in (difference[0] - reach, difference[0] + reach)
    )
    return low, high


def _bottom(sums: Array) -> Array:
    """The CCC's denominator, times the count."""
    n, y, p, yy, pp, _ = np.moveaxis(sums, -1, 0)
    bottom: Array = yy + pp - 2 * y * p / n
    return bottom


def _slope(sums: Array) -> Array:
    """The derivatives of the CCC by the sums, both `[..., 6]`; 0 where nothing varies."""
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
    """Means of all subsets that are not empty, or of so many that were drawn."""
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
        # One empty subset among 2^15 and more; the mean of all stands in for it.
        ways[~ways.any(axis=1)] = 1
        found.append(ways @ shares / ways.sum(axis=1))
    return np.concatenate(found)
