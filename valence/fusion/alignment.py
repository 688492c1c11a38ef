"""Find how late each rater reacts, by correlation with the other raters, and undo it.

Raters follow the sound with a delay of their own (Mariooryad and Busso, 2015, "Correcting
time-continuous emotional labels by modeling the reaction lag of evaluators"). Other raters can only
show how late one is in comparison; how late all are together is a setting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.signal import correlate

from valence.fusion.pairs import mean_over
from valence.fusion.ratings import Ratings, Values, divided, names_of, pooled
from valence.fusion.standardization import to_common_moments

_MOST_ROUNDS = 20
# Faster changes than a rater can follow are noise, which makes the peak of a correlation jump.
_SMOOTHING_SECONDS = 2.0
# A rater who correlates much less than the others is no measure of how early one can react.
_SHARE_OF_MEDIAN = 0.5
# At least this share of a rater's values must meet those of the others.
_LEAST_OVERLAP = 0.5
_FEWEST_STEPS = 3
# Two correlations that differ by less than this are the same: they come out of a Fourier transform.
_EQUAL = 1e-9
# The sign of two correlations that differ by less than this is decided by the smaller delay.
_ABOUT_EQUAL = 0.02


@dataclass(frozen=True)
class Delay:
    """The delay of a rater in comparison with the others.

    Attributes
    ----------
    steps
        Steps by which the rater is later than the one (or the mean) from which delays are counted;
        negative for an earlier one.
    correlation
        Correlation with the mean of the others at that delay; NaN if it is undefined.
    at_limit
        Whether the correlation still grows at the limit, so that the delay may be larger.
    """

    steps: int
    correlation: float
    at_limit: bool


def estimate_delays(
    group: Sequence[Ratings], *, limit: float, origin: Literal["fastest", "mean"]
) -> dict[str, Delay]:
    """Estimate the delay of each rater over all recordings of a group.

    Each rater in turn is moved to where the correlation with the mean of the others, all
    standardised, is largest by its size; this is repeated until nobody moves. A rater who
    correlates negatively has a delay as well, but takes no part in the mean.

    Parameters
    ----------
    group
        One recording, or all recordings in which a name stands for the same person; one step.
    limit
        Seconds that a rater may lie from the mean of the others, to either side.
    origin
        `"fastest"`: delays are counted from the fastest rater who correlates with the others at
        least half as well as the median rater. `"mean"`: from the mean of these raters.

    Returns
    -------
    The delay of each rater. One without a correlation (a constant or empty trace) has the delay 0.
    """
    names = names_of(group)
    most = max(1, round(limit / group[0].step)) if group else 0
    curves = _curves(group)
    found = dict.fromkeys(names, Delay(0, 1.0, False))
    for _ in range(_MOST_ROUNDS):
        before = _shape(found)
        for name in names:
            reference, steps = _reference(curves, found, name)
            best = _best(curves[name], reference, most)
            found[name] = best if np.isnan(best.correlation) else _later(best, steps)
        found = _centred(found)
        if _shape(found) == before:
            break
    return _from_origin(found, origin)


def shift(ratings: Ratings, delays: Mapping[str, int]) -> Ratings:
    """Move each rater to an earlier time by a number of steps; NaN where nothing is left.

    >>> ratings = Ratings("1", "valence", 0.5, ("a",), np.array([[1.0, 2.0, 3.0]]))
    >>> shift(ratings, {"a": 1}).values
    array([[ 2.,  3., nan]])
    """
    values = ratings.values.copy()
    for row, name in enumerate(ratings.raters):
        values[row] = _moved(values[row], delays.get(name, 0))
    return replace(ratings, values=values)


def _moved(values: Values, steps: int) -> Values:
    moved = np.full_like(values, np.nan)
    n = len(values)
    if abs(steps) < n:
        moved[max(0, -steps) : n - max(0, steps)] = values[max(0, steps) : n - max(0, -steps)]
    return moved


def _curves(group: Sequence[Ratings]) -> dict[str, list[Values]]:
    """Standardise each rater, about 0 and with a spread of about 1, and smooth the curves.

    Returns
    -------
    A curve of each recording by rater; NaN in gaps and where the rater never changes.
    """
    values = to_common_moments(pooled(group))
    known = values[np.isfinite(values)]
    centre = known.mean() if known.size else 0.0
    spread = known.std() if known.size and np.ptp(known) > 0 else 1.0
    curves: dict[str, list[Values]] = {name: [] for name in names_of(group)}
    for ratings in divided((values - centre) / spread, group):
        width = round(_SMOOTHING_SECONDS / ratings.step) | 1
        rows = dict(zip(ratings.raters, ratings.values, strict=True))
        for name, parts in curves.items():
            row = rows.get(name)
            empty = np.full(ratings.values.shape[1], np.nan)
            parts.append(empty if row is None else _running_mean(row, width))
    return curves


def _running_mean(values: Values, width: int) -> Values:
    """Average a window of an odd `width` over its known values; NaN where `values` is."""
    known = np.isfinite(values)
    window = np.ones(width)
    count = np.convolve(known, window, mode="full")[width // 2 :][: len(values)]
    total = np.convolve(np.where(known, values, 0.0), window, mode="full")[width // 2 :]
    mean = np.full_like(values, np.nan)
    mean[known] = total[: len(values)][known] / count[known]
    return mean


def _reference(
    curves: Mapping[str, Sequence[Values]], found: Mapping[str, Delay], name: str
) -> tuple[list[Values], int]:
    """Average the other raters in each recording, moved to the mean of their delays so far.

    Returns
    -------
    The averages, and the mean of the delays in steps.
    """
    others = {other: delay for other, delay in found.items() if other != name}
    agreeing = {
        other: delay.steps
        for other, delay in others.items()
        # A delay at the limit is not known, and would draw the mean.
        if delay.correlation > 0 and not delay.at_limit
    }
    if not agreeing:
        return [np.full_like(own, np.nan) for own in curves[name]], 0
    mean = round(np.mean(list(agreeing.values())))
    averages = [
        mean_over(
            np.array([_moved(curves[o][place], steps - mean) for o, steps in agreeing.items()])
        )
        for place in range(len(curves[name]))
    ]
    return averages, mean


def _best(curve: Sequence[Values], reference: Sequence[Values], most: int) -> Delay:
    """Find the delay with the largest absolute correlation; among equals, the smallest delay.

    If the best positive and the best negative correlation are about the same, the sign with the
    smaller delay is right: a short or a regular curve fits upside down at some delay as well.
    """
    correlation = lagged_correlation(curve, reference, most)
    found = [_peak(sign * correlation, sign) for sign in (1, -1)]
    known = [each for each in found if each is not None]
    if not known:
        return Delay(0, np.nan, False)
    largest = max(abs(each.correlation) for each in known)
    near = [each for each in known if abs(each.correlation) >= largest - _ABOUT_EQUAL]
    return min(near, key=lambda each: abs(each.steps))


def _peak(correlation: NDArray[np.float64], sign: int) -> Delay | None:
    """Find the largest correlation above 0 in those of all lags, the smallest delay of equals."""
    if not np.nanmax(correlation, initial=0.0) > 0:
        return None
    lags = np.arange(len(correlation)) - len(correlation) // 2
    largest = np.flatnonzero(correlation >= np.nanmax(correlation) - _EQUAL)
    place = int(largest[np.argmin(np.abs(lags[largest]))])
    at_limit = place in (0, len(correlation) - 1)
    return Delay(int(lags[place]), sign * float(correlation[place]), at_limit=at_limit)


def lagged_correlation(
    curve: Sequence[Values], reference: Sequence[Values], most: int
) -> NDArray[np.float64]:
    """Correlate a curve with a reference at every lag, over the steps in which both have values.

    The sums of a recording are taken by Fourier transforms (Padfield, 2012, "Masked object
    registration in the Fourier domain"). Deviations are from the means within each recording,
    because differences between recordings show no delay.

    Parameters
    ----------
    curve, reference
        A curve of each recording, `[steps]`, about 0 and with a spread of about 1; NaN in gaps.
    most
        Steps of the largest lag.

    Returns
    -------
    float64 `[2 most + 1]`, for the lags from `-most` to `most`; at lag d, step t + d of the curve
    meets step t of the reference. NaN where less than half of the curve's values meet one of the
    reference, or one of both is constant.
    """
    lags = 2 * most + 1
    n, spread_x, spread_y, product = np.zeros((4, lags))
    for own, other in zip(curve, reference, strict=True):
        if not own.size:
            continue
        count, x, y, xx, yy, xy = _sums(own, other, most)
        count = np.round(count)
        share = np.divide(1.0, count, out=np.zeros(lags), where=count > 0)
        n += count
        spread_x += xx - x * x * share
        spread_y += yy - y * y * share
        product += xy - x * y * share
    known = sum(int(np.isfinite(each).sum()) for each in curve)
    # The rounding of the transform must not make a spread of a constant.
    defined = (n >= max(_FEWEST_STEPS, _LEAST_OVERLAP * known)) & (
        np.minimum(spread_x, spread_y) > _EQUAL * n
    )
    scale = np.sqrt(np.where(defined, spread_x * spread_y, 1.0))
    return np.where(defined, product / scale, np.nan)


def _sums(own: Values, other: Values, most: int) -> NDArray[np.float64]:
    known, met = np.isfinite(own), np.isfinite(other)
    a, b = np.where(known, own, 0.0), np.where(met, other, 0.0)
    u, v = known.astype(np.float64), met.astype(np.float64)
    pairs = ((u, v), (a, v), (u, b), (a * a, v), (u, b * b), (a, b))
    n = len(own)
    inside = min(most, n - 1)
    sums = np.zeros((len(pairs), 2 * most + 1))
    for row, (first, second) in enumerate(pairs):
        full = correlate(first, second, mode="full", method="auto")
        # Index n - 1 is the lag 0.
        sums[row, most - inside : most + inside + 1] = full[n - 1 - inside : n + inside]
    return sums


def _shape(found: Mapping[str, Delay]) -> list[int]:
    """Return the delays less the smallest one: all together may drift without meaning."""
    least = min((delay.steps for delay in found.values()), default=0)
    return [delay.steps - least for delay in found.values()]


def _agreeing(found: Mapping[str, Delay]) -> list[Delay]:
    """List the known delays of raters who correlate at least half as well as the median rater."""
    positive = [delay for delay in found.values() if delay.correlation > 0 and not delay.at_limit]
    if not positive:
        return []
    least = _SHARE_OF_MEDIAN * np.median([delay.correlation for delay in positive])
    return [delay for delay in positive if delay.correlation >= least]


def _later(delay: Delay, steps: int) -> Delay:
    return replace(delay, steps=delay.steps + steps)


def _less(found: Mapping[str, Delay], steps: int) -> dict[str, Delay]:
    return {
        name: delay if np.isnan(delay.correlation) else _later(delay, -steps)
        for name, delay in found.items()
    }


def _centred(found: Mapping[str, Delay]) -> dict[str, Delay]:
    agreeing = _agreeing(found)
    return _less(found, round(np.mean([d.steps for d in agreeing]))) if agreeing else dict(found)


def _from_origin(
    found: Mapping[str, Delay], origin: Literal["fastest", "mean"]
) -> dict[str, Delay]:
    agreeing = _agreeing(found)
    if not agreeing or origin == "mean":
        return _centred(found)
    return _less(found, min(delay.steps for delay in agreeing))
