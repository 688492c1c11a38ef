"""Which trial comes next, how many run at once and what one may take, without a cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.trials import INFORMATION, LongestFirst, Work
from valence.combinations import combinations
from valence.config import SweepConfig
from valence.outcomes import Outcome, OutcomeStore
from valence.storage import Location

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
def work(tmp_path: Path) -> Work:
    """No scaler, two reducers, five regressors, and nothing done."""
    default = SweepConfig()
    config = SweepConfig(scalers=default.scalers[:1], reducers=default.reducers[:2])
    grid = {str(each): each for each in combinations(config)}
    made_of = dict.fromkeys((*grid, INFORMATION), "x")
    store = OutcomeStore(Location.parse(tmp_path))
    return Work(config, store, grid, made_of, None, None, None, 0)  # type: ignore[arg-type]


class _Hands:
    """Takes from a searcher all that it gives, as Tune does."""

    def __init__(self, work: Work, *, most: int = 99) -> None:
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


def test_the_longest_go_first_and_what_waits_waits(work: Work) -> None:
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


def test_no_more_run_at_once_than_may(work: Work) -> None:
    hands = _Hands(work, most=2)
    assert hands.take() == [INFORMATION, "none-none-svr"]
    hands.end(INFORMATION)
    assert hands.take() == ["none-selectkbest-svr"]
    assert not hands.finished


def test_the_ensemble_of_a_lost_member_waits_for_the_next_round(work: Work) -> None:
    hands = _Hands(work)
    hands.take()
    # One member ends by an error of its own, which is a row; the other is lost.
    work.write("none-none-linear", Outcome.failure("why"))
    hands.end("none-none-linear", "none-none-svr", error=True)
    assert hands.take() == []
    hands.end(INFORMATION)
    hands.take()
    hands.end("none-selectkbest-svr", "none-selectkbest-linear")
    assert hands.take() == ["none-selectkbest-ensemble"]
    assert hands.finished


def test_a_trial_stays_within_the_memory_it_asks_for() -> None:
    """All twelve transforms and three kinds of regressor on one worker, 10,000 rows of 512."""
    code = """
from pathlib import Path
import numpy as np
from pipelines.trials import _CACHED, trial_bytes
from valence.config import StepConfig, SweepConfig
from valence.regression import evaluate
from valence.transforms import TransformCache, Transformed

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
cache = TransformCache(raw, y, seed=0, most_bytes=_CACHED * size)
for scaler in config.scalers:
    for reducer in (config.reducers[0], select, *config.reducers[2:]):
        data = cache.get(scaler, reducer, shared=None)
        for step in (*config.regressors[:2], trees):
            assert evaluate(step, data, y, recording=recording, config=config).status == "ok"
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
        cwd=Path(__file__).resolve().parents[2],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    share = float(found.stdout.split()[0])
    # The other half is left to a kernel machine and its cache.
    assert 0.3 < share < 1
