"""Runs side by side: the same sequences, paired intervals, what differs."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline

from valence.config import Config
from valence.errors import DamagedError, ModelError, StaleError, UsageError, ValenceError
from valence.metrics import concordance, paired_difference
from valence.provenance import fingerprint
from valence.report.build import write_report
from valence.report.comparison import compare_runs
from valence.run import Run
from valence.storage.location import Location
from valence.sweep.features import Features, read_features, write_features
from valence.sweep.kept.serialization import REGRESSOR_FILES, save_regressor

Fake = Callable[..., Run]


@pytest.fixture
def fake(finished_run: Run, tmp_path: Path, tiny_config: Config) -> Fake:
    """A run with features made up for eight test subjects, as good as asked for."""

    def make(
        name: str,
        *,
        noise: float,
        skip: int = 0,
        shift: float = 0.0,
        validation: int = 1,
        **changes: str,
    ) -> Run:
        run = Run.at(str(tmp_path / name))
        assignments = [f"{key.replace('__', '.')}={value}" for key, value in changes.items()]
        config = Config.resolve(tiny_config, assignments=assignments)
        run.write_config(config, {"corpus": "c", "synthetic": True})
        for stage in ("segments", "train", "features"):
            made_with = {"model": "train"} if stage == "features" else {}
            run.stage(stage).begin({"name": name, **made_with})
            run.stage(stage).finish({"seconds": 1.0, "digest": stage})
        source = finished_run.folder("segments") / "recordings.parquet"
        target = run.folder("segments") / "recordings.parquet"
        target.write_bytes(source.read_bytes())
        rng = np.random.default_rng(3)
        for number, split in enumerate([*["validation"] * validation, *["test"] * 8]):
            n = 30 + number
            y = np.sin(np.arange(n) / 5 + number) + shift
            features = Features(
                recording=np.full(n, f"r{number}"),
                subject=np.full(n, f"s{number}"),
                split=np.full(n, split),
                start=np.arange(n, dtype=np.int32) * 5,
                target=y[:, None].astype(np.float32),
                feature=np.zeros((n, 4), np.float32),
                prediction=(y + noise * rng.standard_normal(n))[:, None].astype(np.float32),
                targets=("valence",),
            )
            kept = features.rows(np.arange(skip, n))
            write_features(run.folder("features") / f"r{number}.parquet", kept)
        return run

    return make


def test_differences_are_paired_on_shared_sequences(fake: Fake, tmp_path: Path) -> None:
    a = fake("a", noise=0.9)
    b = fake("b", noise=0.2, skip=4, train__learning_rate="0.01")
    out = Location.parse(tmp_path / "out")
    metrics = compare_runs([a, b], out)
    assert (out / "metrics.json").read_json() == metrics
    first, second = metrics["test"]["a"], metrics["test"]["b"]
    ours = read_features(a.folder("features")).of("test")
    ours = ours.rows(ours.start >= 20)
    theirs = read_features(b.folder("features")).of("test")
    assert first["n"] == second["n"] == len(theirs) == sum(range(31, 39)) - 8 * 4
    y = theirs.target[:, 0]
    assert first["ccc"] == pytest.approx(concordance(y, ours.prediction[:, 0]))
    assert second["ccc"] == pytest.approx(concordance(y, theirs.prediction[:, 0]))
    assert first["less_reference"] is None
    expected = paired_difference(
        y, ours.prediction[:, 0], theirs.prediction[:, 0], theirs.subject, bootstrap=50
    )
    assert second["less_reference"] == expected.to_json()
    page = (out / "report.html").read_text()
    assert "b is better than a: the interval leaves out 0." in page
    assert "train.learning_rate" in page
    assert "train.epochs" not in page
    assert "cannot be told from so few: there is 1 subject, and a verdict takes 6" in page
    assert (out / "figures" / "comparison-test.png").exists()
    assert json.dumps(metrics).count("NaN") == 0


def test_rows_that_chose_the_models_give_no_verdict(fake: Fake, tmp_path: Path) -> None:
    runs = [fake("a", noise=0.9, validation=8), fake("b", noise=0.2, validation=8)]
    metrics = compare_runs(runs, Location.parse(tmp_path / "out"))
    # The difference is as clear in both, and only the test rows may say so.
    assert min(metrics["pairs"][split][0]["ci"][0] for split in ("validation", "test")) > 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("b is better than a") == 1
    assert page.count("No verdict is given: these same rows chose") == 1


def test_regressors_that_were_chosen_by_the_test_rows_get_no_verdict(
    fake: Fake, tmp_path: Path
) -> None:
    runs = [fake("a", noise=0.3), fake("b", noise=0.3, sweep__select_on="test")]
    for run in runs:
        run.stage("sweep").begin({"features": "features"})
        folder = run.folder("sweep")
        (folder / "results.csv").write_text("scaler,reducer,regressor\nnone,none,dummy\n")
        (folder / "selection.json").write_json({"select_on": "test" if run is runs[1] else ""})
        run.stage("sweep").finish({"seconds": 1.0})
        pipeline = Pipeline([("r", Ridge())]).fit(np.eye(4), np.ones(4))
        about = {"target": "valence", "model": None, "steps": {}}
        save_regressor(folder / "best", pipeline, columns=4, about=about)
    compare_runs(runs, Location.parse(tmp_path / "out"))
    page = (tmp_path / "out" / "report.html").read_text()
    # Of the deep models the test rows chose neither.
    assert page.count("b and a cannot be told apart") == 1
    assert page.count("No verdict is given: these same rows chose") == 1


def test_every_two_of_three_runs_are_paired(fake: Fake, tmp_path: Path) -> None:
    runs = [fake("a", noise=0.9), fake("b", noise=0.2), fake("c", noise=0.5, skip=3)]
    metrics = compare_runs(runs, Location.parse(tmp_path / "out"))
    pairs = {(pair["first"], pair["second"]): pair for pair in metrics["pairs"]["test"]}
    assert list(pairs) == [("a", "b"), ("a", "c"), ("b", "c")]
    ccc = {name: metrics["test"][name]["ccc"] for name in "abc"}
    for (first, second), pair in pairs.items():
        assert pair["difference"] == pytest.approx(ccc[second] - ccc[first], abs=1e-12)
        assert pair["ci"][0] <= pair["difference"] <= pair["ci"][1]
    b, c = (read_features(run.folder("features")).of("test") for run in runs[1:])
    b = b.rows(b.start >= 15)
    expected = paired_difference(
        b.target[:, 0],
        b.prediction[:, 0],
        c.prediction[:, 0],
        c.subject,
        bootstrap=50,
        comparisons=3,
    ).to_json()
    assert pairs["b", "c"] == {"first": "b", "second": "c", **expected}
    assert (
        "c is worse than b: the interval leaves out 0."
        in (tmp_path / "out" / "report.html").read_text()
    )


def test_best_regressors_are_compared_where_there_are_some(fake: Fake, tmp_path: Path) -> None:
    runs = [fake("a", noise=0.3), fake("b", noise=0.3), fake("c", noise=0.3)]
    features = read_features(runs[0].folder("features"))
    for run, slope in zip(runs[:2], (0.2, 0.9), strict=True):
        run.stage("sweep").begin({"features": "features"})
        folder = run.folder("sweep")
        (folder / "results.csv").write_text("scaler,reducer,regressor\nnone,none,dummy\n")
        (folder / "selection.json").write_json({})
        run.stage("sweep").finish({"seconds": 1.0})
        # The labels are not in these features: what tells the runs apart is a constant.
        pipeline = Pipeline([("r", Ridge())]).fit(np.eye(4), slope * np.ones(4))
        about = {"target": "valence", "model": None, "steps": {}}
        save_regressor(folder / "best", pipeline, columns=4, about=about)
    metrics = compare_runs(runs, Location.parse(tmp_path / "out"))
    found = metrics["best_regressors"]["test"]
    assert list(found["runs"]) == ["a", "b"]
    y = features.of("test").target[:, 0].astype(float)
    for name, slope in (("a", 0.2), ("b", 0.9)):
        assert found["runs"][name]["mse"] == pytest.approx(np.mean((y - slope) ** 2))
        assert found["runs"][name]["ccc"] == 0
    assert [(pair["first"], pair["second"]) for pair in found["pairs"]] == [("a", "b")]
    assert (
        "c: The sweep has not been run on this run"
        in (tmp_path / "out" / "report.html").read_text()
    )


def test_a_run_and_its_copy_cannot_be_told_apart(fake: Fake, tmp_path: Path) -> None:
    runs = [fake("a", noise=0.3), fake("b", noise=0.3)]
    metrics = compare_runs(runs, Location.parse(tmp_path / "out"))
    assert metrics["test"]["b"]["less_reference"] == {
        "difference": 0.0,
        "ci": [0.0, 0.0],
        "subjects": 8,
        "comparisons": 1,
        "method": "sign flips and jackknife",
    }
    page = (tmp_path / "out" / "report.html").read_text()
    assert "b and a cannot be told apart" in page
    assert "The runs have the same configuration" in page


def test_what_flatters_a_run_is_said_before_any_number(fake: Fake, tmp_path: Path) -> None:
    a = fake("a", noise=0.9)
    b = fake("b", noise=0.2, split__allow_subject_overlap="true")
    b.stage("sweep").begin({"features": "features"})
    (b.folder("sweep") / "results.csv").write_text("scaler,reducer,regressor\n")
    (b.folder("sweep") / "selection.json").write_json({"select_on": "test"})
    b.stage("sweep").finish({"seconds": 1.0})
    pipeline = Pipeline([("r", Ridge())]).fit(np.eye(4), np.ones(4))
    about = {"target": "valence", "model": None, "steps": {}}
    save_regressor(b.folder("sweep") / "best", pipeline, columns=4, about=about)
    compare_runs([a, b], Location.parse(tmp_path / "out"))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "split (split.allow_subject_overlap) in b: those scores" in page
    assert "chosen by its test score (sweep.select_on = test) in b: that score" in page
    c = fake("c", noise=0.3)
    compare_runs([a, c], Location.parse(tmp_path / "fair"))
    fair = (tmp_path / "fair" / "report.html").read_text()
    assert "that score" not in fair
    assert "those scores" not in fair


def test_what_cannot_be_compared_is_said(fake: Fake, tmp_path: Path) -> None:
    out = Location.parse(tmp_path / "out")
    a = fake("a", noise=0.3)
    with pytest.raises(UsageError, match="at least two"):
        compare_runs([a], out)
    with pytest.raises(UsageError, match="given twice"):
        compare_runs([a, a], out)
    with pytest.raises(UsageError, match="share no labelled sequence"):
        compare_runs([a, fake("b", noise=0.3, shift=0.5)], out)


def test_a_comparison_replaces_nothing_that_is_not_its_own(
    fake: Fake, finished_run: Run, tmp_path: Path
) -> None:
    runs = [fake("a", noise=0.3), fake("b", noise=0.4)]
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "report.html").write_text("mine")
    out = Location.parse(folder)
    with pytest.raises(StaleError, match=r"holds report.html from elsewhere"):
        compare_runs(runs, out)
    assert [file.name for file in out.files()] == ["report.html"]
    (folder / "notes.txt").write_text("mine too")
    compare_runs(runs, out, overwrite=True)
    assert "side by side" in (folder / "report.html").read_text()
    assert (folder / "notes.txt").exists()

    compare_runs(runs, out)
    with pytest.raises(StaleError, match="outputs of another configuration"):
        compare_runs([*runs, fake("c", noise=0.5)], out)

    shutil.copytree(finished_run.root.local, tmp_path / "run")
    run = Run.at(str(tmp_path / "run"))
    write_report(run)
    before = (run.folder("report") / "report.html").read_bytes()
    for taken in (run.folder("report"), run.folder("sweep")):
        with pytest.raises(UsageError, match="holds a stage of a run"):
            compare_runs(runs, taken, overwrite=True)
    assert (run.folder("report") / "report.html").read_bytes() == before


def _flip(file: Location) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("segments/stage.json", "valence preprocess {corpus} --out {b} --overwrite"),
        ("segments/recordings.parquet", "valence preprocess {corpus} --out {b}"),
        ("train/stage.json", "valence train {b} --overwrite"),
        ("train/history.csv", "valence train {b}"),
        ("features/stage.json", "valence extract {b} --overwrite"),
        ("features/06.parquet", "valence extract {b}"),
        ("sweep/stage.json", "valence sweep {b} --overwrite"),
        ("sweep/selection.json", "valence sweep {b}"),
        ("sweep/results.csv", "valence sweep {b}"),
        ("sweep/best/regressor.json", "valence sweep {b}"),
        ("sweep/best/pipeline.skops", "valence sweep {b}"),
        ("out/stage.json", "valence report {a} {b} --out {out} --overwrite"),
    ],
)
@pytest.mark.parametrize("fault", ["flipped", "a folder"])
def test_what_is_damaged_in_one_run_is_named_with_the_command_that_mends_it(
    finished_run: Run, tmp_path: Path, name: str, command: str, fault: str
) -> None:
    runs = []
    for each in "ab":
        shutil.copytree(finished_run.root.local, tmp_path / f"run {each}")
        run = Run.at(str(tmp_path / f"run {each}"))
        runs.append(run)
        features = [f"{n:02d}.parquet" for n in range(1, 7)]
        for stage, outputs in (
            ("train", ["history.csv"]),
            ("features", features),
            ("sweep", ["results.csv", "selection.json"]),
        ):
            made = run.stage(stage)
            made.finish(made.require()["summary"], outputs)
    out = Location.parse(tmp_path / "out")
    compare_runs(runs, out)
    file = out / "stage.json" if name == "out/stage.json" else runs[1].root / name
    if fault == "flipped":
        _flip(file)
    else:
        file.delete()
        file.local.mkdir()
    with pytest.raises(ValenceError) as caught:
        compare_runs(runs, out)
    message = str(caught.value)
    assert f"'{file}'" in message
    a, b = (shlex.quote(str(run.root)) for run in runs)
    corpus = runs[1].record()["corpus"]
    if fault == "a folder" and not name.startswith("out"):
        command = command.removesuffix(" --overwrite")
    named = command.format(a=a, b=b, corpus=corpus, out=shlex.quote(str(out)))
    assert re.search(rf"Run '{re.escape(named)}'", message)
    assert "\n" not in message
    assert caught.value.exit_status == 1
    if name == "out/stage.json":
        if fault == "a folder":
            file.delete()
        compare_runs(runs, out, overwrite=True)
        assert file.local.is_file()


def test_a_stage_of_a_run_whose_record_is_damaged_is_not_replaced(
    fake: Fake, finished_run: Run, tmp_path: Path
) -> None:
    runs = [fake("a", noise=0.3), fake("b", noise=0.4)]
    shutil.copytree(finished_run.root.local, tmp_path / "run")
    taken = Location.parse(tmp_path / "run" / "sweep")
    _flip(taken / "stage.json")
    with pytest.raises(UsageError, match="holds a stage of a run"):
        compare_runs(runs, taken, overwrite=True)


def test_runs_of_one_name_are_told_by_their_place(fake: Fake, tmp_path: Path) -> None:
    runs = [fake("x/run", noise=0.3), fake("y/run", noise=0.4)]
    metrics = compare_runs(runs, Location.parse(tmp_path / "out"))
    assert list(metrics["test"]) == ["x/run", "y/run"]


def test_a_folder_called_report_beside_another_program_s_configuration_is_one_s_own(
    fake: Fake, tmp_path: Path
) -> None:
    runs = [fake("a", noise=0.3), fake("b", noise=0.4)]
    project = tmp_path / "project"
    project.mkdir()
    (project / "config.toml").write_text("[tool]\nname = 'mine'\n")
    out = Location.parse(project / "report")
    first = compare_runs(runs, out)
    assert compare_runs(runs, out) == first
    _flip(out / "stage.json")
    with pytest.raises(DamagedError, match="--overwrite"):
        compare_runs(runs, out)
    assert compare_runs(runs, out, overwrite=True) == first
    # Beside a run's configuration it is the place of that run's report, made or not.
    (project / "config.toml").write_bytes(runs[0].config_file.read_bytes())
    assert compare_runs(runs, out) == first
    (out / "stage.json").delete()
    with pytest.raises(UsageError, match="holds a stage of a run"):
        compare_runs(runs, out, overwrite=True)


def test_a_regressor_of_other_versions_is_left_out_and_the_rest_compared(
    fake: Fake, tmp_path: Path
) -> None:
    runs = [fake("a", noise=0.3), fake("b", noise=0.4), fake("c", noise=0.5)]
    for run in runs[:2]:
        run.stage("sweep").begin({"features": "features"})
        folder = run.folder("sweep")
        (folder / "results.csv").write_text("scaler,reducer,regressor\nnone,none,dummy\n")
        (folder / "selection.json").write_json({})
        pipeline = Pipeline([("r", Ridge())]).fit(np.eye(4), np.ones(4))
        about = {"target": "valence", "model": None, "steps": {}, "features": "features"}
        save_regressor(folder / "best", pipeline, columns=4, about=about)
    best = runs[1].folder("sweep") / "best"
    _of_other_versions(best.local)
    for run in runs[:2]:
        run.stage("sweep").finish({"seconds": 1.0}, [f"best/{name}" for name in REGRESSOR_FILES])
    out = Location.parse(tmp_path / "out")
    assert list(compare_runs(runs, out)["best_regressors"]["test"]["runs"]) == ["a"]
    page = (out / "report.html").read_text()
    assert "b&#39;s best regressor is not compared" in page or "b's best regressor is not" in page
    assert "cannot be read by the installed versions" in page
    # Damage is no matter of versions.
    _flip(best / "pipeline.skops")
    with pytest.raises(ModelError, match=r"pipeline\.skops' is damaged"):
        compare_runs(runs, out)


def _of_other_versions(best: Path) -> None:
    """Let a pipeline, whole and noted as it is, be of a kind that no installed package knows."""
    file = best / "pipeline.skops"
    with zipfile.ZipFile(file) as archive:
        schema = json.loads(archive.read("schema.json"))
    schema["content"] = {"__loader__": "NoSuchNode"}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    about = json.loads((best / "regressor.json").read_text())
    del about["digest"]
    about["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (best / "regressor.json").write_text(json.dumps({**about, "digest": fingerprint(about)}))
