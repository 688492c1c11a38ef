from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valence.annotation import Annotation, join_annotation, read_annotation
from valence.errors import AnnotationError
from valence.storage import Location


def _read(folder: Path, text: str | bytes, *, step_ms: int = 500) -> Annotation:
    file = folder / "valence" / "7.csv"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_annotation(Location.parse(file), step_ms=step_ms)


@pytest.mark.parametrize(
    "text",
    [
        "timestamp,value,segment_id\n0,0.25,1\n500,-0.5,1\n1000,0.125,1\n",
        "subject_id,value,timestamp\n7,0.25,0\n7,-0.5,500\n7,0.125,1000\n",
        " Value , Timestamp\r\n0.25,0\r\n-0.5,500\r\n0.125,1000.0\r\n\r\n",
        "\ufefftimestamp,value\n0,2.5e-1\n500,-.5\n\n1000,0.125",
    ],
    ids=["MuSe", "subject_id, another order", "spaces and CRLF", "byte order mark, blank line"],
)
def test_columns_are_found_by_name_in_any_order(tmp_path: Path, text: str) -> None:
    annotation = _read(tmp_path, text)
    assert annotation.timestamp.tolist() == [0, 500, 1000]
    assert annotation.value.tolist() == [0.25, -0.5, 0.125]
    assert annotation.timestamp.dtype == np.int64
    assert annotation.value.dtype == np.float32
    assert annotation.remarks == ()
    assert annotation.labelled == 3


def test_the_first_timestamp_may_be_the_end_of_the_segment(tmp_path: Path) -> None:
    annotation = _read(tmp_path, "timestamp,value\n500,0.1\n1000,0.2\n")
    assert annotation.timestamp.tolist() == [500, 1000]


@pytest.mark.parametrize("missing", ["", "nan", "NaN", "NA", " "])
def test_empty_and_nan_values_are_unknown(tmp_path: Path, missing: str) -> None:
    annotation = _read(tmp_path, f"timestamp,value\n0,0.5\n500,{missing}\n1000,1\n")
    assert np.isnan(annotation.value).tolist() == [False, True, False]
    assert annotation.labelled == 2


def test_a_row_that_ends_before_the_value_has_none(tmp_path: Path) -> None:
    assert np.isnan(_read(tmp_path, "timestamp,value\n0\n500,1\n").value).tolist() == [True, False]


def test_a_header_alone_is_an_annotation_without_labels(tmp_path: Path) -> None:
    annotation = _read(tmp_path, "timestamp,value,segment_id\n")
    assert len(annotation.value) == 0
    assert annotation.remarks == ("'valence/7.csv' has a header and no rows",)


def test_unsorted_rows_are_sorted_and_remarked(tmp_path: Path) -> None:
    annotation = _read(tmp_path, "timestamp,value\n1000,0.3\n0,0.1\n500,0.2\n")
    assert annotation.timestamp.tolist() == [0, 500, 1000]
    np.testing.assert_array_equal(annotation.value, np.float32([0.1, 0.2, 0.3]))
    assert annotation.remarks == ("'valence/7.csv' was not in order of time and has been sorted",)


def test_values_beyond_the_scale_are_remarked(tmp_path: Path) -> None:
    annotation = _read(tmp_path, "timestamp,value\n0,-1\n500,1.5\n")
    assert annotation.remarks == ("'valence/7.csv' has values from -1 to 1.5, outside [-1, 1]",)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", r"is empty"),
        ("timestamp,valence\n0,1\n", r"columns timestamp, valence and none is called 'value'"),
        ("0,0.5,1\n500,0.6,1\n", r"none is called 'timestamp'"),
        ("timestamp,value\n0,0.5\n500,happy\n", r"line 3: the value is 'happy'"),
        ("timestamp,value\n0,0.5\n500,inf\n", r"line 3: the value is 'inf'"),
        ("timestamp,value\n0,0.5\nlater,0.5\n", r"line 3: the timestamp is 'later'"),
        ("timestamp,value\n0,0.5\n500.5,0.5\n", r"line 3: the timestamp is '500.5'"),
        ("timestamp,value\n0,0.5\n1e30,0.5\n", r"line 3: the timestamp is '1e30'"),
        ("timestamp,value\n0,0.5\ninf,0.5\n", r"line 3: the timestamp is 'inf'"),
        ("timestamp,value\n0,0.5\nnan,0.5\n", r"line 3: the timestamp is 'nan'"),
        ("timestamp,value\n0,0.5\n,0.5\n", r"line 3: the timestamp is ''"),
        ("timestamp,value\n0,1\n500,1\n\n500,1\n", r"line 5: the timestamp 500 ms was.* line 3"),
        ("timestamp,value\n500,1\n0,1\n500,1\n", r"line 4: the timestamp 500 ms was.* line 2"),
        ("timestamp,value\n0,1\n500,1\n1500,1\n", r"line 4: the timestamp is 1500 ms, after 500"),
        ("timestamp,value\n0,1\n250,1\n500,1\n", r"line 3: .*every 500 ms \(2 in all "),
        ("timestamp,value\n1000,1\n1500,1\n", r"line 2: the first timestamp is 1000 ms"),
        ("timestamp,value\n-500,1\n0,1\n", r"line 2: the first timestamp is -500 ms"),
        ('timestamp,value\n0,"0.5\n', r"not a CSV"),
        (b"timestamp,value\n0,\xff\xfe\n", r"not text in UTF-8"),
        (b"RIFF\x00\x00\x00\x00WAVE", r"columns"),
    ],
)
def test_what_cannot_be_joined_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, found: str
) -> None:
    with pytest.raises(AnnotationError, match=found) as raised:
        _read(tmp_path, text)
    assert str(tmp_path / "valence" / "7.csv") in str(raised.value)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"absent\.csv' cannot be read"):
        read_annotation(Location.parse(tmp_path / "absent.csv"))


def test_the_step_follows_the_length_of_a_segment(tmp_path: Path) -> None:
    text = "timestamp,value\n250,1\n500,1\n"
    assert _read(tmp_path, text, step_ms=250).step_ms == 250
    with pytest.raises(AnnotationError, match="Expected 0 or 500"):
        _read(tmp_path, text)


def _annotation(n: int) -> Annotation:
    return Annotation(np.arange(n) * 500, np.linspace(-1, 1, n, dtype=np.float32), ("odd",))


def test_row_i_labels_segment_i() -> None:
    labels, remarks = join_annotation(_annotation(5), 5)
    assert labels.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert labels.dtype == np.float32
    assert remarks == ("odd",)


@pytest.mark.parametrize(
    ("rows", "segments", "remark"),
    [
        (5, 7, None),
        (7, 5, None),
        (5, 8, "the labels are 1.5 s shorter than the audio; the first 2.5 s are joined"),
        (8, 5, "the labels are 1.5 s longer than the audio; the first 2.5 s are joined"),
        (0, 4, "the labels are 2 s shorter than the audio; the first 0 s are joined"),
    ],
)
def test_more_than_a_second_of_difference_is_remarked(
    rows: int, segments: int, remark: str | None
) -> None:
    labels, remarks = join_annotation(_annotation(rows), segments)
    assert remarks == (("odd",) if remark is None else ("odd", remark))
    assert len(labels) == segments
    assert int(np.isfinite(labels).sum()) == min(rows, segments)


@given(
    values=st.lists(st.none() | st.floats(-1, 1, width=32), min_size=1, max_size=30),
    shuffle=st.randoms(use_true_random=False),
    first=st.sampled_from([0, 500]),
)
def test_any_order_of_rows_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[float | None],
    shuffle: object,
    first: int,
) -> None:
    rows = [
        f"{'' if value is None else repr(value)},{first + 500 * i}\n"
        for i, value in enumerate(values)
    ]
    shuffle.shuffle(rows)  # type: ignore[attr-defined]
    annotation = _read(tmp_path_factory.mktemp("any"), "value,timestamp\n" + "".join(rows))
    expected = np.array([np.nan if value is None else value for value in values], np.float32)
    np.testing.assert_array_equal(annotation.value, expected)
    assert annotation.timestamp.tolist() == [first + 500 * i for i in range(len(values))]
