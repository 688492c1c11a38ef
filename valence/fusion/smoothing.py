"""Smooth the curves of raters without bridging their gaps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.signal import savgol_filter

from valence.fusion.ratings import Ratings, Values

ORDER = 3
"""Order of the polynomial, as in MuSe-Toolbox."""


def smooth(ratings: Ratings, window: int) -> Ratings:
    """Smooth each rater with a Savitzky-Golay filter of order 3 (see `savitzky_golay`)."""
    values = ratings.values.copy()
    for row in range(len(values)):
        values[row] = savitzky_golay(values[row], window)
    return replace(ratings, values=values)


def savitzky_golay(values: Values, window: int) -> Values:
    """Fit a polynomial of order 3 in a moving window (Savitzky and Golay, 1964).

    MuSe-Toolbox (Stappen et al., 2021) smooths raters in this way, with a window of 5. It drops
    gaps first, which joins values that are seconds apart; here each stretch between gaps is
    smoothed by itself.

    Parameters
    ----------
    values
        float64 `[n]`, with NaN in gaps.
    window
        Length of the window in samples, odd and above the order.

    Returns
    -------
    float64 `[n]`, NaN where `values` is. A stretch that is constant or shorter than the window
    stays as it is.
    """
    smoothed = values.copy()
    for first, end in stretches(values):
        # The filter would leave rounding in a constant, which looks like a curve to a correlation.
        if end - first >= window and np.ptp(values[first:end]) > 0:
            smoothed[first:end] = savgol_filter(values[first:end], window, ORDER)
    return smoothed


def stretches(values: Values) -> list[tuple[int, int]]:
    """Find the stretches of known values, each as its first index and the index after its last.

    >>> stretches(np.array([np.nan, 1.0, 2.0, np.nan, 3.0]))
    [(1, 3), (4, 5)]
    """
    known = np.concatenate([[False], np.isfinite(values), [False]])
    edges = np.flatnonzero(known[1:] != known[:-1])
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]
