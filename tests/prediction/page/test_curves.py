"""Paths of curves, computed by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from valence.prediction.page.curves import (
    Scale,
    area_path,
    band_path,
    clock,
    held_path,
    thinned,
    time_ticks,
    wave_path,
)

UNIT = Scale(0, 1)


def test_a_value_holds_for_a_step_and_nan_is_a_gap() -> None:
    values = np.array([np.nan, 1.0, 0.25, np.nan, 0.5], np.float32)
    assert held_path(values, UNIT) == "M1 0H2V750H3M4 500H5"
    assert held_path(np.full(3, np.nan), UNIT) == ""


def test_a_band_goes_round_its_values_and_stops_at_gaps() -> None:
    values = np.array([0.5, 0.4, np.nan, 0.5])
    assert band_path(values, 0.1, UNIT) == ("M0 400V400H1V500H2V700H1V600H0ZM3 400V400H4V600H3Z")


def test_an_area_stands_on_the_lower_edge() -> None:
    assert area_path(np.array([1.0, 0.5])) == "M0 1000V0H1V500H2V1000Z"
    assert area_path(np.array([np.nan, 0.5])) == "M0 1000V1000H1V500H2V1000Z"


def test_the_wave_keeps_the_extremes_of_what_it_joins() -> None:
    envelope = np.zeros((2, 3000), np.float32)
    envelope[0, 1501], envelope[1, 1500] = -1, 1
    path = wave_path(envelope, 300)
    places = [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) (\d+)", path)]
    assert len(places) == 2 * 1000
    # Both lie in the 501st of 1000 parts, whose middle is at 500.5 parts of 0.3 steps.
    assert (150.2, 0.0) in places
    assert (150.2, 1000.0) in places
    assert sum(y != 500 for _, y in places) == 2


def test_means_of_neighbours_leave_nan_out() -> None:
    values = np.array([1, 3, np.nan, 5, np.nan, np.nan, 7], np.float32)
    means, size = thinned(values, 4)
    assert size == 2
    assert means.dtype == np.float32
    np.testing.assert_array_equal(means, [2, 5, np.nan, 7])
    same, size = thinned(values, 7)
    assert size == 1
    assert same is values


def test_an_axis_holds_all_that_is_shown_and_a_flat_curve_looks_flat() -> None:
    scale = Scale.of(np.array([-0.3, np.nan]), np.array([0.7]))
    assert (scale.low, scale.high) == pytest.approx((-0.38, 0.78))
    assert [tick.text for tick in scale.ticks()] == ["−0.2", "0.0", "0.2", "0.4", "0.6"]
    assert [tick.place for tick in scale.ticks()] == pytest.approx(
        [100 * (0.78 - value) / 1.16 for value in (-0.2, 0, 0.2, 0.4, 0.6)], abs=0.01
    )
    flat = Scale.of(np.full(3, 0.5))
    assert flat.high - flat.low > 0.2
    assert (flat.high + flat.low) / 2 == pytest.approx(0.5)
    empty = Scale.of(np.full(3, np.nan))
    assert empty.low < 0 < empty.high


@pytest.mark.parametrize(
    ("seconds", "texts"),
    [
        (3.0, ["0:00", "0:01", "0:02"]),
        (300.0, ["0:00", "1:00", "2:00", "3:00", "4:00"]),
        (7200.0, ["0:00", "30:00", "1:00:00", "1:30:00"]),
    ],
)
def test_times_are_round_and_few(seconds: float, texts: list[str]) -> None:
    ticks = time_ticks(seconds)
    assert [tick.text for tick in ticks] == texts
    assert ticks[1].place == pytest.approx(
        100 / seconds * {3: 1, 300: 60, 7200: 1800}[seconds], abs=1e-3
    )


def test_a_clock_rounds_to_tenths() -> None:
    assert clock(59.96) == "1:00"
    assert clock(3599.96) == "1:00:00"
