"""The note of a set: what is refused, what is remarked, and what shows that a file was changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers.feature_sets import write_features
from valence.errors import DamagedError, FeatureError
from valence.segments.feature_sets import FeatureSet, open_set
from valence.storage.location import Location
from valence.training.data.set_note import (
    NOTE_FILE,
    SetNote,
    differing,
    digests_of,
    survey,
)

_NAN = np.nan
_VALUES = {
    "a": [[1, 10], [3, 10], [_NAN, _NAN]],
    "b": [[5, 10], [_NAN, 10]],
    "c": [[100, 7]],
}
_RECORDINGS = pd.DataFrame(
    {"Id": ["a", "b", "c"], "split": ["train", "train", "test"], "segments": [3, 2, 1]}
)


@pytest.fixture
def corpus(tmp_path: Path) -> Location:
    for name, values in _VALUES.items():
        folder = Location.parse(tmp_path) / "feature_segments" / "toy"
        write_features(folder, name, np.array(values), columns=("x", "y"))
    return Location.parse(tmp_path)


def _set(corpus: Location) -> FeatureSet:
    return open_set(corpus, "toy", list(_VALUES))


def _note(corpus: Location) -> SetNote:
    source = _set(corpus)
    return survey(source, digests_of(source, "abc"), _RECORDINGS, "digest of segments")


def test_standardisation_is_that_of_the_training_recordings(corpus: Location) -> None:
    note = _note(corpus)
    # x is 1, 3 and 5 there; 100 is of a recording to test on.
    np.testing.assert_allclose(note.standardizer.mean, [3, 10])
    np.testing.assert_allclose(note.standardizer.std, [np.sqrt(8 / 3), 1], rtol=1e-6)
    assert note.remarks == (
        "the feature set 'toy' has 1 segment without any value and 1 single value missing, in 'a', "
        "'b': the model sees the training's mean there",
        "the feature set 'toy' has 1 column with one value throughout the training recordings: 'y'",
    )


def test_a_note_is_read_as_it_was_written(corpus: Location, tmp_path: Path) -> None:
    note, folder = _note(corpus), Location.parse(tmp_path / "train")
    note.write(folder)
    again = SetNote.read(folder, command="valence train RUN")
    source = _set(corpus)
    assert again.is_of(source, digests_of(source, "abc"), "digest of segments")
    assert not again.is_of(source, digests_of(source, "abc"), "of others")
    assert not again.is_of(source, digests_of(source, "ab"), "digest of segments")
    assert again.features == note.features
    assert again.standardizer.to_json() == note.standardizer.to_json()
    assert again.remarks == note.remarks


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text.replace('"x"', '"z"'), "its digest is not"),
        (lambda text: text[:-20], "it is no JSON"),
        (lambda text: "{}", "'set' is missing in it"),
    ],
)
def test_a_damaged_note_is_refused(
    corpus: Location, tmp_path: Path, change: Callable[[str], str], expected: str
) -> None:
    folder = Location.parse(tmp_path / "train")
    _note(corpus).write(folder)
    file = folder / NOTE_FILE
    file.write_text(change(file.read_text()))
    with pytest.raises(DamagedError, match=rf"input\.json' is damaged: {expected}.*valence train"):
        SetNote.read(folder, command="valence train RUN")
    file.delete()
    with pytest.raises(DamagedError, match=r"cannot be read.*valence train RUN"):
        SetNote.read(folder, command="valence train RUN")


def test_differing_files_are_named(corpus: Location) -> None:
    note, source = _note(corpus), _set(corpus)
    assert differing(note, source, digests_of(source, "abc")) is None
    assert differing(note, source, digests_of(source, "ab")) == "'c' takes no part any more"
    # The same numbers in another order of columns are another file, whatever its name.
    file = write_features(source.root, "b", np.array(_VALUES["b"])[:, ::-1], columns=("y", "x"))
    write_features(source.root, "d", np.array([[1, 2]]), columns=("x", "y"))
    source = _set(corpus)
    clause = differing(note, source, digests_of(source, "abcd"))
    assert clause == f"'{file}' was changed (and 1 file more)"


def test_the_digest_depends_on_names_and_content(corpus: Location) -> None:
    first = _note(corpus).features
    assert first.columns == ("x", "y")
    write_features(_set(corpus).root, "c", np.array([[100, 7.5]]), columns=("x", "y"))
    assert _note(corpus).features.digest != first.digest


def test_recordings_without_a_file_are_refused_by_name(corpus: Location) -> None:
    with pytest.raises(FeatureError, match=r"no file for 2 of 4 recordings: 'd', 'e'\. Expected"):
        digests_of(_set(corpus), ["d", "a", "e", "b"])


def test_a_recording_without_any_value_is_refused_by_name(corpus: Location) -> None:
    write_features(_set(corpus).root, "b", np.full((2, 2), _NAN), columns=("x", "y"))
    with pytest.raises(FeatureError, match=r"toy/b\.csv' holds no value for any of 2 segments"):
        _note(corpus)


def test_a_column_without_a_value_to_train_on_is_refused_by_name(corpus: Location) -> None:
    for name in "ab":
        values = np.array(_VALUES[name])
        values[:, 1] = _NAN
        write_features(_set(corpus).root, name, values, columns=("x", "y"))
    with pytest.raises(FeatureError, match=r"no value in any training .* 1 of 2 columns: 'y'"):
        _note(corpus)


def test_the_licence_of_the_features_is_noted_and_remarked(corpus: Location) -> None:
    assert _note(corpus).licence is None
    (_set(corpus).root / "set.json").write_json({"licence": "CC BY-NC 4.0"})
    note = _note(corpus)
    assert note.licence == note.features.licence == "CC BY-NC 4.0"
    assert "licence of the features 'toy': CC BY-NC 4.0" in note.remarks


def test_the_form_of_the_note(corpus: Location, tmp_path: Path) -> None:
    folder = Location.parse(tmp_path / "train")
    _note(corpus).write(folder)
    content = json.loads((folder / NOTE_FILE).read_text())
    assert list(content["files"]) == ["a", "b", "c"]
    assert content["standardizer"]["scope"] == "column"
