"""Preprocess recordings with Ray Data: jobs go out, and small rows come back.

Whole recordings come first. A recording that is too long for one task comes back cut; then its
parts are processed, and last they are joined.
"""

from __future__ import annotations

import pickle
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
from valence.errors import ValenceError
from valence.segments.jobs import Cut, Job, PartOutcome, RecordingOutcome
from valence.segments.preprocessing import PART_SEGMENTS, begin_recording, join_parts, process_part
from valence.segments.store import SegmentStore

# Ray Data retries without limit by default, so a file that crashes its decoder would never end.
_RETRIES = 3
_LOST = (
    WorkerCrashedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    LocalRayletDiedError,
)

# The possible results of a piece of work.
Result = RecordingOutcome | PartOutcome | Cut


@dataclass(frozen=True)
class RecordingWork:
    """A piece of work on a recording: the whole, one part of a cut one, or joining its parts.

    Attributes
    ----------
    job
        The recording.
    cut
        The division into parts; None for a whole recording.
    part
        Number of the part; None to join the parts.
    """

    job: Job
    cut: Cut | None = None
    part: int | None = None

    def parts(self) -> list[RecordingWork]:
        """Return the work on each part of a cut recording."""
        return [RecordingWork(self.job, self.cut, part) for part in range(_cut_of(self).parts)]

    @property
    def key(self) -> tuple[str, int]:
        """Identify the work by recording and part, -1 for none: each key is worked on once."""
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
    """Preprocess recordings into the store, on all nodes.

    Parameters
    ----------
    jobs
        The recordings.
    store
        Store that receives the segments.
    config
        The whole configuration.
    sizes
        Bytes of the audio files by path, if known.
    selector
        Nodes that may work on the recordings.
    replace
        Whether to replace segments made from other audio or labels.
    part_segments
        Most segments that one task makes from a recording.

    Yields
    ------
    One outcome for each job, in the order of completion; the outcomes of a recording's parts come
    before its own. A recording that kills its worker on every attempt is rejected, and the other
    recordings are unaffected.

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
    for work, result in crew.do([[RecordingWork(job) for job in task] for task in tasks]):
        if isinstance(result, Cut):
            cut.append(RecordingWork(work.job, result))
        else:
            assert isinstance(result, RecordingOutcome), "a recording is made or cut"
            yield result
    # Begin with the longest recording: joining its parts takes longest, too.
    cut.sort(key=lambda work: (-_cut_of(work).parts, work.job.recording.id))
    refused: set[str] = set()
    parts = [[part] for work in cut for part in work.parts()]
    for work, result in crew.do(parts):
        if work.job.recording.id in refused:
            # Several parts may reject a recording, and one rejection is enough.
            continue
        if isinstance(result, PartOutcome) and result.reason:
            result = _refused(work, result, store)
        if isinstance(result, RecordingOutcome):
            refused.add(result.id)
        assert not isinstance(result, Cut), "a part is not cut"
        yield result
    for _, result in crew.do([[work] for work in cut if work.job.recording.id not in refused]):
        assert isinstance(result, RecordingOutcome), "joined parts are a recording"
        yield result


def _cut_of(work: RecordingWork) -> Cut:
    assert work.cut is not None, "only a cut recording has parts"
    return work.cut


class _Crew:
    """The workers that process recordings, on all nodes that may do so."""

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

    def do(
        self, tasks: Sequence[Sequence[RecordingWork]]
    ) -> Iterator[tuple[RecordingWork, Result]]:
        """Yield the result of each piece of work once done; reject work that kills its worker."""
        left = {work.key: work for task in tasks for work in task}
        try:
            for key, result in self._run(tasks, tolerant=False):
                yield left.pop(key), result
        except _LOST:
            # Give each task one piece of work, to find the one that kills its worker.
            for key, result in self._run([[work] for work in left.values()], tolerant=True):
                yield left.pop(key), result
        for work in left.values():
            yield work, _killed(work.job)

    def _run(
        self, tasks: Sequence[Sequence[RecordingWork]], *, tolerant: bool
    ) -> Iterator[tuple[tuple[str, int], Result]]:
        if not tasks:
            return
        # One block for each task. Recordings of a task share their file system, which is therefore
        # pickled, and connected to, once.
        items = ray.data.from_arrow([pa.table({"task": [pickle.dumps(task)]}) for task in tasks])
        preprocess = self._config.preprocess
        with warnings.catch_warnings():
            # Only this deprecated argument of Ray Data limits the retries.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            dataset = items.map_batches(
                self._do_batch,
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=preprocess.cpus_per_task,
                compute=TaskPoolStrategy(size=preprocess.tasks),
                max_retries=_RETRIES,
            )
        # Set here, the selector also applies to nodes that Ray Data asks an autoscaler for.
        dataset.context.execution_options.label_selector = self._selector or None
        dataset.context.max_errored_blocks = -1 if tolerant else 0
        for row in dataset.iter_rows():
            for key, result in pickle.loads(row["done"]):
                if isinstance(result, _Failure):
                    raise ValenceError(
                        f"Preprocessing could not go on: {result.reason}. What was finished stands "
                        f"in '{self._store.root}'; make room or restore the access, and run the "
                        "command again to go on."
                    )
                yield key, result


@dataclass(frozen=True)
class _Failure:
    """The reason why the store cannot be used, which ends the stage."""

    reason: str


def _do_batch(
    batch: pa.Table, *, store: SegmentStore, config: Config, replace: bool, part_segments: int
) -> pa.Table:
    """Do the pieces of work of a task in a worker, and return the key and result of each."""
    (task,) = batch["task"].to_pylist()
    done: list[tuple[tuple[str, int], Result | _Failure]] = []
    for work in pickle.loads(task):
        try:
            result = _do(work, store, config, replace=replace, part_segments=part_segments)
        except OSError as error:
            # Return the failure: if raised, Ray would pass on a traceback and lose the type.
            done.append((work.key, _Failure(str(error))))
            continue
        except Exception as error:
            # A fault of the product in one recording must not cost the others.
            result = _unexpected(work.job, error)
        _count(result, joined=work.cut is not None)
        done.append((work.key, result))
    return pa.table({"done": [pickle.dumps(done)]})


def _do(
    work: RecordingWork, store: SegmentStore, config: Config, *, replace: bool, part_segments: int
) -> Result:
    if work.cut is None:
        return begin_recording(
            work.job, store, config, replace=replace, part_segments=part_segments
        )
    if work.part is None:
        return join_parts(work.job, work.cut, store, config)
    return process_part(work.job, work.cut, work.part, store, config)


def _count(result: Result, *, joined: bool) -> None:
    """Count a result for Prometheus; a cut recording's audio is counted with its parts."""
    match result:
        case RecordingOutcome():
            audio = result.duration if result.verdict == "ok" and not joined else 0.0
            stage_metrics().count("preprocess", audio_seconds=audio, seconds=result.seconds)
        case PartOutcome():
            audio = 0.0 if result.skipped else result.duration
            stage_metrics().count("preprocess", audio_seconds=audio, seconds=result.seconds)


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
    """Reject a recording because of one of its parts."""
    if part.unread:
        return _rejected(work.job, part.reason)
    # Keep the other parts until the stage ends: tasks may still be writing them.
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
