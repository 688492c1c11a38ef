"""Runs whose segments are made without Ray, and a console that remembers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.consoles import RecordedConsole
from valence.audio.standardization import MelMoments
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.run import Run
from valence.segments.preprocessing import process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location

MakeRun = Callable[[str], Run]

# The marks of a module whose tests work in the one session of Ray that all of them share.
ON_RAY = [
    pytest.mark.ray,
    pytest.mark.usefixtures("ray_local"),
    # Ray's own warnings.
    pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning"),
]


@pytest.fixture
def console() -> RecordedConsole:
    return RecordedConsole()


@pytest.fixture(scope="session")
def _segments(
    tiny_corpus: Location, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The segments of the tiny corpus, made once."""
    from pipelines.preprocess.stage import _jobs, _made_of

    folder = tmp_path_factory.mktemp("prepared")
    run = Run.at(str(folder))
    jobs = _jobs(read_corpus(tiny_corpus), tiny_config)
    store = SegmentStore(run.folder("segments"))
    outcomes = [process_recording(job, store, tiny_config) for job in jobs]
    store.write_recordings([outcome.row() for outcome in outcomes])
    moments = MelMoments.empty(tiny_config.mel.n_mels)
    for outcome in outcomes:
        if outcome.split == "train" and outcome.moments is not None:
            moments = moments.merge(outcome.moments)
    store.write_standardizer(moments, tiny_config.standardize.scope)
    stage = run.stage("segments")
    stage.begin(_made_of(jobs, tiny_config))
    stage.finish({"seconds": 0.0, "digest": store.digest()})
    run.write_config(tiny_config, {"corpus": str(tiny_corpus), "synthetic": True})
    return folder


@pytest.fixture
def prepared_run(_segments: Path, tmp_path: Path) -> MakeRun:
    """A function that gives a run of its own, with segments, under a name."""

    def make(name: str = "run") -> Run:
        shutil.copytree(_segments, tmp_path / name)
        return Run.at(str(tmp_path / name))

    return make


def add_model(run: Run, config: Config) -> None:
    """Give a run with segments a model that was not trained."""
    import torch

    from valence.model.network import ValenceModel
    from valence.model.serialization import export_model

    standardizer = SegmentStore(run.folder("segments")).standardizer()
    torch.manual_seed(0)
    model = ValenceModel(config.model, n_mels=128, n_frames=34, standardizer=standardizer)
    stage = run.stage("train")
    stage.begin({"made_for": "tests"})
    stage.finish({"digest": export_model(run.model, model, config, {}), "seconds": 0.0})


@pytest.fixture(scope="session")
def _extracted(
    ray_local: None, _segments: Path, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run whose features are those of a model that was not trained, made once."""
    from pipelines.extract import extract

    folder = tmp_path_factory.mktemp("runs") / "extracted"
    shutil.copytree(_segments, folder)
    run = Run.at(str(folder))
    add_model(run, tiny_config)
    extract(run, tiny_config, overwrite=False, console=RecordedConsole())
    return folder


@pytest.fixture
def extracted(_extracted: Path, tmp_path: Path) -> Run:
    """A run of its own with segments, a model that was not trained, and its features."""
    shutil.copytree(_extracted, tmp_path / "run")
    return Run.at(str(tmp_path / "run"))


@pytest.fixture(scope="session")
def train_config(tiny_config: Config) -> Config:
    """Two seeds of three epochs, shuffled in several pools, that draw random numbers as they go."""
    assignments = [
        "model.dropout=0.3",
        "train.seeds=[3, 5]",
        "train.epochs=3",
        "train.shuffle_segments=160",
    ]
    return Config.resolve(tiny_config, assignments=assignments)


@pytest.fixture(scope="session")
def trained(
    ray_local: None, _segments: Path, train_config: Config, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, RecordedConsole]:
    """A run that was trained undisturbed, and what was said; tests do not change it."""
    from pipelines.train.stage import train

    folder = tmp_path_factory.mktemp("runs") / "trained"
    shutil.copytree(_segments, folder)
    run, console = Run.at(str(folder)), RecordedConsole()
    train(run, train_config, overwrite=False, console=console)
    return run, console
