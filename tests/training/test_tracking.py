"""What a tracking server holds of a training, in MLflow's own store of files."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from valence.config import Config, MlflowConfig
from valence.errors import ConfigError, UsageError
from valence.run import Run
from valence.storage.location import Location
from valence.training.tracking import NOTE, Tracker, TrackingError, require_mlflow

_NAMES = ("epoch", "validation_ccc")


def _row(seed: int, epoch: int, ccc: float | None = None) -> dict[str, Any]:
    return {
        "seed": seed,
        "epoch": epoch,
        "validation_ccc": seed + epoch / 8 if ccc is None else ccc,
    }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(Location.parse(tmp_path / "runs/mine"))
    run.write_config(Config(), {"corpus": "voices", "synthetic": True})
    (run.folder("report") / "report.html").write_text("<p>grüße</p>")
    (run.folder("report") / "metrics.json").write_text("{}")
    return run


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowConfig:
    pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")
    # MLflow's client alone reads and writes no other store than this one, which it keeps as it is.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowConfig(uri=f"file://{tmp_path}/store", experiment="speech")


def _runs(config: MlflowConfig) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=config.uri)
    experiment = client.get_experiment_by_name("speech")
    return list(client.search_runs([experiment.experiment_id]))


def _curve(config: MlflowConfig, identity: str, name: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    history = MlflowClient(tracking_uri=config.uri).get_metric_history(identity, name)
    return [(each.step, each.value) for each in history]


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def test_epochs_of_each_seed_are_a_curve_of_one_run(run: Run, config: MlflowConfig) -> None:
    rows = [_row(3, 1), _row(3, 2), _row(5, 1)]
    tracker = Tracker(run, config)
    assert tracker.send(rows[:2], _NAMES) == 2
    assert tracker.send(rows, _NAMES) == 1
    tracker.end("FINISHED")
    (found,) = _runs(config)
    assert (found.info.run_name, found.info.status) == ("mine", "FINISHED")
    assert _curve(config, found.info.run_id, "seed-3/validation_ccc") == [(1, 3.125), (2, 3.25)]
    assert _curve(config, found.info.run_id, "seed-5/validation_ccc") == [(1, 5.125)]
    assert _curve(config, found.info.run_id, "seed-5/epoch") == [(1, 1.0)]
    # The settings that the training depends on can be compared there.
    assert found.data.params["train.epochs"] == "30"
    assert found.data.params["sequence.length"] == "40"
    assert "sweep.seed" not in found.data.params


def test_a_training_that_goes_on_sends_nothing_twice(run: Run, config: MlflowConfig) -> None:
    rows = [_row(3, epoch) for epoch in (1, 2, 3)]
    Tracker(run, config).send(rows[:2], _NAMES)
    # Another process, which has the state of the first epoch and trains the second again.
    again = Tracker(run, config)
    assert again.send([rows[0], _row(3, 2, ccc=0.5)], _NAMES) == 0
    assert again.send(rows, _NAMES) == 1
    (found,) = _runs(config)
    assert _curve(config, found.info.run_id, "seed-3/validation_ccc") == [
        (1, 3.125),
        (2, 3.25),
        (3, 3.375),
    ]


def test_a_new_training_and_a_deleted_run_get_a_new_one(run: Run, config: MlflowConfig) -> None:
    from mlflow import MlflowClient

    Tracker(run, config).send([_row(3, 1)], _NAMES)
    (first,) = _runs(config)
    # --overwrite empties the folder of the training.
    (run.folder("train") / NOTE).delete()
    Tracker(run, config).send([_row(3, 1)], _NAMES)
    assert len(_runs(config)) == 2
    noted = (run.folder("train") / NOTE).read_json()["run"]
    assert noted != first.info.run_id
    MlflowClient(tracking_uri=config.uri).delete_run(noted)
    Tracker(run, config).send([_row(3, 1)], _NAMES)
    assert len(_runs(config)) == 2
    # A note that is damaged, or of another experiment, is not followed.
    (run.folder("train") / NOTE).write_text("{")
    Tracker(run, config).send([_row(3, 1)], _NAMES)
    assert len(_runs(config)) == 3


def test_configuration_and_report_are_artefacts(
    run: Run, config: MlflowConfig, tmp_path: Path
) -> None:
    Tracker(run, config).send_report()
    (found,) = _runs(config)
    root = Path(found.info.artifact_uri.removeprefix("file://"))
    assert (root / "config.toml").read_text() == run.config_file.read_text()
    assert (root / "report/report.html").read_text() == "<p>grüße</p>"
    assert (root / "report/metrics.json").read_text() == "{}"
    # Neither a training nor its end is told of by a report.
    assert found.info.status == "FINISHED"
    tracker = Tracker(run, config)
    tracker.send([_row(3, 1)], _NAMES)
    tracker.end("FAILED")
    Tracker(run, config).send_report()
    (found,) = _runs(config)
    assert found.info.status == "FAILED"


def test_a_server_that_is_not_there_is_an_error_in_words(run: Run, config: MlflowConfig) -> None:
    away = MlflowConfig(uri="http://127.0.0.1:9")
    with pytest.raises(TrackingError) as raised:
        Tracker(run, away).send([_row(3, 1)], _NAMES)
    assert "\n" not in str(raised.value)
    assert "127.0.0.1" in str(raised.value)


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr("valence.training.tracking.find_spec", none)
    require_mlflow(MlflowConfig())
    with pytest.raises(UsageError, match=r"pip install -e '\.\[mlflow\]'"):
        require_mlflow(MlflowConfig(uri="http://127.0.0.1:5000"))


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as raised:
        Config.resolve(Config(), assignments=["mlflow.uri=https://me:secret@host/"])
    assert "secret" not in str(raised.value)


def test_a_run_without_a_server_is_written_as_before() -> None:
    assert "mlflow" not in Config().to_toml()
    named = Config.resolve(Config(), assignments=["mlflow.uri=http://127.0.0.1:5000"])
    assert "[mlflow]" in named.to_toml()
