"""The standardisation of columns, by hand and against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from valence.training.data.columns import ColumnMoments


def test_moments_by_hand() -> None:
    values = np.array([[1, 10, np.nan], [3, np.nan, np.nan], [8, 10, np.nan]], np.float32)
    moments = ColumnMoments.of(values)
    assert moments.count.tolist() == [3, 2, 0]
    assert moments.mean.tolist() == [4, 10, 0]
    assert moments.m2.tolist() == [9 + 1 + 16, 0, 0]
    assert moments.constant.tolist() == [False, True, False]
    standardizer = moments.standardizer()
    assert standardizer.scope == "column"
    # A column with one value, and one without any, are shifted and not scaled.
    np.testing.assert_allclose(standardizer.std, [np.sqrt(26 / 3), 1, 1], rtol=1e-6)
    np.testing.assert_allclose(
        standardizer(values)[:, :2], [[-1.019049, 0], [-0.339683, 0], [1.358732, 0]], rtol=1e-6
    )


def test_standardised_unknown_values_are_the_mean() -> None:
    values = np.array([[2, 5], [4, 9]], np.float32)
    standardizer = ColumnMoments.of(values).standardizer()
    got = standardizer(np.array([[np.nan, 7], [5, np.nan]], np.float32))
    np.testing.assert_allclose(got, [[0, 0], [2, 0]])


@pytest.mark.parametrize("seed", range(5))
def test_merged_moments_are_those_of_all_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(1e4, [[1, 1e-3, 1e6]], (97, 3)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = np.nan
    merged = ColumnMoments.empty(3)
    for part in np.split(values, np.sort(rng.integers(0, 97, 6))):
        merged = merged.merge(ColumnMoments.of(part))
    exact = values.astype(np.float64)
    assert merged.count.tolist() == np.isfinite(values).sum(axis=0).tolist()
    np.testing.assert_allclose(merged.mean, np.nanmean(exact, axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        merged.standardizer().std, np.nanstd(exact, axis=0), rtol=1e-6, atol=1e-9
    )
    np.testing.assert_array_equal(merged.low, np.nanmin(exact, axis=0))
    np.testing.assert_array_equal(merged.high, np.nanmax(exact, axis=0))


def test_a_constant_column_is_not_divided_by_a_rounding_error() -> None:
    # The mean of many 0.1 is not exactly 0.1, so that its deviations are not exactly 0.
    moments = ColumnMoments.of(np.full((7, 1), 0.1, np.float32))
    moments = moments.merge(ColumnMoments.of(np.full((93, 1), 0.1, np.float32)))
    assert moments.standardizer().std.tolist() == [1]
