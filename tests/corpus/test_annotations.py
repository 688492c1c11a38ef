from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valence.corpus.annotations import Annotation, join_annotation, read_annotation
from valence.errors import AnnotationError
from valence.storage.location import Location


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
    assert annotation.remarks == (
        "'valence/7.csv' has values from -1 to 1.5, outside [-1, 1]; if they are of another scale, "
        "state its ends: labels.range = [lowest, highest] in a configuration, --labels-range "
        "LOWEST HIGHEST with predict",
    )


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
        (
            "timestamp,value\n0,1\n250,1\n500,1\n",
            r"line 3: the rows are 250 ms apart\. .*mean of 2 r",
        ),
        ("timestamp,value\n1000,1\n1500,1\n", r"line 2: the first timestamp is 1000 ms"),
        ("timestamp,value\n-500,1\n0,1\n", r"line 2: the first timestamp is -500 ms"),
        ('timestamp,value\n0,"0.5\n', r"not a CSV"),
        (b"timestamp,value\n0,\xff\xfe\n", r"not text in UTF-8"),
        (b"RIFF\x00\x00\x00\x00WAVE", r"line 1, holds a NUL"),
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
    with pytest.raises(AnnotationError, match="rows are 250 ms apart"):
        _read(tmp_path, text)


def test_a_timestamp_names_one_end_of_its_segment(tmp_path: Path) -> None:
    assert _read(tmp_path, "timestamp,value\n0,1\n500,1\n").stamps == "start"
    assert _read(tmp_path, "timestamp,value\n500,1\n1000,1\n").stamps == "end"
    assert _read(tmp_path, "timestamp,value\n").stamps is None


@pytest.mark.parametrize(
    "text",
    [
        "timestamp,value\n500,0.1963\n1000,-0.5\n1500,\n",
        "timestamp,value\n500,0.1963,\n1000,-0.5,\n1500,,\n",
        "timestamp,value,\n500,0.1963,\n1000,-0.5,\n1500,,\n",
        ",timestamp,value\n0,500,0.1963\n1,1000,-0.5\n2,1500,\n",
        'timestamp,value\n500,"0,1963"\n1000,"-0,5"\n1500,\n',
        "timestamp;value\n500;0,1963\n1000;-0,5\n1500;\n",
        "timestamp;value\r500,0;0,1963\r1000,0;-0,5\r1500,0;NA\r",
        '"0,1963";"n";500\n'.join(["value;note;timestamp\n", '-0,5;"a, b";1000\n;;1500\n']),
        "timestamp\tvalue\r\n500\t0.1963\r\n1000\t-0.5\r\n1500\t\r\n",
        "sep=;\ntimestamp;value\n500;0.1963\n1000;-0.5\n1500;\n",
        "# made by hand\ntimestamp,value\n# no, by me\n500,0.1963\n1000,-0.5\n1500,#N/A\n",
        "# timestamp,value\n500,0.1963\n1000,-0.5\n1500,\n",
        "timestamp,value,segment_id\n500,0.1963,002\n1000,-0.5,001\n1500,,001\n",
        " Timestamp , VALUE ,note\n 500 , 0.1963 ,x\n\n1000,\u22120.5\n1500,<NA>,y\n",
        "timestamp,value\n500,0.1963\n1000,-5e-1\n1500\n",
        "timestamp\tvalue\n500\t0,1963\n1000\t-0,5\n1500\t\n".encode("utf-16"),
    ],
)
def test_a_file_means_what_its_writer_meant(tmp_path: Path, text: str | bytes) -> None:
    annotation = _read(tmp_path, text)
    assert annotation.timestamp.tolist() == [500, 1000, 1500]
    np.testing.assert_array_equal(annotation.value, np.float32([0.1963, -0.5, np.nan]))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("timestamp,value\n500,0,1963\n1000,0,2\n", "line 2: '500,0,1963' has 3 filled cells"),
        ("timestamp,value\n500,0\n1000,0,2\n", "line 3: .* 3 filled cells.*decimal comma"),
        ("timestamp,value,\n500,0,1963,\n", "line 2: .* 3 filled cells"),
        ("timestamp,value,segment_id\n500,0,1963,1\n", "line 2: .* 4 filled cells"),
        ("timestamp,value,id\n500,0,19\n1000,-0,2\n", "line 3: .* the number -0,2 in two cells"),
        ("timestamp,value,id\n500,0.5,1\n1000,-0,2\n", "line 3: .* the number -0,2 in two cells"),
        ("timestamp,value,id\n500,0,19\n1000,0,05\n", "line 3: .* the number 0,05 in two cells"),
        (
            "timestamp,value,segment_id\n500,0,1963\n1000,0,2011\n1500,0,1987\n",
            "line 2: '500,0,1963' may hold the number 0,1963 in two cells",
        ),
        (
            "# timestamp,value\n500,0,1\n1000,0,2\n1500,0,3\n",
            "line 2: '500,0,1' has 3 filled cells, and the header has 2",
        ),
        (
            "timestamp,value,segment_id\n500,3,5\n1000,4\n1500,2,25\n2000,5,1\n",
            r"line 2: .* whole numbers.* \(segment_id\) are in no order",
        ),
        (
            "timestamp,value,segment_id\n500,3,5\n1000,4\n1500,2,5e-05\n",
            r"line 2: .* whole numbers.* \(segment_id\) are in no order",
        ),
        (
            "timestamp,value,comment\n500,0,1963,\n1000,-1,25,\n1500,0,3,\n",
            r"line 2: .* whole numbers.* \(comment\) are in no order",
        ),
        (
            "timestamp,value,segment_id\n500,3,5\n1000,2,25\n1500,6,1\n",
            r"line 2: .* whole numbers.* \(segment_id\) are in no order",
        ),
        ("timestamp,value\n0,500,0.2\n1,1000,0.3\n", "line 2: .* 3 filled cells"),
        ("timestamp,arousal,value\n500,0.1,0.2\n1000,0.3\n", "line 3: '1000,0.3' has 2 cells"),
        ('timestamp,value\n500,"1,250"\n', "line 2: the value is '1,250', whose comma may"),
        ('timestamp,value\n500,"0,25"\n1000,0.5\n', "line 2: the value is '0,25'"),
        ("timestamp,value\n500,1_0\n", "line 2: the value is '1_0'"),
        ("timestamp,value\n500,0x1F\n", "line 2: the value is '0x1F'"),
        ("timestamp,value\n500,TRUE\n", "line 2: the value is 'TRUE'"),
        ("timestamp,value\n500,50%\n", "line 2: the value is '50%'"),
        ("timestamp,value\n500 ms,0.5\n", "line 2: the timestamp is '500 ms'"),
        ("timestamp,value\n500,1e39\n", "line 2: the value is '1e39'. Expected a number that fl"),
        ("timestamp,value,value\n500,0.1,0.2\n", "line 1: 2 columns are called 'value'"),
        ("timestamp;value,x\n500;0,2\n", "line 1: .* at each comma and at each semicolon"),
        (b"timestamp,value,note\n500,0.1,J\xfcrgen\n", "line 2, is not text in UTF-8"),
        ("timestamp,value\n0.5,0.1\n1.0,0.2\n1.5,1\n", "line 2: .* seconds, multiply .* 1000"),
        ("timestamp,value\n0,0.1\n1,0.2\n2,1\n", "line 3: the rows are 1 ms apart.* seconds or"),
        ("timestamp,value\n0,1\n40,1\n80,1\n", r"the rows are 40 ms apart\. .* the mean for each"),
        (
            "timestamp,value\n0,1\n1000,1\n2000,1\n",
            r"the rows are 1000 ms apart\. .* a row for each",
        ),
        ("timestamp,value\n0,1\n499,1\n1001,1\n", "line 3: .* 499 to 502 ms apart"),
        ("timestamp,value\n250,1\n750,1\n1250,1\n", "line 2: the first .* 250 ms.*subtract 250"),
    ],
)
def test_what_leaves_a_doubt_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, found: str
) -> None:
    with pytest.raises(AnnotationError, match=found) as raised:
        _read(tmp_path, text)
    assert str(tmp_path / "valence" / "7.csv") in str(raised.value)


@pytest.mark.parametrize("ids", [(1, 2, 3), (7, 7, 7)])
def test_whole_values_beside_ids_in_order_are_labels(tmp_path: Path, ids: tuple[int, ...]) -> None:
    rows = [f"{500 * k},{value},{ids[k]}" for k, value in enumerate((1, -1, 0))]
    annotation = _read(tmp_path, "\n".join(["timestamp,value,segment_id", *rows]))
    assert annotation.value.tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("timestamp,value,segment_id\n0,0,002\n500,0.25,001\n1000,1,01\n", [0, 0.25, 1]),
        ("timestamp,value,pitch\n0,3,220\n500,7,180\n1000,5,200\n", [3, 7, 5]),
    ],
)
def test_a_zero_beside_a_number_is_a_label_where_commas_divide_none(
    tmp_path: Path, text: str, values: list[float]
) -> None:
    assert _read(tmp_path, text).value.tolist() == values


# Where the value stands, with what stands around it; `{t}` and `{v}` are a row's time and value.
_LAYOUTS = {
    "plain": ("timestamp,value", "{t},{v}"),
    "other order": ("value,timestamp", "{v},{t}"),
    "trailing commas in the rows": ("timestamp,value", "{t},{v},"),
    "trailing commas": ("timestamp,value,", "{t},{v},"),
    "two trailing commas": ("timestamp,value,,", "{t},{v},,"),
    "an index": (",timestamp,value", "{n},{t},{v}"),
    "an Id in front": ("segment_id,timestamp,value", "{n},{t},{v}"),
    "an Id behind": ("timestamp,value,segment_id", "{t},{v},{n}"),
    "an Id behind that is left out": ("timestamp,value,segment_id", "{t},{v}"),
    "an Id behind that is empty": ("timestamp,value,segment_id", "{t},{v},"),
    "a subject between": ("timestamp,subject_id,value", "{t},7,{v}"),
    "a note behind that is left out": ("timestamp,value,note", "{t},{v}"),
    "two columns behind that are left out": ("timestamp,value,note,who", "{t},{v}"),
    "a header in a comment": ("# timestamp,value", "{t},{v}"),
    "a header in a comment, an empty cell behind": ("#timestamp,value,", "{t},{v},"),
    "a header in a comment, an Id behind": ("# timestamp,value,segment_id", "{t},{v},{n}"),
    "no header": (None, "{t},{v}"),
    "no header, an Id in front": (None, "{n},{t},{v}"),
}
_VALUES = {
    "in no order": ["0,1963", "0,2011", "0,1987", "0,21"],
    "upwards as Ids are": ["0,1", "0,2", "0,3", "0,4"],
    "the same": ["0,25"] * 4,
    "below zero": ["-0,3", "-0,2", "-0,4", "-0,1"],
    "with ends": ["0,4", "1", "0,6", "-1"],
    "with zeros": ["0", "0,2", "0", "0,3"],
    "with ends in full": ["1,0", "0,5", "1,0", "0,7"],
    "small": ["0,5", "2e-05", "0,7", "0,8"],
    "with gaps": ["0,1", "", "NaN", "0,2"],
    "one": ["0,1963"],
}


@pytest.mark.parametrize("first", [0, 500])
@pytest.mark.parametrize("values", _VALUES.values(), ids=list(_VALUES))
@pytest.mark.parametrize(("header", "row"), _LAYOUTS.values(), ids=list(_LAYOUTS))
def test_a_decimal_comma_among_commas_never_gives_another_value(
    tmp_path: Path, header: str | None, row: str, values: list[str], first: int
) -> None:
    lines = [
        row.format(t=first + 500 * k, v=value, n=k + 1) + "\n" for k, value in enumerate(values)
    ]
    with pytest.raises(AnnotationError, match=r"7\.csv'(, line \d| has the columns)"):
        _read(tmp_path, "".join(lines if header is None else [f"{header}\n", *lines]))


@pytest.mark.parametrize("first", [0, 500])
@pytest.mark.parametrize("values", _VALUES.values(), ids=list(_VALUES))
@pytest.mark.parametrize(
    ("header", "row"),
    [each for each in _LAYOUTS.values() if each[0] is not None],
    ids=[name for name, each in _LAYOUTS.items() if each[0] is not None],
)
def test_a_decimal_point_is_read_in_every_layout(
    tmp_path: Path, header: str, row: str, values: list[str], first: int
) -> None:
    pointed = [value.replace(",", ".") for value in values]
    times = [first + 500 * k for k in range(len(values))]
    rows = [row.format(t=t, v=v, n=k) for k, (t, v) in enumerate(zip(times, pointed, strict=True))]
    annotation = _read(tmp_path, "\n".join([header, *rows]))
    assert annotation.timestamp.tolist() == times
    np.testing.assert_array_equal(
        annotation.value, np.float32([float(value or "nan") for value in pointed])
    )


def test_whole_zeros_in_any_order_of_time_are_labels(tmp_path: Path) -> None:
    rows = "value,timestamp\n0,1000\n0,500\n1,0\n"
    assert _read(tmp_path, rows).value.tolist() == [1, 0, 0]


def test_rows_that_end_before_their_value_are_remarked(tmp_path: Path) -> None:
    annotation = _read(tmp_path, "timestamp,value\n0,1\n500\n1000,\n")
    assert annotation.labelled == 1
    assert annotation.remarks == (
        "'valence/7.csv' has no value in 1 rows that end early (the first is line 3); they count "
        "as not labelled",
    )


def test_a_stated_scale_goes_to_minus_one_and_one(tmp_path: Path) -> None:
    file = tmp_path / "7.csv"
    file.write_text("timestamp,value\n0,1\n500,4\n1000,5.5\n1500,7\n2000,\n")
    annotation = read_annotation(Location.parse(file), scale=(1.0, 7.0))
    np.testing.assert_array_equal(annotation.value, np.float32([-1, 0, 0.5, 1, np.nan]))
    assert annotation.remarks == ()
    with pytest.raises(
        AnnotationError,
        match=r"line 5: the value is '7'\. .*labels\.range = \[1, 6\].*or the range",
    ):
        read_annotation(Location.parse(file), scale=(1.0, 6.0))


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
