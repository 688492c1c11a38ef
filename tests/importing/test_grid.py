"""Labels on the segment grid, by hand and against pandas."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from valence.errors import AnnotationError
from valence.importing.declaration import Unit
from valence.importing.grid import end_of, require_units, to_grid
from valence.importing.traces import Trace
from valence.storage.location import Location


def _trace(
    start: list[float] | np.ndarray,
    step: float | list[float],
    value: list[float] | np.ndarray,
    scale: tuple[float, float] = (-1, 1),
) -> Trace:
    begin = np.asarray(start, np.float64)
    file = Location.parse("/corpus/valence/1.csv")
    return Trace("1", "valence", None, begin, begin + step, np.asarray(value, float), scale, file)


def test_short_samples_belong_to_the_segment_of_their_middle() -> None:
    # Middles 0.2, 0.6, 1.0 and 1.4; the scale of 0 to 10 maps 0, 10, 5, 7.5 to -1, 1, 0, 0.5.
    trace = _trace([0.0, 0.4, 0.8, 1.2], 0.4, [0, 10, 5, 7.5], (0, 10))
    np.testing.assert_allclose(to_grid(trace, 4), [-1, 1, 0.25, math.nan])


def test_a_middle_on_the_border_belongs_to_the_later_segment() -> None:
    # 0.48 + 0.02 is 0.5 up to rounding.
    trace = _trace([0.44, 0.48], 0.04, [-1, 1])
    np.testing.assert_array_equal(to_grid(trace, 2), [-1, 1])


def test_long_samples_label_the_segments_whose_middle_they_cover() -> None:
    # From 0.3 to 1.3 s: the middles 0.75 and 1.25 are inside, 0.25 is not.
    trace = _trace([0.3], 1.0, [0.5])
    np.testing.assert_allclose(to_grid(trace, 4), [math.nan, 0.5, 0.5, math.nan])


def test_two_spans_over_one_segment_give_their_mean() -> None:
    trace = _trace([0.0, 0.5], 1.0, [0.2, 0.6])
    np.testing.assert_allclose(to_grid(trace, 3), [0.2, 0.4, 0.6], atol=1e-7)


def test_missing_values_and_times_outside_take_no_part() -> None:
    trace = _trace([-0.5, 0.0, 0.25, 0.5, 5.0], 0.25, [9, 0.4, math.nan, math.nan, 9], (-9, 9))
    np.testing.assert_allclose(to_grid(trace, 2), [0.4 / 9, math.nan], atol=1e-7)


@pytest.mark.filterwarnings("error")
def test_times_far_outside_take_no_part() -> None:
    trace = _trace([-1e300, 0.0, 1e300], 0.25, [1, 0.5, 1])
    np.testing.assert_array_equal(to_grid(trace, 2), [0.5, math.nan])


def test_a_value_of_a_whole_recording_labels_all_of_it() -> None:
    np.testing.assert_array_equal(to_grid(_trace([0.0], math.inf, [1.0]), 3), [1, 1, 1])


def test_no_segment_and_no_sample_give_nothing() -> None:
    assert to_grid(_trace([0.0], 0.5, [1.0]), 0).shape == (0,)
    assert np.isnan(to_grid(_trace([], 0.5, []), 2)).all()


@pytest.mark.parametrize("seed", range(3))
def test_against_pandas_on_irregular_samples(seed: int) -> None:
    generator = np.random.default_rng(seed)
    start = np.cumsum(generator.uniform(0.001, 0.3, 300))
    value = np.where(generator.random(300) < 0.2, np.nan, generator.uniform(1, 5, 300))
    found = to_grid(_trace(start, 0.01, value, (1, 5)), 80)
    segment = ((start + 0.005) // 0.5).astype(int)
    expected = pd.Series(2 * (value - 1) / 4 - 1).groupby(segment).mean().reindex(range(80))
    np.testing.assert_allclose(found, expected.to_numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("ends", "unit", "meant"),
    [
        (20e3, "s", "ms"),
        (20e6, "s", "us"),
        (20e9, "s", "ns"),
        (20e3, "ms", "us"),
        (20e3, "us", "ns"),
        (20e-3, "ms", "s"),
        (20e-9, "ns", "s"),
    ],
)
def test_labels_a_thousand_times_too_long_or_short_are_refused(
    ends: float, unit: Unit, meant: str
) -> None:
    trace = replace(_trace([0.0, ends / 2], ends / 2, [0, 1]), unit=unit)
    with pytest.raises(AnnotationError, match=f"seem to count {meant}: declare it"):
        require_units(trace, 20.0)


@pytest.mark.parametrize("ends", [1e15, 1e6, 0.02])
def test_times_that_no_unit_explains_are_refused(ends: float) -> None:
    # The sample that lasts to the end of its file, whatever it is, does not hide the others.
    trace = _trace([0.0, ends - 0.01], np.array([0.01, 0.01]), [0, 1])
    for each in (
        trace,
        replace(
            trace,
            start=np.append(trace.start, ends),
            end=np.append(trace.end, math.inf),
            value=np.array([0.0, 1, 1]),
        ),
    ):
        with pytest.raises(AnnotationError, match=r"Expected about the same; correct the times"):
            require_units(each, 20.0)


@pytest.mark.parametrize("ends", [1.0, 20.0, 60.0])
def test_other_lengths_are_left_to_remarks(ends: float) -> None:
    trace = _trace([0.0, ends / 2], ends / 2, [0, 1])
    require_units(trace, 20.0)
    assert end_of(trace) == ends
    require_units(_trace([0.0], math.inf, [1.0]), 20.0)
