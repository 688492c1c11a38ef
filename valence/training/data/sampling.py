"""Choose the windows of an epoch and their order."""

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
    """A part of an epoch whose windows are shuffled among each other.

    Attributes
    ----------
    spans
        Spans that hold the pool's windows.
    batches
        For each batch, the places in the whole shard of the groups' first segments, int64
        `[groups]`.
    """

    spans: tuple[Span, ...]
    batches: tuple[NDArray[np.int64], ...]

    def alone(self, outline: Outline) -> tuple[list[NDArray[np.int64]], NDArray[np.float32]]:
        """Return the batches with places in the pool's own segments, and those segments' labels.

        The pool's own segments are those of its spans, one span after the other.
        """
        offsets = np.array([span.offset for span in self.spans])
        shifts = offsets - np.cumsum([0, *(span.length for span in self.spans[:-1])])
        batches = [
            groups - shifts[np.searchsorted(offsets, groups, side="right") - 1]
            for groups in self.batches
        ]
        parts = [outline.target[span.offset : span.offset + span.length] for span in self.spans]
        return batches, np.concatenate(parts)


@dataclass(frozen=True)
class Sampling:
    """The settings that turn windows into batches.

    Consecutive windows that a batch takes together are a group; they share the CNN's work.

    Attributes
    ----------
    length, stride
        Number of segments in a window, and from the start of a window to that of the next.
    random
        Whether the first window of each copy of a recording begins elsewhere in each epoch.
    windows_per_group
        Number of windows in a group.
    batch_size
        Number of windows in a batch, a multiple of `windows_per_group`.
    pool
        Most segments in a pool, unless a single recording has more. In each epoch the recordings of
        a larger corpus are dealt anew into several pools, so that the corpus can be streamed.
    """

    length: int
    stride: int
    random: bool
    windows_per_group: int
    batch_size: int
    pool: int

    @classmethod
    def of(cls, sequence: SequenceConfig, train: TrainConfig) -> Sampling:
        """Take the settings from a configuration."""
        return cls(
            length=sequence.length,
            stride=sequence.stride,
            random=sequence.phase == "random",
            windows_per_group=train.windows_per_group,
            batch_size=train.batch_size,
            pool=train.shuffle_segments,
        )

    @property
    def group_segments(self) -> int:
        """Return the number of segments that the windows of a group cover."""
        return self.length + (self.windows_per_group - 1) * self.stride

    @property
    def group_offsets(self) -> NDArray[np.int64]:
        """Return the first segment of each window, counted from the start of its group."""
        return np.arange(self.windows_per_group, dtype=np.int64) * self.stride


def epoch_plan(
    outline: Outline,
    sampling: Sampling,
    *,
    seed: int,
    epoch: int,
    least: int = 1,
) -> tuple[Pool, ...]:
    """Plan the batches of an epoch, as a function of the arguments alone.

    Groups with an unknown label are left out. The last batch of a pool may be smaller than the
    others. It is dropped if it has fewer than `least` groups, or fewer than two windows, since a
    single window has no CCC.

    Parameters
    ----------
    outline
        The training recordings.
    sampling
        Settings that turn windows into batches.
    seed, epoch
        Seed and epoch, which determine the order and the phases.
    least
        Fewest groups in a batch: one for each worker.
    """
    usable = _usable_starts(outline.target, sampling)
    order = np.random.default_rng([seed, epoch])
    groups_a_batch = max(1, sampling.batch_size // sampling.windows_per_group)
    fewest = max(least, -(-2 // sampling.windows_per_group))
    pools = []
    for spans in _pools(outline.spans, order, sampling.pool):
        starts = np.concatenate([_group_starts(span, sampling, seed, epoch) for span in spans])
        starts = order.permutation(starts[usable[starts]])
        cut = [starts[at : at + groups_a_batch] for at in range(0, len(starts), groups_a_batch)]
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


def _group_starts(span: Span, sampling: Sampling, seed: int, epoch: int) -> NDArray[np.int64]:
    between = sampling.windows_per_group * sampling.stride
    room = span.length - sampling.group_segments + 1
    if room < 1:
        return np.zeros(0, np.int64)
    phase = 0
    if sampling.random:
        phase = int(_generator(seed, epoch, span).integers(min(between, room)))
    held = windows(sampling.group_segments, between, segments=span.length, phase=phase)
    return span.offset + held


def _generator(seed: int, epoch: int, span: Span) -> np.random.Generator:
    name = hashlib.sha256(span.recording.encode()).digest()[:8]
    return np.random.default_rng([seed, epoch, int.from_bytes(name, "little"), span.copy])


def _usable_starts(target: NDArray[np.float32], sampling: Sampling) -> NDArray[np.bool_]:
    """Return whether a group that begins at a segment would have all labels, `[segments]`."""
    unknown = ~np.isfinite(target).all(axis=1)
    before = np.concatenate([[0], np.cumsum(unknown)])
    ends = np.minimum(np.arange(len(target)) + sampling.group_segments, len(target))
    usable: NDArray[np.bool_] = before[ends] == before[:-1]
    return usable


def window_starts(groups: NDArray[np.int64], sampling: Sampling) -> NDArray[np.int64]:
    """List the first segment of each window, group after group, `[groups * windows_per_group]`.

    `groups` has the first segment of each group.
    """
    starts: NDArray[np.int64] = (groups[:, None] + sampling.group_offsets).reshape(-1)
    return starts
