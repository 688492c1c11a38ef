"""What befalls trials of a sweep: errors, a clock, and killed processes."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from rich.console import Console as RichConsole

from pipelines.runtime import console as progress
from pipelines.runtime.console import Console
from tests.helpers.exported import exported
from tests.helpers.processes import command, descendants, wait_for
from tests.helpers.sweeping import results_of, run_sweep, run_with, sweep_config
from valence.sweep.features import Features

pytestmark = [
    pytest.mark.ray,
    # Ray Tune leaves a socket of its own to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

Make = Callable[..., Features]

_ROOT = Path(__file__).resolve().parents[3]
# Three combinations: two of a moment, and one that takes minutes unless it is stopped.
_SLOW = (
    'sweep.scalers=["none"]',
    'sweep.reducers=["none"]',
    'sweep.regressors=["linear", "ridge", {name="slow", estimator="XGBRegressor", '
    "parameters={n_estimators=200000}}]",
    "sweep.bootstrap=20",
)


def test_whatever_a_trial_raises_is_a_row_that_says_it_and_is_counted(
    ray_local: None, make_features: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.sweep.trials import SweepTrial

    class Faulty(SweepTrial):
        """One with an estimator that has an error, and a disk that has no space."""

        def _outcome(self, name: str) -> Any:
            if name.endswith("ridge"):
                raise TypeError("of an estimator")
            if name.endswith("svr"):
                raise OSError("No space left on device")
            return super()._outcome(name)

    monkeypatch.setattr("pipelines.sweep.trials.SweepTrial", Faulty)
    run = run_with(make_features(), tmp_path)
    name = "ray_valence_combinations_total"
    before = exported(name)
    small = ('sweep.scalers=["none"]', 'sweep.reducers=["none"]')
    assert run_sweep(run, sweep_config(*small))["failed"] == 3
    table = results_of(run).set_index("regressor")
    assert table["reason"].dropna().to_dict() == {
        "ridge": "TypeError: of an estimator",
        "svr": "OSError: No space left on device",
        "ensemble": "its member was lost with its worker",
    }
    assert table["engine"].to_dict() == {
        **dict.fromkeys(("linear", "ridge", "svr", "ensemble"), "sklearn"),
        "xgboost": "xgboost",
    }
    # What the disk cost is none that the next call would take for done.
    files = {file.stem for file in (run.folder("sweep") / "combinations").files()}
    assert files == {f"none-none-{name}" for name in ("linear", "ridge", "xgboost")}
    # At least: what was counted before the first look may have come later.
    least = {"ok": before["ok"] + 2, "failed": before["failed"] + 1}
    wait_for(lambda: all(exported(name)[key] >= least[key] for key in least), "the counters")


def test_a_trial_that_takes_too_long_is_shown_and_ended_and_its_work_stops(
    ray_local: None,
    make_features: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = run_with(make_features(), tmp_path)
    screen = io.StringIO()
    console = Console(RichConsole(file=screen, force_terminal=True, width=160))
    config = sweep_config(*_SLOW, "sweep.trial_seconds=4")
    with _pids() as pids:
        run_sweep(run, config, console=console)
    running = re.compile(r"none-none-slow [1-9]\d* s")
    assert running.search(screen.getvalue())
    table = results_of(run).set_index("regressor")
    assert table["reason"]["slow"] == "stopped after 4 s (sweep.trial_seconds)"
    assert table.loc[["linear", "ridge"], "status"].tolist() == ["ok", "ok"]
    assert table["seconds"]["slow"] >= 4
    assert table["engine"]["slow"] == "xgboost"
    assert pids
    assert not any(_is_fitting(pid) for pid in pids)
    # The same is tried again when asked to, and shown where there is no terminal.
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.5)
    capsys.readouterr()
    assert run_sweep(run, config, overwrite=True)["failed"] == 1
    lines = capsys.readouterr().err.splitlines()
    assert "sweep: 2 of 3 combinations are there already" in lines
    assert any(running.search(line) for line in lines)


@pytest.mark.faults
def test_a_worker_that_is_killed_costs_its_trial_one_more_try(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    run = run_with(make_features(), tmp_path)
    slow = [each.replace("200000", "6000") for each in _SLOW]
    with _pids(kill="first") as pids:
        run_sweep(run, sweep_config(*slow))
    assert pids
    table = results_of(run)
    assert (table["status"] == "ok").all()
    assert len(table) == 3


@pytest.mark.faults
def test_a_worker_that_is_killed_twice_is_a_row_that_overwrite_tries_again(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    run = run_with(make_features(), tmp_path)
    config = sweep_config(*(each.replace("200000", "10000") for each in _SLOW))
    with _pids(kill="all that work for half a second"):
        assert run_sweep(run, config)["failed"] == 1
    reasons = results_of(run).set_index("regressor")["reason"]
    assert reasons["slow"] == "its worker died, perhaps for want of memory"
    store = run.folder("sweep") / "combinations"
    before = {file.name: file.info().mtime_ns for file in store.files()}
    assert sorted(before) == ["none-none-linear.parquet", "none-none-ridge.parquet"]
    assert run_sweep(run, config)["failed"] == 1
    assert run_sweep(run, config, overwrite=True)["failed"] == 0
    assert (results_of(run)["status"] == "ok").all()
    after = {file.name: file.info().mtime_ns for file in store.files()}
    assert {name: after[name] for name in before} == before


@pytest.mark.faults
@pytest.mark.cluster
def test_killed_in_the_middle_it_runs_only_what_is_missing(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    run = run_with(make_features(), tmp_path)
    code = f"""
from pipelines.runtime.console import Console
from pipelines.runtime.session import ray_session
from valence.config import Config
from valence.run import Run
with ray_session():
    from pipelines.sweep.stage import sweep
    config = Config.resolve(Config(), assignments=["sweep.bootstrap=50"])
    sweep(Run.at({str(tmp_path)!r}), config, overwrite=False, console=Console())
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=_ROOT, start_new_session=True)
    store = run.folder("sweep") / "combinations"
    wait_for(lambda: len(store.files()) >= 8, "eight outcomes")
    started = descendants(child.pid)
    child.kill()
    child.wait()
    wait_for(lambda: not any(map(command, started)), "the end of what it started")
    before = {file.name: file.info().mtime_ns for file in store.files()}
    assert 8 <= len(before) < 60
    run_sweep(run, sweep_config())
    after = {file.name: file.info().mtime_ns for file in store.files()}
    assert len([name for name in after if name.endswith(".parquet")]) == 60
    assert {name: after[name] for name in before} == before
    assert len(results_of(run)) == 60
    assert run.stage("sweep").require()["status"] == "done"


def _is_fitting(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    # As Ray calls the process of an actor of Tune while it computes.
    return command.startswith(b"ray::") and b".train" in command


class _pids:
    """Process ids of the trials seen at work during the block, some of which are killed."""

    def __init__(
        self, *, kill: Literal["none", "first", "all that work for half a second"] = "none"
    ) -> None:
        self._kill, self._stop = kill, threading.Event()
        self._seen: set[int] = set()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> set[int]:
        self._thread.start()
        return self._seen

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        since: dict[int, float] = {}
        while not self._stop.wait(0.1):
            now = time.monotonic()
            pids = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
            since = {pid: since.get(pid, now) for pid in pids if _is_fitting(pid)}
            self._seen.update(since)
            old = [pid for pid, start in since.items() if now - start >= 0.5]
            first = self._kill == "first" and len(self._seen) == 1
            if old and (first or self._kill == "all that work for half a second"):
                os.kill(old[0], signal.SIGKILL)
