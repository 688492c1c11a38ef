"""The stage `train` on Ray: what it leaves, what it refuses, and that placement changes nothing."""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from valence.checkpoint import load_model, load_state
from valence.config import Config
from valence.errors import (
    ClusterError,
    MissingStageError,
    ModelError,
    StaleError,
    TrainingError,
)
from valence.run import Run
from valence.training import HISTORY_COLUMNS

pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("ray_local"),
    # Ray's own.
    pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning"),
]

MakeRun = Callable[[str], Run]


def _set(config: Config, *assignments: str) -> Config:
    return Config.resolve(config, assignments=assignments)


def _history(run: Run) -> list[dict[str, str]]:
    return list(csv.DictReader((run.folder("train") / "history.csv").read_text().splitlines()))


def _values(run: Run) -> np.ndarray:
    """The history less its times."""
    columns = [column for column in HISTORY_COLUMNS if column != "seconds"]
    return np.array([[float(row[column]) for column in columns] for row in _history(run)])


def _train(run: Run, config: Config, report: Any, *, overwrite: bool = False) -> dict[str, Any]:
    from pipelines.train import train

    return train(run, config, overwrite=overwrite, report=report)


def test_training_leaves_what_the_next_stages_need(
    trained: tuple[Run, Any], train_config: Config
) -> None:
    run, told = trained
    record = run.stage("train").require()
    summary = record["summary"]
    history = _history(run)
    assert [tuple(row) for row in history] == [HISTORY_COLUMNS] * 6
    assert [(row["seed"], row["epoch"]) for row in history] == [
        (seed, epoch) for seed in "35" for epoch in "123"
    ]
    best = max(history, key=lambda row: float(row["validation_ccc"]))
    assert summary["validation_ccc"] == float(best["validation_ccc"])
    assert (summary["seed"], summary["epoch"]) == (int(best["seed"]), int(best["epoch"]))
    assert [each["seed"] for each in summary["seeds"]] == [3, 5]
    assert summary["seconds"] > 0
    model, description = load_model(run.model)
    assert description.sha256 == summary["digest"]
    assert description.config.model == train_config.model
    assert description.record["subjects"]["train"] == ["01", "02", "03", "04"]
    assert description.record["recordings"]["validation"] == ["05"]
    state, remarks = load_state(run.folder("train"))
    assert state is not None
    assert remarks == ()
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.best.items())
    assert "workers" not in record["made_of"]["train"]
    events = run.folder("train") / "tensorboard"
    assert events.local is not None
    assert sorted(folder.name for folder in events.local.iterdir()) == ["seed-3", "seed-5"]
    assert any("seed 5 epoch 3" in line and "sequences/s" in line for line in told.lines)


def test_a_training_that_is_done_is_left(
    trained: tuple[Run, Any], train_config: Config, told: Any
) -> None:
    run, _ = trained
    began = time.monotonic()
    assert _train(run, train_config, told) == run.stage("train").require()["summary"]
    assert time.monotonic() - began < 3
    assert "nothing to do" in told.lines[0]
    # Where it runs is no part of what it is.
    _train(run, _set(train_config, "train.workers=99", "train.max_failures=0"), told)
    with pytest.raises(StaleError, match=r"train.epochs is 3 there and 4 here.*--overwrite"):
        _train(run, _set(train_config, "train.epochs=4"), told)
    assert (run.folder("train") / "state.pt").exists()


def test_two_workers_train_as_one_does(
    prepared_run: MakeRun, trained: tuple[Run, Any], train_config: Config, told: Any
) -> None:
    two = prepared_run("two")
    _train(
        two, _set(train_config, "train.seeds=[3]", "train.workers=2", "train.residency=host"), told
    )
    assert any("2 workers" in line for line in told.lines)
    np.testing.assert_allclose(_values(two), _values(trained[0])[:3], atol=2e-3)


def test_streaming_trains_as_memory_does(
    prepared_run: MakeRun, trained: tuple[Run, Any], train_config: Config, told: Any
) -> None:
    streamed = prepared_run("streamed")
    # Less than the 720 segments take, so that "auto" has to stream, and enough for four pools.
    limit = f"train.host_gib={5.9e6 / 2**30}"
    _train(streamed, _set(train_config, "train.seeds=[3]", limit), told)
    assert any("streamed from the store" in line for line in told.lines)
    assert streamed.stage("train").require()["summary"]["residency"] == "stream"
    np.testing.assert_array_equal(_values(streamed), _values(trained[0])[:3])


@pytest.mark.parametrize("residency", ["device", "host"])
def test_streamed_batches_are_the_resident_ones(
    prepared_run: MakeRun, tiny_config: Config, residency: Literal["device", "host"]
) -> None:
    from pipelines.streaming import StreamingSource
    from valence.residency import ResidentSource, members
    from valence.segments import SegmentStore

    config = _set(tiny_config, "train.shuffle_segments=200", "train.windows_per_run=2")
    store = SegmentStore(prepared_run("run").folder("segments"))
    chosen, device = members(store, config), torch.device("cpu")
    resident = ResidentSource(store, config, chosen, device=device, residency=residency)
    streaming = StreamingSource(store, config, chosen, device=device)
    expected = list(resident.batches(5, 2))
    got = list(streaming.batches(5, 2))
    assert len(got) == len(expected) > 4
    # A pool's last batch is smaller, so there are several sizes.
    assert len({len(batch.mel) for batch in got}) > 1
    for one, other in zip(expected, got, strict=True):
        assert torch.equal(one.mel, other.mel)
        assert torch.equal(one.target, other.target)
    for one, other in zip(resident.recordings(), streaming.recordings(), strict=True):
        assert one.recording == other.recording
        np.testing.assert_array_equal(one.mel, other.mel)
        np.testing.assert_array_equal(one.starts, other.starts)


def test_training_again_removes_the_model_that_was(
    prepared_run: MakeRun, tiny_config: Config, told: Any
) -> None:
    run = prepared_run("run")
    folder = run.folder("train")
    run.stage("train").begin({"made_of": "something else"})
    (folder / "leftover").write_text("")
    (run.model / "model.json").write_text("{}")
    with pytest.raises(TrainingError, match="not a number any more"):
        _train(run, _set(tiny_config, "train.learning_rate=1e30"), told, overwrite=True)
    assert not (folder / "leftover").exists()
    assert not run.model.exists()
    # It was tried once: trying again would come to the same end.
    assert not any("restarted" in line for line in told.lines)


@pytest.mark.parametrize(
    ("assignments", "says"),
    [
        (["train.workers=5"], r"asks for 5 CPUs, and the cluster has 4 on 1 nodes"),
        (
            ["train.workers=2", "train.gpus=always"],
            r"asks for 2 GPUs, and the cluster has 0 on 1 nodes",
        ),
    ],
)
def test_resources_that_are_not_there_are_an_error_at_once(
    prepared_run: MakeRun, tiny_config: Config, told: Any, assignments: list[str], says: str
) -> None:
    run = prepared_run("run")
    began = time.monotonic()
    with pytest.raises(ClusterError, match=says):
        _train(run, _set(tiny_config, *assignments), told)
    assert time.monotonic() - began < 5
    assert not run.folder("train").exists()


def test_stages_before_must_be_finished(
    prepared_run: MakeRun, tiny_config: Config, told: Any
) -> None:
    run = prepared_run("run")
    run.stage("segments").file.delete()
    with pytest.raises(MissingStageError, match="valence preprocess"):
        _train(run, tiny_config, told)


def test_recordings_that_are_too_few_are_an_error(
    prepared_run: MakeRun, tiny_config: Config, told: Any
) -> None:
    run = prepared_run("run")
    with pytest.raises(TrainingError, match=r"0 labelled recordings to train on"):
        _train(run, _set(tiny_config, "sequence.length=100"), told)
    assert not run.folder("train").exists()


def test_a_training_that_ended_is_exported_without_training(
    trained: tuple[Run, Any],
    train_config: Config,
    told: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if the driver had died between the last epoch and the export."""
    local = trained[0].root.local
    assert local is not None
    shutil.copytree(local, tmp_path / "run")
    run = Run.at(str(tmp_path / "run"))
    record = run.stage("train").require()
    run.stage("train").file.delete()
    made_of = {key: value for key, value in record["made_of"].items() if key != "format"}
    run.stage("train").begin(made_of)
    run.model.delete()
    # ... and the worker after its last state, before it wrote what follows from it.
    history = run.folder("train") / "history.csv"
    whole = history.read_text()
    history.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    (run.folder("train") / "best").delete()
    monkeypatch.setattr("pipelines.train._run_ray_train", None)
    assert _train(run, train_config, told)["digest"] == record["summary"]["digest"]
    assert load_model(run.model)[1].sha256 == record["summary"]["digest"]
    assert load_model(run.folder("train") / "best")[1].sha256 == record["summary"]["digest"]
    assert history.read_text() == whole


@pytest.mark.parametrize("damage", ["none", "state"])
def test_a_state_of_another_training_is_refused_without_its_record(
    trained: tuple[Run, Any],
    train_config: Config,
    told: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    """As after an --overwrite that was interrupted, or a copy that is not whole."""
    local = trained[0].root.local
    assert local is not None
    shutil.copytree(local, tmp_path / "run")
    run = Run.at(str(tmp_path / "run"))
    stage, folder = run.stage("train"), run.folder("train")
    stage.file.delete()
    other = _set(train_config, "train.learning_rate=0.5")
    says = r"train.learning_rate is 0.001 there and 0.5 here.*--overwrite"
    error: type[Exception] = StaleError
    if damage == "state":
        for name in ("state.pt", "state.previous.pt"):
            (folder / name).write_bytes(b"nothing")
        other, says, error = train_config, "No training state .* is whole.*--overwrite", ModelError

    def anew(settings: Any, stage: Any, state: Any, report: Any) -> None:
        assert state is None
        raise TrainingError("began anew")

    monkeypatch.setattr("pipelines.train._run_ray_train", anew)
    for _ in range(2):
        with pytest.raises(error, match=says):
            _train(run, other, told)
        assert stage.record() is None
    with pytest.raises(TrainingError, match="began anew"):
        _train(run, other, told, overwrite=True)
    assert not (folder / "state.pt").exists()
    assert not run.model.exists()
    if damage == "none":
        shutil.rmtree(tmp_path / "run")
        shutil.copytree(local, tmp_path / "run")
        stage.file.delete()
        # The same configuration goes on as ever.
        assert (
            _train(run, train_config, told)["epoch"]
            == trained[0].stage("train").require()["summary"]["epoch"]
        )
