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


_SECONDS = np.arange(0, 100, 0.5)
_TREND = -0.7 + 1.4 * _SECONDS / 100 + 0.1 * np.sin(_SECONDS / 3)


def _seen(*spans: tuple[float, float]) -> np.ndarray:
    """Let each rater see the trend in a span of time."""
    return np.array(
        [np.where((_SECONDS - a >= 0) & (_SECONDS - b < 0), _TREND, NAN) for a, b in spans]
    )


_RAGGED = [
    pytest.param(((0, 70), (15, 85), (30, 100)), id="three"),
    pytest.param(((0, 90), (5, 95), (10, 100)), id="three-with-a-tenth-missing"),
    pytest.param(((0, 60), (40, 100)), id="two"),
    pytest.param(((0, 40), (30, 70), (60, 100)), id="a-chain"),
]


@pytest.mark.parametrize("spans", _RAGGED)
def test_raters_who_all_have_gaps_and_give_the_same_values_keep_them(
    spans: tuple[tuple[float, float], ...],
) -> None:
    values = _seen(*spans)
    np.testing.assert_allclose(to_common_moments(values), values, atol=1e-9)


@pytest.mark.parametrize("spans", _RAGGED)
def test_raters_who_all_have_gaps_and_use_the_scale_differently_meet(
    spans: tuple[tuple[float, float], ...],
) -> None:
    factor, offset = np.array([0.6, 0.9, 0.75])[: len(spans)], np.array([0.1, -0.2, 0.0])
    values = _seen(*spans) * factor[:, None] + offset[: len(spans), None]
    found = to_common_moments(values)
    low, high = np.nanmin(found, axis=0), np.nanmax(found, axis=0)
    np.testing.assert_allclose(low, high, atol=1e-9)
    assert np.corrcoef(low, _TREND)[0, 1] == pytest.approx(1)
    np.testing.assert_allclose(np.nanmean(found, axis=1).mean(), np.nanmean(values, axis=1).mean())
    np.testing.assert_allclose(np.nanstd(found, axis=1).mean(), np.nanstd(values, axis=1).mean())


@pytest.mark.parametrize(
    "other", [np.full(200, 0.3), -_TREND, np.random.default_rng(0).normal(0, 0.3, 200)]
)
def test_a_curve_of_another_shape_does_not_draw_the_others_together(other: np.ndarray) -> None:
    values = np.concatenate([_seen((0, 70), (30, 100)), other[None]])
    found = to_common_moments(values)
    factor = np.nanstd(found[0]) / np.nanstd(values[0])
    shared = (_SECONDS >= 30) & (_SECONDS < 70)
    np.testing.assert_allclose(found[0, shared], found[1, shared], atol=0.02 * factor)


def test_two_who_share_little_movement_are_not_stretched_by_it() -> None:
    """The first holds still but for one tick in the shared part; its spread says nothing there."""
    values = _seen((0, 60), (40, 100))
    values[0, 80:120] = values[0, 80]
    values[0, 100] += 1e-4
    found = to_common_moments(values)
    np.testing.assert_allclose(np.nanstd(found, axis=1), np.nanstd(values, axis=1))


def test_recordings_that_not_all_have_rated_keep_their_levels() -> None:
    """Each of three raters saw two of three recordings of different levels."""
    wave = 0.2 * np.sin(np.arange(100) / 8)
    seen = {"1": "ab", "2": "bc", "3": "ac"}
    levels = {"1": -0.6, "2": 0.0, "3": 0.6}
    group = gather(
        trace(wave + levels[id], rater=name, id=id) for id, names in seen.items() for name in names
    )
    for before, after in zip(group, standardize(group, "z"), strict=True):
        np.testing.assert_allclose(after.values, before.values, atol=1e-9)
        assert after.remarks == ()


def test_one_who_meets_nobody_stays_and_is_named() -> None:
    (rated,) = gather(
        [
            trace([0.1, 0.3, 0.1, 0.3, NAN, NAN, NAN]),
            trace([0.7, 0.1, 0.1, 0.7, NAN, NAN, NAN], rater="b"),
            trace([NAN, NAN, 0.5, 0.6, 0.9, 0.8, 0.7], rater="c"),
        ]
    )
    (found,) = standardize([rated], "z")
    np.testing.assert_allclose(found.values[:2, :4], [[0.1, 0.5, 0.1, 0.5], [0.5, 0.1, 0.1, 0.5]])
    np.testing.assert_allclose(found.values[2], rated.values[2])
    (remark,) = found.remarks
    assert remark.startswith("rater 'c' shares fewer than 3 steps with each other rater")
