"""Fit the standardisation of a set of features: mean and standard deviation of each column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valence.audio.standardization import Standardizer

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ColumnMoments:
    """Count, mean and sum of squared deviations of each column's known values.

    They are merged by the formula of Chan, Golub and LeVeque (1983), like `MelMoments`; here each
    column has a count of its own, because any value may be unknown.

    Attributes
    ----------
    count
        Number of known values, int64 `[columns]`.
    mean, m2
        Mean, and sum of squared deviations from it, float64 `[columns]`; 0 without a known value.
    low, high
        Lowest and highest known value, float64 `[columns]`; infinite without one.
    """

    count: NDArray[np.int64]
    mean: Array
    m2: Array
    low: Array
    high: Array

    @classmethod
    def empty(cls, columns: int) -> ColumnMoments:
        """Return the moments of no values."""
        zeros = np.zeros(columns)
        return cls(np.zeros(columns, np.int64), zeros, zeros, zeros + np.inf, zeros - np.inf)

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> ColumnMoments:
        """Compute the moments of `values`, `[n, columns]`, NaN where unknown.

        >>> moments = ColumnMoments.of(np.array([[1, 5], [3, np.nan]], np.float32))
        >>> moments.count.tolist(), moments.mean.tolist(), moments.m2.tolist()
        ([2, 1], [2.0, 5.0], [2.0, 0.0])
        """
        known = ~np.isnan(values)
        count = known.sum(axis=0)
        exact = np.where(known, values, 0).astype(np.float64)
        mean = exact.sum(axis=0) / np.maximum(count, 1)
        deviation = np.where(known, exact - mean, 0)
        return cls(
            count,
            mean,
            np.einsum("nc,nc->c", deviation, deviation),
            np.where(known, exact, np.inf).min(axis=0, initial=np.inf),
            np.where(known, exact, -np.inf).max(axis=0, initial=-np.inf),
        )

    def merge(self, other: ColumnMoments) -> ColumnMoments:
        """Return the moments of the values of both."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        delta = other.mean - self.mean
        return ColumnMoments(
            count,
            self.mean + delta * share,
            self.m2 + other.m2 + delta * delta * (self.count * share),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Return whether all known values of a column are equal, `[columns]`."""
        equal: NDArray[np.bool_] = self.low == self.high
        return equal

    def standardizer(self) -> Standardizer:
        """Make the standardizer of values with these moments; the standard deviation has ddof 0.

        A column whose values are all equal is only shifted to 0: rounding would give it a standard
        deviation near 0, by which another value would become huge.
        """
        std = np.sqrt(self.m2 / np.maximum(self.count, 1)).astype(np.float32)
        std = np.where((std > 0) & ~self.constant, std, np.float32(1))
        return Standardizer("column", self.mean.astype(np.float32), std)
