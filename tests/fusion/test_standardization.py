"""Raters brought to a common mean and spread."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.raters import trace
from valence.fusion.ratings import gather
from valence.fusion.standardization import standardize, to_common_moments

NAN = np.nan


def test_raters_get_the_mean_and_the_spread_that_they_have_on_average() -> None:
    # Means 0.2 and 0.4, standard deviations 0.1 and 0.3: in common 0.3 and 0.2.
    values = np.array([[0.1, 0.3, 0.1, 0.3], [0.7, 0.1, 0.1, 0.7]])
    expected = [[0.1, 0.5, 0.1, 0.5], [0.5, 0.1, 0.1, 0.5]]
    np.testing.assert_allclose(to_common_moments(values), expected, atol=1e-12)


def test_one_who_saw_a_part_is_compared_in_that_part() -> None:
    """All three see the same curve; the third stops before its high end."""
    curve = np.array([-0.6, -0.4, -0.5, -0.3, 0.4, 0.6, 0.5])
    values = np.array([curve, curve, np.where(np.arange(7) < 4, 0.5 * curve + 0.2, NAN)])
    found = to_common_moments(values)
    # On the mean of the whole, -0.04, the third would lie far above the others.
    np.testing.assert_allclose(found[2, :4], found[0, :4], atol=0.02)
    assert np.isnan(found[2, 4:]).all()
    np.testing.assert_allclose(found[0], found[1], atol=1e-12)


def test_one_who_never_moves_is_moved_to_the_mean_alone_and_named() -> None:
    (rated,) = gather([trace([0.2, 0.6, 0.4, 0.8]), trace([0.1] * 4, rater="flat")])
    (found,) = standardize([rated], "z")
    np.testing.assert_allclose(found.values[1], [0.3] * 4)
    np.testing.assert_allclose(found.values[0], [0.0, 0.4, 0.2, 0.6])
    assert found.remarks == ("rater 'flat' never changes and has no spread to standardise",)
    (untouched,) = standardize([rated], "minmax")
    np.testing.assert_allclose(untouched.values, [[-1, 1 / 3, -1 / 3, 1], [0.1] * 4], atol=1e-12)
    assert untouched.remarks == found.remarks


def test_own_extremes_are_those_of_all_recordings_of_a_group() -> None:
    group = gather(
        [trace([0.0, 0.5], id="1"), trace([0.25, 1.0, NAN], id="2"), trace([-0.2], rater="b")]
    )
    one, two = standardize(group, "minmax")
    np.testing.assert_allclose(one.values, [[-1.0, 0.0], [-0.2, NAN]])
    np.testing.assert_allclose(two.values, [[-0.5, 1.0, NAN]])


@pytest.mark.parametrize("method", ["none", "z", "minmax"])
def test_raters_without_values_stay_so(method: str) -> None:
    (rated,) = gather([trace([NAN, NAN]), trace([0.0, 0.5], rater="b")])
    (found,) = standardize([rated], method)  # type: ignore[arg-type]
    assert np.isnan(found.values[0]).all()
    assert np.isfinite(found.values[1]).all()


def test_without_a_method_nothing_is_changed() -> None:
    group = gather([trace([0.1, 0.9])])
    assert standardize(group, "none") == group
