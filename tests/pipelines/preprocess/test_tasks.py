from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.preprocess import tasks as segmenting
from pipelines.preprocess.balancing import share_out
from pipelines.preprocess.tasks import RecordingWork
from valence.config import Config
from valence.corpus.muse import Recording
from valence.segments.jobs import Job, RecordingOutcome
from valence.segments.store import SegmentStore
from valence.storage.location import Location

_MINUTE = 2 * 16_000 * 60


def _job(name: str, *, copies: int = 1) -> Job:
    audio = Location.parse(Path(f"/corpus/{name}.wav"))
    return Job(Recording(name, audio, "someone"), "train", copies)


def _share(minutes: dict[str, float], at_once: float = 2) -> list[list[str]]:
    jobs = [_job(name) for name in minutes]
    sizes = {f"/corpus/{name}.wav": int(long * _MINUTE) for name, long in minutes.items()}
    return [[job.recording.id for job in task] for task in share_out(jobs, sizes, at_once)]


@pytest.mark.parametrize("recordings", [1, 2, 7, 48, 1000])
def test_every_job_once_the_large_tasks_first_and_the_last_ones_single(recordings: int) -> None:
    names = {f"{number:04d}": 5.0 for number in range(recordings)}
    tasks = _share(names)
    assert [name for task in tasks for name in task] == sorted(names)
    sizes = [len(task) for task in tasks]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-min(recordings, 4) :] == [1] * min(recordings, 4)
    # The other CPU has as much left to do, and a third of it more.
    assert sizes[0] <= max(1, 0.7 * recordings / 2)


def test_the_longest_first_and_on_their_own() -> None:
    tasks = _share({"a": 5, "b": 600, "c": 5, "d": 300, **{f"e{i}": 5.0 for i in range(50)}})
    assert tasks[:2] == [["b"], ["d"]]
    assert max(len(task) for task in tasks) > 5


def test_bounded_whatever_the_corpus() -> None:
    minutes = {f"{number:05d}": 0.1 for number in range(10_000)}
    assert max(len(task) for task in _share(minutes, at_once=4)) == 32
    hours = {f"{number:05d}": 60.0 for number in range(200)}
    assert max(len(task) for task in _share(hours, at_once=4)) == 2


def test_augmented_copies_weigh() -> None:
    jobs = [_job("clean", copies=0), _job("copied")]
    assert [task[0].recording.id for task in share_out(jobs, {}, 1)] == ["copied", "clean"]


def test_a_fault_that_one_recording_brings_out_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_at_b(job: Job, *given: object, **more: object) -> RecordingOutcome:
        if job.recording.id == "b":
            raise ZeroDivisionError("by nothing")
        return RecordingOutcome(job.recording.id, job.recording.subject, job.split, job.copies)

    monkeypatch.setattr(segmenting, "begin_recording", fail_at_b)
    task = [RecordingWork(_job(name)) for name in "abc"]
    made = segmenting._do_batch(
        pa.table({"task": [pickle.dumps(task)]}),
        store=SegmentStore(Location.parse(tmp_path)),
        config=Config(),
        replace=False,
        part_segments=1200,
    )
    (done,) = (pickle.loads(each) for each in made["done"].to_pylist())
    assert [key for key, _ in done] == [("a", -1), ("b", -1), ("c", -1)]
    assert [outcome.status for _, outcome in done] == ["ok", "rejected", "ok"]
    assert "ZeroDivisionError: by nothing (test_tasks.py, line" in done[1][1].reason
