"""High and low passages of a timeline, computed by hand first."""

from __future__ import annotations

import numpy as np
import pytest

from valence.prediction.passages import SHARE, Passage, find_passages


def test_passages_by_hand() -> None:
    # Twenty steps of 0.5 s: the upper fifth are the fours, the lower fifth the minus fours.
    values = np.array(
        [0, 4, 4, 4, 4, 0, 1, 1, 1, 1, 0, 0, -4, -4, -4, -4, 0, 0, -1, -1], np.float32
    )
    assert find_passages(values, step=0.5) == (
        Passage("high", 1, 5, 0.5, 2.5, 4.0),
        Passage("low", 12, 16, 6.0, 8.0, -4.0),
    )


def test_a_gap_of_a_second_belongs_to_its_passage_and_a_longer_one_ends_it() -> None:
    # Eight of forty steps are the upper fifth.
    high = [5.0] * 4
    short = np.array([*high, 1, 1, *high, *np.zeros(30)])
    assert [(each.first, each.stop) for each in find_passages(short, step=0.5)] == [(0, 10)]
    long = np.array([*high, 1, 1, 1, *high, *np.zeros(29)])
    assert [(each.first, each.stop) for each in find_passages(long, step=0.5)] == [(0, 4), (7, 11)]


def test_a_low_step_or_one_without_a_value_ends_a_passage() -> None:
    for between in (-1.0, np.nan):
        values = np.array([*[5.0] * 4, between, *[5.0] * 4, *np.zeros(40)])
        assert [(p.first, p.stop) for p in find_passages(values, step=0.5)] == [(0, 4), (5, 9)]


def test_short_runs_are_left_out() -> None:
    values = np.array([*[5.0] * 3, *np.zeros(40)])
    assert find_passages(values, step=0.5) == ()
    assert [each.end for each in find_passages(values, step=1.0)] == [3.0]


@pytest.mark.parametrize("values", [[0.25] * 12, [np.nan] * 12, [np.nan, 1.0], []])
def test_without_differences_there_are_no_passages(values: list[float]) -> None:
    assert find_passages(np.array(values, np.float32), step=0.5) == ()


def test_the_most_extreme_are_kept_and_stand_in_order_of_time() -> None:
    peaks = [np.repeat([peak, 0.0], [4, 12]) for peak in (3.0, 5.0, 4.0)]
    values = np.concatenate(peaks)
    assert [each.mean for each in find_passages(values, step=0.5)] == [3.0, 5.0, 4.0]
    assert [each.mean for each in find_passages(values, step=0.5, most=2)] == [5.0, 4.0]


def test_passages_of_random_curves_keep_the_rule() -> None:
    rng = np.random.default_rng(3)
    for size in (5, 37, 400):
        values = np.convolve(rng.standard_normal(size + 8), np.ones(9) / 9, "valid")
        values[rng.random(size) < 0.1] = np.nan
        found = find_passages(values.astype(np.float32), step=0.5)
        low, high = np.nanquantile(values, [SHARE, 1 - SHARE])
        taken = np.zeros(size, int)
        for each in found:
            inside = values[each.first : each.stop]
            taken[each.first : each.stop] += 1
            assert np.isfinite(inside).all()
            assert each.stop - each.first >= 4
            assert (inside[[0, -1]] >= high - 1e-6).all() or (inside[[0, -1]] <= low + 1e-6).all()
            assert each.mean == pytest.approx(inside.mean(), rel=1e-5)
        assert taken.max(initial=0) <= 1
        assert len(found) == len(set(found))
    assert len(found) > 2


def test_steps_without_speech_count_for_nothing_but_a_gap() -> None:
    # The lowest values lie where nobody speaks; without them the fours are the upper fifth.
    values = np.array([*[-9.0] * 6, *[4.0] * 2, -9.0, *[4.0] * 2, *np.zeros(8), *[-1.0] * 4])
    silent = values == -9
    expected = (Passage("high", 6, 11, 3.0, 5.5, 4.0), Passage("low", 19, 23, 9.5, 11.5, -1.0))
    assert find_passages(values, step=0.5, silent=silent) == expected
    masked = np.where(silent, np.nan, values)
    assert find_passages(masked, step=0.5, silent=silent) == expected
    assert find_passages(values, step=0.5)[0].first == 0
    assert find_passages(values, step=0.5, silent=np.ones(len(values), bool)) == ()
