"""Agreement of raters: by hand, then published figures, then pingouin."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.fusion.test_weighting import SHROUT
from valence.fusion.agreement import (
    FIGURES,
    agreement,
    cronbach_alpha,
    intraclass,
    mean_agreement,
)

NAN = np.nan


def test_two_raters_by_hand() -> None:
    # 1 2 3 and 2 3 5: means of steps 1.5 2.5 4, of raters 2 and 10/3, of all 8/3.
    # Between steps: 2 x (49/36 + 1/36 + 64/36) / 2 = 114/36; between raters: 3 x 2 x 4/9 / 1 = 8/3;
    # in all: 28/3 (25 + 4 + 1 + 4 + 1 + 49 over 9), so the error is (28/3 - 57/9 - 8/3) / 2 = 1/6.
    values = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 5.0]])
    rows, error, columns = 114 / 36, 1 / 6, 8 / 3
    single, mean, absolute = intraclass(values)
    assert single == pytest.approx((rows - error) / (rows + error))
    assert mean == pytest.approx((rows - error) / rows)
    assert absolute == pytest.approx((rows - error) / (rows + (columns - error) / 3))
    # Variances 1 and 7/3; of the sums 3, 5, 8: 19/3.
    assert cronbach_alpha(values) == pytest.approx(2 * (1 - (10 / 3) / (19 / 3)))
    found = agreement(values)
    # Product 3, squares 2 and 14/3, difference of the means 4/3.
    assert found.ccc == pytest.approx(6 / (20 / 3 + 3 * 16 / 9))
    assert found.pcc == pytest.approx(3 / math.sqrt(28 / 3))
    assert found.ccc_others == pytest.approx(found.ccc)
    assert (found.raters, found.steps, found.complete, found.pairs) == (2, 3, 3, 1)


def test_the_published_example_of_shrout_and_fleiss() -> None:
    """Table 4 of the paper: ICC(3,1) .71, ICC(3,4) .91, ICC(2,4) .62."""
    assert [round(each, 2) for each in intraclass(SHROUT)] == [0.71, 0.91, 0.62]


# Made with pingouin 0.6.1, audpsychometric 0.1.1, audmetric 1.4.2 and numpy 1.26.4 in an
# environment of their own, with x = RATED.T [steps, raters]:
#     pingouin.intraclass_corr(long table of x, targets=step, raters=rater, ratings=value)
#     pingouin.cronbach_alpha(pandas.DataFrame(x)), audpsychometric.cronbachs_alpha(DataFrame(x))
#     mean of audmetric.concordance_cc and pearson_cc over the pairs of raters
_T = np.arange(40)
RATED = np.array(
    [
        np.round(np.sin(_T / 5) + 0.3 * np.sin(3.1 * _T + r * 1.7) + 0.2 * r - 0.1 * r * r, 3)
        * (1 - 0.15 * r)
        for r in range(5)
    ]
)


@pytest.mark.parametrize(
    ("values", "c1", "ck", "ak", "alpha", "ccc", "pcc"),
    [
        (RATED, 0.798852, 0.952055, 0.925660, 0.9520552608, 0.7074045212, 0.9022487660),
        (SHROUT, 0.714841, 0.909316, 0.620051, 0.9093155424, 0.3351081352, 0.7603077176),
    ],
    ids=["made", "shrout"],
)
def test_figures_are_those_of_pingouin_and_audmetric(
    values: np.ndarray, c1: float, ck: float, ak: float, alpha: float, ccc: float, pcc: float
) -> None:
    found = agreement(values)
    assert (found.icc_c1, found.icc_ck, found.icc_ak) == pytest.approx((c1, ck, ak), abs=1e-6)
    assert (found.alpha, found.ccc, found.pcc) == pytest.approx((alpha, ccc, pcc), abs=1e-9)


def test_alpha_is_the_consistency_of_the_mean() -> None:
    rng = np.random.default_rng(4)
    for raters, steps in ((2, 5), (6, 40), (12, 9)):
        values = rng.standard_normal((raters, steps)) + rng.standard_normal(steps)
        assert cronbach_alpha(values) == pytest.approx(intraclass(values)[1], abs=1e-12)


def test_ragged_raters_are_compared_where_they_meet() -> None:
    values = RATED.copy()
    values[1, 30:] = NAN
    values[3, :6] = NAN
    found = agreement(values)
    assert (found.raters, found.steps, found.complete, found.pairs) == (5, 40, 24, 10)
    assert found.icc_ck == pytest.approx(intraclass(RATED[:, 6:30])[1])
    # Weighted by the steps of a pair: one pair of each kind, by hand.
    two = agreement(values[[1, 3, 4]])
    parts = [
        agreement(values[list(pair)]).ccc * n
        for pair, n in (((1, 3), 24), ((1, 4), 30), ((3, 4), 34))
    ]
    assert two.ccc == pytest.approx(sum(parts) / 88)


def test_what_is_not_defined_is_nan_and_null_in_json() -> None:
    alone = agreement(np.array([[0.1, 0.2, 0.3], [NAN, NAN, NAN]]))
    assert alone.raters == 1
    assert alone.pairs == 0
    nothing = {"ccc", "pcc", "ccc_others", "icc_c1", "icc_ck", "icc_ak", "alpha"}
    assert {name for name, value in alone.to_json().items() if value is None} == nothing
    flat = agreement(np.full((3, 5), 0.1))
    assert {name for name, value in flat.to_json().items() if value is None} == nothing
    assert tuple(flat.to_json()) == FIGURES


def test_the_mean_over_recordings_leaves_out_what_is_not_defined() -> None:
    one = agreement(SHROUT)
    alone = agreement(SHROUT[:1])
    mean = mean_agreement([one, alone, agreement(RATED)])
    assert mean.raters == 5
    assert mean.steps == 6 + 6 + 40
    assert mean.ccc == pytest.approx((0.3351081352 + 0.7074045212) / 2)
    assert math.isnan(mean_agreement([alone]).ccc)


def test_rounding_makes_no_pair_and_no_coefficient() -> None:
    """A rater who holds still in the shared steps differs there by the rounding of a filter."""
    rounded = np.array([0.5 + 1e-16, 0.5 - 1e-16, 0.5, 0.5 + 1e-16, NAN, -0.4, 0.3])
    other = np.array([0.1, 0.3, -0.2, 0.4, 0.2, NAN, NAN])
    found = agreement(np.array([rounded, other]))
    assert found.pairs == 0
    assert np.isnan(found.ccc)
    assert np.isnan(found.ccc_others)
    still = agreement(np.array([rounded, np.where(np.isfinite(other), 0.2, NAN)]))
    assert np.isnan([still.icc_c1, still.icc_ck, still.alpha]).all()


def test_a_rater_of_small_but_real_changes_still_counts() -> None:
    wave = np.array([0.1, 0.3, -0.2, 0.4, 0.2])
    assert agreement(np.array([wave, 0.5 + 1e-6 * wave])).pcc == pytest.approx(1)
