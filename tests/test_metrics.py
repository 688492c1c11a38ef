"""Scores against hand-computed values, audmetric, scikit-learn, and a plain jackknife."""

from __future__ import annotations

import audmetric
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from valence import metrics
from valence.metrics import ConstantWarning, PairMoments


def test_concordance_by_hand() -> None:
    # means 2 and 3, variances 2/3 and 2/3, covariance 2/3: 2(2/3) / (4/3 + 1) = 4/7
    assert metrics.concordance([1, 2, 3], [2, 3, 4]) == pytest.approx(4 / 7, abs=1e-15)
    assert metrics.concordance([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0, abs=1e-15)


@given(st.integers(2, 400), st.integers(0, 2**32 - 1), st.floats(-50, 50))
def test_scores_equal_the_oracles(n: int, seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n) + offset
    p = 0.5 * y + rng.normal(size=n) * rng.uniform(0.1, 3)
    scores = metrics.score(y, p)
    # audmetric divides by n, too (ddof 0).
    assert scores.ccc == pytest.approx(audmetric.concordance_cc(y, p), abs=1e-9)
    assert scores.pcc == pytest.approx(audmetric.pearson_cc(y, p), abs=1e-7)
    assert scores.mse == pytest.approx(oracle.mean_squared_error(y, p), rel=1e-9)
    assert scores.mae == pytest.approx(oracle.mean_absolute_error(y, p), rel=1e-9)
    assert PairMoments.of(y, p).mse == pytest.approx(scores.mse, rel=1e-7, abs=1e-9)
    assert scores.n == n


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_moments_merge_to_the_whole(parts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = rng.normal(3, 2, sum(parts) + 2), rng.normal(-1, 1, sum(parts) + 2)
    cuts = np.cumsum(parts)
    merged = PairMoments()
    for a, b in zip(np.split(y, cuts), np.split(p, cuts), strict=True):
        merged = merged + PairMoments.of(a, b)
    whole = PairMoments.of(y, p)
    assert merged.n == whole.n
    assert merged.ccc == pytest.approx(whole.ccc, abs=1e-12)
    assert merged.mse == pytest.approx(whole.mse, rel=1e-12)


@pytest.mark.parametrize(("y", "p"), [([1, 2], [3, 3]), ([2, 2], [1, 5]), ([0.1] * 3, [0.1] * 3)])
def test_constant_side_is_zero_with_a_warning(y: list[float], p: list[float]) -> None:
    with pytest.warns(ConstantWarning, match="constant"):
        assert metrics.concordance(y, p) == 0.0
    with pytest.warns(ConstantWarning, match="constant"):
        assert metrics.pearson(y, p) == 0.0


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        metrics.concordance([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="NaN"):
        metrics.concordance([1, np.nan], [1, 2])


def test_interval_equals_a_plain_jackknife_over_subjects() -> None:
    rng = np.random.default_rng(5)
    subjects = np.repeat(["a", "b", "c", "d", "e", "f"], [7, 11, 5, 9, 13, 8])
    y = rng.normal(size=53) + 20
    p = y * 0.7 + rng.normal(size=53) + 5
    found = metrics.score(y, p, subjects=subjects, bootstrap=1)
    whole = np.arctanh(audmetric.concordance_cc(y, p))
    left = [
        np.arctanh(audmetric.concordance_cc(y[subjects != name], p[subjects != name]))
        for name in np.unique(subjects)
    ]
    error = np.sqrt(5 / 6 * np.sum((np.array(left) - whole) ** 2))
    # The quantile of Student's t at 98.5 %, five degrees of freedom, from tables.
    expected = np.tanh(whole + np.array([-1, 1]) * 3.0029 * error)
    assert found.ccc_ci == pytest.approx(tuple(expected), abs=1e-4)
    assert found.subjects == 6
    assert found.to_json()["ccc_ci_method"] == "jackknife"


def test_one_subject_has_no_interval() -> None:
    assert metrics.score([1, 2, 3], [1, 2, 4], subjects=["a"] * 3, bootstrap=10).ccc_ci is None


def test_paired_difference_of_equals_is_zero_and_of_a_better_one_is_positive() -> None:
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(12), 20)
    y = rng.normal(size=240)
    good, poor = y + 0.2 * rng.normal(size=240), y + 2 * rng.normal(size=240)
    same = metrics.paired_difference(y, good, good, subjects, bootstrap=100)
    assert (same.difference, same.ci) == (0.0, (0.0, 0.0))
    better = metrics.paired_difference(y, poor, good, subjects, bootstrap=500)
    assert better.ci is not None
    assert 0 < better.ci[0] < better.difference < better.ci[1]


def test_interval_of_a_constant_prediction_is_exactly_zero() -> None:
    y = np.random.default_rng(1).normal(size=30)
    with pytest.warns(ConstantWarning):
        found = metrics.score(y, np.full(30, 0.3), subjects=np.arange(30) % 6, bootstrap=20)
    assert found.ccc_ci == (0.0, 0.0)
