"""Swept feature sets in the report: one table with the deep model, its features and the mel."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.feature_sets import add_set
from valence.config import Config
from valence.errors import StaleError
from valence.formatting import interval, number
from valence.report.analysis.results import read_evidence
from valence.report.analysis.scores import find
from valence.report.build import write_report
from valence.report.comparison import compare_runs
from valence.report.page.feature_sets import feature_sets, feature_sets_table
from valence.run import Run
from valence.segments.feature_sets.licence import OPENSMILE
from valence.storage.location import Location
from valence.sweep.set_origin import open_own_set, set_digest

_ABOUT = {
    "name": "egemaps",
    "features": 1,
    "columns": ["mean of loudness_sma3_amean", "sd of loudness_sma3_amean"],
    "unused_columns": [],
    "fill": [0.5, 0.1],
    "filled_share": 0.0,
    "sequences": 20,
    "sequences_left_out": 4,
    "recordings_left_out": {"r7": "no file"},
    "remarks": [],
    "made": {},
}


@pytest.fixture
def run(finished_run: Run, tmp_path: Path) -> Run:
    shutil.copytree(finished_run.root.path, tmp_path / "run")
    return Run.at(str(tmp_path / "run"))


def _add(
    run: Run,
    name: str,
    *,
    features: str = "features",
    made_of: Mapping[str, Any] | None = None,
    **about: Any,
) -> dict[str, Any]:
    """Add a set's sweep whose best is the deep model's, in the form that the sweep writes."""
    selection = (run.folder("sweep") / "selection.json").read_json()
    selection["best"] = {**selection["best"], **selection["deep"]}
    selection["best"] |= {"regressor": f"svr of {name}"}
    selection["feature_set"] = {**_ABOUT, "name": name, **about}
    stage = run.set_sweep(name)
    stage.begin({"features": features, "set": name, **(made_of or {})})
    (stage.folder / "selection.json").write_json(selection)
    stage.finish({"seconds": 1.0}, ["selection.json"])
    return dict(selection)


def test_a_run_without_swept_sets_has_no_such_section(run: Run) -> None:
    evidence = read_evidence(run)
    assert evidence.set_sweeps == ()
    assert feature_sets(evidence, find(evidence)) is None


def test_the_table_sets_everything_beside_the_deep_model(run: Run) -> None:
    _add(run, "egemaps")
    _add(run, "wav2vec", columns=["0", "1"], sequences_left_out=0, recordings_left_out={})
    evidence = read_evidence(run)
    findings = find(evidence)
    table = feature_sets_table(evidence, findings)
    selection = evidence.selection
    assert selection is not None
    rows = {row[0].text: row for row in table.rows}
    assert list(rows) == [
        "Deep model",
        "Deep features",
        "Mean and standard deviation of the mel",
        "egemaps",
        "wav2vec",
    ]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert rows["egemaps"][1].text.endswith("svr of egemaps")
    assert rows["egemaps"][3].text == number(selection["deep"]["test"]["ccc"])
    assert rows["Deep features"][4].value == selection["paired"]["test"]["difference"]
    # The mel's row turns the difference that the sweep keeps, and its interval with it.
    kept = selection["deep_less_baseline"]["functionals"]["test"]
    mel = rows["Mean and standard deviation of the mel"][4]
    assert mel.value == -kept["difference"]
    if kept["ci"] is not None:
        assert mel.aside == interval((-kept["ci"][1], -kept["ci"][0]))
    assert table.caption.count("commercially") == 1
    assert f"Licence of egemaps: {OPENSMILE}." in table.caption


def test_a_sweep_of_other_features_or_unfinished_is_named_and_not_shown(run: Run) -> None:
    _add(run, "old", features="others")
    run.set_sweep("begun").begin({"features": "features"})
    evidence = read_evidence(run)
    assert evidence.set_sweeps == ()
    begun, old = (each.sentence for each in evidence.unused_set_sweeps)
    assert f"'begun' is not finished: 'valence sweep {run.root} --features begun'" in begun
    assert f"'valence sweep {run.root} --features old --overwrite'" in old
    section = feature_sets(evidence, find(evidence))
    assert section is not None
    assert [part.text for part in section.parts] == [begun, old]


def test_a_report_is_written_again_once_a_set_was_swept(run: Run) -> None:
    first = write_report(run)
    assert "feature_sets" not in first["metrics"]
    assert write_report(run)["digest"] == first["digest"]
    selection = _add(run, "egemaps")
    (shown,) = write_report(run)["metrics"]["feature_sets"]
    assert shown["best_less_deep"] == selection["paired"]
    assert shown["licence"] == OPENSMILE
    page = (run.folder("report") / "report.html").read_text()
    for words in (
        "Feature sets beside the deep model",
        "svr of egemaps",
        "&#39;r7&#39;",
        "audEERING",
    ):
        assert words in page


@pytest.fixture
def swept(run: Run, tmp_path: Path) -> tuple[Run, Path]:
    """A run with the finished sweep of a set, and a file of that set."""
    folder = add_set(run, Location.parse(tmp_path / "corpus"))
    digest = set_digest(run, open_own_set(run, "toy"))
    _add(run, "toy", made_of={"set_digest": digest})
    return run, Path(folder.path) / "01.csv"


def test_a_set_whose_files_changed_since_its_sweep_is_not_shown(swept: tuple[Run, Path]) -> None:
    run, file = swept
    assert write_report(run)["metrics"]["feature_sets"][0]["name"] == "toy"
    assert write_report(run)["remarks"] == []
    content = file.read_text()
    file.write_text(content.replace("\n500,", "\n500,1", 1))
    says = (
        f"The files in '{file.parent}' are not those that the sweep of the feature set 'toy' was "
        f"made of. Expected the same; 'valence sweep {run.root} --features toy --overwrite' "
        "repeats it."
    )
    evidence = read_evidence(run)
    assert evidence.set_sweeps == ()
    assert [each.sentence for each in evidence.unused_set_sweeps] == [says]
    # The report that stands there shows the set, so it is not replaced unasked.
    with pytest.raises(StaleError) as caught:
        write_report(run)
    assert str(caught.value).startswith(f"{says} '{run.folder('report')}' holds outputs of another")
    written = write_report(run, overwrite=True)
    assert written["remarks"] == [says]
    assert "feature_sets" not in written["metrics"]
    page = (run.folder("report") / "report.html").read_text()
    assert "are not those that the sweep of the feature set" in page
    assert "svr of toy" not in page
    file.write_text(content)
    (shown,) = write_report(run, overwrite=True)["metrics"]["feature_sets"]
    assert "not_compared" not in shown
    # A new file of a recording is another input too, and a file of no recording is none.
    (file.parent / "leftover.csv").write_text("timestamp,x\n0,1\n")
    assert len(read_evidence(run).set_sweeps) == 1
    file.unlink()
    assert read_evidence(run).set_sweeps == ()


def test_a_set_that_is_not_at_hand_is_shown_with_a_remark(swept: tuple[Run, Path]) -> None:
    run, file = swept
    corpus = file.parents[2]
    corpus.rename(corpus.with_name("moved"))
    written = write_report(run)
    (shown,) = written["metrics"]["feature_sets"]
    assert f"'{corpus}', the corpus that '{run.root}' was made of" in shown["not_compared"]
    page = (run.folder("report") / "report.html").read_text()
    assert "Remark on toy: its files could not be compared with those that were swept" in page


def test_the_command_to_go_on_states_the_settings_of_the_sweep(run: Run) -> None:
    config = run.config()
    words = [
        "sweep.seed=7",
        "sweep.select_on=test",
        'sweep.scalers=["none", {name = "robust", estimator = "RobustScaler"}]',
        "sweep.trial_seconds=2.5",
    ]
    begun = Config.resolve(config, assignments=words)
    stage = run.set_sweep("begun")
    stage.begin({"features": "features", "sweep": begun.sweep.model_dump(mode="json")})
    (unused,) = read_evidence(run).unused_set_sweeps
    command = unused.sentence.split("'", 2)[2].partition("'")[2].rpartition("' goes on.")[0]
    given = shlex.split(command)
    assert given[:5] == ["valence", "sweep", str(run.root), "--features", "begun"]
    # The command, obeyed, is the sweep that was begun.
    assert given[5::2] == ["--set"] * 4
    assert Config.resolve(config, assignments=given[6::2]).sweep == begun.sweep
    assert 'sweep.scalers=["none", {name = "robust", estimator = "RobustScaler"}]' in given


def test_a_setting_that_the_sweep_was_begun_without_is_taken_away(run: Run) -> None:
    limited = Config.resolve(run.config(), assignments=["sweep.svr_max_rows=9"])
    run.write_config(limited, run.record())
    begun = Config.resolve(Config(), assignments=["sweep.bootstrap=20"])
    stage = run.set_sweep("begun")
    stage.begin({"features": "features", "sweep": begun.sweep.model_dump(mode="json")})
    (unused,) = read_evidence(run).unused_set_sweeps
    assert "--features begun --preset default --set sweep.bootstrap=20' goes on" in unused.sentence


def test_a_comparison_lists_the_sets_of_each_run(
    swept: tuple[Run, Path], finished_run: Run, tmp_path: Path
) -> None:
    run, file = swept
    out = Location.parse(tmp_path / "out")
    metrics = compare_runs([run, finished_run], out)
    names = list(metrics["runs"])
    (shown,) = metrics["feature_sets"][names[0]]
    selection = (run.set_sweep("toy").folder / "selection.json").read_json()
    assert shown["best_less_deep"] == selection["paired"]
    assert names[1] not in metrics["feature_sets"]
    page = (out / "report.html").read_text()
    assert "Feature sets in each run" in page
    assert "svr of toy" in page
    assert f"Licence of toy: {OPENSMILE}." in page
    assert compare_runs([run, finished_run], out) == metrics
    file.write_text(file.read_text().replace("\n500,", "\n500,1", 1))
    with pytest.raises(StaleError, match=r"sweep-toy is .* there and absent here"):
        compare_runs([run, finished_run], out)
    metrics = compare_runs([run, finished_run], out, overwrite=True)
    assert "feature_sets" not in metrics
    page = (out / "report.html").read_text()
    assert "are not those that the sweep of the feature set" in page


def test_a_comparison_without_swept_sets_has_no_such_section(
    run: Run, finished_run: Run, tmp_path: Path
) -> None:
    out = Location.parse(tmp_path / "out")
    assert "feature_sets" not in compare_runs([run, finished_run], out)
    assert "Feature sets" not in (out / "report.html").read_text()
