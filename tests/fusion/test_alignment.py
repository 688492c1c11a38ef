"""Delays of raters: by hand, and for simulated raters whose delays are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.raters import CONTRARY, RATERS, STEP, simulated, trace
from valence.fusion.alignment import estimate_delays, lagged_correlation, shift
from valence.fusion.ratings import gather

NAN = np.nan


def test_a_correlation_at_a_lag_is_that_of_the_pairs_that_meet() -> None:
    curve = np.array([0.3, -1.2, NAN, 0.8, 1.1, -0.4, 0.2, -0.9])
    reference = np.array([-1.1, 0.4, 0.7, NAN, 1.3, -0.2, 0.5, -0.6])
    found = lagged_correlation([curve], [reference], 2)
    for lag, correlation in zip(range(-2, 3), found, strict=True):
        pairs = [
            (curve[t + lag], reference[t])
            for t in range(8)
            if 0 <= t + lag < 8 and np.isfinite(curve[t + lag]) and np.isfinite(reference[t])
        ]
        assert correlation == pytest.approx(np.corrcoef(np.array(pairs).T)[0, 1], abs=1e-12)


def test_deviations_within_recordings_are_added() -> None:
    rng = np.random.default_rng(0)
    curves, references = ([rng.standard_normal(n) for n in (30, 9)] for _ in range(2))
    curves[1] += 5
    x = np.concatenate([each[2:] - each[2:].mean() for each in curves])
    y = np.concatenate([each[:-2] - each[:-2].mean() for each in references])
    found = lagged_correlation(curves, references, 3)[3 + 2]
    assert found == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)


def test_too_little_overlap_and_a_constant_have_no_correlation() -> None:
    rng = np.random.default_rng(1)
    curve = rng.standard_normal(10)
    short = np.full(10, NAN)
    short[:4] = rng.standard_normal(4)
    assert np.isnan(lagged_correlation([curve], [short], 2)).all()
    assert np.isnan(lagged_correlation([curve], [np.zeros(10)], 2)).all()
    # A lag beyond the recording has no pairs at all.
    assert np.isnan(lagged_correlation([curve], [curve], 12)[[0, -1]]).all()


def test_a_shift_brings_a_late_rater_forward_and_leaves_a_gap_at_the_end() -> None:
    (rated,) = gather([trace([1.0, 0.0, -1.0, 0.5]), trace([0.1, 0.2, 0.3, 0.4], rater="b")])
    moved = shift(rated, {"a": 2, "b": -1})
    np.testing.assert_array_equal(moved.values, [[-1, 0.5, NAN, NAN], [NAN, 0.1, 0.2, 0.3]])
    assert np.isnan(shift(rated, {"a": 4}).values[0]).all()


@pytest.mark.parametrize("seed", range(4))
def test_known_delays_are_found_within_a_step(seed: int) -> None:
    panel = simulated(seed)
    (rated,) = gather(panel.traces)
    found = estimate_delays([rated], limit=6, origin="fastest")
    steps = np.array([found[str(rater)].steps for rater in range(RATERS)])
    assert np.abs(steps - panel.delays).max() <= 1
    signs = [found[str(rater)].correlation > 0 for rater in range(RATERS)]
    assert [rater for rater, positive in enumerate(signs) if not positive] == [CONTRARY]
    assert not any(delay.at_limit for delay in found.values())


def test_a_rater_has_one_delay_in_all_recordings_of_a_group() -> None:
    """Recordings of 40 s alone say little; together they show the delays."""
    panels = [simulated(3, id=str(number), steps=1200) for number in range(1)]
    (whole,) = gather(panels[0].traces)
    edges = range(0, 1200, 160)
    parts = [
        shift(whole, {}).__class__(
            str(first), "valence", STEP, whole.raters, whole.values[:, first : first + 160]
        )
        for first in edges
    ]
    found = estimate_delays(parts, limit=6, origin="fastest")
    steps = np.array([found[str(rater)].steps for rater in range(RATERS)])
    assert np.abs(steps - panels[0].delays).max() <= 1


def test_delays_counted_from_the_mean_add_up_to_about_nothing() -> None:
    (rated,) = gather(simulated(1).traces)
    fastest = estimate_delays([rated], limit=6, origin="fastest")
    mean = estimate_delays([rated], limit=6, origin="mean")
    apart = {fastest[name].steps - mean[name].steps for name in fastest}
    assert len(apart) == 1
    positive = [delay.steps for delay in mean.values() if delay.correlation > 0]
    assert abs(np.mean(positive)) <= 0.5


def test_a_rater_later_than_the_limit_is_said_to_be_at_it() -> None:
    t = np.arange(400) * 0.25
    curves = [np.sin((t - late) / 9) + 0.3 * np.sin((t - late) / 2) for late in (0, 0, 0, 5.0)]
    (rated,) = gather([trace(0.7 * c, rater=str(n), step=0.25) for n, c in enumerate(curves)])
    found = estimate_delays([rated], limit=2, origin="fastest")
    # The late one is moved as far as it may be, and does not draw the others with it.
    assert [found[str(n)].steps for n in range(4)] == [0, 0, 0, 8]
    assert found["3"].at_limit
    assert estimate_delays([rated], limit=6, origin="fastest")["3"].steps == 20


def test_a_rater_who_never_moves_has_no_delay() -> None:
    t = np.arange(200) * 0.25
    (rated,) = gather(
        [
            trace(0.5 * np.sin(t / 3), rater="a", step=0.25),
            trace(0.5 * np.sin((t - 1) / 3), rater="b", step=0.25),
            trace(np.full(200, 0.3), rater="flat", step=0.25),
        ]
    )
    found = estimate_delays([rated], limit=3, origin="fastest")
    assert (found["a"].steps, found["b"].steps, found["flat"].steps) == (0, 4, 0)
    assert np.isnan(found["flat"].correlation)


def test_a_poor_rater_is_no_measure_of_the_fastest() -> None:
    """Noise fits best at some lag; delays are not counted from there."""
    panel = simulated(2)
    noise = np.random.default_rng(5).uniform(-400, 400, 1200)
    made = [*panel.traces, trace(noise, rater="noise", step=STEP, scale=(-500, 500))]
    (rated,) = gather(made)
    found = estimate_delays([rated], limit=6, origin="fastest")
    steps = np.array([found[str(rater)].steps for rater in range(RATERS)])
    assert np.abs(steps - panel.delays).max() <= 1


def test_recordings_of_one_value_each_show_no_delay() -> None:
    values = np.repeat([0.1, 0.5, -0.4, 0.8, -0.2], (3, 8, 5, 4, 9))
    group = []
    for number, (first, end) in enumerate(((0, 3), (3, 11), (11, 16), (16, 20), (20, 29))):
        part = values[first:end]
        group += gather(
            [trace(part, id=str(number)), trace(0.7 * part + 0.1, rater="b", id=str(number))]
        )
    found = estimate_delays(group, limit=3, origin="fastest")
    assert {delay.steps for delay in found.values()} == {0}
    assert all(np.isnan(delay.correlation) for delay in found.values())


def test_one_who_rated_the_first_half_is_not_turned_upside_down() -> None:
    """A short course fits another part of the curve upside down about as well as its own part."""
    t = np.arange(24) * 0.25
    curve = np.round(-0.6 * np.sin(0.7 * (t + 0.125)), 5)
    curve[3] = NAN
    whole = [trace(curve, rater=name, step=0.25) for name in ("ann", "cy")]
    (rated,) = gather([*whole, trace(curve[:12], rater="bob", step=0.25)])
    found = estimate_delays([rated], limit=6, origin="fastest")
    assert found["bob"].correlation > 0.95
    assert max(abs(delay.steps) for delay in found.values()) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_one_who_rates_the_wrong_way_round_for_a_minute_is_still_found(seed: int) -> None:
    panel = simulated(seed)
    against = panel.traces[CONTRARY]
    stopped = np.where(np.arange(len(against.value)) < 60 / STEP, against.value, NAN)
    others = [each for place, each in enumerate(panel.traces) if place != CONTRARY]
    (rated,) = gather([*others, replace(against, value=stopped)])
    found = estimate_delays([rated], limit=6, origin="fastest")
    assert [name for name in found if found[name].correlation < 0] == [str(CONTRARY)]
