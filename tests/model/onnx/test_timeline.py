"""The graph that takes samples against the predictor: real speech, all lengths, odd samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from tests.helpers.hearing import SR, make_predictor, small_config, speech
from valence.audio.standardization import Scope, Standardizer
from valence.errors import AudioError, UsageError
from valence.model.inference import sequence_outputs
from valence.model.network import FeatureInput, ValenceModel
from valence.model.onnx import timeline
from valence.model.onnx.export import export_onnx
from valence.model.onnx.regressors import regressor_head
from valence.model.serialization import export_model
from valence.prediction.predictor import Predictor
from valence.storage.location import Location
from valence.sweep.kept.serialization import Regressor

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

Session = Any


def _session(predictor: Predictor, file: Path) -> Session:
    export_onnx(Location.parse(file), predictor.model, predictor.description, takes="samples")
    return onnxruntime.InferenceSession(str(file))


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return make_predictor(tmp_path_factory.mktemp("model"), small_config())


@pytest.fixture(scope="module")
def session(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Session:
    return _session(predictor, tmp_path_factory.mktemp("onnx") / "model.onnx")


def _timeline(session: Session, y: np.ndarray) -> np.ndarray:
    (found,) = session.run(["timeline"], {"audio": np.atleast_2d(y)})
    return found


def test_the_graph_says_what_it_takes_and_gives(session: Session, predictor: Predictor) -> None:
    (given,) = session.get_inputs()
    assert (given.name, given.shape, given.type) == (
        "audio",
        ["batch", "samples"],
        "tensor(float)",
    )
    assert [(each.name, each.shape) for each in session.get_outputs()] == [
        ("timeline", ["batch", "segments", 1]),
        ("prediction", ["batch", "sequences", 1]),
        ("features", ["batch", "sequences", 32]),
        ("attention", ["batch", "sequences", "length"]),
    ]
    about = json.loads(session.get_modelmeta().custom_metadata_map["valence"])
    assert (about["input"], about["targets"]) == ("samples", ["valence"])
    assert about["sha256"] == predictor.description.sha256
    assert about["config"]["preprocess"]["sr"] == SR


@pytest.mark.parametrize("segments", [1, 2, 11, 12, 13, 30])
@pytest.mark.parametrize("rest", [0, 1, 7999])
def test_any_length_gives_the_timeline(
    session: Session, predictor: Predictor, segments: int, rest: int
) -> None:
    y = speech((8000 * segments + rest) / SR)
    expected = predictor(y, sr=SR)
    found = _timeline(session, y)
    assert found.shape == (1, segments, 1)
    np.testing.assert_allclose(found[0], expected.values, atol=1e-4)
    assert segments < 13 or np.ptp(found) > 0.01


@pytest.mark.parametrize(
    "assignments",
    [
        ["preprocess.level=rms", "preprocess.level_dbfs=-20.0"],
        ["preprocess.dtype=float32", "model.lstm_layers=1"],
        ["model.lstm_layers=3", 'model.targets=["valence", "arousal"]'],
        ["preprocess.segment_seconds=0.25", "mel.n_frames=17", "mel.n_mels=40"],
        ["sequence.length=1", "mel.n_fft=512", "mel.hop_length=250"],
    ],
    ids=["rms", "one layer", "two targets", "short segments", "sequences of one"],
)
def test_other_settings_give_their_timelines(assignments: list[str], tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path / "model", small_config(*assignments))
    y = speech(11.3)
    found = _timeline(_session(predictor, tmp_path / "model.onnx"), y)
    np.testing.assert_allclose(found[0], predictor(y, sr=SR).values, atol=1e-4)
    assert np.ptp(found, axis=1).min() > 0.01


@pytest.mark.parametrize("scope", ["mel_band", "segment_minmax"])
def test_other_standardisations_give_their_timelines(scope: Scope, tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path / "model", small_config(), scope)
    y = speech(11.3)
    y[8000:16_000] = 0
    found = _timeline(_session(predictor, tmp_path / "model.onnx"), y)
    np.testing.assert_allclose(found[0], predictor(y, sr=SR).values, atol=2e-4)


def test_recordings_of_a_batch_do_not_touch_each_other(
    session: Session, predictor: Predictor
) -> None:
    batch = np.stack([speech(9.2, seed) * (1 + seed) for seed in range(3)])
    batch[1] = batch[1][::-1]
    found = session.run(None, {"audio": batch})
    for place, y in enumerate(batch):
        np.testing.assert_allclose(found[0][place], predictor(y, sr=SR).values, atol=1e-4)
        alone = session.run(None, {"audio": y[None]})
        for together, each in zip(found, alone, strict=True):
            np.testing.assert_allclose(together[place], each[0], atol=1e-5)


def test_blocks_leave_no_seam(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "_SEGMENTS_AT_ONCE", 5)
    monkeypatch.setattr(timeline, "_SEQUENCES_AT_ONCE", 4)
    session = _session(predictor, tmp_path / "model.onnx")
    for segments in (4, 5, 15, 16, 41):
        y = speech(segments / 2)
        np.testing.assert_allclose(
            _timeline(session, np.stack([y, -2 * y[::-1]]))[0],
            predictor(y, sr=SR).values,
            atol=1e-4,
        )


def test_real_speech_at_every_border(
    session: Session, predictor: Predictor, nemo: Location
) -> None:
    """Recordings of people, also of one to fourteen segments, and cut anywhere."""
    differences = []
    for name in ("1", "9_devel"):
        y, sr = soundfile.read(f"{nemo}/raw_data/audio/{name}.flac", dtype="float32")
        assert sr == SR
        parts = [y[: 45 * SR], y[SR // 3 : 13 * SR]]
        parts += [y[5 * SR : 5 * SR + 8000 * n + 77 * n] for n in range(1, 15)]
        for part in parts:
            expected = predictor(part, sr=SR).values
            found = _timeline(session, part)[0]
            assert found.shape == expected.shape
            differences.append(np.abs(found - expected).max())
        assert np.ptp(predictor(parts[0], sr=SR).values) > 0.05
    assert len(differences) == 32
    assert max(differences) < 1e-3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 50_000, -1])
def test_samples_that_are_not_finite_mark_their_recording_alone(
    session: Session, predictor: Predictor, value: float, place: int
) -> None:
    """The last sample lies behind the last whole segment, and the predictor refuses it, too."""
    batch = np.stack([speech(8.2), speech(8.2, seed=1)])
    batch[0, place] = value
    for found in session.run(None, {"audio": batch}):
        assert np.isnan(found[0]).all()
        assert np.isfinite(found[1]).all()
    with pytest.raises(AudioError, match="NaN or infinite"):
        predictor(batch[0], sr=SR)
    found = _timeline(session, batch)[1]
    np.testing.assert_allclose(found, predictor(batch[1], sr=SR).values, atol=1e-4)


def test_silence_is_marked_and_a_silent_segment_is_not(
    session: Session, predictor: Predictor
) -> None:
    y = speech(8.2)
    y[16_000:40_000] = 0
    found = _timeline(session, np.stack([np.zeros_like(y), y]))
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], predictor(y, sr=SR).values, atol=1e-4)
    with pytest.raises(AudioError, match="silent"):
        predictor(np.zeros_like(y), sr=SR)


@pytest.mark.parametrize("samples", [0, 1, 7999])
def test_less_than_a_segment_is_an_error_that_says_so(session: Session, samples: int) -> None:
    with pytest.raises(Exception, match="at_least_one_segment_of_8000_samples"):
        session.run(None, {"audio": np.ones((1, samples), np.float32)})


def test_loud_and_faint_recordings_give_the_same(session: Session) -> None:
    y = speech(9)
    expected = _timeline(session, y)
    for factor in (1e-30, 1e-3, 3e4, 1e30):
        found = _timeline(session, (y * np.float32(factor)))
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_regressor_predicts_the_timeline_from_the_features(
    predictor: Predictor, tmp_path: Path
) -> None:
    """Through samples and through mel, with a regressor whose values differ from the head's."""
    mel = predictor.mel(speech(60, seed=4))
    outputs = sequence_outputs(predictor.model, mel, np.arange(len(mel) - 12), 12)
    wanted = np.sin(np.arange(len(outputs.feature)) / 9)
    pipeline = Pipeline([("scale", StandardScaler()), ("svr", SVR(C=3.0))])
    pipeline.fit(outputs.feature.astype(np.float64), wanted)
    about = {"columns": 32, "target": "arousal", "steps": {}}
    best = Predictor(predictor.model, predictor.description, Regressor(pipeline, about))
    head = regressor_head(pipeline, target="arousal", about={"steps": "a scaler and an SVR"})
    file = Location.parse(tmp_path / "model.onnx")
    export_onnx(file, predictor.model, predictor.description, takes="samples", head=head)
    session = onnxruntime.InferenceSession(str(file))
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["valence"])
    assert metadata["targets"] == ["arousal"]
    assert metadata["regressor"] == {"steps": "a scaler and an SVR"}
    y = speech(20)
    expected = best(y, sr=SR).values
    assert np.abs(expected - predictor(y, sr=SR).values).max() > 0.05
    np.testing.assert_allclose(_timeline(session, y)[0], expected, atol=1e-3)

    export_onnx(
        file, predictor.model, predictor.description, takes="mel", head=head, overwrite=True
    )
    given = mel[None, 5:17].astype(np.float32)
    found = onnxruntime.InferenceSession(str(file)).run(["prediction"], {"mel": given})[0]
    np.testing.assert_allclose(found[:, 0], pipeline.predict(outputs.feature[5:6]), atol=1e-3)


def test_a_model_that_takes_features_has_no_ears(tmp_path: Path) -> None:
    config = small_config("model.input=egemaps")
    features = FeatureInput("egemaps", ("loudness", "pitch"), "a" * 64)
    ones = np.ones(2, np.float32)
    model = ValenceModel(
        config.model, n_mels=128, n_frames=34, standardizer=Standardizer("column", ones, ones)
    )
    folder = Location.parse(tmp_path / "model")
    export_model(folder, model, config, {}, features)
    made = Predictor.load(folder)
    file = Location.parse(tmp_path / "model.onnx")
    for takes in ("samples", "mel"):
        with pytest.raises(UsageError, match=f"'egemaps', and its graph was asked to take {takes}"):
            export_onnx(file, made.model, made.description, takes=takes)
    assert not file.exists()
    export_onnx(file, made.model, made.description, takes="set")
    assert file.exists()


def test_a_model_that_hears_takes_no_features(predictor: Predictor, tmp_path: Path) -> None:
    file = Location.parse(tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="takes sound"):
        export_onnx(file, predictor.model, predictor.description, takes="set")
