"""A report stands, is made again, or is refused: files lost, damaged, and of other results."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.dummy import DummyRegressor
from sklearn.pipeline import Pipeline

from tests.helpers.reports import copied, metrics_of, page_of
from valence.config import Config
from valence.errors import DamagedError, MissingStageError, ModelError, StaleError
from valence.model.serialization import export_model, load_model, read_description
from valence.report.build import write_report
from valence.report.comparison import compare_runs
from valence.run import Run
from valence.stage import Stage
from valence.storage.location import Location
from valence.sweep.features import read_features
from valence.sweep.kept.serialization import load_regressor, save_regressor


def test_a_report_is_made_once(reported: Run) -> None:
    file = reported.folder("report") / "report.html"
    before = file.info().mtime_ns
    summary = write_report(reported)
    assert file.info().mtime_ns == before
    assert summary["metrics"] == metrics_of(reported)


def test_a_report_that_lost_a_file_or_could_not_measure_all_is_made_again(
    reported: Run, tmp_path: Path
) -> None:
    run = copied(reported, tmp_path / "run")
    config, record = run.config(), run.record()
    run.write_config(config, {**record, "corpus": str(tmp_path / "not mounted")})
    lost = run.folder("report") / "figures" / "attention.png"
    lost.delete()
    write_report(run)
    assert lost.exists()
    assert "cannot be read now" in metrics_of(run)["robustness"]["skipped"]
    run.write_config(config, record)
    write_report(run)
    assert metrics_of(run)["robustness"] == metrics_of(reported)["robustness"]


def _keep_times(file: Path, content: bytes) -> None:
    """Write as rot does, which touches no time."""
    times = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def _flipped(content: bytes) -> bytes:
    half = len(content) // 2
    return content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]


def test_what_a_report_wrote_and_is_damaged_is_made_again(
    reported: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Again(Exception):
        """Is raised where the work begins."""

    begins = Stage.begin

    def begin(stage: Stage, *arguments: Any, again: bool = False, **more: Any) -> Any:
        if again:
            raise Again
        return begins(stage, *arguments, **more)

    run = copied(reported, tmp_path / "run")
    written = [f"report/{name}" for name in run.stage("report").noted()]
    assert len(written) > 10
    with monkeypatch.context() as patch:
        patch.setattr(Stage, "begin", begin)
        write_report(run)
        for name in (*written, "model/README.md", "model/evaluation.json"):
            file = Path(run.root.path, name)
            whole = file.read_bytes()
            for damaged in (_flipped(whole), whole[: len(whole) // 2], b""):
                _keep_times(file, damaged)
                with pytest.raises(Again):
                    write_report(run)
                if name == "model/README.md":
                    # It may have been edited, so it was renamed before the work began.
                    assert not file.exists()
                    file.with_name("README.md.damaged").rename(file)
            _keep_times(file, whole)
        write_report(run)
    card, metrics = Path(run.model.path, "README.md"), Path(run.folder("report").path)
    whole = card.read_bytes()
    _keep_times(card, b"")
    _change_a_digit(metrics / "metrics.json", metrics_of(reported)["deep"]["test"]["ccc"])
    assert metrics_of(run)["deep"] != metrics_of(reported)["deep"]
    assert write_report(run)["metrics"]["deep"] == metrics_of(reported)["deep"]
    assert metrics_of(run)["deep"] == metrics_of(reported)["deep"]
    assert card.read_bytes() == whole


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_edited_card_is_kept_under_another_name(
    reported: Run, tmp_path: Path, overwrite: bool
) -> None:
    run = copied(reported, tmp_path / "run")
    card = run.model / "README.md"
    whole = card.read_text()
    assert write_report(run, overwrite=overwrite)["remarks"] == []
    assert not card.aside.exists()
    edited = f"{whole}\nDo not use it for interviews.\n"
    card.write_text(edited)
    remarks = write_report(run, overwrite=overwrite)["remarks"]
    assert card.aside.read_text() == edited
    assert "interviews" not in card.read_text()
    assert len(remarks) == 1
    assert f"'{card}' was not as the last report wrote it" in remarks[0]
    assert "renamed to 'README.md.damaged'" in remarks[0]
    # The new card is known again.
    assert write_report(run)["remarks"] == []


def _change_a_digit(file: Path, number: float) -> None:
    text = json.dumps(number)
    changed = text[:-1] + ("1" if text[-1] != "1" else "2")
    _keep_times(file, file.read_bytes().replace(text.encode(), changed.encode()))


def test_a_report_of_other_results_is_not_replaced_unasked(reported: Run, tmp_path: Path) -> None:
    run = copied(reported, tmp_path / "run")
    made_of = {"made_for": "another test"}
    run.stage("features").begin(made_of, overwrite=True, wipe=False)
    run.stage("features").finish({"seconds": 1.0, "digest": "features"})
    with pytest.raises(StaleError, match="overwrite"):
        write_report(run)
    assert write_report(run, overwrite=True)["metrics"]["deep"] == metrics_of(reported)["deep"]


def test_a_report_grows_by_the_sweep_and_tells_every_target(
    make_run: Any, add_sweep: Any, tmp_path: Path, tiny_config: Config
) -> None:
    config = Config.resolve(tiny_config, assignments=['model.targets=["valence","arousal"]'])
    run = make_run(tmp_path / "run <b>&amp;", swept=False, config=config)
    write_report(run)
    assert metrics_of(run)["best_regressor"] is None
    page = page_of(run)
    assert "The sweep has not been run" in page.text
    assert "run <b>&amp;" in page.text, "a name is text, whatever it looks like"
    assert "Deep model, arousal" in page.text

    features = read_features(run.folder("features")).of("test")
    found = metrics_of(run)["further_targets"]["arousal"]["test"]["mse"]
    assert found == pytest.approx(np.mean((features.target - features.prediction)[:, 1] ** 2))
    rows = pd.read_csv(io.StringIO((run.folder("report") / "predictions.csv").read_text()))
    assert rows.columns.tolist()[-4:] == ["valence", "prediction", "arousal", "prediction_arousal"]

    add_sweep(run)
    write_report(run)
    assert metrics_of(run)["best_regressor"]["scaler"] in ("none", "standard", "minmax")
    assert "Remark: the baseline of functionals is missing: a test." in page_of(run).text


def test_what_was_made_of_other_features_or_another_model_is_not_told(
    finished_run: Run, tmp_path: Path
) -> None:
    run = copied(finished_run, tmp_path / "run")
    stage = run.stage("features")
    model = run.stage("train").require()["summary"]["digest"]
    stage.begin({"model": model, "stride": 5}, overwrite=True, wipe=False)
    stage.finish({"seconds": 1.0, "digest": "of other features"})
    write_report(run)
    assert metrics_of(run)["best_regressor"] is None
    assert metrics_of(run)["sweep"] is None
    assert "The sweep is of other features: 'valence sweep' with --overwrite" in page_of(run).text
    stage.begin({"model": "another"}, overwrite=True, wipe=False)
    stage.finish({"seconds": 1.0, "digest": "of other features"})
    with pytest.raises(StaleError, match=r"another model than .*'valence extract .*--overwrite'"):
        write_report(run)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_model_of_another_run_is_not_given_these_scores(
    reported: Run, tmp_path: Path, overwrite: bool
) -> None:
    run = copied(reported, tmp_path / "run")
    torch.manual_seed(99)
    kept = read_description(run.model)
    model, _ = load_model(run.model)
    torch.nn.init.normal_(model.output.weight)
    shutil.rmtree(run.model.path)
    assert export_model(run.model, model, run.config(), {}) != kept.sha256
    with pytest.raises(ModelError, match=r"model' does not hold the model that .*'valence train "):
        write_report(run, overwrite=overwrite)
    assert not (run.model / "evaluation.json").exists()


def test_segments_that_were_divided_anew_are_not_told_beside_older_scores(
    reported: Run, tmp_path: Path
) -> None:
    run = copied(reported, tmp_path / "run")
    stage = run.stage("segments")
    stage.begin({"made_for": "another division"}, overwrite=True, wipe=False)
    stage.finish({"seconds": 1.0, "digest": "of another division"})
    for overwrite in (False, True):
        with pytest.raises(StaleError, match=r"other segments .*'valence train .*--overwrite'"):
            write_report(run, overwrite=overwrite)


def test_a_configuration_of_another_run_is_not_told(reported: Run, tmp_path: Path) -> None:
    run = copied(reported, tmp_path / "run")
    stage, source = run.stage("segments"), run.record()
    stage.amend({**stage.require()["summary"], "settings": {"run": source}})
    write_report(run)
    run.write_config(run.config(), {**source, "synthetic": False})
    with pytest.raises(DamagedError, match=r"config\.toml' is not .* run\.synthetic is True there"):
        write_report(run)


def _best(run: Run) -> Location:
    return run.folder("sweep") / "best"


def _swap(run: Run) -> None:
    best = _best(run)
    mean = Pipeline([("regressor", DummyRegressor(strategy="constant", constant=0.5))])
    about = {k: v for k, v in load_regressor(best).about.items() if k != "sha256"}
    save_regressor(
        best,
        mean.fit(np.eye(about["columns"]), np.eye(about["columns"])[0]),
        columns=about["columns"],
        about=about,
    )


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (_swap, ModelError),
        (
            lambda run: (run.folder("sweep") / "best" / "pipeline.skops").write_bytes(b""),
            ModelError,
        ),
        (lambda run: (run.folder("sweep") / "best").delete(), ModelError),
        (lambda run: run.stage("sweep").file.delete(), DamagedError),
    ],
    ids=["another sweep's", "empty", "lost", "no record"],
)
def test_a_sweep_whose_best_or_record_is_not_its_own_is_refused_by_name(
    reported: Run, tmp_path: Path, damage: Any, error: type[Exception]
) -> None:
    run, whole = copied(reported, tmp_path / "run"), copied(reported, tmp_path / "whole")
    write_report(run)
    damage(run)
    for write in (
        lambda: write_report(run),
        lambda: write_report(run, overwrite=True),
        lambda: compare_runs([whole, run], Location.parse(tmp_path / "out")),
    ):
        with pytest.raises(error, match=r"run/sweep.*valence sweep"):
            write()


def test_a_sweep_of_an_older_version_noted_no_best(reported: Run, tmp_path: Path) -> None:
    run = copied(reported, tmp_path / "run")
    _best(run).delete()
    stage = run.stage("sweep")
    record = stage.record()
    assert record is not None
    stage.begin(record["made_of"], again=True, wipe=False)
    stage.finish(record["summary"])
    write_report(run)


def test_what_a_report_needs_is_named(finished_run: Run, tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match="is not a run"):
        write_report(Run.at(str(tmp_path)))
    run = copied(finished_run, tmp_path / "run")
    run.folder("features").delete()
    with pytest.raises(MissingStageError, match="valence extract"):
        write_report(run)
