"""The stage `features` on Ray: every sequence of every recording, with the model's own numbers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.pipelines.conftest import ON_RAY, MakeRun, add_model
from valence.config import Config
from valence.errors import MissingStageError, ModelError, StaleError
from valence.model.serialization import export_model, load_model
from valence.run import Run
from valence.segments.store import SegmentStore
from valence.sweep.features import read_features
from valence.training.data.inputs import MelInputs

pytestmark = ON_RAY


@pytest.fixture
def run(prepared_run: MakeRun, tiny_config: Config) -> Run:
    """A run with a model that was not trained."""
    made = prepared_run("run")
    add_model(made, tiny_config)
    return made


def _extract(run: Run, config: Config, report: Any, *, overwrite: bool = False) -> dict[str, Any]:
    from pipelines.extract import extract

    return extract(run, config, overwrite=overwrite, console=report)


def test_features_are_the_models_for_every_sequence(
    extracted: Run, tiny_config: Config, console: Any
) -> None:
    run = extracted
    summary = run.stage("features").require()["summary"]
    features = read_features(run.folder("features"))
    store = SegmentStore(run.folder("segments"))
    frame: pd.DataFrame = store.recordings()
    # 80 segments each: windows of 20 at 0, 5, ..., 60.
    assert len(features) == summary["sequences"] == 13 * len(frame) == 78
    model, _ = load_model(run.model)
    for row in frame.itertuples(index=False):
        chosen = features.rows(features.recording == row.Id)
        assert chosen.start.tolist() == list(range(0, 61, 5))
        assert set(chosen.split) == {row.split}
        assert set(chosen.subject) == {row.subject}
        held = store.read(str(row.Id))
        at = 4
        segments = torch.from_numpy(held.mel[20:40])
        with torch.inference_mode():
            expected, _ = model.embed(model.encode(segments)[None])
            prediction = model(segments[None])
        np.testing.assert_allclose(chosen.feature[at], expected[0], atol=1e-5)
        np.testing.assert_allclose(chosen.prediction[at], prediction[0], atol=1e-5)
        np.testing.assert_allclose(chosen.target[at, 0], held.valence[20:40].mean(), rtol=1e-5)

    assert _extract(run, tiny_config, console) == summary
    assert "nothing to do" in console.lines[-1]
    with pytest.raises(StaleError, match=r"sequence.stride is 5 there and 4 here"):
        _extract(run, Config.resolve(tiny_config, assignments=["sequence.stride=4"]), console)


def test_recordings_of_one_task_are_those_of_many(extracted: Run, tiny_config: Config) -> None:
    """As where a GPU takes several at once, in this process."""
    from pipelines.extract import extract_recordings

    run = extracted
    folder = run.folder("features")

    def files() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in folder.files() if file.stem != "stage"}

    alone = files()
    rows = SegmentStore(run.folder("segments")).recordings()
    for name in alone:
        (folder / name).delete()
    batch = {key: rows[key].to_numpy() for key in ("Id", "subject", "split")}
    inputs = MelInputs(SegmentStore(run.folder("segments")), tiny_config)
    found = extract_recordings(
        batch, run=run, config=tiny_config, inputs=inputs, threads=4, device="cpu"
    )
    assert found["Id"].tolist() == ["01", "02", "03", "04", "05", "06"]
    assert found["sequences"].tolist() == [13] * 6
    assert files() == alone


def test_only_what_is_missing_is_extracted(
    extracted: Run, tiny_config: Config, console: Any
) -> None:
    run = extracted
    folder = run.folder("features")
    files = {file.name: file.info().mtime_ns for file in folder.files() if file.stem != "stage"}
    kept = sorted(files)[2:]
    digest = run.stage("features").require()["summary"]["digest"]
    for name in sorted(files)[:2]:
        (folder / name).delete()
    summary = _extract(run, tiny_config, console)
    assert summary["digest"] == digest
    assert summary["skipped"] == len(kept) == 4
    assert summary["sequences"] == 78
    assert all((folder / name).info().mtime_ns == files[name] for name in kept)
    assert len(read_features(folder)) == 78


def test_a_model_that_is_not_the_trained_one_is_refused(
    run: Run, tiny_config: Config, console: Any
) -> None:
    model, _ = load_model(run.model)
    torch.nn.init.zeros_(model.output.weight)
    export_model(run.model, model, tiny_config, {})
    with pytest.raises(ModelError, match="does not hold the model"):
        _extract(run, tiny_config, console)
    assert not run.folder("features").exists()


def test_segments_or_settings_that_the_model_was_not_trained_with_are_refused(
    run: Run, tiny_config: Config, console: Any
) -> None:
    """Else speakers that it was trained on may stand in the test set, and nothing tells of it."""
    segments = run.stage("segments")
    digest = run.stage("train").require()["summary"]["digest"]
    stage = run.stage("train")
    settings = {"sequence": tiny_config.sequence.model_dump(mode="json")}
    made_of = {"segments": segments.require()["summary"]["digest"], **settings}
    stage.begin(made_of, overwrite=True)
    stage.finish({"seconds": 0.0, "digest": digest})
    other = Config.resolve(tiny_config, assignments=["sequence.stride=3"])
    for overwrite in (False, True):
        with pytest.raises(StaleError, match=r"stride is 5 there and 3 here.*valence train"):
            _extract(run, other, console, overwrite=overwrite)
    assert run.config() == tiny_config
    _extract(run, tiny_config, console)
    segments.begin({"partition": "another"}, overwrite=True, wipe=False)
    segments.finish({"seconds": 0.0, "digest": "of another division"})
    with pytest.raises(StaleError, match=r"made of other segments.*valence train .*--over"):
        _extract(run, tiny_config, console, overwrite=True)


def test_training_must_be_finished(run: Run, tiny_config: Config, console: Any) -> None:
    run.stage("train").file.delete()
    with pytest.raises(MissingStageError, match="valence train"):
        _extract(run, tiny_config, console)


@pytest.mark.faults
def test_a_worker_that_dies_costs_no_recording(
    run: Run,
    tiny_config: Config,
    console: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from pipelines import extract

    whole = extract.extract_recordings

    def dying(rows: dict[str, Any], **settings: Any) -> dict[str, Any]:
        if "03" in rows["Id"] and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(rows, **settings)

    monkeypatch.setattr(extract, "extract_recordings", dying)
    summary = _extract(run, tiny_config, console)
    assert len(read_features(run.folder("features"))) == summary["sequences"] == 78
    assert (tmp_path / "died").exists()


def test_values_that_are_no_numbers_stop_the_stage_and_keep_the_others(
    extracted: Run, tiny_config: Config, console: Any
) -> None:
    run = extracted
    features = read_features(run.folder("features"))
    names = np.unique(features.recording)
    model, _ = load_model(run.model)
    weight = model.output.weight.detach().numpy()[0].astype(np.float64)
    weight *= 1e38 / np.abs(weight).max()
    sums = {name: (features.feature[features.recording == name] @ weight).max() for name in names}
    worst, second = sorted(sums, key=lambda name: -sums[name])[:2]
    # Weights that are finite, with which one recording's predictions alone are not.
    with torch.no_grad():
        model.output.weight.copy_(torch.from_numpy(weight[None]))
        largest = float(np.finfo(np.float32).max)
        model.output.bias.fill_(largest - float(sums[worst] + sums[second]) / 2)
    stage = run.stage("train")
    stage.begin({"made_for": "overflow"}, overwrite=True)
    digest = export_model(run.model, model, tiny_config, {})
    stage.finish({"seconds": 0.0, "digest": digest})
    with pytest.raises(ModelError, match=f"no numbers for 1 of 6 recordings: '{worst}'"):
        _extract(run, tiny_config, console, overwrite=True)
    kept = {file.stem for file in run.folder("features").files() if file.suffix == ".parquet"}
    assert kept == {str(name) for name in names} - {str(worst)}
    assert run.stage("features").record()["status"] == "running"
