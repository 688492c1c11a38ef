"""A finished run whose model was not trained: the stages' own files, made without Ray."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline

from tests.helpers.drawings import undrawn
from tests.helpers.reports import copied
from valence.audio.standardization import MelMoments
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.corpus.splits import assign_splits
from valence.metrics import paired_difference, score
from valence.model.inference import sequence_outputs
from valence.model.network import ValenceModel
from valence.model.serialization import export_model, load_model, read_description
from valence.report.build import write_report
from valence.run import Run
from valence.segments.preprocessing import Job, process_recording
from valence.segments.sequences import windows
from valence.segments.store import SegmentStore
from valence.stage import StageName
from valence.storage.location import Location
from valence.sweep.features import Features, write_features
from valence.sweep.kept.serialization import REGRESSOR_FILES, save_regressor

MakeRun = Callable[..., Run]
_SECONDS = 1.5


@pytest.fixture(autouse=True)
def _undrawn() -> Iterator[None]:
    """Draw no figure in the reports that a test itself writes; larger fixtures draw theirs."""
    with undrawn():
        yield


@pytest.fixture(scope="session")
def make_run(tiny_corpus: Location, tiny_config: Config) -> MakeRun:
    """A function that fabricates a run in a folder."""

    def make(
        folder: Path, *, seed: int = 0, config: Config = tiny_config, swept: bool = True
    ) -> Run:
        run = Run.at(str(folder))
        run.write_config(config, {"corpus": str(tiny_corpus), "synthetic": True})
        _preprocess(run, tiny_corpus, config)
        _train(run, config, seed)
        _extract(run, config)
        if swept:
            _sweep(run, config)
        return run

    return make


@pytest.fixture(scope="session")
def finished_run(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with everything but its report; tests do not change it."""
    return make_run(tmp_path_factory.mktemp("runs") / "fabricated")


@pytest.fixture(scope="session")
def reported(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a report whose figures are drawn; tests do not change it."""
    run = copied(finished_run, tmp_path_factory.mktemp("reported") / "run")
    write_report(run)
    return run


@pytest.fixture(scope="session")
def add_sweep(tiny_config: Config) -> Callable[[Run], None]:
    """A function that adds a sweep's results to a run without."""
    return lambda run: _sweep(run, tiny_config)


def _finish(
    run: Run, stage: StageName, *, files: Sequence[str] = (), digest: str = "", **summary: object
) -> None:
    made = run.stage(stage)
    # The digest of each is its name, but for the model's.
    trained = run.stage("train").record()
    model = {} if trained is None else {"model": trained["summary"]["digest"]}
    made.begin({"made_for": "a test", "segments": "segments", "features": "features", **model})
    made.finish({"seconds": _SECONDS, "digest": digest or stage, **summary}, files)


def _preprocess(run: Run, root: Location, config: Config) -> None:
    corpus = read_corpus(root)
    splits = assign_splits(corpus, config.split)
    store = SegmentStore(run.folder("segments"))
    outcomes = [
        process_recording(Job(recording, splits[recording.id], 0), store, config)
        for recording in corpus.recordings
    ]
    rejected = {
        **outcomes[0].row(),
        "Id": "broken",
        "status": "rejected",
        "reason": "'broken.wav' is truncated: it holds 3 of 40 s. Restore it from its source.",
    }
    store.write_recordings([*(outcome.row() for outcome in outcomes), rejected])
    moments = MelMoments.empty(config.mel.n_mels)
    for outcome in outcomes:
        if outcome.split == "train":
            assert outcome.moments is not None
            moments = moments.merge(outcome.moments)
    store.write_standardizer(moments, config.standardize.scope)
    sound = sum(outcome.duration for outcome in outcomes)
    _finish(
        run,
        "segments",
        recordings=len(outcomes) + 1,
        processed=len(outcomes),
        skipped=0,
        audio_hours_per_hour=sound / _SECONDS,
    )


def _train(run: Run, config: Config, seed: int) -> None:
    torch.manual_seed(seed)
    standardizer = SegmentStore(run.folder("segments")).standardizer()
    model = ValenceModel(
        config.model,
        n_mels=config.mel.n_mels,
        n_frames=config.mel.n_frames,
        standardizer=standardizer,
    )
    digest = export_model(run.model, model, config, {"seed": seed})
    rng = np.random.default_rng(seed)
    history = [
        {
            "seed": each,
            "epoch": epoch,
            "train_loss": 1 - ccc,
            "train_ccc": ccc,
            "validation_ccc": 0.8 * ccc + 0.02 * rng.standard_normal(),
            "validation_mse": 0.1,
            "validation_mae": 0.2,
            "learning_rate": 1e-3,
            "seconds": 2.5,
        }
        for each in (0, 1)
        for epoch in range(1, 9)
        for ccc in [0.7 * (1 - np.exp(-epoch / 3))]
    ]
    csv = pd.DataFrame(history).to_csv(index=False)
    (run.folder("train") / "history.csv").write_text(csv)
    _finish(run, "train", digest=digest, workers=1)


def _extract(run: Run, config: Config) -> None:
    model, _ = load_model(run.model)
    store = SegmentStore(run.folder("segments"))
    recordings = store.recordings()
    length = config.sequence.length
    for row in recordings[recordings["status"] == "ok"].to_dict("records"):
        stored = store.read(row["Id"])
        starts = windows(length, config.sequence.stride, segments=len(stored))
        outputs = sequence_outputs(model, stored.mel, starts, length)
        labels = np.stack([getattr(stored, name) for name in config.model.targets], axis=1)
        target = np.stack([labels[start : start + length].mean(axis=0) for start in starts])
        n = len(starts)
        features = Features(
            recording=np.full(n, row["Id"]),
            subject=np.full(n, row["subject"]),
            split=np.full(n, row["split"]),
            start=starts.astype(np.int32),
            target=target,
            feature=outputs.feature,
            prediction=outputs.prediction,
            targets=config.model.targets,
        )
        write_features(run.folder("features") / f"{row['Id']}.parquet", features)
    _finish(run, "features", recordings=6, skipped=0)


def _sweep(run: Run, config: Config) -> None:
    """Results of the 60 combinations, drawn by chance; selection in the sweep's own form."""
    from valence.sweep.features import read_features

    features = read_features(run.folder("features"))
    rng = np.random.default_rng(5)
    steps = config.sweep.scalers, config.sweep.reducers, config.sweep.regressors
    rows = [
        {
            **dict(zip(("scaler", "reducer", "regressor"), names, strict=True)),
            "ccc_validation": rng.uniform(-0.1, 0.5),
            "ccc_test": rng.uniform(-0.1, 0.4),
            "mse_test": rng.uniform(0.05, 0.1),
            "mae_test": rng.uniform(0.1, 0.3),
            "seconds": rng.uniform(0, 9),
            "engine": "sklearn",
            "rows": 100,
            "status": "ok",
            "reason": "",
        }
        for names in itertools.product(*([step.name for step in each] for each in steps))
    ]
    results = pd.DataFrame(rows).sort_values("ccc_validation", ascending=False)
    folder = run.folder("sweep")
    (folder / "results.csv").write_text(results.to_csv(index=False))

    def both(noise: float) -> dict[str, object]:
        scores = {}
        for split in ("validation", "test"):
            own = features.of(split)
            y = own.target[:, 0]
            prediction = y + noise * rng.standard_normal(len(y)) + 1e-3
            scores[split] = score(y, prediction, subjects=own.subject, bootstrap=50).to_json()
        return scores

    def paired(factor: float) -> dict[str, object]:
        found = {}
        for split in ("validation", "test"):
            own = features.of(split)
            y = own.target[:, 0]
            found[split] = paired_difference(
                y, own.prediction[:, 0], factor * y, own.subject, bootstrap=50
            ).to_json()
        return found

    best = {k: results.iloc[0][k] for k in ("scaler", "reducer", "regressor")} | both(0.2)
    selection = {
        "select_on": "validation",
        "engine": "sklearn",
        "svr_max_rows": None,
        "best": best,
        "deep": both(0.3),
        "paired": paired(0.5),
        "baselines": {"constant": both(9.0), "functionals": both(0.5)},
        "deep_less_baseline": {"constant": paired(0.1), "functionals": paired(0.4)},
        "leaders": [best],
        "remarks": ["the baseline of functionals is missing: a test"],
    }
    (folder / "selection.json").write_json(selection)
    own = features.of("train")
    ridge = Pipeline([("regressor", Ridge())])
    save_regressor(
        folder / "best",
        ridge.fit(own.feature, own.target[:, 0]),
        columns=own.feature.shape[1],
        about={
            "target": features.targets[0],
            "model": read_description(run.model).sha256,
            "features": "features",
            "steps": {},
        },
    )
    _finish(run, "sweep", files=[f"best/{name}" for name in REGRESSOR_FILES])
