from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.segmenting import share_out
from valence.corpus import Recording
from valence.jobs import Job
from valence.storage import Location

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
    # A task keeps none of the CPUs waiting for it.
    assert sizes[0] <= max(1, recordings / 4)


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
