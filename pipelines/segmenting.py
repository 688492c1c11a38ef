"""The work of preprocessing as Ray Data does it: jobs out, small rows back."""

from __future__ import annotations

import json
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data import TaskPoolStrategy
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    WorkerCrashedError,
)
from ray.util.annotations import RayDeprecationWarning

from pipelines.metrics import stage_metrics
from pipelines.nodes import Selector, cpus_to_share
from valence.config import Config
from valence.corpus import Recording
from valence.errors import ValenceError
from valence.jobs import Job, Outcome
from valence.preprocessing import process_recording
from valence.segments import SegmentStore
from valence.storage import Location

# A task takes this share of what each CPU has left to do. Ray Data looks after its tasks ten times
# a second, and a CPU waits a sixth of a second for the next, so the first tasks are large; the last
# ones are small, that all CPUs end together.
_SHARE_A_TASK = 0.5
# More recordings or bytes of audio a task would make progress coarse and a lost worker dear.
_MOST_RECORDINGS = 32
_MOST_BYTES = 2**28
# What an augmented copy costs in clean ones (bench_preprocess.py).
_COST_OF_A_COPY = 4
# Ray Data would begin a task again for ever, and a file that crashes its decoder would never end.
_RETRIES = 3
_LOST = (
    WorkerCrashedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    LocalRayletDiedError,
)


def process_recordings(
    jobs: Sequence[Job],
    store: SegmentStore,
    config: Config,
    *,
    sizes: Mapping[str, int],
    selector: Selector,
    replace: bool,
) -> Iterator[Outcome]:
    """Bring recordings into the store, on all nodes.

    Parameters
    ----------
    jobs
        The recordings.
    store
        Where they go.
    config
        How they are made, and how the work is spread.
    sizes
        Bytes of the audio files by their paths, where they are known.
    selector
        Which nodes may work on them.
    replace
        Whether what was made from other audio or labels may be replaced.

    Yields
    ------
    One outcome for each job, as they come. A recording whose worker dies whenever it is worked on
    is rejected, and takes no other along.

    Raises
    ------
    ValenceError
        If the store cannot be read or written.
    """
    left = {job.recording.id: job for job in jobs}
    run = partial(_run, store=store, config=config, selector=selector, replace=replace)
    at_once = cpus_to_share(config.cluster) / config.preprocess.cpus_per_task
    if config.preprocess.tasks is not None:
        at_once = min(at_once, config.preprocess.tasks)
    try:
        for outcome in run(share_out(jobs, sizes, at_once), tolerant=False):
            del left[outcome.id]
            yield outcome
    except _LOST:
        # One recording a task, so that it shows which one it is.
        for outcome in run([[job] for job in left.values()], tolerant=True):
            del left[outcome.id]
            yield outcome
    for job in left.values():
        stage_metrics().count("preprocess", status="rejected", audio_seconds=0.0, seconds={})
        yield Outcome(
            job.recording.id,
            job.recording.subject,
            job.split,
            job.copies,
            status="rejected",
            reason=f"The process that worked on '{job.recording.audio}' died each time it was "
            "tried: the file crashes its decoder, or the node lacks memory. Convert the file to "
            "FLAC, or take the recording out.",
        )


def share_out(jobs: Sequence[Job], sizes: Mapping[str, int], at_once: float) -> list[list[Job]]:
    """Divide jobs among tasks, those that take longest first.

    Parameters
    ----------
    jobs
        The recordings, in any order.
    sizes
        Bytes of the audio files by their paths, where they are known.
    at_once
        Tasks that run at a time.

    Returns
    -------
    The jobs of each task, large tasks first.
    """

    def size(job: Job) -> int:
        return max(1, sizes.get(job.recording.audio.path, 1))

    def cost(job: Job) -> int:
        return size(job) * (1 + _COST_OF_A_COPY * job.copies)

    left = sum(map(cost, jobs))
    tasks: list[list[Job]] = []
    for job in sorted(jobs, key=lambda job: (-cost(job), job.recording.id)):
        task = tasks[-1] if tasks else []
        if (
            not task
            or len(task) == _MOST_RECORDINGS
            or sum(map(size, task)) + size(job) > _MOST_BYTES
            or sum(map(cost, task)) + cost(job) > _SHARE_A_TASK * left / at_once
        ):
            left -= sum(map(cost, task))
            task = []
            tasks.append(task)
        task.append(job)
    return tasks


def _run(
    tasks: Sequence[Sequence[Job]],
    *,
    store: SegmentStore,
    config: Config,
    selector: Selector,
    replace: bool,
    tolerant: bool,
) -> Iterator[Outcome]:
    # A block a task.
    items = ray.data.from_arrow(
        [pa.table({"job": [json.dumps(_job_to_json(job)) for job in task]}) for task in tasks]
    )
    with warnings.catch_warnings():
        # Retries are told to Ray Data in this way alone, until a release offers another.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = items.map_batches(
            partial(
                _process_batch,
                beside=tasks[0][0].recording.audio,
                store=store,
                config=config,
                replace=replace,
            ),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=config.preprocess.cpus_per_task,
            compute=TaskPoolStrategy(size=config.preprocess.tasks),
            max_retries=_RETRIES,
        )
    # Given here, it goes into what Ray Data asks of an autoscaler, too.
    dataset.context.execution_options.label_selector = selector or None
    dataset.context.max_errored_blocks = -1 if tolerant else 0
    for row in dataset.iter_rows():
        if row["failure"]:
            raise ValenceError(
                f"Preprocessing could not go on: {row['failure']}. What was finished stands in "
                f"'{store.root}'; make room or restore the access, and run the command again to "
                "go on."
            )
        yield Outcome.from_json(json.loads(row["outcome"]))


def _process_batch(
    batch: pa.Table, *, beside: Location, store: SegmentStore, config: Config, replace: bool
) -> pa.Table:
    """Run in a worker: some jobs, to their outcomes."""
    told, failures = [], []
    for text in batch["job"].to_pylist():
        job = _job_from_json(json.loads(text), beside)
        try:
            outcome = process_recording(job, store, config, replace=replace)
        except OSError as error:
            # Told and not raised, because Ray would hand on its traceback and not its kind.
            told.append("")
            failures.append(str(error))
            continue
        except Exception as error:
            # A fault of the product that one recording brings out must not cost the others.
            outcome = _unexpected(job, error)
        stage_metrics().count(
            "preprocess",
            status=outcome.verdict,
            audio_seconds=outcome.duration if outcome.verdict == "ok" else 0.0,
            seconds=outcome.seconds,
        )
        told.append(json.dumps(outcome.to_json()))
        failures.append("")
    return pa.table({"outcome": told, "failure": failures})


def _unexpected(job: Job, error: Exception) -> Outcome:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return Outcome(
        job.recording.id,
        job.recording.subject,
        job.split,
        job.copies,
        status="rejected",
        reason=f"'{job.recording.audio}' met a fault of the program, {type(error).__name__}: "
        f"{error} ({Path(where.filename).name}, line {where.lineno}). Report it, and take the "
        "recording out until it is mended.",
    )


def _job_to_json(job: Job) -> dict[str, Any]:
    recording = job.recording
    return {
        "id": recording.id,
        "audio": recording.audio.path,
        "subject": recording.subject,
        "partition": recording.partition,
        "labels": {name: file.path for name, file in recording.labels.items()},
        "remarks": list(recording.remarks),
        "split": job.split,
        "copies": job.copies,
    }


def _job_from_json(content: dict[str, Any], beside: Location) -> Job:
    def at(path: str) -> Location:
        return Location(beside.filesystem, path, beside.scheme, beside.query)

    recording = Recording(
        id=content["id"],
        audio=at(content["audio"]),
        subject=content["subject"],
        partition=content["partition"],
        labels={name: at(path) for name, path in content["labels"].items()},
        remarks=tuple(content["remarks"]),
    )
    return Job(recording, content["split"], content["copies"])
