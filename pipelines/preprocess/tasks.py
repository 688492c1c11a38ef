"""The work of preprocessing as Ray Data does it: jobs out, small rows back.

Recordings first; those that turn out too long for one task come back cut, their parts follow, and
what puts them together.
"""

from __future__ import annotations

import json
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
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

from pipelines.preprocess.balancing import share_out
from pipelines.runtime.nodes import Selector, cpus_to_share
from pipelines.runtime.prometheus import stage_metrics
from valence.config import Config
from valence.corpus.muse import Recording
from valence.errors import ValenceError
from valence.segments.jobs import Cut, Job, PartOutcome, RecordingOutcome
from valence.segments.preprocessing import PART_SEGMENTS, begin_recording, join_parts, process_part
from valence.segments.store import SegmentStore
from valence.storage.location import Location

# Ray Data would begin a task again for ever, and a file that crashes its decoder would never end.
_RETRIES = 3
_LOST = (
    WorkerCrashedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    LocalRayletDiedError,
)

# What may come of a piece of work.
Told = RecordingOutcome | PartOutcome | Cut


@dataclass(frozen=True)
class RecordingWork:
    """What a task does for a recording: all of it, a part of one that was cut, or the joining.

    Attributes
    ----------
    job
        The recording.
    cut
        How it is cut, if it is.
    part
        Number of the part, or None: the parts are put together.
    """

    job: Job
    cut: Cut | None = None
    part: int | None = None

    def parts(self) -> list[RecordingWork]:
        """The work on each part of what is cut."""
        return [RecordingWork(self.job, self.cut, part) for part in range(_cut_of(self).parts)]

    @property
    def key(self) -> tuple[str, int]:
        """The recording, and the part or -1: each is worked on once."""
        return self.job.recording.id, -1 if self.part is None else self.part


def process_recordings(
    jobs: Sequence[Job],
    store: SegmentStore,
    config: Config,
    *,
    sizes: Mapping[str, int],
    selector: Selector,
    replace: bool,
    part_segments: int = PART_SEGMENTS,
) -> Iterator[RecordingOutcome | PartOutcome]:
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
    part_segments
        Most segments that a task makes of a recording.

    Yields
    ------
    One outcome for each job, as they come, and before it those of its parts, if it was cut. A
    recording whose worker dies whenever it is worked on is rejected, and takes no other along.

    Raises
    ------
    ValenceError
        If the store cannot be read or written.
    """
    crew = _Crew(store, config, selector, replace=replace, part_segments=part_segments)
    at_once = cpus_to_share(config.cluster) / config.preprocess.cpus_per_task
    if config.preprocess.tasks is not None:
        at_once = min(at_once, config.preprocess.tasks)
    cut: list[RecordingWork] = []
    tasks = share_out(jobs, sizes, at_once)
    for work, told in crew.do([[RecordingWork(job) for job in task] for task in tasks]):
        if isinstance(told, Cut):
            cut.append(RecordingWork(work.job, told))
        else:
            assert isinstance(told, RecordingOutcome), "a recording is made or cut"
            yield told
    # The longest first, since what puts its parts together takes longest, too.
    cut.sort(key=lambda work: (-_cut_of(work).parts, work.job.recording.id))
    refused: set[str] = set()
    parts = [[part] for work in cut for part in work.parts()]
    for work, told in crew.do(parts):
        if work.job.recording.id in refused:
            # Each of its parts may speak against a recording, and one is enough.
            continue
        if isinstance(told, PartOutcome) and told.reason:
            told = _refused(work, told, store)
        if isinstance(told, RecordingOutcome):
            refused.add(told.id)
        assert not isinstance(told, Cut), "a part is not cut"
        yield told
    for _, told in crew.do([[work] for work in cut if work.job.recording.id not in refused]):
        assert isinstance(told, RecordingOutcome), "what is put together is a recording"
        yield told


def _cut_of(work: RecordingWork) -> Cut:
    assert work.cut is not None, "only what is cut has parts"
    return work.cut


class _Crew:
    """All nodes that may work on recordings."""

    def __init__(
        self,
        store: SegmentStore,
        config: Config,
        selector: Selector,
        *,
        replace: bool,
        part_segments: int,
    ) -> None:
        self._store, self._config, self._selector = store, config, selector
        self._do_batch = partial(
            _do_batch, store=store, config=config, replace=replace, part_segments=part_segments
        )

    def do(self, tasks: Sequence[Sequence[RecordingWork]]) -> Iterator[tuple[RecordingWork, Told]]:
        """What comes of each piece of work, as they come; a rejection where its worker dies."""
        left = {work.key: work for task in tasks for work in task}
        try:
            for key, told in self._run(tasks, tolerant=False):
                yield left.pop(key), told
        except _LOST:
            # One piece of work a task, so that it shows which one it is.
            for key, told in self._run([[work] for work in left.values()], tolerant=True):
                yield left.pop(key), told
        for work in left.values():
            yield work, _killed(work.job)

    def _run(
        self, tasks: Sequence[Sequence[RecordingWork]], *, tolerant: bool
    ) -> Iterator[tuple[tuple[str, int], Told]]:
        if not tasks:
            return
        # A block a task.
        items = ray.data.from_arrow(
            [
                pa.table({"work": [json.dumps(_work_to_json(work)) for work in task]})
                for task in tasks
            ]
        )
        preprocess = self._config.preprocess
        with warnings.catch_warnings():
            # Retries are told to Ray Data in this way alone, until a release offers another.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            dataset = items.map_batches(
                partial(self._do_batch, beside=tasks[0][0].job.recording.audio),
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=preprocess.cpus_per_task,
                compute=TaskPoolStrategy(size=preprocess.tasks),
                max_retries=_RETRIES,
            )
        # Given here, it goes into what Ray Data asks of an autoscaler, too.
        dataset.context.execution_options.label_selector = self._selector or None
        dataset.context.max_errored_blocks = -1 if tolerant else 0
        for row in dataset.iter_rows():
            if row["failure"]:
                raise ValenceError(
                    f"Preprocessing could not go on: {row['failure']}. What was finished stands "
                    f"in '{self._store.root}'; make room or restore the access, and run the "
                    "command again to go on."
                )
            content = json.loads(row["told"])
            match row["kind"]:
                case "outcome":
                    told: Told = RecordingOutcome.from_json(content)
                case "part":
                    told = PartOutcome(**content)
                case _:
                    told = Cut(**content)
            yield (row["recording"], row["part"]), told


def _do_batch(
    batch: pa.Table,
    *,
    beside: Location,
    store: SegmentStore,
    config: Config,
    replace: bool,
    part_segments: int,
) -> pa.Table:
    """Run in a worker: some pieces of work, to what came of them."""
    rows = []
    for text in batch["work"].to_pylist():
        work = _work_from_json(json.loads(text), beside)
        name, part = work.key
        row = {"recording": name, "part": part, "kind": "", "told": "", "failure": ""}
        try:
            told = _do(work, store, config, replace=replace, part_segments=part_segments)
        except OSError as error:
            # Told and not raised, because Ray would hand on its traceback and not its kind.
            rows.append(row | {"failure": str(error)})
            continue
        except Exception as error:
            # A fault of the product that one recording brings out must not cost the others.
            told = _unexpected(work.job, error)
        _count(told, joined=work.cut is not None)
        match told:
            case RecordingOutcome():
                rows.append(row | {"kind": "outcome", "told": json.dumps(told.to_json())})
            case PartOutcome():
                rows.append(row | {"kind": "part", "told": json.dumps(asdict(told))})
            case Cut():
                rows.append(row | {"kind": "cut", "told": json.dumps(asdict(told))})
    return pa.Table.from_pylist(rows)


def _do(
    work: RecordingWork, store: SegmentStore, config: Config, *, replace: bool, part_segments: int
) -> Told:
    if work.cut is None:
        return begin_recording(
            work.job, store, config, replace=replace, part_segments=part_segments
        )
    if work.part is None:
        return join_parts(work.job, work.cut, store, config)
    return process_part(work.job, work.cut, work.part, store, config)


def _count(told: Told, *, joined: bool) -> None:
    """Tell Prometheus; the audio of a recording in parts was counted with them."""
    match told:
        case RecordingOutcome():
            audio = told.duration if told.verdict == "ok" and not joined else 0.0
            stage_metrics().count("preprocess", audio_seconds=audio, seconds=told.seconds)
        case PartOutcome():
            audio = 0.0 if told.skipped else told.duration
            stage_metrics().count("preprocess", audio_seconds=audio, seconds=told.seconds)


def _rejected(
    job: Job, reason: str, *, checksum: str = "", fingerprint: str = ""
) -> RecordingOutcome:
    recording = job.recording
    return RecordingOutcome(
        recording.id,
        recording.subject,
        job.split,
        job.copies,
        status="rejected",
        reason=reason,
        remarks=recording.remarks,
        checksum=checksum,
        fingerprint=fingerprint,
    )


def _killed(job: Job) -> RecordingOutcome:
    return _rejected(
        job,
        f"The process that worked on '{job.recording.audio}' died each time it was tried: the file "
        "crashes its decoder, or the node lacks memory. Convert the file to FLAC, or take the "
        "recording out.",
    )


def _refused(work: RecordingWork, part: PartOutcome, store: SegmentStore) -> RecordingOutcome:
    """Of a recording that one of its parts speaks against."""
    if part.unread:
        return _rejected(work.job, part.reason)
    # Its parts stay until the run ends: others may be at work on them.
    store.file(work.job.recording.id).delete()
    cut = _cut_of(work)
    return _rejected(work.job, part.reason, checksum=cut.checksum, fingerprint=cut.fingerprint)


def _unexpected(job: Job, error: Exception) -> RecordingOutcome:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return _rejected(
        job,
        f"'{job.recording.audio}' met a fault of the program, {type(error).__name__}: {error} "
        f"({Path(where.filename).name}, line {where.lineno}). Report it, and take the recording "
        "out until it is mended.",
    )


def _work_to_json(work: RecordingWork) -> dict[str, Any]:
    cut = None if work.cut is None else asdict(work.cut)
    return {"job": _job_to_json(work.job), "cut": cut, "part": work.part}


def _work_from_json(content: dict[str, Any], beside: Location) -> RecordingWork:
    cut = None if content["cut"] is None else Cut(**content["cut"])
    return RecordingWork(_job_from_json(content["job"], beside), cut, content["part"])


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
