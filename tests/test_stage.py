from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from valence.errors import MissingStageError, StaleError
from valence.run import Run
from valence.stage import Stage

_MADE_OF: dict[str, Any] = {"segments": "abc", "model": {"channels": (8, 16), "dropout": 0.0}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.at(str(tmp_path / "run"))


@pytest.fixture
def stage(run: Run) -> Stage:
    return run.stage("train")


def _with(**model: object) -> dict[str, Any]:
    return {**_MADE_OF, "model": {**_MADE_OF["model"], **model}}


def test_a_summary_is_amended_and_the_files_stay_noted(stage: Stage) -> None:
    stage.begin(_MADE_OF)
    (stage.folder / "output").write_text("kept")
    stage.finish({"digest": "d"}, ["output"])
    noted = stage.noted()
    (stage.folder / "output").delete()
    stage.amend({"digest": "d", "settings": {}})
    assert stage.noted() == noted
    record = stage.record()
    assert record is not None
    assert record["summary"] == {"digest": "d", "settings": {}}
    assert stage.standing(_MADE_OF) == "done"


def test_a_stage_from_nothing_to_done(stage: Stage) -> None:
    assert stage.record() is None
    assert stage.begin(_MADE_OF) == "new"
    assert stage.begin(_MADE_OF) == "resumed"
    stage.finish({"seconds": 1.5, "digest": "d"})
    assert stage.begin(_MADE_OF) == "done"
    assert stage.require()["summary"] == {"seconds": 1.5, "digest": "d"}
    written = json.loads(stage.file.read_text())
    assert written["status"] == "done"
    assert written["made_of"]["model"] == {"channels": [8, 16], "dropout": 0.0}


def test_a_tuple_is_no_difference_from_a_list(stage: Stage) -> None:
    stage.begin(_MADE_OF)
    assert stage.begin(_with(channels=[8, 16])) == "resumed"
    with pytest.raises(StaleError) as raised:
        stage.begin(_with(dropout=0.5))
    assert "channels" not in str(raised.value)


@pytest.mark.parametrize("finished", [False, True])
def test_outputs_of_something_else_are_refused_with_the_difference(
    stage: Stage, finished: bool
) -> None:
    stage.begin(_MADE_OF)
    (stage.folder / "state.pt").write_text("kept")
    if finished:
        stage.finish({"seconds": 1})
    with pytest.raises(
        StaleError, match=r"model\.dropout is 0\.0 there and 0\.5 here.*--overwrite"
    ):
        stage.begin(_with(dropout=0.5))
    assert (stage.folder / "state.pt").exists()
    assert stage.begin(_MADE_OF) == ("done" if finished else "resumed")


def test_overwriting_removes_the_old_outputs(stage: Stage) -> None:
    stage.begin(_MADE_OF)
    (stage.folder / "state.pt").write_text("old")
    assert stage.begin(_with(dropout=0.5), overwrite=True) == "new"
    assert not (stage.folder / "state.pt").exists()
    assert stage.begin(_with(dropout=0.5)) == "resumed"


def test_overwriting_can_leave_the_choice_to_the_stage(stage: Stage) -> None:
    stage.begin(_MADE_OF)
    (stage.folder / "8.parquet").write_text("old")
    assert stage.begin(_with(dropout=0.5), overwrite=True, wipe=False) == "replacing"
    assert (stage.folder / "8.parquet").exists()


def test_overwriting_what_is_the_same_keeps_it(stage: Stage) -> None:
    stage.begin(_MADE_OF)
    (stage.folder / "state.pt").write_text("kept")
    stage.finish({})
    assert stage.begin(_MADE_OF, overwrite=True) == "done"
    assert (stage.folder / "state.pt").exists()


def test_a_new_format_of_the_outputs_is_another_making(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("valence.stage.FORMAT", {"train": 7})
    assert not stage.is_of_other_version(_MADE_OF)
    stage.begin(_MADE_OF)
    assert not stage.is_of_other_version(_MADE_OF)
    monkeypatch.setattr("valence.stage.FORMAT", {"train": 8})
    assert stage.is_of_other_version(_MADE_OF)
    assert not stage.is_of_other_version(_with(dropout=0.5))
    with pytest.raises(StaleError, match="format is 7 there and 8 here"):
        stage.begin(_MADE_OF)


def test_a_stage_that_is_needed_and_not_done_names_its_command(run: Run) -> None:
    stage = run.stage("features")
    with pytest.raises(MissingStageError, match=r"not been made.*'valence extract .*run' first"):
        stage.require()
    stage.begin({"model": "m"})
    with pytest.raises(MissingStageError, match="is not finished"):
        stage.require()


def test_what_another_version_made_is_not_read(tmp_path: Path) -> None:
    stage = Run.at(str(tmp_path)).stage("segments")
    stage.begin({"of": 1})
    stage.finish({})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("valence.stage.FORMAT", {"segments": 2})
        stage.begin({"of": 1}, overwrite=True)
        stage.finish({})
    with pytest.raises(StaleError, match=r"another version.*'valence preprocess .* --overwrite'"):
        stage.require()
