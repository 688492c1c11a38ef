"""Which trial comes next, how many run at once and what one may take, without a cluster."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console as RichConsole
from sklearn.ensemble import RandomForestRegressor

from pipelines.runtime.console import Console
from pipelines.runtime.nodes import Node
from pipelines.sweep.monitor import SweepMonitor
from pipelines.sweep.search import LongestFirst
from pipelines.sweep.trials import _memory
from pipelines.sweep.work import INFORMATION, SweepWork, trial_bytes
from valence.config import StepConfig, SweepConfig
from valence.storage.location import Location
from valence.sweep.grid import combinations
from valence.sweep.kept.outcomes import OutcomeStore, TrialOutcome
from valence.sweep.transforms import Transformed

_SECONDS = {
    INFORMATION: 99.0,
    "none-none-linear": 3.0,
    "none-none-ridge": 2.0,
    "none-none-svr": 9.0,
    "none-none-xgboost": 5.0,
    "none-selectkbest-linear": 0.1,
    "none-selectkbest-ridge": 0.2,
    "none-selectkbest-svr": 20.0,
    "none-selectkbest-xgboost": 0.3,
}


@pytest.fixture
def work(tmp_path: Path) -> SweepWork:
    """No scaler, two reducers, five regressors, and nothing done."""
    default = SweepConfig()
    config = SweepConfig(scalers=default.scalers[:1], reducers=default.reducers[:2])
    grid = {str(each): each for each in combinations(config)}
    made_of = dict.fromkeys((*grid, INFORMATION), "x")
    store = OutcomeStore(Location.parse(tmp_path))
    return SweepWork(config, store, grid, made_of, None, None, None, 0)  # type: ignore[arg-type]


class _Hands:
    """Takes from a searcher all that it gives, as Tune does."""

    def __init__(self, work: SweepWork, *, most: int = 99) -> None:
        missing = [INFORMATION, *work.combinations]
        self._searcher = LongestFirst(work, missing, _SECONDS, most=most)
        self._ids: dict[str, str] = {}

    def take(self) -> list[str]:
        names: list[str] = []
        while isinstance(found := self._searcher.suggest(f"t{len(self._ids)}"), dict):
            self._ids[found["combination"]] = f"t{len(self._ids)}"
            names.append(found["combination"])
        self.finished = found == LongestFirst.FINISHED
        return names

    def end(self, *names: str, error: bool = False) -> None:
        for name in names:
            self._searcher.on_trial_complete(self._ids[name], error=error)


def test_the_longest_go_first_and_what_waits_waits(work: SweepWork) -> None:
    hands = _Hands(work)
    assert hands.take() == [
        INFORMATION,
        "none-none-svr",
        "none-none-xgboost",
        "none-none-linear",
        "none-none-ridge",
    ]
    hands.end("none-none-svr")
    assert hands.take() == []
    hands.end("none-none-linear")
    assert hands.take() == ["none-none-ensemble"]
    hands.end(INFORMATION)
    assert hands.take() == [
        "none-selectkbest-svr",
        "none-selectkbest-xgboost",
        "none-selectkbest-ridge",
        "none-selectkbest-linear",
    ]
    assert not hands.finished
    hands.end("none-selectkbest-svr", "none-selectkbest-linear")
    assert hands.take() == ["none-selectkbest-ensemble"]
    assert hands.finished


def test_no_more_run_at_once_than_may(work: SweepWork) -> None:
    hands = _Hands(work, most=2)
    assert hands.take() == [INFORMATION, "none-none-svr"]
    hands.end(INFORMATION)
    assert hands.take() == ["none-selectkbest-svr"]
    assert not hands.finished


def test_the_ensemble_of_a_lost_member_waits_for_the_next_round(work: SweepWork) -> None:
    hands = _Hands(work)
    hands.take()
    # One member ends by an error of its own, which is a row; the other is lost.
    work.write("none-none-linear", TrialOutcome.failure("why", engine="sklearn"))
    hands.end("none-none-linear", "none-none-svr", error=True)
    assert hands.take() == []
    hands.end(INFORMATION)
    hands.take()
    hands.end("none-selectkbest-svr", "none-selectkbest-linear")
    assert hands.take() == ["none-selectkbest-ensemble"]
    assert hands.finished


def test_a_trial_asks_for_no_more_memory_than_a_node_of_its_own_kind_has(
    work: SweepWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large node with GPUs is none that a combination may wait for."""
    cpu = Node("a", "host", {"CPU": 8, "memory": 4e9}, {"role": "cpu"})
    gpu = Node("b", "host", {"CPU": 8, "GPU": 1, "memory": 32e9}, {"role": "gpu"})
    monkeypatch.setattr("pipelines.runtime.nodes.living_nodes", lambda: [cpu, gpu])
    assert _memory(replace(work, trial_bytes=5 * 10**9), {"role": "cpu"}) == 4e9
    assert _memory(replace(work, trial_bytes=10**9), {"role": "cpu"}) == 1e9
    head = Node("c", "host", {"memory": 64e9}, {})
    monkeypatch.setattr("pipelines.runtime.nodes.living_nodes", lambda: [head, cpu])
    assert _memory(replace(work, trial_bytes=5 * 10**9), {}) == 4e9


def test_memory_for_kernels_and_forests() -> None:
    x = np.zeros((20_000, 4))
    raw = Transformed("passthrough", "passthrough", x, x[:9], x[:9])

    def asked(name: str, **parameters: int) -> int:
        regressor = StepConfig(name="a", estimator=name, parameters=parameters)
        return trial_bytes(raw, SweepConfig(regressors=(regressor,)))

    kernel = 8 * 20_000**2
    assert asked("KernelRidge") - asked("Ridge") == 2 * kernel
    assert asked("SVR") - asked("Ridge") == 2**30
    assert asked("SVR", cache_size=4000) - asked("Ridge") == 4000 * 2**20
    # As many nodes as scikit-learn's own forest has, and their values.
    forest = RandomForestRegressor(5, random_state=0)
    forest.fit(np.random.default_rng(0).random((2000, 4)), np.arange(2000.0))
    trees = [each.tree_ for each in forest.estimators_]
    real = sum(t.__getstate__()["nodes"].nbytes + t.value.nbytes for t in trees)
    assert 0.3 < real / (5 * (asked("RandomForestRegressor") - asked("Ridge")) / 1000) < 1


def test_a_combination_that_had_ended_before_its_worker_keeps_its_outcome(work: SweepWork) -> None:
    ended = TrialOutcome("ok", "", 1.0, "sklearn", 3, np.zeros(2), np.zeros(2))
    work.write("none-none-ridge", ended)
    trial = SimpleNamespace(config={"combination": "none-none-ridge"}, pickled_error_file=None)
    with Console().bar("sweep", 60) as bar:
        watch = SweepMonitor(replace(work, config=SweepConfig(trial_seconds=1e-9)), bar)
        watch.on_trial_start(0, [], trial)  # type: ignore[arg-type]
        watch.on_trial_error(0, [], trial)  # type: ignore[arg-type]
    found = work.read("none-none-ridge")
    assert found is not None
    assert found.status == "ok"
    assert watch.lost == {}


def test_each_combination_is_counted_once_by_what_became_of_it(
    work: SweepWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    metrics = SimpleNamespace(count_combination=counted.append)
    monkeypatch.setattr("pipelines.sweep.monitor.stage_metrics", lambda: metrics)

    def trial(name: str, status: str = "") -> Any:
        return SimpleNamespace(
            config={"combination": name}, last_result={"status": status}, pickled_error_file=None
        )

    limited = replace(work, config=SweepConfig(trial_seconds=1e-9))
    with Console().bar("sweep", 60) as bar:
        watch = SweepMonitor(limited, bar)
        watch.on_trial_complete(0, [], trial(INFORMATION))
        watch.on_trial_complete(0, [], trial("none-none-linear", "ok"))
        watch.on_trial_complete(0, [], trial("none-none-ridge", "failed"))
        # One that was stopped, and one that was lost and may yet be done.
        watch.on_trial_start(0, [], trial("none-none-svr"))
        watch.on_trial_error(0, [], trial("none-none-svr"))
        watch = SweepMonitor(work, bar)
        watch.on_trial_error(0, [], trial("none-none-xgboost"))
    assert counted == ["ok", "failed", "failed"]
    assert list(watch.lost) == ["none-none-xgboost"]


def test_of_many_that_run_the_longest_are_named_and_the_others_counted(work: SweepWork) -> None:
    screen = io.StringIO()
    console = Console(RichConsole(file=screen, force_terminal=True, width=200))
    with console.bar("sweep", 60) as bar:
        watch = SweepMonitor(work, bar)
        for name in list(work.combinations)[:6]:
            trial = SimpleNamespace(config={"combination": name})
            watch.on_trial_start(0, [], trial)  # type: ignore[arg-type]
        watch.on_step_end(0, [])
    assert ", 2 more" in screen.getvalue()


@pytest.mark.memory
def test_a_trial_stays_within_the_memory_it_asks_for() -> None:
    """All twelve transforms and three kinds of regressor on one worker, 10,000 rows of 512."""
    code = """
from pathlib import Path
import numpy as np
from pipelines.sweep.work import CACHED, trial_bytes
from valence.config import StepConfig, SweepConfig
from valence.sweep.fitting import evaluate
from valence.sweep.transforms import TransformCache, Transformed

generator = np.random.default_rng(0)
x = generator.standard_normal((13_000, 512))
raw = Transformed("passthrough", "passthrough", x[:10_000], x[10_000:11_500], x[11_500:])
y, recording = x[:10_000, 0] + 1, np.repeat("r01", 10_000)
config = SweepConfig()
select = StepConfig(
    name="k", estimator="SelectKBest", parameters={"score_func": "f_regression", "k": 16}
)
trees = StepConfig(name="trees", estimator="XGBRegressor", parameters={"n_estimators": 3})
size = sum(matrix.nbytes for matrix in raw.matrices)
cache = TransformCache(raw, y, seed=0, most_bytes=CACHED * size)
for scaler in config.scalers:
    for reducer in (config.reducers[0], select, *config.reducers[2:]):
        data = cache.get(scaler, reducer, shared=None)
        for step in (*config.regressors[:2], trees):
            outcome, _ = evaluate(step, data, y, recording=recording, config=config)
            assert outcome.status == "ok"
assert cache.nbytes > 2 * size, "all of them are kept"
# Not ru_maxrss, which begins at what the process had that started this one.
status = Path("/proc/self/status").read_text()
peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])
# Features lie in the object store, outside of what a trial asks for.
print((peak - size) / trial_bytes(raw, config), peak / 2**20, size / 2**20)
"""
    environment = {"OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[3],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    share = float(found.stdout.split()[0])
    # The other half is left to a kernel machine and its cache.
    assert 0.3 < share < 1
