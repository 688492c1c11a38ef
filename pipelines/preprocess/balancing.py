"""Share recordings out among tasks, so that all take about as long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from valence.segments.jobs import Job

# A task takes this share of the work left for each CPU. The first tasks are large, because Ray Data
# checks its tasks ten times a second and a CPU waits a sixth of a second for the next one. The last
# tasks are small, so that all CPUs end together.
_SHARE_A_TASK = 0.7
# With more recordings or bytes in a task, progress would be coarse and a lost worker costly.
_MOST_RECORDINGS = 32
_MOST_BYTES = 2**28
# The cost of an augmented copy, in clean copies (bench_preprocess.py).
_COST_OF_A_COPY = 4


def share_out(jobs: Sequence[Job], sizes: Mapping[str, int], at_once: float) -> list[list[Job]]:
    """Divide jobs among tasks, the longest jobs first.

    Parameters
    ----------
    jobs
        The recordings, in any order.
    sizes
        Bytes of the audio files by path, if known.
    at_once
        Number of tasks that run at the same time.

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
