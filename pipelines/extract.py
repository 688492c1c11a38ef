"""The stage `features`: deep features and predictions of every sequence, by Ray Data.

An actor holds the model and takes recordings from their segments to their files of features. Only
clean recordings are extracted, of all splits, windows at `sequence.stride` from the first segment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import ray
import ray.data
import torch
from ray.data import ActorPoolStrategy, Dataset
from ray.exceptions import RayActorError

from pipelines.progress import Report
from pipelines.session import cluster_cpus, cluster_gpus
from valence.checkpoint import load_model, read_description
from valence.config import Config
from valence.errors import ClusterError, ModelError
from valence.features import Features, write_features
from valence.inference import sequence_outputs
from valence.run import Run, fingerprint
from valence.segments import SegmentStore
from valence.sequences import window_targets, windows
from valence.storage import Location

# CPUs of an actor: more actors would load torch and the model more often than they gain.
_CPUS_PER_ACTOR = 4
_ATTEMPTS = 3


def extract(run: Run, config: Config, *, overwrite: bool, report: Report) -> dict[str, Any]:
    """Extract the features of every recording of `run`.

    Parameters
    ----------
    run
        With a finished training. Recordings that were extracted with the same model are left.
    config
        The whole configuration.
    overwrite
        Whether features of another model, input or configuration are replaced.
    report
        Hears of progress.

    Returns
    -------
    The summary that also stands in `stage.json`.

    Raises
    ------
    MissingStageError
        If the segments or the model are not there.
    StaleError
        If features of another model or configuration stand there and `overwrite` is False.
    ModelError
        If the model is damaged, or is not the one that the training left.
    ClusterError
        If workers keep dying.
    """
    began = time.monotonic()
    segments = run.stage("segments").require()["summary"]["digest"]
    trained = run.stage("train").require()["summary"]["digest"]
    description = read_description(run.model)
    if description.sha256 != trained:
        raise ModelError(
            f"'{run.model}' does not hold the model that '{run.folder('train')}' ended with. "
            "Restore it, or train again with --overwrite."
        )
    stage = run.stage("features")
    sequence = config.sequence.model_dump(mode="json")
    # The phase is a matter of training.
    made_of = {"model": trained, "segments": segments, "sequence": {**sequence, "phase": "fixed"}}
    if stage.begin(made_of, overwrite=overwrite) == "done":
        report.say("extract: nothing to do")
        summary: dict[str, Any] = stage.require()["summary"]
        return summary
    folder = run.folder("features")
    folder.remove_partial_files()
    store = SegmentStore(run.folder("segments"))
    frame = store.recordings()
    frame = frame[frame["status"] == "ok"]
    rows: list[dict[str, Any]] = [
        {"Id": row.Id, "subject": row.subject, "split": row.split}
        for row in frame.itertuples(index=False)
    ]
    todo = _missing(rows, folder)
    skipped = len(rows) - len(todo)
    with report.bar("extract", total=len(todo)) as bar:
        for attempt in range(_ATTEMPTS):
            if not todo:
                break
            try:
                for done in _outcomes(todo, run, config):
                    bar.advance(1, f"{done['sequences']} sequences of {done['Id']}")
            except RayActorError as error:
                # What is finished stands, so the rest can be begun again elsewhere.
                if attempt == _ATTEMPTS - 1:
                    raise ClusterError(
                        f"Workers died {_ATTEMPTS} times while features were extracted: {error}. "
                        "What is finished is kept; look at the memory and the nodes of the "
                        "cluster, and run the same command again."
                    ) from error
                report.say("extract: a worker died; going on with what is missing")
            todo = _missing(rows, folder)
    summary = {
        "seconds": time.monotonic() - began,
        "digest": fingerprint({"made_of": made_of, "recordings": sorted(frame["Id"])}),
        "recordings": len(frame),
        "skipped": skipped,
        "sequences": sum(
            len(windows(config.sequence.length, config.sequence.stride, segments=int(held)))
            for held in frame["segments"]
        ),
    }
    stage.finish(summary)
    report.say(
        f"extract: {summary['recordings']} recordings ({summary['skipped']} were there), "
        f"{summary['sequences']} sequences in {summary['seconds']:.0f} s"
    )
    return summary


def _missing(rows: list[dict[str, Any]], folder: Location) -> list[dict[str, Any]]:
    standing = {file.stem for file in folder.files() if file.suffix == ".parquet"}
    return [row for row in rows if row["Id"] not in standing]


def _outcomes(todo: list[dict[str, Any]], run: Run, config: Config) -> Iterator[dict[str, Any]]:
    """Extract `todo`, each told as its file appears."""
    cpus, gpus = cluster_cpus(), cluster_gpus()
    use_gpu = config.train.gpus != "never" and gpus >= 1
    each = min(cpus, _CPUS_PER_ACTOR)
    places = int(gpus) if use_gpu else int(cpus // each)
    actors = max(1, min(places, len(todo)))
    dataset: Dataset = ray.data.from_items(todo, override_num_blocks=min(len(todo), 16 * actors))
    extractor: Any = Extractor
    dataset = dataset.map(
        extractor,
        fn_constructor_kwargs={
            "segments": run.folder("segments"),
            "features": run.folder("features"),
            "model": run.model,
            "config": config,
            "threads": int(each),
        },
        compute=ActorPoolStrategy(size=actors),
        # Ray Data itself needs a part of a CPU.
        num_cpus=each / 2 if use_gpu else max(0.5, each - 0.5),
        num_gpus=1 if use_gpu else 0,
        # Ray warns at each start of an actor that it would restart.
        max_restarts=0,
    )
    outcomes: Iterator[dict[str, Any]] = iter(dataset.iter_rows())
    return outcomes


class Extractor:
    """Holds the model; each call takes a recording to its file of features."""

    def __init__(
        self,
        segments: Location,
        features: Location,
        model: Location,
        config: Config,
        threads: int,
    ) -> None:
        torch.set_num_threads(threads)
        self._store, self._features, self._config = SegmentStore(segments), features, config
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = load_model(model)[0].to(device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Extract the recording `row["Id"]`."""
        sequence, targets = self._config.sequence, self._config.model.targets
        held = self._store.read(row["Id"])
        starts = windows(sequence.length, sequence.stride, segments=len(held))
        outputs = sequence_outputs(self._model, held.mel, starts, sequence.length)
        labels = {"valence": held.valence, "arousal": held.arousal}
        target = np.stack([labels[name] for name in targets], axis=1)
        n = len(starts)
        features = Features(
            recording=np.full(n, row["Id"]),
            subject=np.full(n, row["subject"]),
            split=np.full(n, row["split"]),
            start=starts.astype(np.int32),
            target=window_targets(target, starts, sequence.length, sequence.target),
            feature=outputs.feature,
            prediction=outputs.prediction,
            targets=targets,
        )
        write_features(self._features / f"{row['Id']}.parquet", features)
        return {"Id": row["Id"], "sequences": n}
