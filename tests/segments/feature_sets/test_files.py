"""Files of feature sets, made here in the form of the MuSe releases and of their siblings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from valence.errors import FeatureError
from valence.segments.feature_sets.files import (
    Origin,
    read_columns,
    read_origin,
    read_rows,
    write_rows,
)
from valence.storage.location import Location

_MUSE = "timestamp,segment_id,f1,f2\n0,1,0.5,-1\n500,1,,2e-3\n1000,2,3,4\n"


def _file(folder: Path, content: str | bytes, name: str = "1.csv") -> Location:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Location.parse(path)


def test_the_form_of_muse_is_read_by_hand(tmp_path: Path) -> None:
    rows = read_rows(_file(tmp_path, _MUSE))
    assert rows.columns == ("f1", "f2")
    assert rows.segment.tolist() == [0, 1, 2]
    assert rows.value.dtype == np.float32
    expected = np.array([[0.5, -1], [np.nan, 0.002], [3, 4]], np.float32)
    np.testing.assert_array_equal(rows.value, expected)
    assert rows.remarks == ()


@pytest.mark.parametrize(
    "content",
    [
        _MUSE.replace("\n", "\r\n"),
        _MUSE.replace("\n", "\r"),
        b"\xef\xbb\xbf" + _MUSE.encode(),
        _MUSE.encode("utf-16"),
        _MUSE.replace(",", ";"),
        _MUSE.replace(",", ";").replace(".", ","),
        _MUSE.replace(",", "\t"),
        _MUSE.replace("\n", ",\n"),
        _MUSE + "\n\n",
        "sep=,\n" + _MUSE,
        "# made by a program\n" + _MUSE,
        _MUSE.replace("f1", '"f1"').replace("0.5", '"0.5"'),
        _MUSE.replace(",,", ",NaN,"),
        _MUSE.replace(",,", ",n/A,"),
        _MUSE.replace("timestamp", " Time_Stamp "),
        ",timestamp,f1,f2\n0,0,0.5,-1\n1,500,,2e-3\n2,1000,3,4\n",
        "Unnamed: 0,f1,f2,timestamp\n0,0.5,-1,0\n1,,2e-3,500\n2,3,4,1000\n",
    ],
    ids=range(17),
)
def test_other_ways_to_write_the_same_rows(tmp_path: Path, content: str | bytes) -> None:
    plain = read_rows(_file(tmp_path, _MUSE))
    rows = read_rows(_file(tmp_path, content, "2.csv"))
    assert rows.columns == plain.columns
    np.testing.assert_array_equal(rows.segment, plain.segment)
    np.testing.assert_array_equal(rows.value, plain.value)
    assert read_columns(_file(tmp_path, content, "2.csv")) == plain.columns


def test_parquet_gives_what_csv_gives(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"timestamp": [0, 500, 1000], "segment_id": "x", "f1": [0.5, None, 3], "f2": [-1, 2e-3, 4]}
    )
    frame.index = pd.Index([4, 8, 6])
    frame.to_parquet(tmp_path / "1.parquet")
    file = Location.parse(tmp_path / "1.parquet")
    rows, plain = read_rows(file), read_rows(_file(tmp_path, _MUSE))
    assert rows.columns == read_columns(file) == plain.columns
    np.testing.assert_array_equal(rows.value, plain.value)


def test_pandas_is_the_oracle_of_many_numbers(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    value = generator.standard_normal((40, 13)) * 10.0 ** generator.integers(-30, 30, 13)
    value[generator.random(value.shape) < 0.1] = np.nan
    frame = pd.DataFrame(value, columns=[str(each) for each in range(13)])
    frame.insert(0, "timestamp", np.arange(40) * 500)
    frame.to_csv(tmp_path / "1.csv", index=False)
    rows = read_rows(Location.parse(tmp_path / "1.csv"))
    read = pd.read_csv(tmp_path / "1.csv")
    np.testing.assert_array_equal(rows.value, read.iloc[:, 1:].to_numpy(np.float32))
    # The careful reader, cell by cell, agrees with the quick one.
    (tmp_path / "2.csv").write_text("# by hand\n" + (tmp_path / "1.csv").read_text())
    np.testing.assert_array_equal(read_rows(Location.parse(tmp_path / "2.csv")).value, rows.value)


def test_rows_may_be_missing_in_the_middle_and_be_in_any_order(tmp_path: Path) -> None:
    rows = read_rows(_file(tmp_path, "timestamp,f\n2000,5\n500,2\n1000,3\n"))
    assert rows.segment.tolist() == [0, 1, 3]
    assert rows.value[:, 0].tolist() == [2, 3, 5]
    assert rows.remarks == (
        "'1.csv' was not in order of time and has been sorted",
        "'1.csv' lacks 1 row between its first and last",
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        ("timestamp,f1\n", "has a header and no rows"),
        ("time,f1\n0,1\n", "none is called 'timestamp'"),
        ("timestamp,Timestamp,f1\n0,0,1\n", "2 are called 'timestamp'"),
        ("timestamp,segment_id\n0,1\n", "none is a feature"),
        ("timestamp,f1,f1\n0,1,2\n", "more than one column called 'f1'"),
        ("timestamp,f1,,f3\n0,1,2,3\n", "no name for column 3"),
        ("timestamp,f1\n0,one\n500,2\n", "line 2: the value of 'f1' is 'one'"),
        ("timestamp,f1\n0,1\n500,inf\n", "line 3: the value of 'f1' is 'inf'"),
        ("timestamp,f1\n0,1\n500,1e39\n", r"line 3: the value of 'f1' is 1e\+39"),
        ("timestamp,f1\n0,1\n500,1e400\n", "line 3: the value of 'f1' is inf"),
        ("timestamp,f1,f2\n0,1,2\n500,1\n", "line 3: the row has 2 cells, and the header has 3"),
        ("timestamp,f1,f2\n0,1,2\n500,1,2,3\n", "line 3: .* has 4 filled cells"),
        ("timestamp,f1,f2\n0,0,5,1\n500,0,6,2\n", "decimal comma"),
        ("timestamp,f1\n0,1\n500,2\n500,3\n", "line 4: the timestamp 500 ms was already in line 3"),
        ("timestamp,f1\n0,1\n0.5,2\n1,2\n", "line 3: the timestamp is 0.5.* in seconds"),
        ("timestamp,f1\n0,1\n,2\n", "line 3: the timestamp is empty"),
        ("timestamp,f1\n0,1\n1,2\n2,2\n", "1 ms apart.* count seconds or rows"),
        ("timestamp,f1\n0,1\n100,2\n200,2\n", "most often 100 ms apart.* mean of the rows"),
        ("timestamp,f1\n0,1\n1000,2\n2000,2\n", "a row for each 500 ms"),
        ("timestamp,f1\n1500,1\n2000,2\n", "line 2: the first timestamp is 1500 ms"),
        (b"timestamp,f1\n0,1\n500,2\n"[:-3] + b"\xff\n", "is not text in UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\n", "was not fetched"),
        ('timestamp,f1\n0,"1\n500,2\n', "is not a CSV that can be read"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    with pytest.raises(FeatureError, match=f"(?s)1.csv.*{says}"):
        read_rows(_file(tmp_path, content))


def test_parquet_is_refused_with_its_place(tmp_path: Path) -> None:
    def written(**columns: list[object]) -> Location:
        pd.DataFrame(columns).to_parquet(tmp_path / "1.parquet")
        return Location.parse(tmp_path / "1.parquet")

    with pytest.raises(FeatureError, match=r"row 2: the value of 'f' is -?inf"):
        read_rows(written(timestamp=[0, 500], f=[0.0, -math.inf]))
    with pytest.raises(FeatureError, match=r"the column 'f' of type .*string"):
        read_rows(written(timestamp=[0, 500], f=["a", "b"]))
    with pytest.raises(FeatureError, match="row 2: the timestamp is empty"):
        read_rows(written(timestamp=[0, None], f=[1, 2]))
    (tmp_path / "1.parquet").write_bytes((tmp_path / "1.parquet").read_bytes()[:-20])
    with pytest.raises(FeatureError, match="is no Parquet file that can be read"):
        read_rows(Location.parse(tmp_path / "1.parquet"))


def test_rows_of_sequences_may_be_any_segments_apart(tmp_path: Path) -> None:
    file = _file(tmp_path, "timestamp,f\n0,\n1000,5\n3500,2\n")
    assert read_rows(file, sparse=True).segment.tolist() == [0, 2, 7]
    with pytest.raises(FeatureError, match="line 3: the timestamp is 3501 ms"):
        read_rows(_file(tmp_path, "timestamp,f\n0,5\n3501,2\n"), sparse=True)


def test_sequences_that_are_named_by_their_ends_are_refused(tmp_path: Path) -> None:
    file = _file(tmp_path, "timestamp,f\n20000,5\n25000,2\n")
    with pytest.raises(FeatureError, match=r"line 2: the first timestamp is 20000 ms\. Expected 0"):
        read_rows(file, sparse=True)


@pytest.mark.parametrize("name", ["valence", "Arousal", "value", "label", "start", "end"])
def test_a_label_or_a_time_is_no_feature(tmp_path: Path, name: str) -> None:
    file = _file(tmp_path, f"timestamp,{name},f\n0,1,2\n")
    with pytest.raises(FeatureError, match=f"has a column '{name}' beside the features"):
        read_rows(file)


def test_the_first_timestamp_says_what_timestamps_name(tmp_path: Path) -> None:
    for first, stamps in ((0, "start"), (500, "end")):
        rows = read_rows(_file(tmp_path, f"timestamp,f\n{first},5\n{first + 500},2\n"))
        assert (rows.stamps, rows.segment.tolist()) == (stamps, [0, 1])


def test_what_is_written_is_read_and_says_what_it_was_made_of(tmp_path: Path) -> None:
    file = Location.parse(tmp_path / "1.parquet")
    assert read_origin(file) is None
    value = np.array([[1.5, np.nan], [2, -3]], np.float32)
    write_rows(file, ["f", "g"], np.array([0, 500]), value, made_of="this", remarks=["odd"])
    rows = read_rows(file)
    assert rows.columns == ("f", "g")
    np.testing.assert_array_equal(rows.value, value)
    assert read_origin(file) == Origin("this", 2, ("odd",))
    content = (tmp_path / "1.parquet").read_bytes()
    (tmp_path / "1.parquet").write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    assert read_origin(file) is None
    pd.DataFrame({"timestamp": [0], "f": [1.0]}).to_parquet(tmp_path / "2.parquet")
    assert read_origin(Location.parse(tmp_path / "2.parquet")) is None
