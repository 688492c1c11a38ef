"""Training and extraction on a set of features: results, resuming, streaming, refusals."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.consoles import RecordedConsole
from tests.helpers.feature_sets import add_set, made_features, taking, write_features
from tests.pipelines.conftest import ON_RAY, MakeRun
from valence.config import Config
from valence.errors import StaleError
from valence.model.inference import sequence_outputs
from valence.model.serialization import load_model
from valence.run import Run
from valence.segments.sequences import windows
from valence.segments.store import SegmentStore
from valence.storage.location import Location
from valence.sweep.features import read_features
from valence.training.data.capacity import members
from valence.training.data.in_memory import ResidentSource
from valence.training.data.inputs import inputs_to_train
from valence.training.data.set_note import NOTE_FILE
from valence.training.history import HISTORY_FILE

pytestmark = ON_RAY


@pytest.fixture
def run(prepared_run: MakeRun, tmp_path: Path) -> Run:
    run = prepared_run("run")
    add_set(run, Location.parse(tmp_path / "corpus"))
    return run


def _train(run: Run, config: Config) -> list[str]:
    from pipelines.train.stage import train

    console = RecordedConsole()
    train(run, config, overwrite=False, console=console)
    return console.lines


def _losses(run: Run) -> list[tuple[str, str]]:
    text = (run.folder("train") / HISTORY_FILE).read_text()
    return [(row["train_loss"], row["validation_ccc"]) for row in csv.DictReader(text.splitlines())]


def test_features_train_a_model_and_are_extracted(run: Run, tiny_config: Config) -> None:
    from pipelines.extract import extract, plan_extraction
    from pipelines.train.stage import plan_training

    config = taking(tiny_config, "train.epochs=8", "train.learning_rate=0.01", "model.dropout=0.1")
    lines = _train(run, config)
    assert "train: augmented copies take no part: only clean recordings have features" in lines
    summary = run.stage("train").require()["summary"]
    # The features tell the labels, so a model that reads them right follows these.
    assert summary["validation_ccc"] > 0.6
    losses = _losses(run)

    # As if the driver had died after the last but one epoch.
    folder = run.folder("train")
    (folder / "state.pt").write_bytes((folder / "state.previous.pt").read_bytes())
    (folder / NOTE_FILE).delete()
    run.model.delete()
    assert any("going on after epoch 7" in line for line in _train(run, config))
    assert _losses(run) == losses
    assert run.stage("train").require()["summary"]["digest"] == summary["digest"]
    assert _train(run, config) == ["train: nothing to do"]

    extract(run, config, overwrite=False, console=RecordedConsole())
    model, description = load_model(run.model)
    assert description.features is not None
    features = read_features(run.folder("features"))
    for name, values in made_features(SegmentStore(run.folder("segments"))).items():
        found = features.rows(features.recording == name)
        starts = windows(20, 5, segments=len(values))
        expected = sequence_outputs(model, values, starts, 20)
        assert found.start.tolist() == starts.tolist()
        np.testing.assert_allclose(found.feature, expected.feature, atol=1e-5)
        np.testing.assert_allclose(found.prediction, expected.prediction, atol=1e-5)
    # The weights do not depend on the recordings to test on, and these features do.
    made_of = run.stage("features").require()["made_of"]
    assert made_of["input"] == description.features.digest

    for plan in (plan_training, plan_extraction):
        with pytest.raises(StaleError, match=r"model\.input is toy there and (mel|absent) here"):
            plan(run, tiny_config, overwrite=False)
    file = write_features(
        Location.parse(run.record()["corpus"]) / "feature_segments" / "toy", "06", values + 1
    )
    for plan in (plan_training, plan_extraction):
        with pytest.raises(StaleError, match=rf"'{file}' was changed since"):
            plan(run, config, overwrite=False)


def test_streamed_batches_are_the_resident_ones(run: Run, tiny_config: Config) -> None:
    from pipelines.train.streaming import StreamingSource

    config = taking(tiny_config, "train.shuffle_segments=160", "train.windows_per_group=2")
    inputs = inputs_to_train(run, config, "digest", overwrite=False)
    chosen, device = members(inputs.store, config), torch.device("cpu")
    resident = ResidentSource(inputs, config, chosen, device=device, residency="host")
    streaming = StreamingSource(inputs, config, chosen, device=device)
    batches = list(resident.batches(5, 2))
    assert len(batches) > 2
    for one, other in zip(batches, streaming.batches(5, 2), strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.target, other.target)
    for one, other in zip(resident.recordings(), streaming.recordings(), strict=True):
        assert one.recording == other.recording
        np.testing.assert_array_equal(one.inputs, other.inputs)
