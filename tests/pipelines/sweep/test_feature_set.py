"""The sweep of a feature set on Ray, beside the deep model on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import audmetric
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipelines.sweep.plan import plan_sweep
from tests.helpers.consoles import RecordedConsole
from tests.helpers.sweeping import run_sweep, sweep_config
from valence.config import Config
from valence.errors import FeatureError, MissingStageError, StaleError, UsageError
from valence.run import Run
from valence.sweep.features import Features, write_features
from valence.sweep.kept.serialization import load_regressor

_LENGTH = 3
_FEW = (
    'sweep.scalers=[{name="none"}, {name="standard", estimator="StandardScaler"}]',
    'sweep.reducers=[{name="none"}]',
    'sweep.regressors=[{name="linear", estimator="LinearRegression"}, '
    '{name="ridge", estimator="Ridge"}]',
)

Make = Callable[..., Features]


def _config(*assignments: str) -> Config:
    return sweep_config(*_FEW, *assignments)


def _write_set(corpus: Path, features: Features, *, without: str, short: str) -> None:
    """Write a set whose rows are the deep features of the sequence that begins there."""
    folder = corpus / "feature_segments/own"
    folder.mkdir(parents=True)
    for name in np.unique(features.recording):
        own = features.rows(features.recording == name)
        rows = np.concatenate([own.feature, own.feature[: _LENGTH - 1]])
        if name == without:
            continue
        if name == short:
            rows = rows[:-4]
        head = ",".join(["timestamp", *(f"f{each}" for each in range(rows.shape[1]))])
        lines = [",".join(map(repr, [500 * i, *row.tolist()])) for i, row in enumerate(rows)]
        (folder / f"{name}.csv").write_text("\n".join([head, *lines, ""]))


@pytest.fixture
def run(make_features: Make, tmp_path: Path) -> tuple[Run, Features]:
    """A run with features of sequences of three segments, and a set that lacks a recording."""
    features = make_features(rows=(80, 45, 40), columns=6)
    run = Run.at(str(tmp_path / "run"))
    stage = run.stage("features")
    stage.begin({"model": "a model", "sequence": {"length": _LENGTH}})
    names = [str(name) for name in np.unique(features.recording)]
    for name in names:
        rows = features.rows(features.recording == name)
        write_features(run.folder("features") / f"{name}.parquet", rows)
    outputs = [f"{name}.parquet" for name in names]
    stage.finish({"digest": "of these features", "seconds": 0.0}, outputs)
    run.write_config(_config(), {"corpus": str(tmp_path / "corpus")})
    _write_set(tmp_path / "corpus", features, without="r02", short="r05")
    return run, features


def test_what_is_not_there_is_refused_before_anything_is_made(
    run: tuple[Run, Features], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="Did you mean 'own'"):
        plan_sweep(run[0], _config(), overwrite=False, features="owm")
    folder = tmp_path / "corpus/feature_sequences/long"
    folder.mkdir(parents=True)
    (folder / "set.json").write_text('{"length": 5}')
    (folder / "r01.csv").write_text("timestamp,f\n0,1\n")
    with pytest.raises(FeatureError, match=r"sequences of 5 segments.*have 3"):
        plan_sweep(run[0], _config(), overwrite=False, features="long")
    about = tmp_path / "corpus/feature_segments/own/set.json"
    about.write_text('{"settings": {"segment_ms": 250}}')
    with pytest.raises(FeatureError, match=r"segments of 250 ms, and those of .* have 500 ms"):
        plan_sweep(run[0], _config(), overwrite=False, features="own")
    about.unlink()
    assert not run[0].set_sweeps()
    (tmp_path / "corpus").rename(tmp_path / "moved")
    with pytest.raises(MissingStageError, match="is no longer there"):
        plan_sweep(run[0], _config(), overwrite=False, features="own")
    run[0].config_file.delete()
    with pytest.raises(MissingStageError, match="does not say which corpus"):
        plan_sweep(run[0], _config(), overwrite=False, features="own")


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_files_that_change_while_they_are_read_end_the_sweep(
    ray_local: None, run: tuple[Run, Features], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.sweep import stage

    whole = stage.rows_of_set

    def changing(*given: Any, **more: Any) -> Any:
        rows = whole(*given, **more)
        file = tmp_path / "corpus/feature_segments/own/r01.csv"
        file.write_text(file.read_text().replace("500,", "500,1", 1))
        return rows

    monkeypatch.setattr(stage, "rows_of_set", changing)
    with pytest.raises(StaleError, match="were changed while they were read"):
        run_sweep(run[0], _config(), features="own", console=RecordedConsole())
    assert run[0].set_sweep("own").record() is None


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_set_is_swept_on_the_rows_that_it_describes(
    ray_local: None, run: tuple[Run, Features], tmp_path: Path
) -> None:
    target, features = run
    console = RecordedConsole()
    summary = run_sweep(target, _config(), features="own", console=console)
    stage = target.set_sweep("own")
    assert list(target.set_sweeps()) == ["own"]
    assert stage.command() == f"valence sweep {target.root} --features own"
    assert not target.folder("sweep").exists()
    selection = (stage.folder / "selection.json").read_json()

    # By hand: r02 has no file; r05 lacks its last four segments, and so four sequences.
    kept = features.recording != "r02"
    kept &= (features.recording != "r05") | (
        features.start < features.start[features.recording == "r05"].max() - 3
    )
    rows = features.rows(kept)
    described = np.concatenate(
        [
            _functionals(features.rows(features.recording == name).feature)[
                rows.start[rows.recording == name]
            ]
            for name in dict.fromkeys(rows.recording.tolist())
        ]
    )
    about = selection["feature_set"]
    assert about["sequences"] == len(rows)
    assert about["sequences_left_out"] == len(features) - len(rows)
    assert list(about["recordings_left_out"]) == ["r02"]
    assert any("'r02'" in line for line in console.lines)

    train, test = rows.split == "train", rows.split == "test"
    y = rows.target[:, 0].astype(np.float64)
    models = {
        ("none", "none", "linear"): LinearRegression(),
        ("standard", "none", "ridge"): make_pipeline(StandardScaler(), Ridge()),
    }
    table = {
        tuple(line.split(",")[:3]): float(line.split(",")[4])
        for line in (stage.folder / "results.csv").read_text().splitlines()[1:]
    }
    for names, model in models.items():
        model.fit(described[train].astype(np.float64), y[train])
        expected = audmetric.concordance_cc(y[test], model.predict(described[test]))
        assert table[names] == pytest.approx(expected, abs=1e-6)

    # The deep model is scored on the same rows, and the difference is paired there.
    deep = audmetric.concordance_cc(y[test], rows.prediction[test, 0])
    assert selection["deep"]["test"]["ccc"] == pytest.approx(deep, abs=1e-6)
    best = selection["best"]["test"]["ccc"]
    assert selection["paired"]["test"]["difference"] == pytest.approx(best - deep, abs=1e-6)
    assert selection["best"]["test"]["n"] == int(test.sum())
    regressor = load_regressor(stage.folder / "best", stage.record())
    assert regressor.about["feature_set"]["columns"] == about["columns"]
    found = regressor.predict(described[test])
    assert audmetric.concordance_cc(y[test], found) == pytest.approx(best, abs=1e-6)
    assert summary["combinations"] == 4

    # Once more, nothing is to do; another content of the set is another input.
    assert run_sweep(target, _config(), features="own", console=console) == summary
    assert "nothing to do" in console.lines[-1]
    file = tmp_path / "corpus/feature_segments/own/r01.csv"
    file.write_text(file.read_text().replace("\n500,", "\n500,9"))
    with pytest.raises(StaleError, match="set_digest"):
        run_sweep(target, _config(), features="own")


def _functionals(rows: np.ndarray) -> np.ndarray:
    segments = np.concatenate([rows, rows[: _LENGTH - 1]])
    windows = [segments[start : start + _LENGTH] for start in range(len(rows))]
    return np.array([np.concatenate([each.mean(axis=0), each.std(axis=0)]) for each in windows])
