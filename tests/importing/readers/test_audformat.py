"""Databases in audformat: spans, raters, two files of a table, and edits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers import made_corpora as made
from valence.errors import CorpusError
from valence.importing.declaration import load_declaration
from valence.importing.readers.audformat import read_facts
from valence.importing.recordings import find_recordings
from valence.importing.traces import Trace, read_traces
from valence.storage.location import Location


def _traces(root: Path, *assignments: str) -> dict[tuple[str, str | None], Trace]:
    declaration = load_declaration("audformat", assignments)
    return {(each.id, each.rater): each for each in read_traces(Location.parse(root), declaration)}


def _write_parquet(root: Path, unit: str = "ns", table: str = "seg.train") -> None:
    """Write the Parquet file that audformat writes beside a CSV: times as durations."""
    frame = pd.read_csv(root / f"db.{table}.csv")
    for name in {"start", "end"} & set(frame):
        frame[name] = pd.to_timedelta(frame[name]).dt.as_unit(unit)
    frame.to_parquet(root / f"db.{table}.parquet", index=False)


def test_spans_and_whole_files(tmp_path: Path) -> None:
    made.audformat(tmp_path)
    traces = _traces(tmp_path)
    first = traces["001", None]
    assert first.start.tolist() == [0, 2.5]
    assert first.end.tolist() == [1, 3.5]
    assert first.value.tolist() == [0, 10]
    assert first.scale == (0, 10)
    assert traces["002", None].end.tolist() == [math.inf]
    assert traces["003", None].value.tolist() == [5]
    facts = read_facts(Location.parse(tmp_path / "db.yaml"))
    assert facts.audio["001"] == "audio/001.wav"
    assert facts.partition == {"001": "train", "002": "train", "003": "devel"}


@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
def test_parquet_says_what_csv_says(unit: str, tmp_path: Path) -> None:
    made.audformat(tmp_path)
    expected = _traces(tmp_path)
    _write_parquet(tmp_path, unit)
    assert _traces(tmp_path).keys() == expected.keys()
    (tmp_path / "db.seg.train.csv").unlink()
    found = _traces(tmp_path)
    for key, trace in expected.items():
        np.testing.assert_array_equal(found[key].start, trace.start)
        np.testing.assert_array_equal(found[key].end, trace.end)
        np.testing.assert_array_equal(found[key].value, trace.value)


def test_an_edited_csv_beside_its_parquet_is_refused(tmp_path: Path) -> None:
    made.audformat(tmp_path)
    _write_parquet(tmp_path)
    _traces(tmp_path)
    file = tmp_path / "db.seg.train.csv"
    file.write_text(file.read_text().replace("7.5", "2.5"))
    with pytest.raises(CorpusError, match=r"hold different rows.*remove the one that is out"):
        _traces(tmp_path)
    (tmp_path / "db.seg.train.parquet").unlink()
    assert _traces(tmp_path)["002", None].value.tolist() == [2.5]


def test_columns_of_raters(tmp_path: Path) -> None:
    made.audformat(tmp_path)
    header = tmp_path / "db.yaml"
    header.write_text(
        header.read_text()
        .replace("raters:", "raters:\n  r1: {type: human}\n  r2: {type: human}")
        .replace(
            "      valence: {scheme_id: valence, rater_id: gold}",
            "      a: {scheme_id: valence, rater_id: r1}\n"
            "      b: {scheme_id: valence, rater_id: r2}",
        )
    )
    made.write_text(
        tmp_path / "db.seg.train.csv",
        "file,start,end,a,b",
        "audio/001.wav,0 days 00:00:00,1 days 01:00:01.250000,1.0,",
    )
    traces = _traces(tmp_path)
    assert traces["001", "r1"].value.tolist() == [1]
    # The other rater has no value of this file.
    assert ("001", "r2") not in traces
    assert traces["001", "r1"].end.tolist() == [90_001.25]


def test_names_that_are_alike_in_two_folders_keep_their_folders(tmp_path: Path) -> None:
    made.audformat(tmp_path)
    for file in tmp_path.glob("db.*.csv"):
        file.write_text(file.read_text().replace("audio/002", "other/001"))
    assert {name for name, _ in _traces(tmp_path)} == {"audio_001", "other_001", "audio_003"}


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("db.yaml", ", maximum: 10", "", "states the minimum 0 and the maximum None"),
        ("db.yaml", "seg.train:", "seg.dev:", "neither 'db.seg.dev.csv' nor"),
        ("db.yaml", "tables:", "tabels:", "no table with a column or a scheme called valence"),
        ("db.yaml", "name: made", "{", "cannot be read as a header of audformat"),
        ("db.seg.train.csv", "10.0", "11.0", "line 3: valence is '11.0'. Expected a number from 0"),
        ("db.seg.train.csv", "10.0", "high", "line 3: valence is 'high'"),
        ("db.seg.train.csv", "0 days 00:00:04", "4.0", "line 4: the time is '4.0'"),
        ("db.seg.train.csv", "file,", "path,", "none is called 'file'"),
        ("db.files.csv", "audio/002.wav,s2", "audio/001.wav,s2", "has the speaker 's2', and 's1'"),
    ],
)
def test_what_cannot_be_is_refused(
    file: str, old: str, new: str, words: str, tmp_path: Path
) -> None:
    made.audformat(tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new))
    with pytest.raises(CorpusError, match=words):  # noqa: PT012
        _traces(tmp_path)
        # What a database says beside labels is read apart from them.
        read_facts(Location.parse(tmp_path / "db.yaml"))


def test_a_scale_may_be_stated_in_place_of_the_scheme(tmp_path: Path) -> None:
    made.audformat(tmp_path)
    header = tmp_path / "db.yaml"
    header.write_text(header.read_text().replace(", minimum: 0, maximum: 10", ""))
    assert _traces(tmp_path, "labels.scale=[0,20]")["001", None].scale == (0, 20)


def test_tables_are_chosen_by_name(tmp_path: Path) -> None:
    made.audformat(tmp_path)
    assert {name for name, _ in _traces(tmp_path, "labels.tables=['whole.dev']")} == {"003"}


def test_sound_may_lie_apart_from_the_tables(tmp_path: Path) -> None:
    made.audformat(tmp_path / "db")
    (tmp_path / "db/audio").rename(tmp_path / "audio")
    ids = ["001", "002", "003"]
    for audio in (tmp_path, tmp_path / "audio"):
        found = find_recordings(
            Location.parse(tmp_path / "db"),
            load_declaration("audformat"),
            ids,
            audio=Location.parse(audio),
        )
        assert [each.sounds[0].file.name for each in found.values()] == [f"{n}.wav" for n in ids]
        assert found["001"].partition == "train"


_HEADER = """name: x
schemes:
  valence: {dtype: float, minimum: 1, maximum: 5}
tables:
  t:
    type: filewise
    columns:
      valence: {scheme_id: valence}
"""


@pytest.mark.parametrize(
    ("part", "other", "words"),
    [
        ("minimum: 1", "minimum: low", "the minimum 'low' and the maximum 5. Expected two numbers"),
        ("maximum: 5", "maximum: [5]", r"the maximum \[5\]. Expected two numbers"),
        ("maximum: 5", "maximum: .inf", "the maximum inf. Expected two numbers"),
        ("maximum: 5", "maximum: true", "the maximum True. Expected two numbers"),
        ("{dtype: float, minimum: 1, maximum: 5}", "float", "schemes.valence is 'float'. Expected"),
        (
            "columns:\n      valence: {scheme_id: valence}",
            "columns: [valence]",
            r"is \['valence'\]",
        ),
        ("    type: filewise\n    columns:\n      valence: {scheme_id: valence}\n", "", "no table"),
        ("scheme_id: valence", "scheme_id: [valence]", "scheme_id is .*Expected one word"),
        ("type: filewise", "type: filewise\n    split_id: {a: 1}", "t.split_id is .*one word"),
        ("tables:", "tables: [t]\nother:", r"tables is \['t'\]. Expected names"),
        ("tables:", "splits: [a]\ntables:", r"splits is \['a'\]. Expected names"),
        ("tables:", "splits:\n  a: train\ntables:", "splits.a is 'train'. Expected names"),
        ("tables:", "tables: 5\nother:", "tables is 5. Expected names"),
    ],
)
def test_a_header_of_another_shape_is_refused(
    part: str, other: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "db.t.csv").write_text("file,valence\na.wav,3\n")
    (tmp_path / "db.yaml").write_text(_HEADER)
    assert list(_traces(tmp_path)) == [("a", None)]
    assert part in _HEADER
    (tmp_path / "db.yaml").write_text(_HEADER.replace(part, other, 1))
    with pytest.raises(CorpusError, match=words):
        _traces(tmp_path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("end,valence", "end,val", r"the columns val, and none is called 'valence'.*header names"),
        (
            "00:00:03.500000",
            "00:00:02.500000",
            r"span ends at 2.5 s and begins at 2.5 s.*end after",
        ),
        ("00:00:03.500000", "00:00:01", r"(line 3|row 2): the span ends at 1 s and begins at 2.5"),
    ],
)
def test_tables_that_contradict_the_header_or_time_are_refused(
    old: str, new: str, words: str, packed: bool, tmp_path: Path
) -> None:
    made.audformat(tmp_path)
    file = tmp_path / "db.seg.train.csv"
    file.write_text(file.read_text().replace(old, new))
    if packed:
        _write_parquet(tmp_path)
        file.unlink()
    with pytest.raises(CorpusError, match=words):
        _traces(tmp_path)
