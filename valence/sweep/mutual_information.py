"""Compute the mutual information of features with a target, as scikit-learn does to the last bit.

The estimator is that of Kraskov, Stögbauer and Grassberger (Physical Review E 69, 2004). It takes
two fifths of the time of scikit-learn's code: the target is sorted once instead of once for each
column, neighbours along one axis are counted in sorted values instead of a tree, and the digamma of
a count is looked up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma
from sklearn.neighbors import KDTree
from sklearn.preprocessing import scale

Array = NDArray[np.float64]

_NEIGHBORS = 3
# Points in a leaf of the tree: the fastest of the sizes 6 to 40, at 500 and at 30,000 rows.
_LEAF_SIZE = 10


def mutual_information(
    x: Array, y: Array, *, seed: int, columns: NDArray[np.intp] | None = None
) -> Array:
    """Compute the mutual information of columns of `x [n, all columns]` with `y [n]`, in nats.

    The values are equal, to the last bit, to those of scikit-learn's `mutual_info_regression(x, y,
    random_state=seed)`. Columns are scaled to unit variance, and noise of 1e-10 breaks ties. The
    noise is drawn for all columns, so that it does not depend on the choice of `columns`.

    Parameters
    ----------
    x, y
        Features and target; all values are finite.
    seed
        Seed of the noise.
    columns
        Indices of the columns to compute; by default all.

    Returns
    -------
    Mutual information, float64, one value for each column, none negative.

    Raises
    ------
    ValueError
        If there are fewer rows than the estimator needs neighbours.
    """
    # scikit-learn draws from this legacy generator, so equal values need the same one.
    generator = np.random.RandomState(seed)
    # scikit-learn chooses columns by a mask, which stores them one after the other in memory. The
    # layout decides the order of the sums in mean and deviation, and so their last bit.
    x = _with_noise(x[:, np.ones(x.shape[1], bool)], generator)
    y = _with_noise(y, generator)
    target = _Target(y)
    wanted = range(x.shape[1]) if columns is None else columns
    return np.array([target.information(x[:, column]) for column in wanted])


def _with_noise(values: Array, generator: np.random.RandomState) -> Array:
    scaled: Array = scale(values, with_mean=False)
    means = np.maximum(1, np.mean(np.abs(scaled), axis=0))
    scaled += 1e-10 * means * generator.standard_normal(size=values.shape)
    return scaled


class _Target:
    """A target, with the values that all columns need: its order and the digamma of all counts."""

    def __init__(self, y: Array) -> None:
        self._y = y
        self._order = np.argsort(y)
        self._ordered = y[self._order]
        self._digamma = digamma(np.arange(len(y) + 1.0))

    def information(self, x: Array) -> float:
        """Compute the mutual information of a column `[n]` with the target, in nats."""
        n, order = len(x), np.argsort(x)
        # Sorted by the column, neighbours are near each other in memory too, which is faster.
        ordered = x[order]
        both = np.column_stack([ordered, self._y[order]])
        tree = KDTree(both, leaf_size=_LEAF_SIZE, metric="chebyshev")
        # Ask for one neighbour more, because the nearest neighbour of a point is the point itself.
        distances, _ = tree.query(both, k=_NEIGHBORS + 1)
        radius, of_x, of_y = (np.empty(n) for _ in range(3))
        radius[order] = np.nextafter(distances[:, -1], 0)
        of_x[order] = self._digamma[_count_within(ordered, radius[order])]
        of_y[self._order] = self._digamma[_count_within(self._ordered, radius[self._order])]
        # The means are taken in the original order of the rows, which decides their last bit.
        information = self._digamma[n] + digamma(_NEIGHBORS) - np.mean(of_x) - np.mean(of_y)
        return max(0.0, float(information))


def _count_within(ordered: Array, radius: Array) -> NDArray[np.intp]:
    """Count, for each of the `ordered` values, the values within its `radius`.

    A value counts if `|value - other| <= radius` in floating-point arithmetic. `value - radius` may
    be rounded past a neighbour, so the ends of the range are moved until this rule holds.
    """
    n = len(ordered)
    low = np.searchsorted(ordered, ordered - radius, "left")
    high = np.searchsorted(ordered, ordered + radius, "right")

    def within(index: NDArray[np.intp]) -> NDArray[np.bool_]:
        found = np.abs(ordered - ordered[np.clip(index, 0, n - 1)]) <= radius
        return (index >= 0) & (index < n) & found

    while True:
        # The value itself is within its radius, so no end of a range moves past it.
        widen_low, widen_high = within(low - 1), within(high)
        narrow_low, narrow_high = ~within(low), ~within(high - 1)
        if not (widen_low | widen_high | narrow_low | narrow_high).any():
            return high - low
        low = low - widen_low + (narrow_low & ~widen_low)
        high = high + widen_high - (narrow_high & ~widen_high)
