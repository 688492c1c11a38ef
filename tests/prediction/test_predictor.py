"""Timelines against the naive average over windows, and against what training's stages store."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from tests.helpers.random_models import export_random
from valence import Predictor
from valence.audio.decoding import read_audio
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.errors import AudioError, DamagedError, MissingStageError, ModelError
from valence.model.inference import sequence_outputs
from valence.prediction.averaging import OverlapAverage
from valence.run import Run
from valence.segments.preprocessing import Job, process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location
from valence.sweep.kept.serialization import REGRESSOR_FILES, save_regressor

SR = 16_000


def _export(folder: Path, config: Config) -> Location:
    location = Location.parse(folder)
    export_random(location, config, corpus=None)
    return location


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config) -> Location:
    return _export(tmp_path_factory.mktemp("run") / "model", tiny_config)


@pytest.fixture(scope="module")
def predictor(model_folder: Location) -> Predictor:
    return Predictor.load(model_folder)


def _speech(seconds: float, *, sr: int = SR, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sr)) / sr
    voice = np.sin(2 * np.pi * (140 + 40 * np.sin(2 * np.pi * 0.2 * time)) * time)
    return (0.3 * voice + 0.05 * rng.standard_normal(len(time))).astype(np.float32)


def _naive(predictor: Predictor, y: np.ndarray) -> np.ndarray:
    """Each segment's mean over the windows that hold it."""
    length, mel = predictor.config.sequence.length, predictor.mel(y)
    said: list[list[np.ndarray]] = [[] for _ in mel]
    for start in range(len(mel) - length + 1):
        outputs = sequence_outputs(predictor.model, mel, np.array([start]), length)
        prediction = outputs.prediction[0]
        if predictor.regressor is not None:
            prediction = predictor.regressor.pipeline.predict(outputs.feature)
        for segment in range(start, start + length):
            said[segment].append(prediction)
    return np.array([np.mean(each, axis=0) for each in said])


@pytest.mark.parametrize("segments", [20, 24, 41, 73])
def test_overlapping_windows_are_averaged_with_equal_weights(
    predictor: Predictor, segments: int
) -> None:
    y = _speech(segments / 2 + 0.3)
    timeline = predictor(y, sr=SR)
    assert timeline.values.shape == (segments, 1)
    np.testing.assert_allclose(timeline.time, 0.5 * np.arange(segments))
    np.testing.assert_allclose(timeline.values, _naive(predictor, y), atol=1e-5)
    assert np.ptp(timeline.values) > (0.01 if segments > 24 else -1)
    assert not timeline.short


def test_average_by_hand() -> None:
    average = OverlapAverage(2, 3)
    average.add(np.array([0, 2]), np.array([[1, 10], [5, 30]], np.float32))
    values = average.values(5)
    assert values.tolist() == [[1, 10], [1, 10], [3, 20], [5, 30], [5, 30]]


@settings(max_examples=40, deadline=None)
@given(n=st.integers(5, 40), length=st.integers(1, 5), seed=st.integers(0, 99))
def test_average_is_the_naive_one(n: int, length: int, seed: int) -> None:
    starts = np.arange(n - length + 1)
    predictions = np.random.default_rng(seed).standard_normal((len(starts), 2)).astype(np.float32)
    average = OverlapAverage(2, length)
    for part in np.array_split(starts, 3):
        if len(part):
            average.add(part, predictions[part])
    values = average.values(n)
    for segment in range(n):
        holding = (starts <= segment) & (segment < starts + length)
        np.testing.assert_allclose(values[segment], predictions[holding].mean(axis=0), atol=1e-6)


def test_it_predicts_what_preprocessing_and_extraction_give(
    predictor: Predictor, tiny_corpus: Location, tiny_config: Config, tmp_path: Path
) -> None:
    """The mel of the store, its windows' predictions, and the timeline agree within 1e-4."""
    recording = read_corpus(tiny_corpus).recordings[0]
    store = SegmentStore(Location.parse(tmp_path))
    assert process_recording(Job(recording, "test", 0), store, tiny_config).status == "ok"
    mel = store.read(recording.id).mel
    np.testing.assert_array_equal(predictor.mel(read_audio(recording.audio, sr=SR)), mel)
    length = tiny_config.sequence.length
    starts = np.arange(len(mel) - length + 1)
    stored = sequence_outputs(predictor.model, mel, starts, length).prediction
    average = OverlapAverage(1, length)
    average.add(starts, stored)
    timeline = predictor.predict_file(recording.audio)
    np.testing.assert_allclose(timeline.values, average.values(len(mel)), atol=1e-4)


def test_long_recordings_are_predicted_in_blocks(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    y = _speech(61)
    whole = predictor(y, sr=SR)
    monkeypatch.setattr("valence.prediction.predictor._BLOCK_SEGMENTS", 20)
    np.testing.assert_allclose(predictor(y, sr=SR).values, whole.values, atol=1e-6)
    np.testing.assert_array_equal(predictor(y, sr=SR).envelope, whole.envelope)


def test_rate_channels_and_level_do_not_matter(predictor: Predictor, tmp_path: Path) -> None:
    y = librosa.resample(_speech(25, sr=48_000), orig_sr=48_000, target_sr=44_100)
    ours = predictor(y, sr=44_100)
    stereo = np.stack([y, y]) * 1000
    np.testing.assert_allclose(predictor(stereo, sr=44_100).values, ours.values, atol=1e-3)
    file = tmp_path / "stereo.flac"
    soundfile.write(file, np.stack([y, y], axis=1), 44_100)
    from_file = predictor.predict_file(Location.parse(file))
    np.testing.assert_allclose(from_file.values, ours.values, atol=1e-2)
    assert from_file.to_frame().columns.tolist() == [
        *("timestamp", "valence", "end", "speech", "remarks")
    ]
    assert "2 channels" in from_file.to_frame()["remarks"][0]
    assert from_file.to_frame()["timestamp"].tolist()[:3] == [0, 500, 1000]


def test_a_short_recording_has_one_value_and_is_marked(predictor: Predictor) -> None:
    y = _speech(4.2)
    timeline = predictor(y, sr=SR)
    assert timeline.short
    assert len(timeline) == 8
    mel = predictor.mel(y)
    expected = sequence_outputs(predictor.model, mel, np.zeros(1, np.int64), 8).prediction[0]
    np.testing.assert_allclose(timeline.values, np.tile(expected, (8, 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.ones(7999, np.float32), "shorter than 0.5 s"),
        (np.zeros(0, np.float32), "shorter than 0.5 s"),
        (np.zeros(9000, np.float32), "silent"),
        (np.full(9000, np.nan, np.float32), "NaN"),
        (np.zeros((2, 3, 4), np.float32), r"shape \(2, 3, 4\)"),
        (np.ones((48_000, 2), np.float32), r"give y\.T"),
        (np.ones((2, 0), np.float32), r"shape \(2, 0\)"),
        (np.float32(3), r"shape \(\)"),
        ([[0.0, 1.0], [2.0]], "no numbers"),
    ],
)
def test_what_cannot_be_predicted_is_said(predictor: Predictor, y: np.ndarray, said: str) -> None:
    with pytest.raises(AudioError, match=said):
        predictor(y, sr=SR)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "i2", "i4", ">i2", ">i4"])
def test_samples_of_each_dtype_are_those_of_the_floats(predictor: Predictor, dtype: str) -> None:
    """Sound of sixteenths has the same values in all of them."""
    y = np.rint(8 * _speech(11)) / 16
    kind = np.dtype(dtype)
    scale = 2.0 ** (8 * kind.itemsize - 1) if kind.kind == "i" else 1
    expected = predictor(y.astype(np.float32), sr=SR).values
    given = np.repeat(y * scale, 2).astype(kind)[::2]
    given.flags.writeable = False
    assert not given.flags.c_contiguous
    np.testing.assert_array_equal(predictor(given, sr=SR).values, expected)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i8", "?", "c8", "O", "U4", "M8[s]"])
def test_samples_of_other_dtypes_are_refused(predictor: Predictor, dtype: str) -> None:
    with pytest.raises(TypeError, match="Expected float16, float32, float64, int16 or int32"):
        predictor(np.ones(16_000).astype(np.int64).astype(dtype), sr=SR)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i1", "i8", "?"])
@pytest.mark.parametrize("form", [list, lambda y: [y], lambda y: (y, y), lambda y: [[list(y)]]])
def test_a_list_hides_no_dtype(predictor: Predictor, dtype: str, form: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="Expected float16, float32, float64, int16 or int32"):
        predictor(form(np.ones(16_000, dtype)), sr=SR)


def test_a_list_of_arrays_is_the_array(predictor: Predictor) -> None:
    y = np.rint(8 * _speech(11)) / 16
    whole, floats = (y * 2**15).astype(np.int16), y.astype(np.float32)
    expected = predictor(floats, sr=SR).values
    swapped = whole.astype(">i2")
    for form in ([whole], list(whole), [whole, swapped], [floats, y], [*floats[:-1], y[-1]]):
        np.testing.assert_array_equal(predictor(form, sr=SR).values, expected)
    np.testing.assert_array_equal(
        predictor(np.sign(y).astype(int).tolist(), sr=SR).values,
        predictor(np.sign(y), sr=SR).values,
    )


def test_lists_without_one_full_scale_are_refused(predictor: Predictor) -> None:
    y = np.rint(20_000 * _speech(3))
    for form in (
        [y.astype(np.int16), y.astype(np.int32)],
        [y.astype(np.int16), y / 2**15],
        [y.astype(np.int8), y.astype(np.uint8)],
        [np.int16(3), 0.5] * 8000,
        [np.int16(3), 1] * 8000,
    ):
        with pytest.raises(TypeError, match="of several dtypes was found"):
            predictor(form, sr=SR)
    with pytest.raises(TypeError, match=r"whole numbers from 0 to 255 was found"):
        predictor([0, 128, 255] * 8000, sr=SR)


def test_channels_in_opposite_phase(predictor: Predictor) -> None:
    y = _speech(12)
    timeline = predictor(np.stack([y, -y]), sr=SR)
    np.testing.assert_array_equal(timeline.values, predictor(y, sr=SR).values)
    assert "cancel each other" in timeline.remarks[0]


def test_what_the_model_was_not_trained_on_is_remarked(
    predictor: Predictor, tmp_path: Path
) -> None:
    y = _speech(12, sr=8000)
    expected = (
        "its sample rate of 8000 Hz is below 16000 Hz: it holds nothing above 4000 Hz",
        "its 2 channels were mixed to one, their mean",
    )
    both = np.stack([y, y])
    assert predictor(both, sr=8000).remarks == expected
    soundfile.write(tmp_path / "a.wav", both.T, 8000)
    assert predictor.predict_file(Location.parse(tmp_path / "a.wav")).remarks == expected
    assert predictor(_speech(12), sr=SR).remarks == ()


def test_the_models_own_channel_is_taken(model_folder: Location, predictor: Predictor) -> None:
    sections = predictor.config
    chosen = Predictor(
        predictor.model,
        replace(
            predictor.description,
            config=sections.model_copy(
                update={"preprocess": sections.preprocess.model_copy(update={"channel": 1})}
            ),
        ),
    )
    y = _speech(12)
    timeline = chosen(np.stack([_speech(12, seed=1), y]), sr=SR)
    np.testing.assert_array_equal(timeline.values, predictor(y, sr=SR).values)
    with pytest.raises(AudioError, match=r"array of 1 channel"):
        chosen(y[None], sr=SR)


@pytest.mark.parametrize("sr", [0, True, -16_000, float("nan"), float("inf"), None, "16000"])
def test_a_rate_that_is_none_is_said(predictor: Predictor, sr: Any) -> None:
    with pytest.raises(AudioError, match="sample rate"):
        predictor(np.ones(32_000, np.float32), sr=sr)


def test_two_targets(tmp_path: Path, tiny_config: Config) -> None:
    config = Config.resolve(tiny_config, assignments=['model.targets=["valence","arousal"]'])
    predictor = Predictor.load(_export(tmp_path, config))
    frame = predictor(_speech(12), sr=SR).to_frame()
    assert frame.columns.tolist() == ["timestamp", "valence", "arousal", "end", "speech"]
    assert abs(frame["valence"] - frame["arousal"]).min() > 0


def test_a_run_and_its_model_folder_are_the_same(
    model_folder: Location, predictor: Predictor
) -> None:
    root = str(model_folder.local.parent)
    y = _speech(11)
    for found in (Predictor.load(root), Predictor.load(Run.at(root))):
        np.testing.assert_array_equal(found(y, sr=SR).values, predictor(y, sr=SR).values)


def test_a_model_works_where_it_is_told(
    model_folder: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where torch sees a GPU that is another's."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    found = Predictor.load(str(model_folder), device="cpu")
    assert {each.device.type for each in found.model.parameters()} == {"cpu"}


def test_a_damaged_or_absent_model_is_an_error(tmp_path: Path, tiny_config: Config) -> None:
    with pytest.raises(ModelError, match="holds no model"):
        Predictor.load(tmp_path)
    folder = _export(tmp_path / "model", tiny_config)
    weights = folder.local / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-9])
    with pytest.raises(ModelError, match="damaged"):
        Predictor.load(tmp_path)
    weights.write_bytes(good)
    description = folder.local / "model.json"
    content = json.loads(description.read_text())
    content["config"]["sequence"]["length"] = 3
    description.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="damaged"):
        Predictor.load(tmp_path)


def _add_best(root: Location, predictor: Predictor, *, model: str | None = None) -> None:
    """A regressor fitted to the model's own features, where a sweep leaves its best."""
    mel = predictor.mel(_speech(60, seed=5))
    length = predictor.config.sequence.length
    starts = np.arange(len(mel) - length + 1)
    features = sequence_outputs(predictor.model, mel, starts, length).feature
    pipeline = Pipeline([("scaler", StandardScaler()), ("regressor", Ridge())])
    sweep = Run(root).stage("sweep")
    sweep.begin({"features": "of the model"})
    save_regressor(
        sweep.folder / "best",
        pipeline.fit(features.astype(np.float64), np.sin(starts / 9)),
        columns=features.shape[1],
        about={"model": model or predictor.description.sha256, "target": "valence", "steps": {}},
    )
    sweep.finish({}, [f"best/{name}" for name in REGRESSOR_FILES])


def test_the_best_regressor_predicts_from_the_same_features(
    tmp_path: Path, tiny_config: Config
) -> None:
    config = Config.resolve(tiny_config, assignments=['model.targets=["valence","arousal"]'])
    _export(tmp_path / "model", config)
    deep = Predictor.load(tmp_path)
    with pytest.raises(ModelError, match="holds no regressor"):
        Predictor.load(tmp_path, regressor="best")
    _add_best(Location.parse(tmp_path), deep)
    best = Predictor.load(tmp_path, regressor="best")
    y = _speech(25)
    timeline = best(y, sr=SR)
    assert timeline.targets == ("valence",)
    np.testing.assert_allclose(timeline.values, _naive(best, y), atol=1e-5)
    assert np.abs(timeline.values[:, 0] - deep(y, sr=SR).values[:, 0]).max() > 0.01
    short = best(y[: 3 * SR], sr=SR)
    assert short.short
    assert len(short) == 6


def test_a_regressor_of_another_model_is_refused(tmp_path: Path, tiny_config: Config) -> None:
    _export(tmp_path / "model", tiny_config)
    _add_best(Location.parse(tmp_path), Predictor.load(tmp_path), model="f" * 64)
    with pytest.raises(ModelError, match="features of another model"):
        Predictor.load(tmp_path, regressor="best")


def test_a_regressor_of_another_sweep_or_of_none_is_refused(
    tmp_path: Path, tiny_config: Config
) -> None:
    _export(tmp_path / "model", tiny_config)
    root = Location.parse(tmp_path)
    _add_best(root, Predictor.load(tmp_path))
    best = root / "sweep" / "best"
    whole = Predictor.load(tmp_path, regressor="best").regressor
    assert whole is not None
    # Whole in itself, of the same model and features.
    other = Pipeline([("regressor", Ridge())]).fit(np.eye(64), np.arange(64.0))
    save_regressor(
        best,
        other,
        columns=64,
        about={key: whole.about[key] for key in ("model", "target", "steps")},
    )
    with pytest.raises(ModelError, match=r"not the one that its stage\.json gives.*sweep"):
        Predictor.load(tmp_path, regressor="best")
    Run(root).stage("sweep").file.delete()
    # Copied out of a run without records, whole ones are told by the model's digest alone.
    steps = {key: whole.about[key] for key in ("model", "target", "steps")}
    save_regressor(best, whole.pipeline, columns=whole.about["columns"], about=steps)
    assert Predictor.load(tmp_path, regressor="best").regressor is not None
    Run(root).write_config(tiny_config, {"corpus": "c", "synthetic": True})
    with pytest.raises(DamagedError, match=r"sweep/stage\.json' is missing .*valence sweep"):
        Predictor.load(tmp_path, regressor="best")
    Run(root).stage("sweep").begin({"features": "being replaced"})
    with pytest.raises(MissingStageError, match="is not finished"):
        Predictor.load(tmp_path, regressor="best")


def test_a_model_that_is_not_the_one_of_its_run_is_refused(
    tmp_path: Path, tiny_config: Config
) -> None:
    _export(tmp_path / "model", tiny_config)
    stage = Run.at(str(tmp_path)).stage("train")
    stage.begin({"seed": 1})
    stage.finish({"digest": Predictor.load(tmp_path / "model").description.sha256})
    Predictor.load(tmp_path)
    stage.begin({"seed": 2}, overwrite=True)
    with pytest.raises(MissingStageError, match="is not finished"):
        Predictor.load(tmp_path)
    stage.finish({"digest": "f" * 64})
    with pytest.raises(ModelError, match=r"model' does not hold the model that .*valence train"):
        Predictor.load(tmp_path)
    # A model's folder on its own is nobody's.
    Predictor.load(tmp_path / "model")
