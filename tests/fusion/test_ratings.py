"""Traces of raters on one grid: by hand, then for ragged and irregular ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.raters import trace
from valence.errors import AnnotationError, CorpusError
from valence.fusion.ratings import divided, gather, names_of, pooled, sampled
from valence.importing.grid import to_grid
from valence.importing.traces import Trace

NAN = np.nan


def test_a_step_holds_the_mean_of_the_samples_in_it() -> None:
    rated = trace([1.0, 2.0, 3.0, NAN, 5.0, 7.0], step=0.25)
    np.testing.assert_array_equal(sampled(rated, 0.5, 4), [1.5, 3.0, 6.0, NAN])


def test_a_step_inside_a_longer_sample_has_its_value() -> None:
    rated = trace([1.0, NAN, 3.0], step=1.5)
    np.testing.assert_array_equal(sampled(rated, 0.5, 10), [1, 1, 1, NAN, NAN, NAN, 3, 3, 3, NAN])


def test_irregular_samples_count_where_their_middle_lies() -> None:
    start = np.array([0.0, 0.3, 0.55, 0.6, 2.0])
    rated = replace(
        trace([1.0, 2.0, 3.0, 4.0, 5.0]),
        start=start,
        end=np.array([0.3, 0.55, 0.6, 0.95, 2.2]),
    )
    # The middles are 0.15, 0.425, 0.575, 0.775, 2.1; nothing covers the third and fourth step.
    np.testing.assert_array_equal(sampled(rated, 0.5, 5), [1.5, 3.5, NAN, NAN, 5.0])


def test_samples_before_the_recording_are_left_out() -> None:
    np.testing.assert_array_equal(sampled(trace([1.0, 2.0, 3.0], first=-0.5), 0.5, 2), [2.0, 3.0])


def test_a_scale_is_mapped_to_its_ends_and_raters_keep_their_own_length() -> None:
    (found,) = gather(
        [
            trace([1.0, 7.0, 4.0], rater="b10", scale=(1, 7)),
            trace([0.0, 50.0, 100.0, 25.0], rater="b9", scale=(0, 100)),
        ]
    )
    assert found.raters == ("b9", "b10")
    assert found.step == 0.5
    np.testing.assert_allclose(found.values, [[-1, 0, 1, -0.5], [-1, 1, 0, NAN]])
    np.testing.assert_allclose(found.coverage, [1.0, 0.75])
    assert [file.name for file in found.files] == ["1_b9.csv", "1_b10.csv"]


def test_the_grid_is_that_of_the_finest_rater_of_a_target() -> None:
    found = gather(
        [
            trace([0.0] * 4, rater="a", id="1", step=1.0),
            trace([0.0] * 8, rater="b", id="2", step=0.1),
            trace([0.0] * 8, rater="b", id="2", step=0.001, target="arousal"),
        ]
    )
    assert [(each.target, each.id, each.step) for each in found] == [
        ("arousal", "2", 0.02),
        ("valence", "1", 0.1),
        ("valence", "2", 0.1),
    ]
    assert found[1].values.shape == (1, 40)
    assert np.all(found[1].values == 0)


def test_a_delay_moves_all_raters_by_itself_and_not_by_whole_steps() -> None:
    (found,) = gather([trace([1.0, 0.0, -1.0, 0.5], step=0.25)], step=0.5, delay=0.25)
    np.testing.assert_array_equal(found.values, [[-0.5, 0.5]])


def test_values_outside_the_scale_are_refused_with_their_place() -> None:
    with pytest.raises(AnnotationError, match=r"1_a\.csv' holds 8 at 0\.5 s for rater 'a', and 2"):
        gather([trace([1.0, 8.0, 9.0], scale=(1, 7))])


def test_a_rater_rates_a_recording_once() -> None:
    with pytest.raises(CorpusError, match="both hold the valence that rater 'a' gave"):
        gather([trace([0.0]), trace([0.5])])


def test_a_ready_gold_standard_is_no_rater() -> None:
    with pytest.raises(CorpusError, match="valence import"):
        gather([trace([0.0], rater=None), trace([0.0])])


def test_joined_recordings_come_apart_as_they_were() -> None:
    group = gather(
        [
            trace([0.1, 0.2, 0.3], rater="a", id="1"),
            trace([0.4, NAN, 0.6], rater="b", id="1"),
            trace([0.7, 0.8], rater="c", id="2"),
            trace([0.9, 1.0], rater="a", id="2"),
        ]
    )
    assert names_of(group) == ["a", "b", "c"]
    joined = pooled(group)
    np.testing.assert_array_equal(
        joined,
        [[0.1, 0.2, 0.3, 0.9, 1.0], [0.4, NAN, 0.6, NAN, NAN], [NAN, NAN, NAN, 0.7, 0.8]],
    )
    for apart, whole in zip(divided(2 * joined, group), group, strict=True):
        assert apart.raters == whole.raters
        np.testing.assert_array_equal(apart.values, 2 * whole.values)


def _spans(*spans: tuple[float, float, float], rater: str = "a", id: str = "1") -> Trace:
    start, end, value = np.array(spans).T
    return replace(trace(value, rater=rater, id=id), start=start, end=end)


def test_one_value_a_file_covers_the_file_to_its_end() -> None:
    """The common step is a segment, and not the shortest file."""
    lengths = (3.0, 4.4, 7.4, 10.4, 5.9)
    found = gather(
        [
            _spans((0, length, 0.1 * number), rater=rater, id=str(number))
            for number, length in enumerate(lengths)
            for rater in "ab"
        ]
    )
    assert [each.step for each in found] == [0.5] * 5
    for number, (each, steps) in enumerate(zip(found, (6, 9, 15, 21, 12), strict=True)):
        np.testing.assert_array_equal(each.values, np.full((2, steps), 0.1 * number))
        np.testing.assert_array_equal(each.coverage, [1.0, 1.0])


@pytest.mark.parametrize("step", [0.25, 0.5, 1.0, 3.0, 7.0])
def test_the_last_step_counts_as_far_as_it_exists(step: float) -> None:
    (found,) = gather([_spans((0, 4.4, 0.2)), _spans((0, 4.3, 0.6), rater="b")], step=step)
    np.testing.assert_array_equal(found.coverage, [1.0, 1.0] if step != 0.25 else [1.0, 17 / 18])


def test_spans_within_a_span_leave_the_rest_of_it() -> None:
    spans = _spans((0, 20, 0.1), (2, 3, 0.5), (4, 5, -0.5))
    (found,) = gather([spans])
    expected = np.full(40, 0.1)
    expected[4:6], expected[8:10] = 0.3, -0.2
    np.testing.assert_allclose(found.values[0], expected)
    np.testing.assert_array_equal(found.values[0, 10:], np.full(30, 0.1))


def test_the_grid_of_segments_is_that_of_an_import() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        start = np.sort(np.round(rng.uniform(0, 20, 30), 2))
        length = np.round(rng.uniform(0.05, 6, 30), 2)
        value = np.where(rng.random(30) < 0.2, NAN, rng.uniform(-1, 1, 30))
        made = replace(trace(value), start=start, end=start + length)
        steps = int(np.ceil(made.end.max() / 0.5))
        np.testing.assert_allclose(sampled(made, 0.5, steps), to_grid(made, steps), atol=1e-6)
