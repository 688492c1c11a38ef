"""The sweep on Ray: sixty genuine trials, each number scikit-learn's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import audmetric
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

from pipelines.cli import app
from tests.helpers.sweeping import results_of, run_sweep, run_with, sweep_config
from valence.config import Config, SweepConfig
from valence.errors import DamagedError, SplitError, StaleError
from valence.prediction.predictor import Predictor
from valence.run import Run
from valence.segments.store import SegmentStore
from valence.stage import FORMAT
from valence.storage.location import Location
from valence.sweep.features import Features, read_features
from valence.sweep.grid import combinations, plain_pipeline
from valence.sweep.kept.serialization import load_regressor
from valence.sweep.transforms import divide, training_target, untransformed

pytestmark = [
    pytest.mark.ray,
    # Ray Tune leaves a socket of its own to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

Make = Callable[..., Features]


@pytest.fixture(scope="module")
def swept(
    ray_local: None, make_features: Make, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Features]:
    features = make_features()
    run = run_with(features, tmp_path_factory.mktemp("run"))
    run_sweep(run, sweep_config())
    return run, features


def test_sixty_rows_best_first(swept: tuple[Run, Features]) -> None:
    table = results_of(swept[0])
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
    division, config = divide(features), sweep_config().sweep
    raw, y = untransformed(division), training_target(division.training)
    table = results_of(run).set_index(["scaler", "reducer", "regressor"])
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
    first = results_of(run).iloc[0]
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
        results_of(run)["ccc_test"].iloc[0], abs=1e-6
    )


def test_done_is_done_and_another_configuration_is_refused(swept: tuple[Run, Features]) -> None:
    run, _ = swept
    file = run.folder("sweep") / "results.csv"
    before = file.info().mtime_ns
    assert run_sweep(run, sweep_config()) == run.stage("sweep").require()["summary"]
    assert file.info().mtime_ns == before
    with pytest.raises(StaleError, match=r"sweep\.seed is 0 there and 1 here"):
        run_sweep(run, sweep_config("sweep.seed=1"))


def test_an_outcome_holds_for_the_software_and_the_row_limit_that_made_it() -> None:
    from pipelines.sweep.work import made_of_sweep

    config, limited = sweep_config().sweep, sweep_config("sweep.svr_max_rows=100").sweep
    installed = {"numpy": "2.2.0", "scipy": "1.16.0", "scikit-learn": "1.8.0", "xgboost": "3.0.0"}
    installed["scikit-learn-intelex"] = "2026.0"

    def changed(others: SweepConfig, **upgraded: str) -> set[str]:
        """Regressors whose outcomes no longer hold."""
        after = installed | {name.replace("_", "-"): each for name, each in upgraded.items()}
        return {
            each.regressor.name
            for each in combinations(config)
            if made_of_sweep(each, config, "x", installed)
            != made_of_sweep(each, others, "x", after)
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
    run = run_with(make_features(), tmp_path)
    small = ('sweep.scalers=["none", "minmax"]', 'sweep.reducers=["pca10"]')
    run_sweep(run, sweep_config(*small))
    store = run.folder("sweep") / "combinations"
    before = {file.name: file.info().mtime_ns for file in store.files()}
    assert len([name for name in before if name.endswith(".parquet")]) == 2 * 1 * 5
    run_sweep(run, sweep_config(*small, "sweep.select_on=test"), overwrite=True)
    assert {file.name: file.info().mtime_ns for file in store.files()} == before
    selection = (run.folder("sweep") / "selection.json").read_json()
    assert selection["select_on"] == "test"
    table = results_of(run)
    assert table["ccc_test"].is_monotonic_decreasing
    assert selection["best"]["test"]["ccc"] == table["ccc_test"].max()
    assert load_regressor(run.folder("sweep") / "best").about["select_on"] == "test"


def test_what_took_long_is_kept_and_not_fitted_again(
    ray_local: None, make_features: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.sweep.trials import SweepTrial

    class Patient(SweepTrial):
        """One to which all takes long."""

        def _outcome(self, name: str) -> Any:
            outcome, fitted = super()._outcome(name)
            return replace(outcome, seconds=99.0), fitted

    monkeypatch.setattr("pipelines.sweep.trials.SweepTrial", Patient)
    # Of this process, in which nothing is to be fitted.
    monkeypatch.setattr("valence.sweep.fitting.fit_regressor", None)
    run = run_with(make_features(), tmp_path)
    small = ('sweep.scalers=["none"]', 'sweep.reducers=["pca10"]')
    store = run.folder("sweep") / "combinations"
    for select_on in ("validation", "test"):
        run_sweep(run, sweep_config(*small, f"sweep.select_on={select_on}"), overwrite=True)
        kept = [file.stem for file in store.files() if file.suffix == ".skops"]
        assert kept == [f"none-pca10-{name}" for name in ("linear", "ridge", "svr", "xgboost")]
        best = load_regressor(run.folder("sweep") / "best").about
        assert best["largest_difference_to_trial"] <= 1e-6
        assert best["select_on"] == select_on


def test_a_sweep_that_is_refused_leaves_the_one_that_stands(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    features = make_features()
    run = run_with(features.rows(features.split != "test"), tmp_path)
    small = ('sweep.scalers=["none"]', 'sweep.reducers=["none"]', 'sweep.regressors=["ridge"]')
    summary = run_sweep(run, sweep_config(*small))
    before = {file.name: file.read_bytes() for file in run.folder("sweep").files()}
    with pytest.raises(SplitError, match="no labelled test sequences"):
        run_sweep(run, sweep_config(*small, "sweep.select_on=test"), overwrite=True)
    assert {file.name: file.read_bytes() for file in run.folder("sweep").files()} == before
    assert run_sweep(run, sweep_config(*small)) == summary


def test_what_an_older_version_swept_is_made_again_unasked(
    ray_local: None,
    make_features: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = run_with(make_features(), tmp_path)
    small = ('sweep.scalers=["none"]', 'sweep.reducers=["none"]', 'sweep.regressors=["ridge"]')
    with monkeypatch.context() as patch:
        patch.setitem(FORMAT, "sweep", FORMAT["sweep"] - 1)
        run_sweep(run, sweep_config(*small))
    with pytest.raises(StaleError, match=r"sweep\.seed is 0 there and 1 here"):
        run_sweep(run, sweep_config(*small, "sweep.seed=1"))
    capsys.readouterr()
    run_sweep(run, sweep_config(*small))
    assert "another version of this program made the results" in capsys.readouterr().err
    assert run.stage("sweep").require()["made_of"]["format"] == FORMAT["sweep"]


def test_a_failing_combination_is_a_row_and_the_others_stand(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    run = run_with(make_features(), tmp_path)
    # More components than the training rows allow, and a solver that gives up.
    config = sweep_config(
        'sweep.scalers=["none"]',
        'sweep.reducers=["none", {name="wide", estimator="PCA", parameters={n_components=99}}]',
        'sweep.regressors=["linear", "ridge", {name="hasty", estimator="Lasso", '
        'parameters={alpha=1e-6, max_iter=2}}, {name="mean", members=["linear", "hasty"]}]',
    )
    summary = run_sweep(run, config)
    table = results_of(run)
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


def test_a_step_that_refuses_the_data_costs_its_combinations_alone(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    run = run_with(make_features(), tmp_path)
    # Box-Cox takes positive values alone.
    config = sweep_config(
        'sweep.scalers=["none", {name="box", estimator="PowerTransformer", '
        'parameters={method="box-cox"}}]',
        'sweep.reducers=["none"]',
        'sweep.regressors=["ridge", "svr"]',
    )
    summary = run_sweep(run, config)
    table = results_of(run).set_index(["scaler", "regressor"])
    assert (summary["combinations"], summary["failed"]) == (4, 2)
    assert table["status"]["none"].tolist() == ["ok", "ok"]
    for regressor in ("ridge", "svr"):
        reason = table["reason"]["box", regressor]
        assert reason.startswith("box and none cannot be fitted: ValueError: The Box-Cox")


def test_the_fast_engine_and_a_row_limit_are_stated(
    ray_local: None, make_features: Make, tmp_path: Path
) -> None:
    pytest.importorskip("sklearnex")
    run = run_with(make_features(), tmp_path)
    small = ('sweep.scalers=["none"]', 'sweep.reducers=["none"]')
    run_sweep(run, sweep_config(*small, "sweep.engine=sklearnex", "sweep.svr_max_rows=100"))
    table = results_of(run).set_index("regressor")
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
    output = "fitted on 100 of 240 rows (sweep.svr_max_rows)"
    assert (table["reason"]["svr"], table["reason"]["ensemble"]) == (output, f"svr {output}")
    assert table["reason"].notna().sum() == 2
    store = run.folder("sweep") / "combinations"
    before = {file.name: file.info().mtime_ns for file in store.files()}
    run_sweep(run, sweep_config(*small, "sweep.engine=sklearnex"), overwrite=True)
    changed = [file.stem for file in store.files() if file.info().mtime_ns != before[file.name]]
    assert changed == ["none-none-ensemble", "none-none-svr"]
    assert set(results_of(run)["rows"]) == {240}


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
    run_sweep(extracted, small)
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


_ONE_COMBINATION = [
    'sweep.scalers=["none"]',
    'sweep.reducers=["none"]',
    'sweep.regressors=["ridge"]',
]


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("fault", ["cut", "flipped", "lost", "a folder"])
def test_segments_that_are_damaged_end_the_sweep_with_what_mends_them(
    extracted: Run, tiny_config: Config, fault: str
) -> None:
    small = Config.resolve(tiny_config, assignments=_ONE_COMBINATION)
    name = read_features(extracted.folder("features")).recording[0]
    file = SegmentStore(extracted.folder("segments")).file(str(name))
    whole = file.read_bytes()
    match fault:
        case "cut":
            file.write_bytes(whole[:1000])
        case "flipped":
            half = len(whole) // 2
            file.write_bytes(whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :])
        case _:
            file.delete()
    if fault == "a folder":
        file.local.mkdir()
    says = rf"{name}\.parquet' is .*valence preprocess .* --out {extracted.root}' to make"
    with pytest.raises(DamagedError, match=says) as raised:
        run_sweep(extracted, small, overwrite=True)
    assert raised.value.exit_status == 1
    # Whoever looks again sees it again.
    with pytest.raises(DamagedError, match=rf"{name}\.parquet' is missing\..*valence preprocess "):
        run_sweep(extracted, small)
    assert extracted.stage("sweep").record()["status"] == "running"  # type: ignore[index]
    assert not (extracted.folder("sweep") / "selection.json").exists()

    file.write_bytes(whole)
    assert run_sweep(extracted, small)["failed"] == 0
    selection = (extracted.folder("sweep") / "selection.json").read_json()
    assert list(selection["baselines"]) == ["constant", "functionals"]

    # Segments that the features were not made of are not told of beside them.
    stage = extracted.stage("segments")
    stage.begin({"made": "again"}, overwrite=True, wipe=False)
    stage.finish({"digest": "of other segments"})
    with pytest.raises(StaleError, match=r"other segments than .*'valence extract .*--overwrite'"):
        run_sweep(extracted, small)
    assert extracted.config() == small


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("results.csv", lambda data: data[: len(data) // 2]),
        ("selection.json", lambda data: b"[]"),
        ("best/pipeline.skops", lambda data: data[:-1]),
        ("best/regressor.json", lambda data: b""),
    ],
)
def test_what_is_damaged_of_a_finished_sweep_is_made_again_without_a_trial(
    swept: tuple[Run, Features],
    tmp_path: Path,
    name: str,
    damage: Callable[[bytes], bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(str(swept[0].root), tmp_path / "run")
    run = Run.at(str(tmp_path / "run"))
    file = run.folder("sweep") / name
    whole = results_of(run)
    file.write_bytes(damage(file.read_bytes()))
    run_sweep(run, sweep_config())
    first, *_ = capsys.readouterr().err.splitlines()
    assert str(file).removesuffix(f"/{file.name}") in first
    assert "made again" in first
    # No combination was fitted anew, or its seconds would be others.
    pd.testing.assert_frame_equal(results_of(run), whole)
    load_regressor(run.folder("sweep") / "best")
    run_sweep(run, sweep_config())
    assert capsys.readouterr().err.splitlines() == ["sweep: nothing to do"]
