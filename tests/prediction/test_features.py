"""Predictions of a model that takes features: what it needs, what it refuses, what it remarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from pipelines import predict as stage
from tests.helpers.consoles import RecordedConsole
from tests.helpers.feature_sets import COLUMNS, taking, write_features
from valence import Predictor
from valence.audio.standardization import Standardizer
from valence.config import Config
from valence.errors import CorpusError, FeatureError, UsageError
from valence.model.network import FeatureInput, ValenceModel
from valence.model.serialization import export_model
from valence.prediction.averaging import OverlapAverage
from valence.storage.location import Location

SR = 16_000
_TAKEN = FeatureInput("toy", COLUMNS, "b" * 64)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config) -> Location:
    """A model that was not trained, and whose head says something of its input."""
    torch.manual_seed(1)
    config = taking(tiny_config)
    mean = np.arange(5, dtype=np.float32)
    standardizer = Standardizer("column", mean, mean + 1)
    made = ValenceModel(config.model, n_mels=128, n_frames=34, standardizer=standardizer)
    torch.nn.init.normal_(made.output.weight, std=2)
    folder = Location.parse(tmp_path_factory.mktemp("run") / "model")
    export_model(folder, made, config, {}, _TAKEN)
    return folder


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config) -> Location:
    """A model that takes mel."""
    standardizer = Standardizer("global", np.array([-20], np.float32), np.array([15], np.float32))
    made = ValenceModel(tiny_config.model, n_mels=128, n_frames=34, standardizer=standardizer)
    folder = Location.parse(tmp_path_factory.mktemp("run") / "model")
    export_model(folder, made, tiny_config, {})
    return folder


def _sound(seconds: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal(round(seconds * SR))).astype(np.float32)


def _features(segments: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.normal(np.arange(5), np.arange(5) + 1, (segments, 5)).astype(np.float32)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    folder = tmp_path / "audio"
    folder.mkdir()
    for name, seconds in (("a", 14.2), ("b", 6)):
        soundfile.write(folder / f"{name}.wav", _sound(seconds), SR)
    return folder


@pytest.fixture
def features(tmp_path: Path) -> Location:
    folder = Location.parse(tmp_path / "features")
    write_features(folder, "a", _features(28))
    write_features(folder, "b", _features(12, seed=1))
    return folder


def _naive(predictor: Predictor, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the predictions of all windows over a segment."""
    length = predictor.config.sequence.length
    average = OverlapAverage(1, length)
    for start in range(len(values) - length + 1):
        with torch.no_grad():
            found = predictor.model(torch.from_numpy(values[None, start : start + length]))
        average.add(np.array([start]), found.numpy())
    return average.values(len(values))


def test_a_timeline_is_the_average_over_windows_of_the_features(model: Location) -> None:
    predictor, values = Predictor.load(model), _features(33)
    timeline = predictor(_sound(16.7), sr=SR, features=values)
    assert len(timeline) == 33
    assert timeline.remarks == ()
    np.testing.assert_allclose(timeline.values, _naive(predictor, values), atol=1e-5)
    # The sound is heard by nobody: it is drawn, and says how many segments there are.
    louder = predictor(0.3 * _sound(16.7), sr=SR, features=values.tolist())
    np.testing.assert_array_equal(louder.values, timeline.values)
    short = predictor(_sound(3), sr=SR, features=values[:6])
    assert short.short
    with torch.no_grad():
        expected = predictor.model(torch.from_numpy(values[None, :6])).numpy()
    np.testing.assert_allclose(short.values, np.repeat(expected, 6, axis=0), atol=1e-6)


def test_missing_values_are_the_mean_of_the_training_and_remarked(model: Location) -> None:
    predictor, values = Predictor.load(model), _features(33)
    values[4] = np.nan
    values[9, 1] = np.nan
    timeline = predictor(_sound(16.7), sr=SR, features=values)
    assert timeline.remarks == (
        "2 of 33 segments lack features: the training's mean stands for them",
    )
    filled = np.where(np.isnan(values), predictor.model.standardizer.mean, values)
    again = predictor(_sound(16.7), sr=SR, features=filled)
    np.testing.assert_allclose(timeline.values, again.values, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda values: values[:-1], r"shape \[32, 5\] were found\. Expected \[33, 5\]"),
        (lambda values: values[:, :-1], r"shape \[33, 4\]"),
        (lambda values: values[0], r"shape \[5\]"),
        (lambda values: values * np.nan, "no value at all"),
        (lambda values: values.astype(np.float64) * 1e300, "an infinite value"),
        (lambda values: [["a"]], "no numbers"),
    ],
)
def test_features_of_another_form_are_refused(
    model: Location, change: Callable[[NDArray[np.float32]], Any], says: str
) -> None:
    with pytest.raises(FeatureError, match=says):
        Predictor.load(model)(_sound(16.7), sr=SR, features=change(_features(33)))


def test_a_model_without_its_input_is_refused_in_words(
    model: Location, hearing: Location, audio: Path, features: Location, tmp_path: Path
) -> None:
    needs = r"takes the feature set 'toy' \(5 columns\).*--features"
    with pytest.raises(UsageError, match=needs):
        Predictor.load(model)(_sound(16.7), sr=SR)
    with pytest.raises(UsageError, match="the model takes none"):
        Predictor.load(hearing)(_sound(16.7), sr=SR, features=_features(33))
    out, console = tmp_path / "out", RecordedConsole()
    with pytest.raises(UsageError, match=needs):
        stage.predict([str(audio)], model, Location.parse(out), console=console)
    with pytest.raises(UsageError, match="the model takes none"):
        stage.predict(
            [str(audio)], hearing, Location.parse(out), features=features, console=console
        )
    assert not out.exists()


def _predict(audio: Path, model: Location, out: Path, features: Location) -> dict[str, Any]:
    return stage.predict(
        [str(audio)], model, Location.parse(out), features=features, console=RecordedConsole()
    )


@pytest.mark.parametrize("inside", ["", "feature_segments/toy", "toy"])
def test_files_are_predicted_from_the_features_beside_them(
    model: Location, audio: Path, tmp_path: Path, inside: str
) -> None:
    folder = Location.parse(tmp_path / "features")
    place = folder / inside if inside else folder
    write_features(place, "a", _features(28))
    # The columns may stand in another order.
    write_features(place, "b", _features(12, seed=1)[:, ::-1], columns=COLUMNS[::-1])
    summary = _predict(audio, model, tmp_path / "out", folder)
    assert [row["status"] for row in summary["recordings"]] == ["ok", "ok"]
    predictor = Predictor.load(model)
    found = pd.read_csv(tmp_path / "out" / "a.csv")["valence"].to_numpy()
    np.testing.assert_allclose(found, _naive(predictor, _features(28))[:, 0], atol=1e-5)
    found = pd.read_csv(tmp_path / "out" / "b.csv")["valence"].to_numpy()
    expected = predictor(_sound(6), sr=SR, features=_features(12, seed=1))
    np.testing.assert_allclose(found[:, None], expected.values, atol=1e-6)


def test_changed_features_are_another_input(
    model: Location, audio: Path, features: Location, tmp_path: Path
) -> None:
    first = _predict(audio, model, tmp_path / "out", features)
    again = _predict(audio, model, tmp_path / "out", features)
    assert [row["status"] for row in first["recordings"]] == ["ok", "ok"]
    assert [row["status"] for row in again["recordings"]] == ["skipped", "skipped"]
    write_features(features, "b", _features(12, seed=2))
    with pytest.raises(Exception, match="another model, sound"):
        _predict(audio, model, tmp_path / "out", features)


def test_recordings_whose_features_cannot_be_used_are_set_aside(
    model: Location, audio: Path, features: Location, tmp_path: Path
) -> None:
    (features / "a.csv").delete()
    write_features(features, "b", _features(12)[:, :4], columns=COLUMNS[:4])
    with pytest.raises(CorpusError, match="no file for the recording 'a'"):
        _predict(audio, model, tmp_path / "out", features)
    write_features(features, "a", _features(28))
    rows = _predict(audio, model, tmp_path / "out", features)["recordings"]
    assert [row["status"] for row in rows] == ["ok", "failed"]
    says = "has 4 features and lacks 'slope'. Expected the 5 columns of the model's input"
    assert says in rows[1]["reason"]
    assert not (tmp_path / "out" / "b.csv").exists()


def test_features_that_begin_as_those_of_the_training_did_not_are_set_aside(
    model: Location, audio: Path, features: Location, tmp_path: Path
) -> None:
    """A file that lost its first row begins like one that states the ends of segments."""
    lines = (features / "a.csv").read_text().splitlines()
    (features / "a.csv").write_text("\n".join([lines[0], *lines[2:], ""]))
    rows = _predict(audio, model, tmp_path / "out", features)["recordings"]
    assert [row["status"] for row in rows] == ["failed", "ok"]
    assert "begins at 500 ms, and the files of the model's input at 0 ms" in rows[0]["reason"]


@pytest.mark.usefixtures("speech_by_energy")
def test_features_of_other_length_are_remarked(
    model: Location, audio: Path, features: Location, tmp_path: Path
) -> None:
    write_features(features, "a", _features(20))
    write_features(features, "b", _features(20))
    rows = _predict(audio, model, tmp_path / "out", features)["recordings"]
    assert rows[0]["remarks"] == [
        "8 of 28 segments lack features: the training's mean stands for them",
        "'a.csv' is 4 s shorter than the recording",
    ]
    assert rows[1]["remarks"] == ["'b.csv' is 4 s longer than the recording"]


def test_a_folder_without_features_is_refused(model: Location, audio: Path, tmp_path: Path) -> None:
    for folder in (audio, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="holds no features"):
            _predict(audio, model, tmp_path / "out", Location.parse(folder))


def test_namesakes_have_no_features_of_their_own(
    model: Location, audio: Path, features: Location, tmp_path: Path
) -> None:
    (audio / "a.flac").write_bytes((audio / "a.wav").read_bytes())
    rows = _predict(audio, model, tmp_path / "out", features)["recordings"]
    status = {Path(row["audio"]).name: (row["status"], row["reason"]) for row in rows}
    assert status["b.wav"][0] == "ok"
    for name in ("a.wav", "a.flac"):
        assert status[name][0] == "failed"
        assert "2 recordings are called 'a'" in status[name][1]
