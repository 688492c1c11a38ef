from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from valence.config import Config
from valence.errors import MissingStageError
from valence.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.at(str(tmp_path / "run"))


_MADE_OF: dict[str, Any] = {"segments": "abc"}


def test_the_folders_of_a_run(run: Run) -> None:
    root = run.root.path
    assert run.config_file.path == f"{root}/config.toml"
    assert run.model.path == f"{root}/model"
    assert run.folder("segments").path == f"{root}/segments"
    assert run.stage("sweep").file.path == f"{root}/sweep/stage.json"


def test_the_configuration_of_a_run_comes_back(run: Run) -> None:
    config = Config.resolve(Config(), assignments=["train.epochs=3"])
    run.write_config(config, {"corpus": "/data", "synthetic": True})
    assert run.config() == config
    assert run.record() == {"corpus": "/data", "synthetic": True}
    assert 'numpy = "' in run.config_file.read_text()


def test_a_stage_accepts_its_own_sections_and_those_of_stages_not_begun(run: Run) -> None:
    given = Config.resolve(
        Config(), assignments=["mel.n_fft=512", "train.epochs=3", "sweep.seed=4", "split.seed=6"]
    )
    run.accept("segments", given, {"corpus": "/data"})
    assert (run.config(), run.record()) == (given, {"corpus": "/data"})
    run.stage("train").begin(_MADE_OF)
    run.accept("segments", Config(), {"corpus": "/moved"})
    # What was begun with a setting keeps it.
    assert run.config() == Config.resolve(Config(), assignments=["train.epochs=3"])
    run.stage("sweep").begin(_MADE_OF)
    run.accept("train", Config.resolve(given, assignments=["train.epochs=7"]))
    assert run.config() == Config.resolve(Config(), assignments=["train.epochs=7"])
    assert run.record() == {"corpus": "/moved"}


def test_a_folder_that_is_no_run_is_refused(run: Run) -> None:
    assert run.record() == {}
    with pytest.raises(MissingStageError, match=r"is not a run: it has no config\.toml") as raised:
        run.config()
    assert raised.value.exit_status == 2
