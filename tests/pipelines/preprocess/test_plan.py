"""The plan of preprocessing: what it refuses and finds, without Ray and with nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.preprocess.stage import PreprocessingPlan, plan_preprocessing
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.errors import DamagedError, SplitError, StaleError
from valence.run import Run
from valence.storage.location import Location

Plan = Callable[..., PreprocessingPlan]


@pytest.fixture
def run(prepared_run: Callable[[str], Run]) -> Run:
    """A run with segments."""
    return prepared_run("run")


@pytest.fixture
def plan(tiny_corpus: Location, tiny_config: Config, run: Run) -> Plan:
    """A function that plans with settings, as `--set` takes them, and sees that nothing changes."""

    def make(*assignments: str, overwrite: bool = False) -> PreprocessingPlan:
        config = Config.resolve(tiny_config, assignments=assignments)
        before = _content(run)
        try:
            return plan_preprocessing(read_corpus(tiny_corpus), run, config, overwrite=overwrite)
        finally:
            assert _content(run) == before

    return make


def _content(run: Run) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in run.root.local.rglob("*") if file.is_file()}


def _finish(run: Run, listing: str) -> None:
    """Note the segments of `run` as the stage itself does, made of files of a listing."""
    stage = run.stage("segments")
    names = [file.name for file in stage.folder.files() if file.suffix == ".parquet"]
    stage.finish({"listing": listing, "unread": 0}, names)


def test_segments_of_other_settings_are_refused_unless_they_may_go(plan: Plan) -> None:
    assert plan().opening.standing == "done"
    with pytest.raises(StaleError, match=r"augment\.copies is 1 there and 2 here"):
        plan("augment.copies=2")
    allowed = plan("augment.copies=2", overwrite=True)
    assert (allowed.opening.standing, allowed.replaces) == ("replacing", True)
    assert {job.copies for job in allowed.jobs if job.split == "train"} == {2}


def test_a_corpus_that_cannot_be_divided_is_refused(
    plan: Plan, tiny_config: Config, tiny_corpus: Location, tmp_path: Path
) -> None:
    found = read_corpus(tiny_corpus)
    alone = type(found)(found.root, found.recordings[:1])
    elsewhere = Run.at(str(tmp_path / "elsewhere"))
    with pytest.raises(SplitError):
        plan_preprocessing(alone, elsewhere, tiny_config, overwrite=False)
    assert not elsewhere.root.exists()


def test_a_damaged_record_is_refused_unless_it_may_go(plan: Plan, run: Run) -> None:
    record = run.stage("segments").file
    record.write_bytes(record.read_bytes()[:-20])
    with pytest.raises(DamagedError, match=r"valence preprocess .*--overwrite"):
        plan()
    assert plan(overwrite=True).opening.standing == "resumed"


def test_a_file_that_is_cut_is_named_and_stays_until_the_plan_is_executed(
    plan: Plan, run: Run
) -> None:
    _finish(run, plan().listing)
    assert plan().is_current
    assert not plan(overwrite=True).is_current
    file = run.folder("segments") / "02.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    found = plan()
    assert list(found.amiss) == ["02.parquet"]
    assert not found.is_current


def test_segments_of_files_that_were_touched_are_to_be_compared(plan: Plan, run: Run) -> None:
    _finish(run, "of files before they were touched")
    found = plan()
    assert (found.amiss, found.is_current) == ({}, False)
