"""Functionals of a feature set in the place of the deep features, row by row."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from valence.errors import FeatureError
from valence.segments.feature_sets import FeatureSet, open_any, open_set
from valence.storage.location import Location
from valence.sweep.feature_sets import describe, functionals_of, join, remarks_on
from valence.sweep.features import Features

_NAN = float("nan")


def _rows(*rows: tuple[str, str, int]) -> Features:
    recording, split, start = zip(*rows, strict=True)
    n = len(rows)
    return Features(
        recording=np.array(recording),
        subject=np.array(recording),
        split=np.array(split),
        start=np.array(start, np.int32),
        target=np.arange(n, dtype=np.float32)[:, None],
        feature=np.zeros((n, 4), np.float32),
        prediction=-np.arange(n, dtype=np.float32)[:, None],
        targets=("valence",),
    )


def _set(root: Path, **files: str) -> FeatureSet:
    folder = root / "feature_segments/own"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / f"{name}.csv").write_text(content)
    return open_set(Location.parse(root), "own", list(files))


def test_mean_and_deviation_by_hand() -> None:
    value = np.array([[1, 10], [3, _NAN], [8, _NAN], [8, 4], [_NAN, _NAN], [2, 2]])
    found = functionals_of(value, np.array([0, 1, 2, 4, 5]), 2)
    expected = [
        [2, 10, 1, 0],
        # The second feature has no value in either segment.
        [5.5, _NAN, 2.5, _NAN],
        [8, 4, 0, 0],
        # A segment without any value; and a sequence that ends after the last segment.
        [_NAN] * 4,
        [_NAN] * 4,
    ]
    np.testing.assert_array_equal(found, np.array(expected))


def test_numpy_is_the_oracle_where_values_are_missing() -> None:
    generator = np.random.default_rng(0)
    value = 1e6 + generator.standard_normal((61, 7))
    value[generator.random(value.shape) < 0.3] = _NAN
    value[:, 6] = 0.1
    starts = np.arange(0, 61 - 9, 4)
    found = functionals_of(value, starts, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row, start in zip(found, starts, strict=True):
            part = value[start : start + 9]
            np.testing.assert_allclose(row[:7], np.nanmean(part, axis=0), rtol=1e-12)
            np.testing.assert_allclose(row[7:], np.nanstd(part, axis=0), rtol=1e-6, atol=1e-12)
    # Equal values have no spread at all, although a tenth is no binary number.
    assert (found[:, 13] == 0).all()


def test_rows_keep_their_labels_and_the_deep_predictions(tmp_path: Path) -> None:
    chosen = _set(
        tmp_path,
        a="timestamp,f,g\n0,1,\n500,3,\n1000,5,\n1500,7,\n",
        b="timestamp,f,g\n0,2,1\n500,2,1\n1500,4,3\n2000,4,3\n",
        c="timestamp,f,h\n0,2,1\n",
    )
    features = _rows(
        ("a", "train", 0),
        ("a", "train", 2),
        ("b", "validation", 0),
        ("b", "validation", 1),
        ("b", "validation", 3),
        ("c", "test", 0),
        ("d", "test", 0),
    )
    described = [
        describe(chosen, name, features.start[features.recording == name], length=2, segments=6)
        for name in ("b", "a", "d", "c")
    ]
    found = join(features, described, chosen)
    # No training row has a value of g; segment 2 of b has no row; c and d cannot be used.
    assert found.about["columns"] == ["mean of f", "sd of f"]
    assert found.features.feature.tolist() == [[2, 1], [6, 1], [2, 0], [4, 0]]
    assert found.features.target[:, 0].tolist() == [0, 1, 2, 4]
    assert found.features.prediction[:, 0].tolist() == [0, -1, -2, -4]
    assert found.about["unused_columns"] == ["mean of g", "sd of g"]
    assert (found.about["sequences"], found.about["sequences_left_out"]) == (4, 3)
    left_out = found.about["recordings_left_out"]
    assert list(left_out) == ["c", "d"]
    assert "lacks 'g'" in left_out["c"]
    assert "no file for the recording 'd'" in left_out["d"]
    said = " ".join(remarks_on(found.about))
    for words in (
        "'c', 'd'",
        "3 sequences that the set does not wholly describe",
        "'mean of g'",
        "b.csv' lacks 1 row",
    ):
        assert words in said


def test_a_recording_that_lost_its_first_row_is_not_taken_a_segment_off(tmp_path: Path) -> None:
    chosen = _set(tmp_path, a="timestamp,f\n0,1\n500,3\n", b="timestamp,f\n500,2\n1000,4\n")
    features = _rows(("a", "train", 0), ("b", "validation", 0))
    described = [
        describe(chosen, name, np.array([0], np.int32), length=2, segments=2) for name in "ab"
    ]
    with pytest.raises(FeatureError, match="may lack its first row"):
        join(features, described, chosen)


def test_missing_values_become_the_mean_of_the_training_rows_alone(tmp_path: Path) -> None:
    chosen = _set(
        tmp_path,
        a="timestamp,f,g\n0,1,4\n500,1,\n1000,1,8\n1500,1,9\n",
        b="timestamp,f,g\n0,2,\n500,2,100\n",
    )
    features = _rows(
        *(("a", "train", start) for start in range(4)), ("b", "validation", 0), ("b", "test", 1)
    )
    described = [
        describe(chosen, name, features.start[features.recording == name], length=1, segments=4)
        for name in ("a", "b")
    ]
    found = join(features, described, chosen)
    assert found.features.feature[:, 1].tolist() == [4, 7, 8, 9, 7, 100]
    assert found.about["fill"] == [1, 7, 0, 0]
    assert found.about["filled_share"] == 4 / 24
    assert "17 % of the values are missing" in " ".join(remarks_on(found.about))


def test_a_split_without_any_row_is_refused(tmp_path: Path) -> None:
    chosen = _set(tmp_path, a="timestamp,f\n0,1\n500,2\n")
    features = _rows(("a", "train", 0), ("b", "validation", 0), ("b", "validation", 1))
    described = [
        describe(chosen, name, features.start[features.recording == name], length=2, segments=2)
        for name in ("a", "b")
    ]
    with pytest.raises(FeatureError, match=r"none of the 2 validation sequences.*recording 'b'"):
        join(features, described, chosen)


def test_a_row_of_a_set_of_sequences_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "feature_sequences/own"
    folder.mkdir(parents=True)
    (folder / "set.json").write_text('{"length": 2}')
    (folder / "a.csv").write_text("timestamp,f,g\n0,1,2\n1000,3,\n")
    chosen = open_any(Location.parse(tmp_path), "own", ["a"])
    found = describe(chosen, "a", np.array([0, 1, 2]), length=2, segments=9)
    np.testing.assert_array_equal(found.value, [[1, 2], [_NAN, _NAN], [3, _NAN]])
