"""The plan of a sweep: what it refuses and what it finds, without Ray and with nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.sweep.plan import plan_sweep
from tests.helpers.sweeping import run_with, sweep_config
from valence.errors import (
    ConfigError,
    DamagedError,
    MissingStageError,
    SplitError,
    StaleError,
    ValenceError,
)
from valence.run import Run
from valence.stage import FORMAT
from valence.sweep.features import Features

Make = Callable[..., Features]


@pytest.fixture
def run(make_features: Make, tmp_path: Path) -> Run:
    """A run with features, and no test rows among them."""
    features = make_features(rows=(30, 20, 10))
    return run_with(features.rows(features.split != "test"), tmp_path / "run")


def _content(run: Run) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in run.root.local.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("assignment", "error", "says"),
    [
        ('sweep.regressors=[{name="a", estimator="Perceptron"}]', ConfigError, "not offered"),
        ("sweep.select_on=test", SplitError, "no labelled test sequences"),
    ],
)
def test_settings_that_no_sweep_can_follow_are_refused(
    run: Run, assignment: str, error: type[ValenceError], says: str
) -> None:
    before = _content(run)
    with pytest.raises(error, match=says):
        plan_sweep(run, sweep_config(assignment), overwrite=False)
    assert _content(run) == before


def test_features_that_leak_are_refused(make_features: Make, tmp_path: Path) -> None:
    features = make_features(rows=(30, 20, 10))
    features.subject[features.split == "test"] = "s01"
    with pytest.raises(SplitError, match="more than one of training, validation and test"):
        plan_sweep(run_with(features, tmp_path), sweep_config(), overwrite=False)


def test_without_features_it_says_which_command_comes_first(tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match="valence extract"):
        plan_sweep(Run.at(str(tmp_path)), sweep_config(), overwrite=False)


def test_results_of_other_settings_are_refused_unless_they_may_go(run: Run) -> None:
    stage = run.stage("sweep")
    stage.begin(plan_sweep(run, sweep_config(), overwrite=False).opening.made_of)
    before = _content(run)
    assert plan_sweep(run, sweep_config(), overwrite=False).opening.standing == "resumed"
    other = sweep_config("sweep.seed=1")
    with pytest.raises(StaleError, match=r"sweep\.seed is 0 there and 1 here"):
        plan_sweep(run, other, overwrite=False)
    plan = plan_sweep(run, other, overwrite=True)
    assert (plan.opening.standing, plan.is_of_other_version) == ("replacing", False)
    assert plan.division is not None
    assert len(plan.division.training) == 30
    assert _content(run) == before


def test_results_of_another_version_may_go_unasked(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = run.stage("sweep")
    with monkeypatch.context() as patch:
        patch.setitem(FORMAT, "sweep", FORMAT["sweep"] - 1)
        stage.begin(plan_sweep(run, sweep_config(), overwrite=False).opening.made_of)
    before = _content(run)
    plan = plan_sweep(run, sweep_config(), overwrite=False)
    assert (plan.opening.standing, plan.is_of_other_version) == ("replacing", True)
    assert _content(run) == before


def test_a_damaged_record_is_refused(run: Run) -> None:
    stage = run.stage("sweep")
    stage.begin(plan_sweep(run, sweep_config(), overwrite=False).opening.made_of)
    stage.file.write_bytes(stage.file.read_bytes()[:-20])
    with pytest.raises(DamagedError, match=r"valence sweep .*--overwrite"):
        plan_sweep(run, sweep_config(), overwrite=False)
    assert plan_sweep(run, sweep_config(), overwrite=True).opening.standing == "resumed"
