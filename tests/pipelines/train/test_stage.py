"""The stage `train` on Ray: what it leaves, what it refuses, and that placement changes nothing."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from pipelines.train.resume import require_own_segments
from tests.pipelines.conftest import ON_RAY, MakeRun
from valence.chain import FREE
from valence.config import Config
from valence.errors import (
    ClusterError,
    DamagedError,
    MissingStageError,
    ModelError,
    StaleError,
    TrainingError,
)
from valence.model.serialization import load_model
from valence.run import Run
from valence.segments.store import SegmentStore
from valence.training.checkpoint import TrainingState, load_state, read_progress
from valence.training.data.capacity import members
from valence.training.data.in_memory import ResidentSource
from valence.training.data.inputs import MelInputs
from valence.training.loop import HISTORY_COLUMNS, TrainingSpec, fit
from valence.training.validation import evaluate

pytestmark = ON_RAY


def _set(config: Config, *assignments: str) -> Config:
    return Config.resolve(config, assignments=assignments)


def _history(run: Run) -> list[dict[str, str]]:
    return list(csv.DictReader((run.folder("train") / "history.csv").read_text().splitlines()))


def _values(run: Run) -> np.ndarray:
    """The history less its times."""
    columns = [column for column in HISTORY_COLUMNS if column != "seconds"]
    return np.array([[float(row[column]) for column in columns] for row in _history(run)])


def _train(run: Run, config: Config, console: Any, *, overwrite: bool = False) -> dict[str, Any]:
    from pipelines.train.stage import train

    return train(run, config, overwrite=overwrite, console=console)


def _copy(run: Run, folder: Path) -> Run:
    """A copy of a run, for a test that changes it."""
    shutil.copytree(run.root.path, folder / "run")
    return Run.at(str(folder / "run"))


def _unfinish(run: Run) -> None:
    """As if the driver had died between the last epoch and the export."""
    stage = run.stage("train")
    made_of = {key: value for key, value in stage.require()["made_of"].items() if key != "format"}
    stage.file.delete()
    stage.begin(made_of)
    run.model.delete()


def test_training_leaves_what_the_next_stages_need(
    trained: tuple[Run, Any], train_config: Config
) -> None:
    run, output = trained
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
    assert any("seed 5 epoch 3" in line and "sequences/s" in line for line in output.lines)


def test_a_training_that_is_done_is_left(
    trained: tuple[Run, Any], train_config: Config, console: Any
) -> None:
    run, _ = trained
    began = time.monotonic()
    assert _train(run, train_config, console) == run.stage("train").require()["summary"]
    assert time.monotonic() - began < 3
    assert "nothing to do" in console.lines[0]
    # Where it runs is no part of what it is.
    _train(run, _set(train_config, "train.workers=99", "train.max_failures=0"), console)
    with pytest.raises(StaleError, match=r"train.epochs is 3 there and 4 here.*--overwrite"):
        _train(run, _set(train_config, "train.epochs=4"), console)
    assert (run.folder("train") / "state.pt").exists()


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("augment.copies=0", r"augment\.copies is 1 there and 0 here"),
        ("preprocess.level=rms", r"preprocess\.level is peak there and rms here"),
        ("split.seed=8", r"split\.seed is 0 there and 8 here"),
        ('model.targets=["valence", "arousal"]', r"model\.targets is \['valence'\] there and"),
    ],
)
def test_segments_of_other_settings_are_refused(
    trained: tuple[Run, Any],
    train_config: Config,
    console: Any,
    tmp_path: Path,
    assignment: str,
    says: str,
) -> None:
    """Where nothing was trained, where a training was interrupted, and where one has ended."""
    run, other = _copy(trained[0], tmp_path), _set(train_config, assignment)
    folder = run.folder("train")
    with pytest.raises(StaleError, match=rf"{says}.*'valence preprocess .*--overwrite'"):
        _train(run, other, console)
    run.stage("train").file.delete()
    # Training anew does not make the segments anew.
    for overwrite in (False, True):
        with pytest.raises(StaleError, match=says):
            _train(run, other, console, overwrite=overwrite)
        assert (folder / "state.pt").exists()
    folder.delete()
    with pytest.raises(StaleError, match=says):
        _train(run, other, console)
    assert not folder.exists()
    assert console.lines == []


def test_settings_that_change_no_segment_are_free(
    trained: tuple[Run, Any], train_config: Config, console: Any
) -> None:
    free = ("preprocess.tasks=1", "preprocess.cpus_per_task=2", "cluster.wait_seconds=1")
    _train(trained[0], _set(train_config, *free), console)
    assert console.lines == ["train: nothing to do"]


@pytest.mark.parametrize("name", ["train/history.csv", "train/best/model.json"])
def test_what_is_damaged_beside_the_state_is_made_again_from_it(
    trained: tuple[Run, Any], train_config: Config, tmp_path: Path, console: Any, name: str
) -> None:
    shutil.copytree(str(trained[0].root), tmp_path / "run")
    run = Run.at(str(tmp_path / "run"))
    file = tmp_path / "run" / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    _train(run, train_config, console)
    assert "is lost or damaged, and is made again from the state" in console.lines[0]
    assert file.read_bytes() == whole
    _train(run, train_config, console)
    assert console.lines[-1] == "train: nothing to do"


@pytest.mark.parametrize("damage", ["gone", "empty", "flipped"])
def test_where_a_training_ran_is_known_whatever_becomes_of_its_progress(
    trained: tuple[Run, Any], train_config: Config, tmp_path: Path, console: Any, damage: str
) -> None:
    run = _copy(trained[0], tmp_path)
    before = run.stage("train").require()["summary"]
    assert before["device"] == "cpu"
    file = Path(run.folder("train").path, "state.json")
    whole = read_progress(run.folder("train"))
    assert whole is not None
    match damage:
        case "gone":
            file.unlink()
        case "empty":
            file.write_bytes(b"")
        case _:
            file.write_text(file.read_text().replace('"device": "cpu"', '"device": "cpt"'))
    assert _train(run, train_config, console)["device"] == "cpu"
    assert "is lost or damaged, and is made again from the state" in console.lines[0]
    again = read_progress(run.folder("train"))
    assert again is not None
    assert again == {name: whole[name] for name in again}
    assert again.keys() == {"history", "best", "device", "residency"}
    assert run.stage("train").require()["summary"]["residency"] == before["residency"]
    _train(run, train_config, console)
    assert console.lines[-1] == "train: nothing to do"


def test_two_workers_train_as_one_does(
    prepared_run: MakeRun, train_config: Config, console: Any
) -> None:
    # Dropout draws for each worker on its own.
    config = _set(train_config, "train.seeds=[3]", "model.dropout=0", "train.residency=host")
    run = prepared_run("run")
    _train(run, _set(config, "train.workers=2"), console)
    assert any("2 workers" in line for line in console.lines)
    np.testing.assert_allclose(_values(run), _values_alone(run, config), atol=2e-3)


def _values_alone(run: Run, config: Config) -> np.ndarray:
    """The history less its times of the same training in this process, without Ray."""
    inputs, device = MelInputs(SegmentStore(run.folder("segments")), config), torch.device("cpu")
    chosen = members(inputs.store, config)
    source = ResidentSource(inputs, config, chosen, device=device, residency="host")
    states: list[TrainingState] = []
    fit(
        TrainingSpec(config, {}, inputs.standardizer(), device),
        source,
        state=None,
        save=lambda state, news: states.append(state),
    )
    columns = [column for column in HISTORY_COLUMNS if column != "seconds"]
    return np.array([[row[column] for column in columns] for row in states[-1].history])


@pytest.mark.parametrize("when", ["before", "between"])
def test_what_stops_one_worker_stops_all_and_is_told(
    prepared_run: MakeRun,
    train_config: Config,
    console: Any,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    def stopped(given: dict[str, Any]) -> str | None:
        """The worker, of which the second finds no room, or no recording in its third epoch."""
        from pipelines.train import worker
        from pipelines.train.placement import Placement
        from valence.errors import MissingStageError, TrainingError
        from valence.model.distributed import rank
        from valence.training.data.in_memory import ResidentSource

        settle, batches = Placement.settle, ResidentSource.batches

        def settle_or_not(self: Any, device: Any) -> Any:
            if when == "before" and rank() == 1:
                raise TrainingError("no room on the second device")
            return settle(self, device)

        def batches_or_not(self: Any, seed: int, epoch: int) -> Any:
            if when == "between" and (rank(), epoch) == (1, 3):
                raise MissingStageError("no recording for the second")
            return batches(self, seed, epoch)

        Placement.settle = settle_or_not  # type: ignore[method-assign]
        ResidentSource.batches = batches_or_not  # type: ignore[method-assign]
        return worker.train_worker(given)

    run = prepared_run("run")
    monkeypatch.setattr("pipelines.train.stage.train_worker", stopped)
    config = _set(train_config, "train.workers=2", "train.max_failures=0")
    says = "^no room on the second device$" if when == "before" else "no recording for the second"
    with pytest.raises(TrainingError, match=says):
        _train(run, config, console)
    state, _ = load_state(run.folder("train"))
    assert (None if state is None else state.epoch) == (None if when == "before" else 2)


def test_resources_that_other_work_holds_are_named(
    prepared_run: MakeRun, tiny_config: Config, console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    class Other:
        def begun(self) -> bool:
            return True

    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "3")
    other: Any = ray.remote(Other).options(num_cpus=3).remote()
    assert ray.get(other.begun.remote())
    run = prepared_run("run")
    says = r"workers = 1 asks for 4 CPUs for each worker, and 1 of 4 CPUs are free.*'ray status'"
    try:
        with pytest.raises(ClusterError, match=says):
            _train(run, tiny_config, console)
    finally:
        ray.kill(other)
    # Whoever may be at work in that folder keeps it.
    assert not (run.folder("train") / "claim.json").exists()
    # It goes on as soon as there is room.
    monkeypatch.undo()
    began: list[str] = []

    def begin(settings: Any, stage: Any, state: Any, console: Any) -> None:
        began.append(stage.record()["status"])
        raise TrainingError("began")

    monkeypatch.setattr("pipelines.train.stage._run_ray_train", begin)
    with pytest.raises(TrainingError, match="began"):
        _train(run, tiny_config, console)
    assert began == ["running"]


@pytest.mark.parametrize(
    ("roles", "given", "during"),
    [
        ([None], None, "0"),
        # The head of a cluster from which nodes are asked for, and a cluster of two.
        (["head"], None, None),
        ([None, None], None, None),
        ([None], "1", "1"),
    ],
)
def test_the_watcher_of_nodes_is_spared_where_none_can_come(
    monkeypatch: pytest.MonkeyPatch,
    roles: list[str | None],
    given: str | None,
    during: str | None,
) -> None:
    from pipelines.runtime.nodes import Node
    from pipelines.train import stage

    config, name = Config(), "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"
    nodes = [
        Node(str(number), "127.0.0.1", {}, {} if role is None else {config.cluster.label: role})
        for number, role in enumerate(roles)
    ]
    monkeypatch.setattr(stage, "living_nodes", lambda: nodes)
    monkeypatch.delenv(name, raising=False)
    if given is not None:
        monkeypatch.setenv(name, given)
    with stage._without_needless_watcher(config):
        assert os.environ.get(name) == during
    assert os.environ.get(name) == given


def test_a_history_that_cannot_be_written_says_what_to_do(
    trained: tuple[Run, Any], train_config: Config, console: Any, tmp_path: Path
) -> None:
    run = _copy(trained[0], tmp_path)
    _unfinish(run)
    history = tmp_path / "run" / "train" / "history.csv"
    history.unlink()
    history.mkdir()
    with pytest.raises(TrainingError, match=r"could not be written: .*history.csv.*make room"):
        _train(run, train_config, console)


def test_streaming_trains_as_memory_does(
    prepared_run: MakeRun, trained: tuple[Run, Any], train_config: Config, console: Any
) -> None:
    streamed = prepared_run("streamed")
    # Less than the 720 segments take, so that "auto" has to stream, and enough for four pools.
    limit = f"train.host_gib={5.9e6 / 2**30}"
    _train(streamed, _set(train_config, "train.seeds=[3]", limit), console)
    assert any("streamed from the store" in line for line in console.lines)
    assert streamed.stage("train").require()["summary"]["residency"] == "stream"
    np.testing.assert_array_equal(_values(streamed), _values(trained[0])[:3])


_ON_A_GPU = """
import ray, sys
ray.init(
    "local", num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False,
    logging_level="ERROR",
)
from pipelines.runtime.console import Console
from pipelines.train.stage import train
from valence.chain import FREE
from valence.config import Config
from valence.run import Run
from valence.storage.location import Location
config = Config.read(Location.parse(sys.argv[2]))
train(Run.at(sys.argv[1]), config, overwrite=False, console=Console())
"""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_a_model_for_any_device(
    prepared_run: MakeRun, train_config: Config, tmp_path: Path
) -> None:
    run, settings = prepared_run("run"), tmp_path / "settings.toml"
    settings.write_text(train_config.to_toml())
    ran = subprocess.run(
        [sys.executable, "-c", _ON_A_GPU, str(run.root), str(settings)],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "segments are held on the device" in ran.stderr
    progress = read_progress(run.folder("train"))
    assert progress is not None
    assert progress["device"] == "cuda"
    summary = run.stage("train").require()["summary"]
    assert summary["residency"] == "device"
    assert _values(run).shape == (6, len(HISTORY_COLUMNS) - 1)
    assert np.isfinite(_values(run)).all()
    model, description = load_model(run.model)
    assert description.sha256 == summary["digest"]
    # On the CPU it says what it said there, but for what docs/training.md states of other devices.
    store = SegmentStore(run.folder("segments"))
    source = ResidentSource(
        MelInputs(store, train_config),
        train_config,
        members(store, train_config),
        device=torch.device("cpu"),
        residency="host",
    )
    found = evaluate(model, source.recordings(), train_config.sequence.length)
    assert found.ccc == pytest.approx(summary["validation_ccc"], abs=0.01)


@pytest.mark.parametrize("residency", ["device", "host"])
def test_streamed_batches_are_the_resident_ones(
    prepared_run: MakeRun, tiny_config: Config, residency: Literal["device", "host"]
) -> None:
    from pipelines.train.streaming import StreamingSource

    config = _set(tiny_config, "train.shuffle_segments=200", "train.windows_per_group=2")
    store = SegmentStore(prepared_run("run").folder("segments"))
    chosen, device = members(store, config), torch.device("cpu")
    resident = ResidentSource(
        MelInputs(store, config), config, chosen, device=device, residency=residency
    )
    streaming = StreamingSource(MelInputs(store, config), config, chosen, device=device)
    expected = list(resident.batches(5, 2))
    got = list(streaming.batches(5, 2))
    assert len(got) == len(expected) > 4
    # A pool's last batch is smaller, so there are several sizes.
    assert len({len(batch.inputs) for batch in got}) > 1
    for one, other in zip(expected, got, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.target, other.target)
    for one, other in zip(resident.recordings(), streaming.recordings(), strict=True):
        assert one.recording == other.recording
        np.testing.assert_array_equal(one.inputs, other.inputs)
        np.testing.assert_array_equal(one.starts, other.starts)


def test_training_again_removes_the_model_that_was(
    prepared_run: MakeRun, tiny_config: Config, console: Any
) -> None:
    run = prepared_run("run")
    folder = run.folder("train")
    run.stage("train").begin({"made_of": "something else"})
    (folder / "leftover").write_text("")
    (run.model / "model.json").write_text("{}")
    with pytest.raises(TrainingError, match="not a number any more"):
        _train(run, _set(tiny_config, "train.learning_rate=1e30"), console, overwrite=True)
    assert not (folder / "leftover").exists()
    assert not run.model.exists()
    # It was tried once: trying again would come to the same end.
    assert not any("restarted" in line for line in console.lines)


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
    prepared_run: MakeRun, tiny_config: Config, console: Any, assignments: list[str], says: str
) -> None:
    run = prepared_run("run")
    began = time.monotonic()
    with pytest.raises(ClusterError, match=says):
        _train(run, _set(tiny_config, *assignments), console)
    assert time.monotonic() - began < 5
    assert not run.folder("train").exists()


def test_stages_before_must_be_finished(
    prepared_run: MakeRun, tiny_config: Config, console: Any
) -> None:
    run = prepared_run("run")
    run.stage("segments").file.delete()
    with pytest.raises(DamagedError, match=r"segments/stage\.json' is missing.*valence preprocess"):
        _train(run, tiny_config, console)
    run.folder("segments").delete()
    with pytest.raises(MissingStageError, match="valence preprocess"):
        _train(run, tiny_config, console)


def test_recordings_that_are_too_few_are_an_error(
    prepared_run: MakeRun, tiny_config: Config, console: Any
) -> None:
    run = prepared_run("run")
    with pytest.raises(TrainingError, match=r"0 labelled recordings to train on"):
        _train(run, _set(tiny_config, "sequence.length=100"), console)
    assert not run.folder("train").exists()


def test_a_training_that_ended_is_exported_without_training(
    trained: tuple[Run, Any],
    train_config: Config,
    console: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = _copy(trained[0], tmp_path)
    record = run.stage("train").require()
    _unfinish(run)
    # ... and the worker after its last state, before it wrote what follows from it.
    history = run.folder("train") / "history.csv"
    whole = history.read_text()
    history.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    (run.folder("train") / "best").delete()
    monkeypatch.setattr("pipelines.train.stage._run_ray_train", None)
    assert _train(run, train_config, console)["digest"] == record["summary"]["digest"]
    assert load_model(run.model)[1].sha256 == record["summary"]["digest"]
    assert load_model(run.folder("train") / "best")[1].sha256 == record["summary"]["digest"]
    assert history.read_text() == whole


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("loss", ["folder", "weights"])
def test_a_model_that_was_lost_is_made_again_from_the_state(
    trained: tuple[Run, Any],
    train_config: Config,
    console: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loss: str,
    overwrite: bool,
) -> None:
    run = _copy(trained[0], tmp_path)
    digest = run.stage("train").require()["summary"]["digest"]
    if loss == "folder":
        run.model.delete()
    else:
        weights = run.model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
    monkeypatch.setattr("pipelines.train.stage._run_ray_train", None)
    assert _train(run, train_config, console, overwrite=overwrite)["digest"] == digest
    assert "lost or damaged, and is made again" in console.lines[0]
    assert load_model(run.model)[1].sha256 == digest
    assert run.stage("train").require()["summary"]["digest"] == digest
    _train(run, train_config, console)
    assert console.lines[-1] == "train: nothing to do"


@pytest.mark.parametrize("damage", ["none", "state"])
def test_a_state_of_another_training_is_refused_without_its_record(
    trained: tuple[Run, Any],
    train_config: Config,
    console: Any,
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

    def anew(settings: Any, stage: Any, state: Any, console: Any) -> None:
        assert state is None
        raise TrainingError("began anew")

    monkeypatch.setattr("pipelines.train.stage._run_ray_train", anew)
    for _ in range(2):
        with pytest.raises(error, match=says):
            _train(run, other, console)
        assert stage.record() is None
    with pytest.raises(TrainingError, match="began anew"):
        _train(run, other, console, overwrite=True)
    assert not (folder / "state.pt").exists()
    assert not run.model.exists()
    if damage == "none":
        shutil.rmtree(tmp_path / "run")
        shutil.copytree(local, tmp_path / "run")
        stage.file.delete()
        # The same configuration goes on as ever.
        assert (
            _train(run, train_config, console)["epoch"]
            == trained[0].stage("train").require()["summary"]["epoch"]
        )


def test_segments_of_another_channel_are_not_trained_on(tmp_path: Path) -> None:
    """The record leaves out the mean; without this, the model would state another channel."""
    run = Run.at(str(tmp_path / "run"))
    mean, first = Config(), Config.resolve(Config(), assignments=["preprocess.channel=0"])
    for made_with, there, other, here in ((mean, "mean", first, 0), (first, 0, mean, "mean")):
        run.write_config(made_with, {})
        made_of = {
            "preprocess": made_with.preprocess.model_dump(
                mode="json", exclude=set(FREE["preprocess"])
            ),
            "model": {"targets": ["valence"]},
        }
        require_own_segments(made_of, run, made_with)
        free = ["preprocess.tasks=3", "model.lstm_hidden=7"]
        require_own_segments(made_of, run, Config.resolve(made_with, assignments=free))
        says = f"preprocess.channel is {there} there and {here} here"
        with pytest.raises(StaleError, match=says):
            require_own_segments(made_of, run, other)


@pytest.mark.parametrize("stated", ["labels.range=[1, 7]", "corpus.subjects=emodb"])
def test_segments_of_another_scale_or_rule_are_not_trained_on(tmp_path: Path, stated: str) -> None:
    run = Run.at(str(tmp_path / "run"))
    plain, other = Config(), Config.resolve(Config(), assignments=[stated])
    run.write_config(plain, {})
    require_own_segments({}, run, plain)
    with pytest.raises(StaleError, match=re.escape(stated.partition("=")[0])):
        require_own_segments({}, run, other)
    run.write_config(other, {})
    require_own_segments({}, run, other)
    with pytest.raises(StaleError, match=re.escape(stated.partition("=")[0])):
        require_own_segments({}, run, plain)
