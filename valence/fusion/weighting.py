"""Weigh raters by how well they agree with the others, and average them."""

from __future__ import annotations

from typing import Literal

import numpy as np

from valence.fusion.pairs import (
    ccc,
    correlation_with_all,
    correlation_with_others,
    mean_with_others,
    pairwise,
    pcc,
)
from valence.fusion.ratings import Values

Method = Literal["mean", "median", "ewe", "ccc", "leave_one_out"]


def contrary_raters(values: Values) -> tuple[list[int], Values]:
    """Find the raters who correlate negatively with the others.

    The rater whose correlation, averaged over the pairs with each other rater, is lowest and below
    0 is taken out first, and the others are judged again: one rater who contradicts two that agree
    pulls the averages of these two down as well. Pairs are judged, not the mean of the others,
    which a single rater with a large spread can turn round.

    Parameters
    ----------
    values
        float64 `[raters, steps]`, with NaN.

    Returns
    -------
    The rows of the contrary raters, in the order in which they were found. Two raters who have only
    each other to be compared with, and oppose each other, are both contrary: nothing shows who is
    right. Beside the rows, the average correlation of each rater with those who are not contrary,
    `[raters]`.
    """
    scores = {pair: pcc(moments) for pair, moments in pairwise(values).items()}
    left = list(range(len(values)))
    found: list[int] = []
    while True:
        mean = mean_with_others(values, _among(scores, left))
        negative = [row for row in left if mean[row] < 0]
        if not negative:
            return found, _with_kept(values, scores, left)
        worst = min(negative, key=lambda row: (mean[row], row))
        out = [worst]
        partners = _partners(scores, worst, left)
        if len(partners) == 1 and _partners(scores, min(partners), left) == {worst}:
            out += partners
        found += out
        left = [row for row in left if row not in out]


def weights_of(values: Values, method: Method) -> Values:
    """Compute the weight of each rater.

    Parameters
    ----------
    values
        float64 `[raters, steps]`, with NaN.
    method
        `"ewe"`: the correlation with the mean of all raters (Grimm and Kroschel, 2005, "Evaluation
        of natural emotions using self assessment manikins"). `"leave_one_out"`: the correlation
        with the mean of the others, so that no rater is compared with itself. `"ccc"`: the mean of
        the CCCs with each other rater, as MuSe-Toolbox weighs (Stappen et al., 2021). `"mean"`,
        `"median"`: 1.

    Returns
    -------
    float64 `[raters]`, not normalised. A negative or undefined weight is 0. A single rater has the
    weight 1.
    """
    if method in ("mean", "median") or len(values) == 1:
        return np.asarray(np.isfinite(values).any(axis=1).astype(np.float64))
    match method:
        case "ewe":
            weights = correlation_with_all(values)
        case "leave_one_out":
            weights = correlation_with_others(values)
        case _:
            scores = {pair: ccc(moments) for pair, moments in pairwise(values).items()}
            weights = mean_with_others(values, scores)
    return np.asarray(np.where(weights > 0, weights, 0.0))


def fuse(values: Values, weights: Values, method: Method, *, least_raters: int = 1) -> Values:
    """Average raters in every step, over those who have a value there.

    Parameters
    ----------
    values
        float64 `[raters, steps]`, with NaN.
    weights
        Weights that are not negative, `[raters]`; in every step they are divided by the sum of
        those present.
    method
        `"median"` takes the median of the raters with a weight; every other one the weighted mean.
    least_raters
        Steps with fewer values than this stay NaN.

    Returns
    -------
    float64 `[steps]`.

    >>> fuse(np.array([[0.0, 1.0], [0.6, np.nan]]), np.array([1.0, 2.0]), "ewe")
    array([0.4, 1. ])
    """
    chosen = values[weights > 0]
    known = np.isfinite(chosen)
    enough = known.sum(axis=0) >= max(1, least_raters)
    fused = np.full(values.shape[1], np.nan)
    if method == "median":
        fused[enough] = np.nanmedian(chosen[:, enough], axis=0)
        return fused
    share = known * weights[weights > 0][:, None]
    total = (share * np.where(known, chosen, 0.0)).sum(axis=0)
    fused[enough] = total[enough] / share.sum(axis=0)[enough]
    return fused


def _among(scores: dict[tuple[int, int], float], rows: list[int]) -> dict[tuple[int, int], float]:
    return {pair: score for pair, score in scores.items() if set(pair) <= set(rows)}


def _partners(scores: dict[tuple[int, int], float], row: int, rows: list[int]) -> set[int]:
    return {each for pair in _among(scores, rows) if row in pair for each in pair} - {row}


def _with_kept(values: Values, scores: dict[tuple[int, int], float], kept: list[int]) -> Values:
    """Average each rater's correlations with the kept ones; with all others if nobody is kept."""
    means = []
    for row in range(len(values)):
        own = {
            pair: score
            for pair, score in scores.items()
            if row in pair and (not kept or (set(pair) - {row}) <= set(kept))
        }
        means.append(mean_with_others(values, own)[row])
    return np.array(means)
