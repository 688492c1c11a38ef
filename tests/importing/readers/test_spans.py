"""Spans of samples, from times as files give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from valence.errors import AnnotationError
from valence.importing.declaration import LabelsForm
from valence.importing.readers.columns import read_named_table
from valence.importing.readers.spans import read_spans
from valence.storage.location import Location


def _form(**given: object) -> LabelsForm:
    values = {"files": ["{id}.csv"], "valence": "v", "time": "t", **given}
    return LabelsForm.model_validate(values)


def _spans(
    tmp_path: Path, times: list[object], **given: object
) -> tuple[list[int], list[float], list[float], tuple[str, ...]]:
    form = _form(**given)
    file = tmp_path / "1.csv"
    file.write_text("t,v\n" + "".join(f"{time},0\n" for time in times))
    table = read_named_table(Location.parse(file), form)
    order, (start, end), remarks = read_spans(table, form, table.rows)
    return order.tolist(), start.round(6).tolist(), end.round(6).tolist(), remarks


@pytest.mark.parametrize(
    ("stamps", "start", "end"),
    [
        ("start", [1, 1.5, 2], [1.5, 2, 2.5]),
        ("end", [0.5, 1, 1.5], [1, 1.5, 2]),
        ("middle", [0.75, 1.25, 1.75], [1.25, 1.75, 2.25]),
    ],
)
def test_regular_times_name_a_point_of_their_span(
    stamps: str, start: list[float], end: list[float], tmp_path: Path
) -> None:
    _, first, last, _ = _spans(tmp_path, [1, 1.5, 2], stamps=stamps)
    assert (first, last) == (start, end)


@pytest.mark.parametrize(("unit", "count"), [("s", 1.0), ("us", 1e6), ("ns", 1e9)])
def test_other_units(unit: str, count: float, tmp_path: Path) -> None:
    _, start, end, _ = _spans(tmp_path, [0.5 * count, 1.0 * count], unit=unit)
    assert (start, end) == ([0.5, 1], [1, 1.5])


def test_milliseconds_and_delay(tmp_path: Path) -> None:
    _, start, end, _ = _spans(tmp_path, [1000, 1500, 2000], unit="ms", delay=2.0)
    assert (start, end) == ([-1, -0.5, 0], [-0.5, 0, 0.5])


def test_missed_bins_leave_a_gap(tmp_path: Path) -> None:
    _, start, end, _ = _spans(tmp_path, [0, 0.25, 1, 1.25], step=[0.25, 0.5])
    assert (start, end) == ([0, 0.25, 1, 1.25], [0.25, 0.5, 1.25, 1.5])


def test_irregular_samples_last_to_the_next_one_but_not_through_a_pause(tmp_path: Path) -> None:
    # Steps 0.1, 0.2, 0.1, 3.0, 0.3: the median is 0.2, and no sample lasts longer than 0.4 s.
    _, start, end, _ = _spans(tmp_path, [0, 0.1, 0.3, 0.4, 3.4, 3.7])
    assert start == [0, 0.1, 0.3, 0.4, 3.4, 3.7]
    assert end == [0.1, 0.3, 0.4, 0.8, 3.7, 3.9]


@pytest.mark.parametrize(
    ("stamps", "start", "end"),
    [
        # Steps 2, 1, 3, 1: the usual one is 1.5, and no sample lasts longer than 3 s.
        ("start", [1, 3, 4, 7, 8], [3, 4, 7, 8, 9.5]),
        # The first bin does not begin before the recording: 1 - 1.5 is less than 0.
        ("end", [0, 1, 3, 4, 7], [1, 3, 4, 7, 8]),
        ("middle", [0.25, 2, 3.5, 5.5, 7.5], [2, 3.5, 5.5, 7.5, 8.75]),
    ],
)
def test_irregular_times_name_a_point_of_their_span(
    stamps: str, start: list[float], end: list[float], tmp_path: Path
) -> None:
    _, first, last, _ = _spans(tmp_path, [1, 3, 4, 7, 8], stamps=stamps)
    assert (first, last) == (start, end)
    _, first, last, _ = _spans(tmp_path, [1, 3, 4, 7, 8], stamps=stamps, delay=0.25)
    assert (first, last) == ([each - 0.25 for each in start], [each - 0.25 for each in end])


@pytest.mark.parametrize(
    ("stamps", "start", "end"), [("end", 3.0, 3.4), ("middle", 3.2, 3.55), ("start", 3.4, 3.7)]
)
def test_irregular_ends_do_not_last_through_a_pause(
    stamps: str, start: float, end: float, tmp_path: Path
) -> None:
    # The median of the steps is 0.2: the pause of 3 s before 3.4 s counts as 0.4 s.
    _, first, last, _ = _spans(tmp_path, [0, 0.1, 0.3, 0.4, 3.4, 3.7], stamps=stamps)
    assert (first[4], last[4]) == pytest.approx((start, end))


@pytest.mark.parametrize("early", [3.92, 3.93])
def test_an_early_sample_makes_times_irregular_unless_a_step_is_declared(
    early: float, tmp_path: Path
) -> None:
    times = [round(0.1 * row, 1) for row in range(40)] + [early] + [4.0, 4.1]
    _, start, end, _ = _spans(tmp_path, times)
    assert start[39:] == [3.9, early, 4.0, 4.1]
    assert end[39:] == [early, 4.0, 4.1, 4.2]
    with pytest.raises(AnnotationError, match=rf"line 42: the time is {early} s, after 3.9 s"):
        _spans(tmp_path, times, step=[0.1])


def test_a_first_bin_that_ends_soon_begins_with_the_recording(tmp_path: Path) -> None:
    _, start, end, _ = _spans(tmp_path, [0.1, 0.6, 1.1], stamps="end")
    assert (start, end) == ([0, 0.1, 0.6], [0.1, 0.6, 1.1])


def test_irregular_times_may_stand_twice(tmp_path: Path) -> None:
    # CARMA's own example begins with 0, 0, 0.
    _, start, end, remarks = _spans(tmp_path, [0, 0, 0, 0.151, 0.2545, 0.405])
    assert start[:3] == [0, 0, 0]
    assert end[:2] == [0, 0]
    expected = "'1.csv' has 2 times that stand twice (0 s in line 3 first); all values count"
    assert remarks == (expected,)
    assert _spans(tmp_path, [0, 0.151, 0.2545, 0.405])[3] == ()


def test_times_before_the_begin_are_remarked_on(tmp_path: Path) -> None:
    expected = ("'1.csv' has 2 times before the begin (-1 s in line 2 first), where no segment is",)
    assert _spans(tmp_path, [-1, -0.5, 0, 0.5])[3] == expected
    assert _spans(tmp_path, [-1, -0.5, 0, 0.5], step=[0.5])[3] == expected
    # A delay moves samples before the begin as it should.
    assert _spans(tmp_path, [0, 0.5, 1], delay=1.0)[3] == ()
    file = tmp_path / "2.csv"
    file.write_text("a,b,v\n0,1,0\n-3,-2,0\n")
    form = LabelsForm.model_validate(
        {"files": ["{id}.csv"], "valence": "v", "start": "a", "end": "b"}
    )
    table = read_named_table(Location.parse(file), form)
    _, _, remarks = read_spans(table, form, table.rows)
    (remark,) = remarks
    assert remark.startswith("'2.csv' has 1 time before the begin (-3 s in line 3 first)")


def test_rows_out_of_order_are_sorted_with_a_remark(tmp_path: Path) -> None:
    order, start, _, remarks = _spans(tmp_path, [1, 0, 0.5])
    assert order == [1, 2, 0]
    assert start == [0, 0.5, 1]
    assert "not in order of time" in remarks[0]


@pytest.mark.parametrize(
    ("times", "given", "words"),
    [
        ([*range(12), 11], {}, "line 14: the time is 11 s, after 11 s in line 13"),
        ([0, 0.04, 0.09, 0.12], {"step": [0.04]}, None),
        ([0, 0.04, 0.10, 0.12], {"step": [0.04]}, "line 4: the time is 0.1 s"),
        ([0, 40, 80], {"step": [0.04]}, "rows 40 s apart.*seem to count ms"),
        ([0, 0.04, 0.08], {"step": [0.04], "unit": "ms"}, "seem to count s: .*labels.unit=s"),
        ([0, 0.1, 0.2], {"step": [0.04, 0.25]}, r"Expected 0.04 or 0.25 s"),
        ([0, 40e3, 80e3], {"step": [0.04]}, "rows 40000 s apart.*seem to count us"),
        ([0, 40, 80], {"step": [0.04], "unit": "us"}, "seem to count ms: .*labels.unit=ms"),
        ([0, "1e999"], {}, "line 3: the t is '1e999', which is too large"),
        ([0, "", 1], {}, "line 3: ',0' has no t"),
        ([0, "x", 1], {}, "line 3: the t is 'x'"),
        (["0:01", "0:02"], {}, "the t is '0:01'"),
        ([1.5, 2.5], {"decimal": "comma"}, "line 2: the t is '1.5'.*decimal comma"),
    ],
)
def test_times_that_cannot_be_are_refused_with_their_line(
    times: list[object], given: dict[str, object], words: str | None, tmp_path: Path
) -> None:
    if words is None:
        assert len(_spans(tmp_path, times, **given)[1]) == 4
        return
    with pytest.raises(AnnotationError, match=words):
        _spans(tmp_path, times, **given)


def test_without_times_rows_are_a_step_apart(tmp_path: Path) -> None:
    _, start, end, _ = _spans(tmp_path, [7, 7, 7], time=None, step=[0.4])
    assert (start, end) == ([0, 0.4, 0.8], [0.4, 0.8, 1.2])
    with pytest.raises(AnnotationError, match="names 2 steps"):
        _spans(tmp_path, [7, 7], time=None, step=[0.4, 0.5])


def test_stated_spans(tmp_path: Path) -> None:
    form = _form(time=None, start="a", end="b", unit="ms")
    file = tmp_path / "1.csv"
    file.write_text("a,b,v\n2000,3000,1\n0,500,2\n4000,,3\n")
    table = read_named_table(Location.parse(file), form)
    order, (start, end), _ = read_spans(table, form, table.rows)
    assert order.tolist() == [1, 0, 2]
    assert start.tolist() == [0, 2, 4]
    assert end.tolist() == [0.5, 3, np.inf]
    file.write_text("a,b,v\n2000,3000,1\n500,500,2\n")
    table = read_named_table(Location.parse(file), form)
    with pytest.raises(AnnotationError, match=r"line 3: the span ends at 0\.5 s and begins at"):
        read_spans(table, form, table.rows)
