"""Bring raters who use the scale differently to a common mean and spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from valence.fusion.ratings import Ratings, Values, divided, names_of, pooled

Method = Literal["none", "z", "minmax"]

# Raters with gaps are compared with each other, so their moments are found in rounds; each round
# shrinks what is left to correct by the share that is missing.
_ROUNDS = 10


def standardize(group: Sequence[Ratings], method: Method) -> list[Ratings]:
    """Standardise each rater over all recordings of a group.

    Parameters
    ----------
    group
        One recording, or all recordings in which a name stands for the same person.
    method
        `"z"` gives every rater the mean and the standard deviation that raters have on average (see
        `to_common_moments`), so that the result stays on the scale of [-1, 1]. `"minmax"` maps the
        rater's own lowest and highest value to -1 and 1. `"none"` changes nothing.

    Returns
    -------
    The ratings in the same order. A rater whose values are all equal has no spread: under `"z"`
    only the mean is moved, and under `"minmax"` nothing is; a remark names the rater.
    """
    if method == "none" or not group:
        return list(group)
    values, names = pooled(group), names_of(group)
    moved = to_common_moments(values) if method == "z" else _to_own_extremes(values)
    flat = {name for name, row in zip(names, values, strict=True) if _is_flat(row)}
    return [
        ratings.with_remarks(
            f"rater '{name}' never changes and has no spread to standardise"
            for name in ratings.raters
            if name in flat
        )
        for ratings in divided(moved, group)
    ]


def to_common_moments(values: Values) -> Values:
    """Give every rater the mean and the standard deviation that raters have on average.

    A rater with gaps is compared with the others in the steps that were rated: one who stops before
    a sad end is not brought down to the mean of the whole.

    Parameters
    ----------
    values
        float64 `[raters, steps]`, with NaN.

    Returns
    -------
    float64 `[raters, steps]`. Raters without gaps have the same mean and the same standard
    deviation: the averages over all raters.
    """
    known = np.isfinite(values)
    there = np.flatnonzero(known.any(axis=1))
    if not there.size:
        return values
    own = {row: _moments(values[row]) for row in there}
    spreads = [spread for _, spread in own.values() if spread > 0]
    mean = float(np.mean([mean for mean, _ in own.values()]))
    spread = float(np.mean(spreads)) if spreads else 0.0
    moved = values.copy()
    for row in there:
        moved[row] = _placed(values[row], own[row], (mean, spread))
    ragged = [row for row in there if not known[row, known[there].any(axis=0)].all()]
    for _ in range(_ROUNDS if ragged else 0):
        before = moved.copy()
        for row in ragged:
            others = [_moments(before[other][known[row]]) for other in there if other != row]
            here = [each for each in others if np.isfinite(each[0])]
            varying = [each for _, each in here if each > 0]
            new_mean = float(np.mean([each for each, _ in here])) if here else mean
            new_spread = float(np.mean(varying)) if varying else spread
            moved[row] = _placed(values[row], own[row], (new_mean, new_spread))
    return moved


def _to_own_extremes(values: Values) -> Values:
    moved = values.copy()
    for row, own in enumerate(values):
        known = own[np.isfinite(own)]
        if known.size and not _is_flat(own):
            low, high = known.min(), known.max()
            moved[row] = (own - low) / (high - low) * 2 - 1
    return moved


def _moments(values: Values) -> tuple[float, float]:
    """Compute mean and standard deviation of the known values; NaN and 0 if there is none."""
    known = values[np.isfinite(values)]
    if not known.size:
        return float("nan"), 0.0
    # The deviations of a constant may be rounded; its spread must still be 0.
    return float(known.mean()), float(known.std()) if np.ptp(known) > 0 else 0.0


def _placed(values: Values, own: tuple[float, float], new: tuple[float, float]) -> Values:
    factor = new[1] / own[1] if own[1] > 0 else 1.0
    return (values - own[0]) * factor + new[0]


def _is_flat(values: Values) -> bool:
    known = values[np.isfinite(values)]
    return bool(known.size) and float(np.ptp(known)) == 0
