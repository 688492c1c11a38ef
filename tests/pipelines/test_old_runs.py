"""A run that an older build made opens, predicts, resumes and is completed by this one.

`tests/data/old_run` holds it, with the script that made it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from tests.helpers.consoles import RecordedConsole
from valence.corpus.synthetic import write_corpus
from valence.prediction.predictor import Predictor
from valence.run import Run
from valence.storage.location import Location
from valence.training.history import read_history

_OLD = Path(__file__).resolve().parents[1] / "data/old_run"
_SOUND = "raw_data/audio/03.wav"
_PARTS = "Id,Proposal\n01,train\n02,devel\n03,test\n04,train\n"
# Another processor adds float32 in another order.
_ROUNDING = 1e-4


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """The corpus that the run was made of."""
    root = Location.parse(tmp_path_factory.mktemp("old") / "corpus")
    write_corpus(root, subjects=4, seconds=8.0, sr=12_000, seed=1)
    (root / "metadata/partition.csv").write_text(_PARTS)
    return root


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.at(str(shutil.copytree(_OLD / "finished", tmp_path / "run")))


def test_it_opens_with_the_names_of_today(run: Run) -> None:
    config = run.config()
    assert (config.train.windows_per_group, config.train.epochs) == (2, 4)
    assert "windows_per_run = 2" in run.config_file.read_text()
    for name in ("segments", "train", "features"):
        assert run.stage(name).require()["status"] == "done"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("regressor", "file"), [(None, "predicted.csv"), ("best", "predicted-by-best.csv")]
)
def test_it_predicts_what_it_predicted(
    run: Run, corpus: Location, regressor: Literal["best"] | None, file: str
) -> None:
    timeline = Predictor.load(run, regressor=regressor).predict_file(corpus / _SOUND)
    found = timeline.to_frame()["valence"].to_numpy()
    expected = pd.read_csv(_OLD / file)["valence"].to_numpy()
    np.testing.assert_allclose(found, expected, atol=_ROUNDING)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning")
def test_it_is_completed_without_making_again_what_stands(
    ray_local: None, run: Run, corpus: Location
) -> None:
    from pipelines.extract import extract
    from pipelines.preprocess.stage import preprocess
    from pipelines.sweep.stage import sweep
    from pipelines.train.stage import train

    config, console = run.config(), RecordedConsole()
    features = (run.folder("features") / "03.parquet").read_bytes()
    preprocess(corpus, run, config, overwrite=False, console=console)
    train(run, config, overwrite=False, console=console)
    extract(run, config, overwrite=False, console=console)
    assert any("0 recordings made, 4 skipped, 0 rejected" in line for line in console.lines)
    assert sum("nothing to do" in line for line in console.lines) == 2
    assert (run.folder("features") / "03.parquet").read_bytes() == features
    # Now the files are noted, so damage is found.
    assert len(run.stage("segments").noted()) == 6
    sweep(run, config, overwrite=False, console=console)
    assert any("another version of this program made the results" in x for x in console.lines)
    assert run.stage("sweep").require()["status"] == "done"


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning")
def test_its_interrupted_training_goes_on(ray_local: None, run: Run) -> None:
    from pipelines.train.stage import train

    shutil.rmtree(run.folder("train").path)
    shutil.rmtree(run.model.path)
    shutil.copytree(_OLD / "interrupted", run.folder("train").path)
    console = RecordedConsole()
    summary = train(run, run.config(), overwrite=False, console=console)
    assert any("going on after epoch 3" in line for line in console.lines)
    assert summary["epochs"] == 4
    expected = pd.read_csv(_OLD / "finished/train/history.csv")
    found = read_history(run.folder("train"), run.stage("train").require())
    columns = ["seed", "epoch", "train_ccc", "validation_ccc", "validation_mse"]
    np.testing.assert_allclose(found[columns], expected[columns], atol=_ROUNDING)
