"""Mutual information: scikit-learn's own numbers to the last bit, ties and oddities included."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_selection import mutual_info_regression

from valence.sweep.mutual_information import mutual_information

Matrices = tuple[np.ndarray, np.ndarray]


def _made(seed: int, *, tied: bool) -> Matrices:
    """Columns of unlike size and offset; `tied` ones repeat their values, one of them always."""
    generator = np.random.default_rng(seed)
    n, columns = int(generator.integers(5, 900)), int(generator.integers(2, 20))
    x = generator.standard_normal((n, columns)) * generator.lognormal(0, 3, columns)
    x += 10 * generator.standard_normal(columns)
    y = x[:, 0] + generator.standard_normal(n)
    if tied:
        x = np.round(x, 1)
        x[:, 0] = -3.7
        y = np.round(y, 1)
    return x, y


def test_of_a_copy_much_and_of_noise_nothing() -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2000, 2))
    found = mutual_information(x, x[:, 0], seed=0)
    assert found[0] > 3
    assert found[1] < 0.05
    # Two normals correlated by r share -log(1 - r^2) / 2.
    mixed = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    expected = -np.log(1 - np.array([0.8, 0.6]) ** 2) / 2
    np.testing.assert_allclose(mutual_information(x, mixed, seed=0), expected, atol=0.06)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_equals_scikit_learn_to_the_last_bit(seed: int, tied: bool) -> None:
    x, y = _made(seed, tied=tied)
    np.testing.assert_array_equal(
        mutual_information(x, y, seed=seed), mutual_info_regression(x, y, random_state=seed)
    )


@pytest.mark.parametrize("seed", range(5))
def test_of_some_columns_is_that_among_all(seed: int) -> None:
    x, y = _made(seed, tied=True)
    columns = np.array([x.shape[1] - 1, 0, 1])
    found = mutual_information(x, y, seed=seed, columns=columns)
    whole = mutual_info_regression(x, y, random_state=seed)
    np.testing.assert_array_equal(found, whole[columns])


def test_where_all_labels_are_one_it_is_still_scikit_learns() -> None:
    x, _ = _made(3, tied=True)
    y = np.full(len(x), 0.25)
    np.testing.assert_array_equal(
        mutual_information(x, y, seed=1), mutual_info_regression(x, y, random_state=1)
    )


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="less than or equal to"):
        mutual_information(np.eye(3), np.arange(3.0), seed=0)
