"""A tracking server that is away or silent costs a training nothing but a line."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.train import mirror as mirror_module
from pipelines.train.mirror import Mirror, send_finished, send_report
from pipelines.train.monitor import SHOWN, shown_rows
from tests.helpers.processes import wait_for
from valence.config import Config, MlflowConfig
from valence.run import Run
from valence.storage.location import Location

pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

_ROW = {
    "seed": 3,
    **{name: 0.5 for name in SHOWN if name not in ("best_validation_ccc", "seconds_left")},
    "seconds": 2.0,
}


def _rows(epochs: int) -> list[dict[str, Any]]:
    history = [{**_ROW, "epoch": epoch} for epoch in range(1, epochs + 1)]
    progress = {"history": history, "sequences_per_second": 9.0}
    return shown_rows(progress, Config.resolve(Config(), assignments=["train.epochs=4"]))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(Location.parse(tmp_path / "run"))
    run.write_config(Config(), {"corpus": "voices", "synthetic": True})
    return run


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowConfig:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowConfig(uri=f"file://{tmp_path}/store")


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def _steps(run: Run, config: MlflowConfig) -> list[int]:
    from mlflow import MlflowClient

    noted = (run.folder("train") / "mlflow.json").read_json()["run"]
    client = MlflowClient(tracking_uri=config.uri)
    return [e.step for e in client.get_metric_history(noted, "seed-3/validation_ccc")]


def test_epochs_arrive_while_the_training_runs(run: Run, store: MlflowConfig, console: Any) -> None:
    mirror = Mirror(run, store, SHOWN, console)
    mirror.show(_rows(1))
    wait_for(lambda: (run.folder("train") / "mlflow.json").exists(), "the first epoch")
    mirror.show(_rows(3))
    mirror.close("FINISHED")
    assert _steps(run, store) == [1, 2, 3]
    # A training that was killed had told of its epochs; it goes on in another process.
    again = Mirror(run, store, SHOWN, console)
    again.show(_rows(4))
    again.close("FAILED")
    assert _steps(run, store) == [1, 2, 3, 4]
    from mlflow import MlflowClient

    noted = (run.folder("train") / "mlflow.json").read_json()["run"]
    found = MlflowClient(tracking_uri=store.uri).get_run(noted)
    assert found.info.status == "FAILED"
    assert found.data.metrics["seed-3/seconds_left"] == 0.0
    assert {f"seed-3/{name}" for name in SHOWN} == found.data.metrics.keys()
    assert console.lines == []


def test_without_a_server_there_is_no_thread_and_no_file(run: Run, console: Any) -> None:
    before = threading.active_count()
    mirror = Mirror(run, MlflowConfig(), SHOWN, console)
    mirror.show(_rows(1))
    assert threading.active_count() == before
    mirror.close("FINISHED")
    send_report(run, MlflowConfig(), console)
    assert console.lines == []
    assert not run.folder("train").exists()


def test_a_server_that_is_away_is_told_of_once(run: Run, console: Any) -> None:
    mirror = Mirror(run, MlflowConfig(uri="http://127.0.0.1:9"), SHOWN, console)
    for epochs in (1, 2, 3):
        mirror.show(_rows(epochs))
        time.sleep(0.05)
    mirror.close("FINISHED")
    (line,) = console.lines
    assert "the tracking server 'http://127.0.0.1:9' was not reached" in line
    assert "The training goes on without it" in line


def test_a_silent_server_does_not_hold_up_the_training(
    run: Run, silent: str, console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By default a minute; the client itself would wait for two minutes, seven times.
    monkeypatch.setattr(mirror_module, "_LAST_SECONDS", 0.3)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mirror = Mirror(run, MlflowConfig(uri=silent), SHOWN, console)
    mirror.show(_rows(1))
    assert console.lines == []
    mirror.close("FINISHED")
    assert "it has not answered yet" in console.lines[0]
    # The thread itself ends, too.
    wait_for(lambda: not any(t.name == "mirror" for t in threading.enumerate()), "its end")
    assert len(console.lines) == 1


def test_what_a_server_missed_is_sent_by_the_same_command(
    run: Run, store: MlflowConfig, console: Any
) -> None:
    send_finished(run, store, _rows(3), SHOWN, console)
    assert console.lines == [f"train: 3 epochs sent to '{store.uri}'"]
    send_finished(run, store, _rows(3), SHOWN, console)
    assert len(console.lines) == 1
    assert _steps(run, store) == [1, 2, 3]
    send_finished(run, MlflowConfig(uri="http://127.0.0.1:9"), _rows(3), SHOWN, console)
    assert "was not reached" in console.lines[-1]


def test_a_report_that_cannot_be_sent_is_told(run: Run, store: MlflowConfig, console: Any) -> None:
    send_report(run, store, console)
    assert "'valence report' again sends it" in console.lines[-1]
    (run.folder("report") / "report.html").write_text("<p></p>")
    (run.folder("report") / "metrics.json").write_text("{}")
    send_report(run, store, console)
    assert console.lines[-1] == f"report: sent to the tracking server '{store.uri}'"
