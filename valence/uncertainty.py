"""Intervals of a CCC, and of the difference of two, from a few subjects.

Sequences of one person are not independent, so people are counted, never sequences. Resampling
people finds too narrow intervals where there are few: two predictors of equal skill were told
apart in half of all cases with two subjects. What stands here was held against a simulation
(`tests/test_uncertainty.py`).

- A difference is divided among the subjects (`shares_of_difference`). If both predictors are
  equally good, a subject's share is as likely to have the other sign. All ways to turn the signs
  give an exact test, and the differences that it does not reject are the interval: its ends are
  means of subsets of the shares (Hartigan, 1969, "Using subsample values as typical values").
- A single CCC gets the interval of Student's t around its Fisher transform, with the standard
  error that leaving out each subject in turn gives (the jackknife).

Under six subjects too few signs can be turned for an error of 5 %, so nothing is told.
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
# can reach. A share of 0.025 has the stated error where the predictors can be exchanged. Where
# their errors are of another kind in some subjects, the shares are skewed, and 0.025 gave an error
# of up to 6.4 %; where one errs within subjects and the other between them, 0.02 gave up to 8 %.
_TAIL = 1 / 64
# Student's t at 95 % held the true CCC in 91.5 to 96 % of simulated cases, for few subjects give
# too low a CCC and too small an error; at 97 % it was held in 94.5 to 97 %. Where a few subjects'
# errors are many times those of the others (log-normal, sigma 1), it was held in 86 to 89 %.
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
    subjects = len(sums)
    if subjects < FEWEST:
        return None
    whole = sums.sum(axis=0)
    # A CCC of 1 has no finite transform.
    found = np.arctanh(np.clip(ccc_of_sums(np.vstack([whole, whole - sums])), -_MOST, _MOST))
    # Squares about the whole's value, not the mean's: what is off by bias is uncertain, too.
    error = math.sqrt((subjects - 1) * float(np.mean((found[1:] - found[0]) ** 2)))
    reach = float(stats.t.ppf((1 + _LEVEL) / 2, subjects - 1)) * error
    return float(np.tanh(found[0] - reach)), float(np.tanh(found[0] + reach))


_MOST = 1 - 1e-12


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
