"""Which windows an epoch takes, and in what order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valence.config import SequenceConfig, TrainConfig
from valence.segments.sequences import Outline, Span, total_length, windows


@dataclass(frozen=True, eq=False)
class Pool:
    """A part of an epoch that is shuffled within itself.

    Attributes
    ----------
    spans
        What its windows lie in.
    batches
        First segments of the runs of each batch, int64 `[runs]`, counted in the whole shard.
    """

    spans: tuple[Span, ...]
    batches: tuple[NDArray[np.int64], ...]

    def alone(self, outline: Outline) -> tuple[list[NDArray[np.int64]], NDArray[np.float32]]:
        """The batches counted in the pool's own segments, one span after the other, and labels."""
        offsets = np.array([span.offset for span in self.spans])
        shifts = offsets - np.cumsum([0, *(span.length for span in self.spans[:-1])])
        batches = [
            runs - shifts[np.searchsorted(offsets, runs, side="right") - 1] for runs in self.batches
        ]
        parts = [outline.target[span.offset : span.offset + span.length] for span in self.spans]
        return batches, np.concatenate(parts)


@dataclass(frozen=True)
class Sampling:
    """How windows become batches.

    Attributes
    ----------
    length, stride
        Segments in a window, and between windows.
    random
        Whether each copy of a recording begins elsewhere in each epoch.
    run
        Consecutive windows that a batch takes together; they share the CNN's work.
    batch_size
        Windows in a batch, a multiple of `run`.
    pool
        Most segments that an epoch shuffles among each other, unless one recording has more. A
        larger corpus is dealt, recording by recording and anew each epoch, into such pools, so that
        it can be streamed.
    """

    length: int
    stride: int
    random: bool
    run: int
    batch_size: int
    pool: int

    @classmethod
    def of(cls, sequence: SequenceConfig, train: TrainConfig) -> Sampling:
        """The sampling that a configuration asks for."""
        return cls(
            length=sequence.length,
            stride=sequence.stride,
            random=sequence.phase == "random",
            run=train.windows_per_group,
            batch_size=train.batch_size,
            pool=train.shuffle_segments,
        )

    @property
    def run_segments(self) -> int:
        """Segments that the windows of a run cover."""
        return self.length + (self.run - 1) * self.stride

    @property
    def run_offsets(self) -> NDArray[np.int64]:
        """First segment of each window of a run, counted from the run's own."""
        return np.arange(self.run, dtype=np.int64) * self.stride


def epoch_plan(
    outline: Outline,
    sampling: Sampling,
    *,
    seed: int,
    epoch: int,
    least: int = 1,
) -> tuple[Pool, ...]:
    """The batches of an epoch, a function of the arguments alone.

    Windows with an unknown label are left out. The last batch of a pool may be smaller; it is
    dropped where it has fewer than two windows, of which there is no CCC, or fewer than `least`
    runs.

    Parameters
    ----------
    outline
        The training recordings.
    sampling
        How windows become batches.
    seed, epoch
        What the order and the phases follow from.
    least
        Runs that a batch needs: one for each worker.
    """
    usable = _usable_starts(outline.target, sampling)
    order = np.random.default_rng([seed, epoch])
    runs_a_batch = max(1, sampling.batch_size // sampling.run)
    fewest = max(least, -(-2 // sampling.run))
    pools = []
    for spans in _pools(outline.spans, order, sampling.pool):
        starts = np.concatenate([_run_starts(span, sampling, seed, epoch) for span in spans])
        starts = order.permutation(starts[usable[starts]])
        cut = [starts[at : at + runs_a_batch] for at in range(0, len(starts), runs_a_batch)]
        pools.append(Pool(spans, tuple(batch for batch in cut if len(batch) >= fewest)))
    return tuple(pools)


def _pools(spans: Sequence[Span], order: np.random.Generator, most: int) -> list[tuple[Span, ...]]:
    if total_length(spans) <= most:
        return [tuple(spans)]
    pools: list[list[Span]] = [[]]
    held = 0
    for index in order.permutation(len(spans)):
        span = spans[index]
        if held and held + span.length > most:
            pools.append([])
            held = 0
        pools[-1].append(span)
        held += span.length
    return [tuple(sorted(pool, key=lambda span: span.offset)) for pool in pools]


def _run_starts(span: Span, sampling: Sampling, seed: int, epoch: int) -> NDArray[np.int64]:
    between = sampling.run * sampling.stride
    room = span.length - sampling.run_segments + 1
    if room < 1:
        return np.zeros(0, np.int64)
    phase = 0
    if sampling.random:
        phase = int(_generator(seed, epoch, span).integers(min(between, room)))
    held = windows(sampling.run_segments, between, segments=span.length, phase=phase)
    return span.offset + held


def _generator(seed: int, epoch: int, span: Span) -> np.random.Generator:
    name = hashlib.sha256(span.recording.encode()).digest()[:8]
    return np.random.default_rng([seed, epoch, int.from_bytes(name, "little"), span.copy])


def _usable_starts(target: NDArray[np.float32], sampling: Sampling) -> NDArray[np.bool_]:
    """Whether the run that begins at a segment has all its labels, `[segments]`."""
    unknown = ~np.isfinite(target).all(axis=1)
    before = np.concatenate([[0], np.cumsum(unknown)])
    ends = np.minimum(np.arange(len(target)) + sampling.run_segments, len(target))
    usable: NDArray[np.bool_] = before[ends] == before[:-1]
    return usable


def window_starts(runs: NDArray[np.int64], sampling: Sampling) -> NDArray[np.int64]:
    """First segment of every window of `runs`, run after run, `[runs * run]`."""
    starts: NDArray[np.int64] = (runs[:, None] + sampling.run_offsets).reshape(-1)
    return starts
