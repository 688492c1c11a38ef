"""Run the stage `features`: extract deep features and predictions of every sequence, by Ray Data.

Each task reads the segments of one recording (on a GPU: of several) and writes its file of
features, with the model that the task's process keeps loaded. The stage extracts the clean
recordings of all splits, without augmented copies. Sequences start at the first segment and then
every `sequence.stride` segments.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import ray
import ray.data
import torch
from numpy.typing import NDArray
from ray.data import Dataset, TaskPoolStrategy

from pipelines.runtime.console import Console
from pipelines.runtime.nodes import (
    Selector,
    cpus_of,
    gpus_of,
    living_nodes,
    require_cpus,
    tell_of_absence,
)
from valence.chain import refuse_other_settings, require_chain
from valence.config import Config, Target
from valence.errors import DamagedError, ModelError
from valence.formatting import some
from valence.model.acceleration import precision_on
from valence.model.inference import SequenceOutputs, Sequences, outputs_of
from valence.model.network import ValenceModel
from valence.model.serialization import load_model, load_own_model, read_description
from valence.provenance import fingerprint
from valence.run import Run
from valence.segments.sequences import Span, window_targets, windows
from valence.stage import Opening, Stage
from valence.storage.filenames import printable
from valence.storage.location import Location
from valence.storage.manifest import digest_of
from valence.sweep.features import Features, made_of, write_features
from valence.training.data.inputs import Inputs, SegmentInputs, inputs_of_trained, load_inputs
from valence.training.data.prefetch import ahead

Array = NDArray[np.float32]

_LABELS: tuple[Target, ...] = ("valence", "arousal")

# More processes with fewer CPUs each would lose more time to loading torch than they gain.
_CPUS_PER_TASK = 4
# Recordings of a task on a GPU: one alone does not fill it, and a lost task costs all of its own.
_TOGETHER_ON_GPU = 16


@dataclass(frozen=True)
class ExtractionPlan:
    """The plan of an extraction whose inputs have been checked.

    Attributes
    ----------
    run, config
        Run and configuration of the extraction.
    opening
        State of the folder of features.
    inputs
        Inputs of the run's segments.
    rows
        `Id`, `subject` and `split` of each recording.
    sequences
        Number of sequences of all recordings together.
    """

    run: Run
    config: Config
    opening: Opening
    inputs: SegmentInputs
    rows: tuple[dict[str, Any], ...]
    sequences: int


def plan_extraction(run: Run, config: Config, *, overwrite: bool) -> ExtractionPlan:
    """Check the inputs of an extraction and its existing outputs, and change nothing.

    Parameters
    ----------
    run
        A run with a finished training. Recordings already extracted with the same model are kept.
    config
        The whole configuration.
    overwrite
        Whether to replace features of another model, input or configuration.

    Raises
    ------
    MissingStageError
        If the segments or the model are not there.
    StaleError
        If the training used other segments, settings or files of a set of features, or if features
        of another model or configuration exist and `overwrite` is False.
    ModelError
        If the model is damaged, or is not the one that the training wrote.
    """
    records = require_chain(run, "segments", "train")
    segments, trained = (records[name]["summary"]["digest"] for name in ("segments", "train"))
    _require_own_training(run, records["train"]["made_of"], config)
    # The weights are loaded too, so that this process reports a fault and not a worker.
    _, description = load_own_model(run)
    refuse_other_settings(
        run.stage("train"),
        {"model": {"input": description.config.model.input}},
        {"model": {"input": config.model.input}},
        asks="extraction",
    )
    inputs = inputs_of_trained(run, config)
    frame = inputs.store.recordings()
    frame = frame[frame["status"] == "ok"]
    rows = tuple(
        {"Id": row.Id, "subject": row.subject, "split": row.split}
        for row in frame.itertuples(index=False)
    )
    sequence = config.sequence.model_dump(mode="json")
    # Only training uses the phase.
    made_of = {"model": trained, "segments": segments, "sequence": {**sequence, "phase": "fixed"}}
    if inputs.features is not None:
        made_of["input"] = inputs.features.digest
    stage = run.stage("features")
    length, stride = config.sequence.length, config.sequence.stride
    return ExtractionPlan(
        run,
        config,
        stage.opened(made_of, overwrite=overwrite, lost=lambda _: _lost(stage, rows)),
        inputs,
        rows,
        sum(len(windows(length, stride, segments=int(held))) for held in frame["segments"]),
    )


def extract(run: Run, config: Config, *, overwrite: bool, console: Console) -> dict[str, Any]:
    """Extract the features of every recording of `run`.

    Parameters
    ----------
    run, config, overwrite
        The arguments of `plan_extraction`.
    console
        Progress output.

    Returns
    -------
    The summary that also stands in `stage.json`.

    Raises
    ------
    ValenceError
        If `plan_extraction` raises it.
    ModelError
        If the model gives values that are not finite for a recording. The other recordings are
        extracted before.
    DamagedError
        If segments are damaged.
    ClusterError
        If no node can run a task.
    """
    plan = plan_extraction(run, config, overwrite=overwrite)
    if plan.opening.is_whole:
        plan.run.accept("features", plan.config)
        _note_digests(plan, console)
        console.say("extract: nothing to do")
        return plan.opening.summary
    return _execute(plan, console)


def _execute(plan: ExtractionPlan, console: Console) -> dict[str, Any]:
    began = time.monotonic()
    stage, folder = plan.opening.stage, plan.opening.stage.folder
    for clause in plan.opening.lost:
        console.say(f"extract: {clause}, and is made again")
    for file in (folder / _file_name(row) for row in plan.rows):
        if file.is_folder():
            file.set_aside()
    # Read before `begin` replaces the record, which holds the digests of the files that stay.
    noted = stage.noted() if plan.opening.standing == "done" else {}
    plan.opening.begin()
    plan.run.accept("features", plan.config)
    folder.remove_partial_files()
    outputs = _kept(plan.rows, stage, noted)
    todo = [row for row in plan.rows if _file_name(row) not in outputs]
    bad: dict[str, int] = {}
    with console.bar("extract", total=len(todo)) as bar:
        for done in _outcomes(todo, plan, console):
            if done["failure"]:
                raise DamagedError(done["failure"])
            bar.advance(1, f"{done['sequences']} sequences of {printable(done['Id'])}")
            if done["not_finite"]:
                bad[done["Id"]] = int(done["not_finite"])
            else:
                outputs[_file_name(done)] = done["sha256"]
    if bad:
        raise ModelError(
            f"The model gives values that are no numbers for {len(bad)} of {len(plan.rows)} "
            f"recordings: {some(sorted(bad))}, in {sum(bad.values())} sequences. Scores without "
            "them would flatter it, so the stage is not finished; the other recordings are kept. "
            "Train again with a lower train.learning_rate and --overwrite."
        )
    recordings = sorted(row["Id"] for row in plan.rows)
    summary = {
        "seconds": time.monotonic() - began,
        "digest": fingerprint({"made_of": plan.opening.made_of, "recordings": recordings}),
        "recordings": len(plan.rows),
        "skipped": len(plan.rows) - len(todo),
        "sequences": plan.sequences,
    }
    stage.finish(summary, outputs)
    console.say(
        f"extract: {summary['recordings']} recordings ({summary['skipped']} were there), "
        f"{summary['sequences']} sequences in {summary['seconds']:.0f} s"
    )
    return summary


def _require_own_training(run: Run, made_of: Mapping[str, Any], config: Config) -> None:
    """Refuse other sequences than those that the model was trained on.

    One configuration then describes everything in a run, and can make all of it again.
    """
    asked = {"sequence": config.sequence, "train": config.train}
    uses = {"sequence": {"length", "stride", "target"}, "train": {"precision"}}
    here = {
        name: {
            key: value
            for key, value in asked[name].model_dump(mode="json", include=keys).items()
            if key in made_of.get(name, {})
        }
        for name, keys in uses.items()
    }
    there = {name: {key: made_of[name][key] for key in kept} for name, kept in here.items()}
    refuse_other_settings(run.stage("train"), there, here, asks="extraction")


def _file_name(row: Mapping[str, Any]) -> str:
    return f"{row['Id']}.parquet"


def _lost(stage: Stage, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the files of finished features that are missing or changed, each with its fault."""
    if stage.noted():
        lost = stage.amiss()
    else:
        standing = {file.name for file in stage.folder.files()}
        lost = {_file_name(row): "is missing" for row in rows if _file_name(row) not in standing}
    return [f"'{stage.folder / name}' {what}" for name, what in sorted(lost.items())]


def _note_digests(plan: ExtractionPlan, console: Console) -> None:
    """Note the digests of features made by an older version, which noted none."""
    stage = plan.opening.stage
    if not stage.noted():
        console.say(
            "extract: an older version made the features and noted no digests; they are noted as "
            "they are now"
        )
        stage.finish(plan.opening.summary, [_file_name(row) for row in plan.rows])


def _kept(
    rows: Sequence[Mapping[str, Any]], stage: Stage, noted: Mapping[str, str]
) -> dict[str, str]:
    """Return the SHA-256 of each existing file that is whole and has this stage's fingerprint."""
    record = stage.record()
    assert record is not None, "the stage has begun"
    standing = stage.folder.listing()
    kept = {}
    for name in map(_file_name, rows):
        if name not in standing:
            continue
        file = stage.folder / name
        sha256 = digest_of(file)
        if noted.get(name) == sha256 or made_of(file) == record["fingerprint"]:
            kept[name] = sha256
    return kept


def _outcomes(
    todo: list[dict[str, Any]], plan: ExtractionPlan, console: Console
) -> Iterator[dict[str, Any]]:
    """Extract the recordings of `todo`, and yield each result once its file is written."""
    if not todo:
        return
    config = plan.config
    gpus = gpus_of(living_nodes())
    use_gpu = config.train.gpus != "never" and gpus >= 1
    selector: Selector = {}
    cpus = float(_CPUS_PER_TASK)
    if not use_gpu:
        asked = "extraction asks for a CPU"
        selector, nodes = require_cpus(1, config.cluster, asked=asked, console=console)
        cpus = cpus_of(nodes)
    each = min(cpus, _CPUS_PER_TASK)
    places = gpus if use_gpu else int(cpus // each)
    together = _TOGETHER_ON_GPU if use_gpu else 1
    parts = math.ceil(len(todo) / together)
    at_once = max(1, min(places, parts))
    dataset: Dataset = ray.data.from_items(todo, override_num_blocks=min(parts, 16 * at_once))
    dataset.context.execution_options.label_selector = selector or None
    function: Any = extract_recordings
    dataset = dataset.map_batches(
        function,
        fn_kwargs={
            "run": plan.run,
            "config": config,
            "inputs": plan.inputs,
            "threads": int(each),
            "device": "cuda" if use_gpu else "cpu",
        },
        batch_size=together,
        compute=TaskPoolStrategy(at_once),
        # The rest is for Ray Data itself, which needs a part of a CPU.
        num_cpus=each / 2 if use_gpu else max(0.5, each - 0.5),
        num_gpus=1 if use_gpu else 0,
        # Keep the process, and the model that it has loaded, for the next task.
        max_calls=0,
    )
    with tell_of_absence(selector, {"GPU": 1} if use_gpu else {"CPU": 1}, console):
        yield from dataset.iter_rows()


@lru_cache(maxsize=1)
def _model(folder: Location, sha256: str, device: str) -> ValenceModel:
    """Load the model once for this process; another digest loads another model."""
    model, description = load_model(folder)
    assert description.sha256 == sha256, "the stage has checked the model before"
    return model.to(device)


@dataclass(frozen=True)
class _Extracted:
    """The result of one recording.

    Attributes
    ----------
    sequences
        Number of the recording's sequences.
    sha256
        Digest of the recording's file; empty if no file was written.
    not_finite
        Number of sequences with values that are not finite. Above 0, no file is written.
    """

    sequences: int = 0
    sha256: str = ""
    not_finite: int = 0


def extract_recordings(
    rows: dict[str, NDArray[Any]],
    *,
    run: Run,
    config: Config,
    inputs: SegmentInputs,
    threads: int,
    device: str,
) -> dict[str, NDArray[Any]]:
    """Read the inputs of recordings (`Id`, `subject`, `split`) and write files of features.

    Damaged segments come back as a `failure`: if raised, Ray would add its traceback to the words.
    """
    failure = ""
    try:
        extracted = _extract(rows, run, config, inputs, threads, device)
    except DamagedError as error:
        extracted, failure = [_Extracted() for _ in rows["Id"]], str(error)
    return {
        "Id": rows["Id"],
        "sequences": np.array([each.sequences for each in extracted]),
        "sha256": np.array([each.sha256 for each in extracted]),
        "not_finite": np.array([each.not_finite for each in extracted]),
        "failure": np.array([failure] * len(extracted)),
    }


def _extract(
    rows: dict[str, NDArray[Any]],
    run: Run,
    config: Config,
    inputs: SegmentInputs,
    threads: int,
    device: str,
) -> list[_Extracted]:
    record = run.stage("features").record()
    assert record is not None, "the stage has begun"
    torch.set_num_threads(min(threads, len(os.sched_getaffinity(0))))
    model = _model(run.model, read_description(run.model).sha256, device)
    length, stride = config.sequence.length, config.sequence.stride
    read: list[tuple[Array, NDArray[np.int64]]] = []

    def load(name: str) -> tuple[Array, Inputs]:
        labels = inputs.store.labels(name, _LABELS)
        return labels, load_inputs(inputs, [Span(name, 0, 0, len(labels))])

    def sequences() -> Iterator[Sequences]:
        for labels, held in ahead(map(load, rows["Id"].tolist()), most=1):
            starts = windows(length, stride, segments=len(labels))
            read.append((labels, starts))
            yield Sequences(held, starts)

    precision = precision_on(torch.device(device), config.train.precision)
    found = outputs_of(model, sequences(), length, precision=precision)
    extracted = []
    for number, outputs in enumerate(found):
        labels, starts = read[number]
        finite = np.isfinite(outputs.feature).all(axis=1) & np.isfinite(outputs.prediction).all(
            axis=1
        )
        if not finite.all():
            # Count them and go on: the other recordings are still to be written.
            extracted.append(_Extracted(len(starts), not_finite=int((~finite).sum())))
            continue
        row = {key: str(rows[key][number]) for key in ("Id", "subject", "split")}
        table, others = _features(row, labels, starts, outputs, config)
        file = run.folder("features") / _file_name(row)
        sha256 = write_features(file, table, others=others, made_of=record["fingerprint"])
        extracted.append(_Extracted(len(starts), sha256))
    return extracted


def _features(
    row: dict[str, str],
    known: Array,
    starts: NDArray[np.int64],
    outputs: SequenceOutputs,
    config: Config,
) -> tuple[Features, dict[str, Array]]:
    """Build the rows of a recording; also return the labels by target.

    `known` has the labels of its segments, `[segments, 2]`: valence and arousal.
    """
    sequence, targets = config.sequence, config.model.targets
    # Average each label by itself: a window without arousal may still have valence.
    labels: dict[str, Array] = {
        name: window_targets(known[:, [k]], starts, sequence.length, sequence.target)[:, 0]
        for k, name in enumerate(_LABELS)
    }
    n = len(starts)
    features = Features(
        recording=np.full(n, row["Id"]),
        subject=np.full(n, row["subject"]),
        split=np.full(n, row["split"]),
        start=starts.astype(np.int32),
        target=np.stack([labels[name] for name in targets], axis=1),
        feature=outputs.feature,
        prediction=outputs.prediction,
        targets=targets,
    )
    return features, labels
