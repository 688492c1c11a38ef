from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from valence.errors import MissingStageError
from valence.storage.location import Location
from valence.sweep.features import Features, concatenate, read_features, write_features


def _features(
    recording: str, rows: int, *, split: str = "train", targets: tuple[str, ...] = ("valence",)
) -> Features:
    rng = np.random.default_rng([rows, len(targets), len(recording)])
    return Features(
        recording=np.array([recording] * rows, np.str_),
        subject=np.array([f"of {recording}"] * rows, np.str_),
        split=np.array([split] * rows, np.str_),
        start=np.arange(rows, dtype=np.int32) * 3,
        target=rng.uniform(-1, 1, (rows, len(targets))).astype(np.float32),
        feature=rng.normal(size=(rows, 7)).astype(np.float32),
        prediction=rng.uniform(-1, 1, (rows, len(targets))).astype(np.float32),
        targets=targets,
    )


def _assert_equal(found: Features, expected: Features) -> None:
    assert found.targets == expected.targets
    for name in ("recording", "subject", "split", "start", "target", "feature", "prediction"):
        one, two = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(one, two, err_msg=name)
        assert one.dtype.kind == two.dtype.kind
        assert one.shape == two.shape


@pytest.mark.parametrize("targets", [("valence",), ("arousal",), ("arousal", "valence")])
def test_what_is_written_is_read_back(tmp_path: Path, targets: tuple[str, ...]) -> None:
    features = _features("8_devel", 5, targets=targets)
    folder = Location.parse(tmp_path)
    write_features(folder / "8_devel.parquet", features)
    found = read_features(folder)
    _assert_equal(found, features)
    assert found.feature.dtype == found.target.dtype == found.prediction.dtype == np.float32
    assert found.start.dtype == np.int32


def test_the_columns_of_the_contract(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    features = _features("a", 4, targets=("arousal", "valence"))
    write_features(Location.parse(file), features)
    table = pq.read_table(file)
    assert table.column_names == [
        "recording",
        "subject",
        "split",
        "start",
        "valence",
        "arousal",
        "feature",
        "prediction",
        "prediction_valence",
    ]
    np.testing.assert_array_equal(table["valence"].to_numpy(), features.target[:, 1])
    np.testing.assert_array_equal(table["prediction"].to_numpy(), features.prediction[:, 0])
    assert table["feature"][2].as_py() == features.feature[2].tolist()


def test_a_target_that_was_not_trained_is_unknown(tmp_path: Path) -> None:
    write_features(Location.parse(tmp_path / "a.parquet"), _features("a", 4))
    assert np.isnan(pq.read_table(tmp_path / "a.parquet")["arousal"].to_numpy()).all()


def test_recordings_come_in_order_of_their_ids(tmp_path: Path) -> None:
    folder = Location.parse(tmp_path)
    names = ["10", "1", "1-a", "1_train", "2"]
    for rows, name in enumerate(names, start=1):
        write_features(folder / f"{name}.parquet", _features(name, rows))
    (folder / "notes.json").write_text("{}")
    found = read_features(folder)
    assert list(dict.fromkeys(found.recording.tolist())) == sorted(names)
    _assert_equal(
        found, concatenate(_features(name, names.index(name) + 1) for name in sorted(names))
    )


def test_a_recording_without_sequences_adds_nothing(tmp_path: Path) -> None:
    folder = Location.parse(tmp_path)
    write_features(folder / "a.parquet", _features("a", 0))
    assert read_features(folder).feature.shape == (0, 7)
    write_features(folder / "b.parquet", _features("b", 3))
    _assert_equal(read_features(folder), _features("b", 3))


def test_rows_are_chosen_by_split_and_by_label() -> None:
    both = concatenate([_features("a", 3), _features("b", 5, split="test")])
    both.target[[1, 4], 0] = np.nan
    assert len(both) == 8
    assert both.of("test").start.tolist() == [0, 6, 9, 12]
    assert both.of("test", labelled=False).start.tolist() == [0, 3, 6, 9, 12]
    assert both.of("train").recording.tolist() == ["a", "a"]
    assert len(both.of("validation")) == 0
    np.testing.assert_array_equal(both.rows(np.array([7, 0])).feature, both.feature[[7, 0]])


def test_an_empty_store_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match="'valence extract'"):
        read_features(Location.parse(tmp_path / "features"))
