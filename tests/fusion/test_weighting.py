"""Weights of raters and the curve that they give: by hand, then against audpsychometric."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.raters import trace
from valence.fusion.pairs import ccc, mean_with_others, pairwise, pcc
from valence.fusion.weighting import contrary_raters, fuse, weights_of

NAN = np.nan
# Three raters: the second is the first, the third is the first with its middle values exchanged.
_A = np.array([-0.3, -0.1, 0.1, 0.3])
_C = np.array([-0.3, 0.1, -0.1, 0.3])
THREE = np.array([_A, _A, _C])
# Products of deviations: A.A = C.C = 0.2, A.C = 0.16. So PCC and CCC of A and C are both 0.8.
_R = 0.16 / 0.2
# Ratings of 6 persons by 4 judges: Shrout and Fleiss (1979), "Intraclass correlations", table 2.
SHROUT = np.array(
    [[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]], np.float64
)


def test_pairs_are_compared_where_both_have_values() -> None:
    values = np.array([[0.0, 1.0, 2.0, NAN], [1.0, NAN, 2.0, 3.0], [1.0, 2.0, 4.0, 9.0]])
    pairs = pairwise(values)
    # Raters 0 and 1 share two steps, and two points always correlate fully.
    assert list(pairs) == [(0, 2), (1, 2)]
    assert pairs[0, 2].n == 3
    # 0, 1, 2 and 1, 2, 4: product 3, squares 2 and 14/3, means 1 and 7/3.
    assert pcc(pairs[0, 2]) == pytest.approx(3 / np.sqrt(2 * 14 / 3))
    assert ccc(pairs[0, 2]) == pytest.approx(2 * 3 / (2 + 14 / 3 + 3 * (4 / 3) ** 2))
    means = mean_with_others(values, {(0, 2): 0.5, (1, 2): 0.9})
    np.testing.assert_allclose(means, [0.5, 0.9, 0.7])


def test_the_weights_of_three_raters_by_hand() -> None:
    # The mean of all is (2 A + C) / 3 with square 4 A.A + 4 A.C + C.C over 9 = 1.64 / 9.
    size = np.sqrt(0.2 * 1.64)
    own = (2 * 0.2 + 0.16) / size, (2 * 0.16 + 0.2) / size
    np.testing.assert_allclose(weights_of(THREE, "ewe"), [own[0], own[0], own[1]])
    # A against the mean of A and C; C against A.
    beside = (0.2 + 0.16) / np.sqrt(0.2 * 0.72)
    np.testing.assert_allclose(weights_of(THREE, "leave_one_out"), [beside, beside, _R])
    pairs = (1 + _R) / 2
    np.testing.assert_allclose(weights_of(THREE, "ccc"), [pairs, pairs, _R])
    np.testing.assert_array_equal(weights_of(THREE, "mean"), [1, 1, 1])


def test_the_ccc_weighs_distance_where_a_correlation_does_not() -> None:
    shifted = np.array([_A, _A, _A + 0.5])
    np.testing.assert_allclose(weights_of(shifted, "ewe"), [1, 1, 1])
    # Lin's CCC of A and A + 0.5: 2 x 0.05 / (0.05 + 0.05 + 0.25).
    far = 0.1 / 0.35
    np.testing.assert_allclose(weights_of(shifted, "ccc"), [(1 + far) / 2, (1 + far) / 2, far])


def test_an_opposed_rater_has_no_weight_and_cannot_turn_the_curve() -> None:
    values = np.array([_A, _A, -_A])
    for method in ("ewe", "ccc", "leave_one_out"):
        weights = weights_of(values, method)  # type: ignore[arg-type]
        assert weights[2] == 0
        if weights.any():
            np.testing.assert_allclose(fuse(values, weights, method), _A)  # type: ignore[arg-type]


def test_a_constant_or_empty_rater_has_no_weight() -> None:
    values = np.array([_A, _A, np.full(4, 0.2), np.full(4, NAN)])
    for method in ("ewe", "ccc", "leave_one_out"):
        np.testing.assert_array_equal(weights_of(values, method)[2:], [0, 0])  # type: ignore[arg-type]
    np.testing.assert_array_equal(weights_of(values, "mean"), [1, 1, 1, 0])


def test_a_single_rater_is_the_curve() -> None:
    for method in ("mean", "median", "ewe", "ccc", "leave_one_out"):
        weights = weights_of(_A[None], method)  # type: ignore[arg-type]
        np.testing.assert_array_equal(fuse(_A[None], weights, method), _A)  # type: ignore[arg-type]


def test_missing_raters_hand_their_weight_to_those_who_are_there() -> None:
    values = np.array([[0.0, 0.0, NAN, NAN], [0.4, NAN, 0.4, NAN], [1.0, 1.0, 1.0, NAN]])
    weights = np.array([1.0, 2.0, 1.0])
    np.testing.assert_allclose(fuse(values, weights, "ewe"), [0.45, 0.5, 0.6, NAN])
    np.testing.assert_allclose(fuse(values, weights, "ewe", least_raters=3), [0.45, NAN, NAN, NAN])
    np.testing.assert_allclose(fuse(values, weights, "median"), [0.4, 0.5, 0.7, NAN])
    np.testing.assert_allclose(fuse(values, np.array([1.0, 0, 1]), "median"), [0.5, 0.5, 1, NAN])


def test_one_contrary_rater_of_three_is_found_and_not_the_others() -> None:
    # The mean correlations are 0, 0 and -1; with a large spread the contrary one turns the mean of
    # the others round, and cannot be mistaken for one who is right.
    rows, correlation = contrary_raters(np.array([_A, _A, -3 * _A]))
    assert rows == [2]
    np.testing.assert_allclose(correlation, [1, 1, -1])


def test_two_opposed_raters_are_both_contrary() -> None:
    rows, _ = contrary_raters(np.array([_A, -_A]))
    assert sorted(rows) == [0, 1]
    # Beside a pair that they share no step with, too.
    apart = np.full((4, 8), NAN)
    apart[0, :4], apart[1, :4], apart[2, 4:], apart[3, 4:] = _A, -_A, _A, _A
    assert sorted(contrary_raters(apart)[0]) == [0, 1]


def test_several_contrary_raters_are_found_one_after_the_other() -> None:
    rng = np.random.default_rng(2)
    curve = np.sin(np.arange(200) / 9)
    values = np.array([sign * curve for sign in (1, -1, 1, 1, -1, 1, 1)])
    rows, correlation = contrary_raters(values + 0.3 * rng.standard_normal(values.shape))
    assert sorted(rows) == [1, 4]
    assert (correlation[[1, 4]] < -0.5).all()
    assert (np.delete(correlation, [1, 4]) > 0.5).all()


def test_nobody_is_contrary_alone() -> None:
    assert contrary_raters(_A[None])[0] == []
    assert contrary_raters(np.array([_A, np.full(4, NAN)]))[0] == []


# Made with audpsychometric 0.1.1 and numpy 1.26.4 in an environment of their own:
#     x = SHROUT.T
#     audpsychometric.rater_agreement(x), audpsychometric.evaluator_weighted_estimator(x)
# It correlates each rater with the mean of the others, which is called leave_one_out here.
_WEIGHTS = [0.80578737035218, 0.8593040509596616, 0.8444792822226259, 0.7902036646570127]
_ESTIMATE = [
    *(5.913955921220662, 2.972286088284904, 6.446507489209507),
    *(3.918448582561371, 7.4347818657113, 4.685979518653174),
]


def test_leave_one_out_is_the_estimator_of_audpsychometric() -> None:
    weights = weights_of(SHROUT, "leave_one_out")
    np.testing.assert_allclose(weights, _WEIGHTS, rtol=1e-12)
    np.testing.assert_allclose(fuse(SHROUT, weights, "leave_one_out"), _ESTIMATE, rtol=1e-12)


def test_weights_do_not_depend_on_the_order_of_raters() -> None:
    rng = np.random.default_rng(3)
    values = np.sin(np.arange(60) / 7) + 0.4 * rng.standard_normal((5, 60))
    values[1, 40:] = NAN
    order = rng.permutation(5)
    for method in ("ewe", "ccc", "leave_one_out"):
        np.testing.assert_allclose(
            weights_of(values[order], method),  # type: ignore[arg-type]
            weights_of(values, method)[order],  # type: ignore[arg-type]
        )


def test_the_helper_makes_traces_of_one_step() -> None:
    made = trace([0.0, 1.0], step=0.25, first=2.0)
    np.testing.assert_array_equal(made.end - made.start, [0.25, 0.25])
