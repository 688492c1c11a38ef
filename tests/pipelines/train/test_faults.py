"""Training while processes die and files are damaged: made, not mocked.

Whatever happens, history and weights are those of the undisturbed training, bit for bit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.helpers.processes import kill_with_descendants, wait_for
from tests.pipelines.conftest import MakeRun
from valence.config import Config
from valence.errors import DamagedError
from valence.run import Run
from valence.segments.store import SegmentStore
from valence.training.checkpoint import load_state, read_progress
from valence.training.loop import history_csv

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning"),
]

_DRIVER = """
import ray, sys
address = sys.argv[3] if len(sys.argv) > 3 else "local"
here = {"num_cpus": 4, "num_gpus": 0, "include_dashboard": False} if address == "local" else {}
ray.init(address, log_to_driver=False, logging_level="ERROR", **here)
from pipelines.runtime.console import Console
from pipelines.train.stage import train
from valence.config import Config
from valence.run import Run
from valence.storage.location import Location
config = Config.read(Location.parse(sys.argv[2]))
train(Run.at(sys.argv[1]), config, overwrite=False, console=Console())
"""


def _train(run: Run, config: Config, console: Any) -> None:
    from pipelines.train.stage import train

    train(run, config, overwrite=False, console=console)


def _epochs(run: Run) -> int:
    progress = read_progress(run.folder("train"))
    return 0 if progress is None else len(progress["history"])


def _same_as(expected: Run, run: Run) -> None:
    states = [load_state(each.folder("train"))[0] for each in (expected, run)]
    one, other = states
    assert one is not None
    assert other is not None
    untimed = [history_csv({**row, "seconds": 0} for row in each.history) for each in (one, other)]
    assert untimed[0] == untimed[1]
    assert one.threads == other.threads
    for name in ("model", "best"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert one.best_record == other.best_record
    digests = [each.stage("train").require()["summary"]["digest"] for each in (expected, run)]
    assert digests[0] == digests[1]


def test_a_killed_worker_is_restarted_where_it_was(
    trained: tuple[Run, Any],
    prepared_run: MakeRun,
    train_config: Config,
    console: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or, where its newest state is damaged meanwhile, where the one before was."""
    pids, newest = tmp_path / "pids", tmp_path / "run" / "train" / "state.pt"

    def dying(given: dict[str, Any]) -> str | None:
        """The worker, which kills itself twice, after three steps of an epoch.

        The second time, its newest state is damaged.
        """
        import os
        import signal

        # As the worker's process imports them, untouched by the test's.
        from pipelines.train import worker
        from valence.training.data.in_memory import ResidentSource

        whole = ResidentSource.batches

        def batches(self: Any, seed: int, epoch: int) -> Any:
            for steps, batch in enumerate(whole(self, seed, epoch)):
                killed = len(pids.read_text().splitlines())
                if (seed, epoch, steps) == {1: (3, 2, 3), 2: (5, 3, 3)}.get(killed):
                    if seed == 5:
                        newest.write_bytes(newest.read_bytes()[:-1000])
                    os.kill(os.getpid(), signal.SIGKILL)
                yield batch

        ResidentSource.batches = batches  # type: ignore[method-assign]
        with pids.open("a") as file:
            file.write(f"{os.getpid()} {given['settings'].placement.residency}\n")
        return worker.train_worker(given)

    run = prepared_run("run")
    monkeypatch.setattr("pipelines.train.stage.train_worker", dying)
    _train(run, train_config, console)
    # Three processes have worked on it: the two that died and the one in their place.
    lines = pids.read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["host", "host", "host"]
    assert len({line.split()[0] for line in lines}) == 3
    assert sum("state.pt' is damaged" in line for line in console.lines) == 1
    _same_as(trained[0], run)


@pytest.mark.parametrize(
    ("workers", "split", "restarts"),
    [(2, "train", 1), (1, "validation", 0)],
)
def test_segments_that_are_damaged_while_they_are_streamed_are_refused_by_name(
    ray_local: None,
    prepared_run: MakeRun,
    train_config: Config,
    console: Any,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    split: str,
    restarts: int,
) -> None:
    run = prepared_run("run")
    store = SegmentStore(run.folder("segments"))
    recordings = store.recordings()
    name = str(recordings["Id"][recordings["split"] == split].iloc[0])
    damaged = Path(store.file(name).path)

    def damaging(given: dict[str, Any]) -> Any:
        """The worker, which flips a bit of a file once its first epoch is over."""
        from pipelines.train import worker
        from pipelines.train.streaming import StreamingSource
        from valence.model.distributed import rank

        whole = StreamingSource.batches

        def batches(self: Any, seed: int, epoch: int) -> Any:
            if (rank(), epoch) == (0, 2):
                content = bytearray(damaged.read_bytes())
                content[len(content) // 2] ^= 1
                damaged.write_bytes(content)
            return whole(self, seed, epoch)

        StreamingSource.batches = batches  # type: ignore[method-assign]
        return worker.train_worker(given)

    monkeypatch.setattr("pipelines.train.stage.train_worker", damaging)
    settings = [
        "train.residency='stream'",
        f"train.workers={workers}",
        f"train.max_failures={restarts}",
    ]
    says = rf"{name}\.parquet' is (damaged|missing).* renamed to '{name}\.parquet\.damaged'.*Run "
    says += rf"'valence preprocess .* --out {run.root}' to make"
    with pytest.raises(DamagedError, match=says) as raised:
        _train(run, Config.resolve(train_config, assignments=settings), console)
    assert raised.value.exit_status == 1
    assert "\n" not in str(raised.value)
    assert not damaged.exists()
    # What was finished stays.
    state, _ = load_state(run.folder("train"))
    assert state is not None
    assert state.epoch == 1
    assert run.stage("train").record()["status"] == "running"  # type: ignore[index]


@pytest.mark.cluster
def test_a_killed_driver_goes_on_here_and_elsewhere(
    trained: tuple[Run, Any],
    prepared_run: MakeRun,
    train_config: Config,
    console: Any,
    tmp_path: Path,
) -> None:
    run = prepared_run("run")
    settings = tmp_path / "settings.toml"
    settings.write_text(train_config.to_toml())
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(run.root), str(settings)], stderr=subprocess.DEVNULL
    )
    wait_for(lambda: _epochs(run) >= 3, "three epochs", seconds=180)
    # Left alone, a worker may still end this small training.
    kill_with_descendants(driver)
    assert run.stage("train").record()["status"] == "running"  # type: ignore[index]
    finished = _epochs(run)
    assert 3 <= finished < 6
    elsewhere = Run.at(str(tmp_path / "elsewhere"))
    shutil.copytree(str(run.root), str(elsewhere.root))
    newest = Path(str(elsewhere.folder("train") / "state.pt"))
    newest.write_bytes(newest.read_bytes()[:-1000])

    _train(run, train_config, console)
    assert any("going on after epoch" in line for line in console.lines)
    assert not any("damaged" in line for line in console.lines)
    _same_as(trained[0], run)

    console.lines.clear()
    _train(elsewhere, train_config, console)
    assert sum("state.pt' is damaged" in line for line in console.lines) == 1
    assert any("going on after epoch" in line for line in console.lines)
    _same_as(trained[0], elsewhere)


# A worker that tells when it is in the middle of an epoch, and does something at each step then.
_WORKER = """
import pipelines.train.stage
begun = sys.argv[4]

def watched(given):
    import time
    from pathlib import Path
    # As the worker's process imports them, untouched by the driver's.
    from pipelines.train import worker
    from valence.training.data.in_memory import ResidentSource

    whole = ResidentSource.batches
    claim = given["settings"].claim
    file = Path(claim.folder.path) / "claim.json"

    def batches(self, seed, epoch):
        for steps, batch in enumerate(whole(self, seed, epoch)):
            if (seed, epoch, steps) >= (3, 2, 3):
                Path(begun).touch()
                DO
            yield batch

    ResidentSource.batches = batches
    return worker.train_worker(given)

pipelines.train.stage.train_worker = watched
"""
_SLOWLY = "time.sleep(0.1)"
_UNTIL_ANOTHER_COMES = (
    "while claim.token in file.read_text().partition('former')[0]: time.sleep(0.02)"
)

_CLUSTER = """
import sys
from ray.cluster_utils import Cluster
arguments = {"num_cpus": 4, "include_dashboard": False, "object_store_memory": 80 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args=arguments)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


def _driver_whose_worker(does: str) -> str:
    before, _, after = _DRIVER.rpartition("config = ")
    return f"{before}{_WORKER.replace('DO', does)}config = {after}"


@contextmanager
def _ray(kind: str, environment: dict[str, str]) -> Iterator[str]:
    """What a driver is to connect to: a Ray of its own, or a cluster that outlives it."""
    if kind == "of its own":
        yield "local"
        return
    cluster = subprocess.Popen(
        [sys.executable, "-c", _CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert cluster.stdout is not None
    try:
        yield cluster.stdout.readline().strip()
    finally:
        cluster.communicate("", timeout=60)


@pytest.mark.cluster
@pytest.mark.parametrize("kind", ["of its own", "a cluster's"])
def test_a_driver_that_dies_alone_is_gone_on_from_at_once(
    trained: tuple[Run, Any],
    prepared_run: MakeRun,
    train_config: Config,
    tmp_path: Path,
    kind: str,
) -> None:
    """Its worker is in an epoch, and goes on writing states until Ray has ended it."""
    run = prepared_run("run")
    settings, begun = tmp_path / "settings.toml", tmp_path / "begun"
    settings.write_text(train_config.to_toml())
    with tempfile.TemporaryDirectory(prefix="vf", dir="/tmp", ignore_cleanup_errors=True) as folder:
        # A folder of its own, or another test's Ray takes this cluster for the one to connect to.
        environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": folder}
        with _ray(kind, environment) as address:
            arguments = [str(run.root), str(settings), address, str(begun)]
            driver = subprocess.Popen(
                [sys.executable, "-c", _driver_whose_worker(_SLOWLY), *arguments],
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            wait_for(begun.exists, "an epoch to begin", seconds=180)
            driver.kill()
            driver.wait()
            assert run.stage("train").record()["status"] == "running"  # type: ignore[index]
            again = subprocess.run(
                [sys.executable, "-c", _DRIVER, *arguments],
                capture_output=True,
                text=True,
                timeout=240,
                env=environment,
            )
    assert again.returncode == 0, again.stderr[-3000:]
    assert "train: going on after epoch " in again.stderr
    assert "damaged" not in again.stderr
    _same_as(trained[0], run)


@pytest.mark.cluster
def test_of_two_trainings_in_one_folder_the_later_goes_on(
    trained: tuple[Run, Any], prepared_run: MakeRun, train_config: Config, tmp_path: Path
) -> None:
    """The same command in two terminals: both train for a while, and one of them ends."""
    run = prepared_run("run")
    settings, begun = tmp_path / "settings.toml", tmp_path / "begun"
    settings.write_text(train_config.to_toml())
    arguments = [str(run.root), str(settings), "local", str(begun)]
    drivers: list[subprocess.Popen[str]] = []
    output: list[str] = []
    try:
        for code in (_driver_whose_worker(_UNTIL_ANOTHER_COMES), _DRIVER):
            command = [sys.executable, "-c", code, *arguments]
            drivers.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
            wait_for(begun.exists, "an epoch to begin", seconds=180)
        # The second's end is not waited for by way of the first's, which would wait for ever.
        for driver in reversed(drivers):
            output.insert(0, driver.communicate(timeout=240)[1])
    finally:
        for driver in drivers:
            driver.kill()
    first, second = drivers
    assert second.returncode == 0, output[1][-3000:]
    assert "train: going on after epoch " in output[1]
    assert first.returncode == 1
    assert "is no longer this training's: another one " in output[0]
    assert "make room" not in output[0]
    _same_as(trained[0], run)


_LEFT_NODES = """
import sys, threading, time
from pathlib import Path
from ray.cluster_utils import Cluster
import ray
store = 80 * 2**20
# A crash is seen in three seconds, not fifteen.
quick = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}
head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": store}
head["_system_config"] = quick
cluster = Cluster(initialize_head=True, head_node_args=head)
lost = cluster.add_node(num_cpus=2, object_store_memory=store)
cluster.add_node(num_cpus=1, object_store_memory=store)
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
cluster.wait_for_nodes()
from pipelines.runtime.console import Console
from pipelines.train.stage import train
from valence.run import Run
run = Run.at(sys.argv[1])

def take_away():
    history = Path(sys.argv[1]) / "train" / "history.csv"
    while not history.exists() or len(history.read_text().splitlines()) < 3:
        time.sleep(0.05)
    cluster.remove_node(lost, allow_graceful=False)
    print("node lost after", len(history.read_text().splitlines()) - 1, "epochs", flush=True)

thread = threading.Thread(target=take_away)
thread.start()
summary = train(run, run.config(), overwrite=False, console=Console())
thread.join()
print("epochs", summary["epochs"], flush=True)
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.cluster
def test_a_node_lost_with_its_worker_leaves_the_training_to_the_others(
    prepared_run: MakeRun, train_config: Config
) -> None:
    """The node that is left holds no worker as large: the training is placed anew."""
    run = prepared_run("run")
    longer = Config.resolve(train_config, assignments=["train.epochs=6", "train.patience=6"])
    run.write_config(longer, run.record())
    ran = subprocess.run(
        [sys.executable, "-c", _LEFT_NODES, run.root.path],
        capture_output=True,
        text=True,
        timeout=300,
        env={
            **os.environ,
            "RAY_AUTH_MODE": "disabled",
            # The group of workers is not waited for longer than a busy machine needs.
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
        },
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "node lost after" in ran.stdout
    assert "going on with those that are there" in ran.stderr
    assert f"epochs {6 * len(longer.train.seeds)}" in ran.stdout
    history = pd.read_csv(f"{run.root.path}/train/history.csv")
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5, 6] * len(longer.train.seeds)
