"""The folder for audonnx, read and run by audonnx itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.hearing import SR, make_predictor, small_config, speech
from valence.errors import StaleError
from valence.model.onnx.audonnx import export_audonnx, require_mono
from valence.model.onnx.network import own_head
from valence.prediction.predictor import Predictor
from valence.storage.location import Location

audonnx = pytest.importorskip("audonnx", reason="audonnx is not installed")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    config = small_config('model.targets=["valence", "arousal"]')
    return make_predictor(tmp_path_factory.mktemp("model"), config)


@pytest.fixture(scope="module")
def folder(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("audonnx") / "model"
    head = own_head(predictor.model)
    export_audonnx(Location.parse(made), predictor.model, predictor.description, head)
    return made


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Any:
    return audonnx.load(str(folder))


def test_audonnx_gives_the_timeline(loaded: Any, predictor: Predictor) -> None:
    y = speech(11.3)
    expected = predictor(y, sr=SR).values
    for given in (y, y[None], y.astype(np.float64)):
        found = loaded(given, SR, outputs="timeline")
        assert found.shape == (1, 22, 2)
        np.testing.assert_allclose(found[0], expected, atol=1e-4)
    everything = loaded(y, SR)
    assert sorted(everything) == ["attention", "features", "prediction", "timeline"]
    np.testing.assert_array_equal(everything["timeline"], found)
    assert loaded.labels(["timeline", "prediction"]) == ["valence", "arousal"] * 2


def test_the_folder_can_be_moved_and_written_again(
    folder: Path, loaded: Any, tmp_path: Path
) -> None:
    assert sorted(file.name for file in folder.iterdir()) == ["model.onnx", "model.yaml"]
    moved = folder.rename(tmp_path / "moved")
    y = speech(7)
    again = audonnx.load(str(moved))
    np.testing.assert_array_equal(
        again(y, SR, outputs="timeline"), loaded(y, SR, outputs="timeline")
    )
    again.to_yaml(str(moved / "model.yaml"))
    np.testing.assert_array_equal(
        audonnx.load(str(moved))(y, SR, outputs="timeline"),
        loaded(y, SR, outputs="timeline"),
    )
    moved.rename(folder)


@pytest.mark.parametrize(
    ("y", "sr", "says"),
    [
        (speech(3), 44_100, "Sound at 44100 Hz was found. Expected 16000 Hz"),
        (np.stack([speech(3)] * 2), SR, r"shape \(2, 48000\) was found. Expected one channel"),
        ((2**14 * speech(3)).astype(np.int16), SR, "dtype int16 were found"),
        (speech(3), None, "could not be matched"),
    ],
)
def test_sound_that_audonnx_would_misread_is_refused(
    loaded: Any, y: np.ndarray, sr: int | None, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        loaded(y, sr)


def test_the_transform_gives_one_row_of_float32() -> None:
    found = require_mono(np.ones(5), 8000, sr=8000)
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == ((1, 5), np.float32)


def test_a_file_of_somebody_else_stays(predictor: Predictor, tmp_path: Path) -> None:
    given = (predictor.model, predictor.description, own_head(predictor.model))
    folder = Location.parse(tmp_path)
    (tmp_path / "model.yaml").write_text("somebody's")
    with pytest.raises(StaleError, match=r"model.yaml' exists, and holds something .*--overwrite"):
        export_audonnx(folder, *given)
    assert [file.name for file in tmp_path.iterdir()] == ["model.yaml"]
    export_audonnx(folder, *given, overwrite=True)
    export_audonnx(folder, *given)
