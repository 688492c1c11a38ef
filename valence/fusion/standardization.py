"""Bring raters who use the scale differently to a common mean and spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from valence.fusion.pairs import FEWEST_STEPS, PairLevels
from valence.fusion.ratings import Ratings, Values, divided, names_of, pooled

Method = Literal["none", "z", "minmax"]

_FLAT = "never changes and has no spread to standardise"
_ALONE = (
    f"shares fewer than {FEWEST_STEPS} steps with each other rater, and keeps the mean and the "
    "spread as rated"
)


def standardize(group: Sequence[Ratings], method: Method) -> list[Ratings]:
    """Standardise each rater over all recordings of a group.

    Parameters
    ----------
    group
        One recording, or all recordings in which a name stands for the same person.
    method
        `"z"` gives raters the mean and the standard deviation that they have on average (see
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
    about: dict[str, str] = {}
    if method == "z":
        about |= {name: _ALONE for name, alone in zip(names, _alone(values), strict=True) if alone}
    about |= {name: _FLAT for name, row in zip(names, values, strict=True) if _is_flat(row)}
    return [
        ratings.with_remarks(
            f"rater '{name}' {about[name]}" for name in ratings.raters if name in about
        )
        for ratings in divided(moved, group)
    ]


def to_common_moments(values: Values) -> Values:
    """Give raters the mean and the standard deviation that they have on average.

    Raters who rated the same steps get the same moments. Others are compared over the steps that
    two of them share (see `valence.fusion.pairs.PairLevels`): one who stops before a sad end is not
    brought down to the mean of the whole.

    Parameters
    ----------
    values
        float64 `[raters, steps]`, with NaN.

    Returns
    -------
    float64 `[raters, steps]`. The averages over the raters of mean and of standard deviation stay;
    raters without gaps have the same. A rater who can be compared with nobody keeps its own.
    """
    there = np.isfinite(values).any(axis=1)
    moved = values.copy()
    if there.any():
        moved[there] = _compared(values[there])
    return moved


def _compared(values: Values) -> Values:
    """Standardise raters who all have a value."""
    own = np.array([_moments(row) for row in values])
    masks, place = np.unique(np.isfinite(values), axis=0, return_inverse=True)
    groups = place.reshape(-1)
    moved = values.copy()
    for group in range(len(masks)):
        rows = np.flatnonzero(groups == group)
        spreads = own[rows, 1][own[rows, 1] > 0]
        common = float(own[rows, 0].mean()), float(spreads.mean()) if spreads.size else 0.0
        for row in rows:
            moved[row] = _placed(values[row], (own[row, 0], own[row, 1]), common)
    if len(masks) == 1:
        return moved
    mean, spread = np.array([_moments(row) for row in moved]).T
    shared = PairLevels.of(moved - mean[:, None], spread)
    factor = shared.factors(groups, spread, anchor=own[:, 1])
    offset = shared.offsets(groups, mean, factor, anchor=own[:, 0])
    return np.asarray((moved - mean[:, None]) * factor[:, None] + offset[:, None])


def _alone(values: Values) -> NDArray[np.bool_]:
    """Tell which of several raters share too few steps with each other one, bool `[raters]`."""
    known = np.isfinite(values).astype(np.float64)
    shared = known @ known.T
    own = np.diag(shared).copy()
    np.fill_diagonal(shared, 0.0)
    alone = (own > 0) & (shared.max(axis=1, initial=0.0) < FEWEST_STEPS)
    return np.asarray(alone & ((own > 0).sum() > 1))


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
