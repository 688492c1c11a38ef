"""Swept feature sets in the report: one table with the deep model, its features and the mel."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from valence.formatting import interval, number
from valence.report.analysis.results import read_evidence
from valence.report.analysis.scores import find
from valence.report.build import write_report
from valence.report.page.feature_sets import feature_sets, feature_sets_table
from valence.run import Run
from valence.segments.feature_sets.licence import OPENSMILE

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


def _add(run: Run, name: str, *, features: str = "features", **about: Any) -> dict[str, Any]:
    """Add a set's sweep whose best is the deep model's, in the form that the sweep writes."""
    selection = (run.folder("sweep") / "selection.json").read_json()
    selection["best"] = {**selection["best"], **selection["deep"]}
    selection["best"] |= {"regressor": f"svr of {name}"}
    selection["feature_set"] = {**_ABOUT, "name": name, **about}
    stage = run.set_sweep(name)
    stage.begin({"features": features, "set": name})
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
    begun, old = evidence.unused_set_sweeps
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
