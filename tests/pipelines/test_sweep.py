"""The sweep on Ray: sixty genuine trials, each number scikit-learn's own, and what faults do."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import audmetric
import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

from pipelines import progress
from pipelines.cli import app
from pipelines.progress import Report
from tests.exported import exported
from valence.checkpoint import export_model
from valence.combinations import combinations, plain_pipeline
from valence.config import Config, SweepConfig
from valence.errors import ConfigError, MissingStageError, SplitError, StaleError
from valence.features import Features, read_features, write_features
from valence.model import ValenceModel
from valence.prediction import Predictor
from valence.regressor import load_regressor
from valence.run import Run
from valence.segments import SegmentStore
from valence.storage import Location
from valence.transforms import divide, training_target, untransformed

pytestmark = [
    pytest.mark.ray,
    # Ray Tune leaves a socket of its own to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

Make = Callable[..., Features]

_ROOT = Path(__file__).resolve().parents[2]
# Three combinations: two of a moment, and one that takes minutes unless it is stopped.
_SLOW = (
    'sweep.scalers=["none"]',
    'sweep.reducers=["none"]',
    'sweep.regressors=["linear", "ridge", {name="slow", estimator="XGBRegressor", '
    "parameters={n_estimators=200000}}]",
    "sweep.bootstrap=20",
)


def _run_with(features: Features, folder: Path) -> Run:
    """A run that has features and nothing else."""
    run = Run.at(str(folder))
    stage = run.stage("features")
    stage.begin({"model": "a model"})
    for name in np.unique(features.recording):
        rows = features.rows(features.recording == name)
        write_features(run.folder("features") / f"{name}.parquet", rows)
    stage.finish({"digest": "of these features", "seconds": 0.0})
    return run


def _config(*assignments: str) -> Config:
    return Config.resolve(Config(), assignments=["sweep.bootstrap=50", *assignments])


def _sweep(run: Run, config: Config, **options: Any) -> dict[str, Any]:
    from pipelines.sweep import sweep

    return sweep(run, config, **{"overwrite": False, "report": Report(), **options})


def _results(run: Run) -> pd.DataFrame:
    with (run.folder("sweep") / "results.csv").open() as file:
        return pd.read_csv(io.BytesIO(file.read()))


@pytest.fixture(scope="module")
def swept(
    ray_local: None, make_features: Make, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Features]:
    features = make_features()
    run = _run_with(features, tmp_path_factory.mktemp("run"))
    _sweep(run, _config())
    return run, features


def test_sixty_rows_best_first(swept: tuple[Run, Features]) -> None:
    table = _results(swept[0])
    assert list(table.columns[:8]) == [
        "scaler",
        "reducer",
        "regressor",
        "ccc_validation",
        "ccc_test",
        "mse_test",
        "mae_test",
        "seconds",
    ]
    assert len(table.groupby(["scaler", "reducer", "regressor"])) == len(table) == 60
    assert table["ccc_validation"].is_monotonic_decreasing
    assert (table["status"] == "ok").all()


def test_every_score_is_the_plain_pipelines(swept: tuple[Run, Features]) -> None:
    run, features = swept
    division, config = divide(features), _config().sweep
    raw, y = untransformed(division), training_target(division.training)
    table = _results(run).set_index(["scaler", "reducer", "regressor"])
    with threadpool_limits(limits=1):
        for combination in combinations(config):
            plain = plain_pipeline(combination, config).fit(raw.training, y)
            tolerance = 1e-6 if combination.regressor.name == "xgboost" else 1e-9
            row = table.loc[combination.names]
            for part, score in (("validation", "ccc_validation"), ("test", "ccc_test")):
                truth = getattr(division, part).target[:, 0].astype(np.float64)
                expected = audmetric.concordance_cc(truth, plain.predict(getattr(raw, part)))
                assert row[score] == pytest.approx(expected, abs=tolerance), str(combination)
            error = truth - plain.predict(raw.test)
            assert row["mse_test"] == pytest.approx(np.mean(error**2), abs=tolerance)
            assert row["mae_test"] == pytest.approx(np.mean(abs(error)), abs=tolerance)


def test_the_selection_names_the_best_and_its_scores(swept: tuple[Run, Features]) -> None:
    run, features = swept
    selection = (run.folder("sweep") / "selection.json").read_json()
    first = _results(run).iloc[0]
    best = selection["best"]
    assert [best[key] for key in ("scaler", "reducer", "regressor")] == list(first.iloc[:3])
    assert best["validation"]["ccc"] == first["ccc_validation"]
    assert best["test"]["ccc"] == first["ccc_test"]
    assert selection["select_on"] == "validation"
    deep = features.of("test")
    assert selection["deep"]["test"]["ccc"] == pytest.approx(
        audmetric.concordance_cc(deep.target[:, 0], deep.prediction[:, 0]), abs=1e-6
    )
    assert selection["baselines"]["constant"]["test"]["ccc"] == 0


def test_the_best_pipeline_loads_and_predicts_the_same(swept: tuple[Run, Features]) -> None:
    run, features = swept
    best = load_regressor(run.folder("sweep") / "best")
    assert best.about["largest_difference_to_trial"] <= 1e-9
    assert best.about["target"] == "valence"
    assert best.about["model"] == "a model"
    rows = features.of("test")
    assert audmetric.concordance_cc(rows.target[:, 0], best.predict(rows.feature)) == pytest.approx(
        _results(run)["ccc_test"].iloc[0], abs=1e-6
    )


def test_done_is_done_and_another_configuration_is_refused(swept: tuple[Run, Features]) -> None:
    run, _ = swept
    file = run.folder("sweep") / "results.csv"
    before = file.info().mtime_ns
    assert _sweep(run, _config()) == run.stage("sweep").require()["summary"]
    assert file.info().mtime_ns == before
    with pytest.raises(StaleError, match=r"sweep\.seed is 0 there and 1 here"):
        _sweep(run, _config("sweep.seed=1"))


def test_an_outcome_holds_for_the_software_and_the_row_limit_that_made_it() -> None:
    from pipelines.sweep import _made_of

    config, limited = _config().sweep, _config("sweep.svr_max_rows=100").sweep
    installed = {"numpy": "2.2.0", "scipy": "1.16.0", "scikit-learn": "1.8.0", "xgboost": "3.0.0"}
    installed["scikit-learn-intelex"] = "2026.0"

    def changed(others: SweepConfig, **upgraded: str) -> set[str]:
        """Regressors whose outcomes no longer hold."""
        after = installed | {name.replace("_", "-"): each for name, each in upgraded.items()}
        return {
            each.regressor.name
            for each in combinations(config)
            if _made_of(each, config, "x", installed) != _made_of(each, others, "x", after)
        }

    assert changed(config) == set()
    assert changed(limited) == {"svr", "ensemble"}
    assert changed(config, xgboost="3.1.0") == {"xgboost"}
    assert changed(config, scikit_learn_intelex="2026.1") == set()
    for upgraded in ("numpy", "scipy", "scikit_learn"):
        assert len(changed(config, **{upgraded: "9.9.0"})) == 5


def test_selecting_on_test_is_marked_and_fits_nothing_again(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    run = _run_with(make_features(), tmp_path)
    small = ('sweep.scalers=["none", "minmax"]', 'sweep.reducers=["pca10"]')
    _sweep(run, _config(*small))
    store = run.folder("sweep") / "combinations"
    before = {file.name: file.info().mtime_ns for file in store.files()}
    assert len([name for name in before if name.endswith(".parquet")]) == 2 * 1 * 5
    _sweep(run, _config(*small, "sweep.select_on=test"), overwrite=True)
    assert {file.name: file.info().mtime_ns for file in store.files()} == before
    selection = (run.folder("sweep") / "selection.json").read_json()
    assert selection["select_on"] == "test"
    table = _results(run)
    assert table["ccc_test"].is_monotonic_decreasing
    assert selection["best"]["test"]["ccc"] == table["ccc_test"].max()
    assert load_regressor(run.folder("sweep") / "best").about["select_on"] == "test"


def test_what_took_long_is_kept_and_not_fitted_again(
    ray_local: None, make_features: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.trials import SweepTrial

    class Patient(SweepTrial):
        """One to which all takes long."""

        def _outcome(self, name: str) -> Any:
            outcome, fitted = super()._outcome(name)
            return replace(outcome, seconds=99.0), fitted

    monkeypatch.setattr("pipelines.trials.SweepTrial", Patient)
    # Of this process, in which nothing is to be fitted.
    monkeypatch.setattr("valence.regression.fit_regressor", None)
    run = _run_with(make_features(), tmp_path)
    small = ('sweep.scalers=["none"]', 'sweep.reducers=["pca10"]')
    store = run.folder("sweep") / "combinations"
    for select_on in ("validation", "test"):
        _sweep(run, _config(*small, f"sweep.select_on={select_on}"), overwrite=True)
        kept = [file.stem for file in store.files() if file.suffix == ".skops"]
        assert kept == [f"none-pca10-{name}" for name in ("linear", "ridge", "svr", "xgboost")]
        best = load_regressor(run.folder("sweep") / "best").about
        assert best["largest_difference_to_trial"] <= 1e-6
        assert best["select_on"] == select_on


def test_a_sweep_that_is_refused_leaves_the_one_that_stands(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    features = make_features()
    run = _run_with(features.rows(features.split != "test"), tmp_path)
    small = ('sweep.scalers=["none"]', 'sweep.reducers=["none"]', 'sweep.regressors=["ridge"]')
    summary = _sweep(run, _config(*small))
    before = {file.name: file.read_bytes() for file in run.folder("sweep").files()}
    with pytest.raises(SplitError, match="no labelled test sequences"):
        _sweep(run, _config(*small, "sweep.select_on=test"), overwrite=True)
    assert {file.name: file.read_bytes() for file in run.folder("sweep").files()} == before
    assert _sweep(run, _config(*small)) == summary


def test_a_failing_combination_is_a_row_and_the_others_stand(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    run = _run_with(make_features(), tmp_path)
    # More components than the training rows allow, and a solver that gives up.
    config = _config(
        'sweep.scalers=["none"]',
        'sweep.reducers=["none", {name="wide", estimator="PCA", parameters={n_components=99}}]',
        'sweep.regressors=["linear", "ridge", {name="hasty", estimator="Lasso", '
        'parameters={alpha=1e-6, max_iter=2}}, {name="mean", members=["linear", "hasty"]}]',
    )
    summary = _sweep(run, config)
    table = _results(run)
    assert (summary["combinations"], summary["failed"], len(table)) == (8, 6, 8)
    good = table[table["status"] == "ok"]
    assert good[["reducer", "regressor"]].to_numpy().tolist() in (
        [["none", "linear"], ["none", "ridge"]],
        [["none", "ridge"], ["none", "linear"]],
    )
    reasons = table.set_index(["reducer", "regressor"])["reason"]
    assert reasons["none", "hasty"].startswith("did not converge")
    assert reasons["none", "mean"].startswith("its member 'hasty' failed: did not converge")
    assert set(table["engine"]) == {"sklearn"}
    assert reasons["wide", "linear"].startswith(
        "none and wide cannot be fitted: ValueError: n_components=99"
    )
    assert table["ccc_validation"].isna().sum() == 6


def test_whatever_a_trial_raises_is_a_row_that_says_it_and_is_counted(
    ray_local: None, make_features: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.trials import SweepTrial

    class Faulty(SweepTrial):
        """One with an estimator that has an error, and a disk that has no space."""

        def _outcome(self, name: str) -> Any:
            if name.endswith("ridge"):
                raise TypeError("of an estimator")
            if name.endswith("svr"):
                raise OSError("No space left on device")
            return super()._outcome(name)

    monkeypatch.setattr("pipelines.trials.SweepTrial", Faulty)
    run = _run_with(make_features(), tmp_path)
    name = "ray_valence_combinations_total"
    before = exported(name)
    small = ('sweep.scalers=["none"]', 'sweep.reducers=["none"]')
    assert _sweep(run, _config(*small))["failed"] == 3
    table = _results(run).set_index("regressor")
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
    deadline = time.monotonic() + 30
    # At least: what was counted before the first look may have come later.
    while (
        exported(name)["ok"] < before["ok"] + 2 or exported(name)["failed"] < before["failed"] + 1
    ):
        assert time.monotonic() < deadline, "the counters have not come"
        time.sleep(0.5)


def test_a_step_that_refuses_the_data_costs_its_combinations_alone(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    run = _run_with(make_features(), tmp_path)
    # Box-Cox takes positive values alone.
    config = _config(
        'sweep.scalers=["none", {name="box", estimator="PowerTransformer", '
        'parameters={method="box-cox"}}]',
        'sweep.reducers=["none"]',
        'sweep.regressors=["ridge", "svr"]',
    )
    summary = _sweep(run, config)
    table = _results(run).set_index(["scaler", "regressor"])
    assert (summary["combinations"], summary["failed"]) == (4, 2)
    assert table["status"]["none"].tolist() == ["ok", "ok"]
    for regressor in ("ridge", "svr"):
        reason = table["reason"]["box", regressor]
        assert reason.startswith("box and none cannot be fitted: ValueError: The Box-Cox")


def test_what_is_wrong_with_the_grid_is_said_before_anything_is_written(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    run = _run_with(make_features(rows=(30, 20, 10)), tmp_path)
    with pytest.raises(ConfigError, match="not offered"):
        _sweep(run, _config('sweep.regressors=[{name="a", estimator="Perceptron"}]'))
    assert not run.folder("sweep").exists()


def test_features_that_leak_are_refused(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    features = make_features(rows=(30, 20, 10))
    features.subject[features.split == "test"] = "s01"
    with pytest.raises(SplitError, match="more than one of training, validation and test"):
        _sweep(_run_with(features, tmp_path), _config())


def test_without_features_it_says_which_command_comes_first(
    ray_local: None, tmp_path: Path
) -> None:
    with pytest.raises(MissingStageError, match="valence extract"):
        _sweep(Run.at(str(tmp_path)), _config())


def test_a_trial_that_takes_too_long_is_shown_and_ended_and_its_work_stops(
    ray_local: None,
    make_features: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = _run_with(make_features(), tmp_path)
    screen = io.StringIO()
    report = Report(Console(file=screen, force_terminal=True, width=160))
    config = _config(*_SLOW, "sweep.trial_seconds=4")
    with _pids() as pids:
        _sweep(run, config, report=report)
    running = re.compile(r"none-none-slow [1-9]\d* s")
    assert running.search(screen.getvalue())
    table = _results(run).set_index("regressor")
    assert table["reason"]["slow"] == "stopped after 4 s (sweep.trial_seconds)"
    assert table.loc[["linear", "ridge"], "status"].tolist() == ["ok", "ok"]
    assert table["seconds"]["slow"] >= 4
    assert table["engine"]["slow"] == "xgboost"
    assert pids
    assert not any(_is_fitting(pid) for pid in pids)
    # The same is tried again when asked to, and shown where there is no terminal.
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.5)
    capsys.readouterr()
    assert _sweep(run, config, overwrite=True)["failed"] == 1
    lines = capsys.readouterr().err.splitlines()
    assert "sweep: 2 of 3 combinations are there already" in lines
    assert any(running.search(line) for line in lines)


def test_the_fast_engine_and_a_row_limit_are_stated(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    pytest.importorskip("sklearnex")
    run = _run_with(make_features(), tmp_path)
    small = ('sweep.scalers=["none"]', 'sweep.reducers=["none"]')
    _sweep(run, _config(*small, "sweep.engine=sklearnex", "sweep.svr_max_rows=100"))
    table = _results(run).set_index("regressor")
    assert table["engine"].to_dict() == {
        "linear": "sklearn",
        "ridge": "sklearn",
        "svr": "sklearnex",
        "xgboost": "xgboost",
        "ensemble": "sklearn+sklearnex",
    }
    assert table["rows"].to_dict() == {
        "linear": 240,
        "ridge": 240,
        "svr": 100,
        "xgboost": 240,
        "ensemble": 100,
    }
    told = "fitted on 100 of 240 rows (sweep.svr_max_rows)"
    assert (table["reason"]["svr"], table["reason"]["ensemble"]) == (told, f"svr {told}")
    assert table["reason"].notna().sum() == 2
    store = run.folder("sweep") / "combinations"
    before = {file.name: file.info().mtime_ns for file in store.files()}
    _sweep(run, _config(*small, "sweep.engine=sklearnex"), overwrite=True)
    changed = [file.stem for file in store.files() if file.info().mtime_ns != before[file.name]]
    assert changed == ["none-none-ensemble", "none-none-svr"]
    assert set(_results(run)["rows"]) == {240}


@pytest.fixture
def extracted(ray_local: None, prepared_run: Callable[[str], Run], tiny_config: Config) -> Run:
    """A run with segments, a model that was not trained, and its features."""
    from pipelines.extract import extract

    run = prepared_run("run")
    standardizer = SegmentStore(run.folder("segments")).standardizer()
    torch.manual_seed(0)
    model = ValenceModel(tiny_config.model, n_mels=128, n_frames=34, standardizer=standardizer)
    stage = run.stage("train")
    stage.begin({"made_for": "tests"})
    stage.finish({"digest": export_model(run.model, model, tiny_config, {}), "seconds": 0.0})
    extract(run, tiny_config, overwrite=False, report=Report())
    return run


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_beside_the_baseline_of_functionals_and_on_to_a_prediction(
    extracted: Run, tiny_config: Config, tiny_corpus: Location, tmp_path: Path
) -> None:
    # The functionals are those of the sequences that the features are of.
    other_length = "sequence.length=10"
    small = Config.resolve(
        tiny_config,
        assignments=['sweep.scalers=["none"]', 'sweep.reducers=["pca10"]', other_length],
    )
    _sweep(extracted, small)
    selection = (extracted.folder("sweep") / "selection.json").read_json()
    assert selection["remarks"] == []
    division = divide(read_features(extracted.folder("features")))
    segments = SegmentStore(extracted.folder("segments"))
    matrices = []
    for part in (division.training, division.validation):
        rows = zip(part.recording.tolist(), part.start, strict=True)
        mels = [segments.read(name).mel[k : k + 20].astype(np.float64) for name, k in rows]
        matrices.append(
            [np.concatenate([mel.mean(axis=(0, 2)), mel.std(axis=(0, 2))]) for mel in mels]
        )
    ridge = make_pipeline(StandardScaler(), Ridge())
    ridge.fit(matrices[0], training_target(division.training))
    truth = division.validation.target[:, 0].astype(np.float64)
    assert selection["baselines"]["functionals"]["validation"]["ccc"] == pytest.approx(
        audmetric.concordance_cc(truth, ridge.predict(matrices[1])), abs=1e-6
    )

    audio = next((tiny_corpus / "raw_data" / "audio").local.glob("*.*"))
    out = tmp_path / "predicted"
    command = ["predict", str(audio), "--model", str(extracted.root), "--regressor", "best"]
    assert CliRunner().invoke(app, [*command, "--out", str(out)]).exit_code == 0
    deep = tmp_path / "deep"
    assert CliRunner().invoke(app, [*command[:-2], "--out", str(deep)]).exit_code == 0
    # Each curve is told with what made it, whatever the last call into a folder was.
    another = next(
        file for file in (tiny_corpus / "raw_data" / "audio").local.glob("*.*") if file != audio
    )
    command[1] = str(another)
    assert CliRunner().invoke(app, [*command[:-2], "--out", str(out)]).exit_code == 0
    listed = json.loads((out / "prediction.json").read_text())["recordings"]
    by = {row["name"]: row["regressor"] for row in listed}
    assert by[another.stem] is None
    assert by[audio.stem]["scaler"]["name"] == "none"
    ours, theirs = (pd.read_csv(each / f"{audio.stem}.csv")["valence"] for each in (out, deep))
    assert len(ours) == len(theirs) == 80
    assert np.isfinite(ours).all()
    assert np.abs(ours - theirs).max() > 1e-3
    # The first window alone says what the first moment is.
    predictor = Predictor.load(extracted.root, regressor="best")
    assert predictor.regressor is not None
    features = read_features(extracted.folder("features"))
    first = features.rows((features.recording == audio.stem) & (features.start == 0))
    assert ours[0] == pytest.approx(predictor.regressor.predict(first.feature)[0], abs=1e-2)


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_segments_that_cannot_be_read_cost_their_baseline_alone(
    extracted: Run, tiny_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    name = read_features(extracted.folder("features")).recording[0]
    file = SegmentStore(extracted.folder("segments")).file(str(name))
    whole = file.read_bytes()
    file.write_bytes(whole[:1000])
    small = Config.resolve(
        tiny_config,
        assignments=[
            'sweep.scalers=["none"]',
            'sweep.reducers=["none"]',
            'sweep.regressors=["ridge"]',
        ],
    )
    assert _sweep(extracted, small)["failed"] == 0
    selection = (extracted.folder("sweep") / "selection.json").read_json()
    assert list(selection["baselines"]) == ["constant"]
    (remark,) = selection["remarks"]
    assert remark.startswith("the baseline of functionals is missing: ")
    assert f"sweep: {remark}" in capsys.readouterr().err.splitlines()

    file.write_bytes(whole)
    _sweep(extracted, small)
    hint = f"sweep: nothing to do; {remark}; --overwrite tries again"
    assert hint in capsys.readouterr().err.splitlines()
    _sweep(extracted, small, overwrite=True)
    selection = (extracted.folder("sweep") / "selection.json").read_json()
    assert list(selection["baselines"]) == ["constant", "functionals"]

    # Segments that the features were not made of say nothing beside them.
    stage = extracted.stage("segments")
    stage.begin({"made": "again"}, overwrite=True, wipe=False)
    stage.finish({"digest": "of other segments"})
    extracted.stage("sweep").file.delete()
    _sweep(extracted, small)
    selection = (extracted.folder("sweep") / "selection.json").read_json()
    assert list(selection["baselines"]) == ["constant"]
    assert "the segments were made again after the features" in selection["remarks"][0]


@pytest.mark.faults
def test_a_worker_that_is_killed_costs_its_trial_one_more_try(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    run = _run_with(make_features(), tmp_path)
    slow = [each.replace("200000", "6000") for each in _SLOW]
    with _pids(kill="first") as pids:
        _sweep(run, _config(*slow))
    assert pids
    table = _results(run)
    assert (table["status"] == "ok").all()
    assert len(table) == 3


@pytest.mark.faults
def test_a_worker_that_is_killed_twice_is_a_row_that_overwrite_tries_again(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    run = _run_with(make_features(), tmp_path)
    config = _config(*(each.replace("200000", "30000") for each in _SLOW))
    with _pids(kill="all that work for half a second"):
        assert _sweep(run, config)["failed"] == 1
    reasons = _results(run).set_index("regressor")["reason"]
    assert reasons["slow"] == "its worker died, perhaps for want of memory"
    store = run.folder("sweep") / "combinations"
    before = {file.name: file.info().mtime_ns for file in store.files()}
    assert sorted(before) == ["none-none-linear.parquet", "none-none-ridge.parquet"]
    assert _sweep(run, config)["failed"] == 1
    assert _sweep(run, config, overwrite=True)["failed"] == 0
    assert (_results(run)["status"] == "ok").all()
    after = {file.name: file.info().mtime_ns for file in store.files()}
    assert {name: after[name] for name in before} == before


@pytest.mark.faults
def test_killed_in_the_middle_it_runs_only_what_is_missing(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    run = _run_with(make_features(), tmp_path)
    code = f"""
from pipelines.progress import Report
from pipelines.session import ray_session
from valence.config import Config
from valence.run import Run
with ray_session():
    from pipelines.sweep import sweep
    config = Config.resolve(Config(), assignments=["sweep.bootstrap=50"])
    sweep(Run.at({str(tmp_path)!r}), config, overwrite=False, report=Report())
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=_ROOT, start_new_session=True)
    store = run.folder("sweep") / "combinations"
    deadline = time.monotonic() + 120
    while len(store.files()) < 8 and time.monotonic() < deadline:
        time.sleep(0.05)
    child.kill()
    child.wait()
    time.sleep(1)
    before = {file.name: file.info().mtime_ns for file in store.files()}
    assert 8 <= len(before) < 60
    _sweep(run, _config())
    after = {file.name: file.info().mtime_ns for file in store.files()}
    assert len([name for name in after if name.endswith(".parquet")]) == 60
    assert {name: after[name] for name in before} == before
    assert len(_results(run)) == 60
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
