"""Sequences: windows of consecutive segments over recordings, as views of what is stored once.

A sequence never crosses the border of a recording. Which windows an epoch holds and in what order
is a function of the seed and the epoch alone, so that every worker, every way of holding the
segments and every resumed run sees the same batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from valence.config import SequenceConfig, Target, TrainConfig
from valence.segments import SegmentStore

LabelOf = Literal["mean", "last", "centre"]


@dataclass(frozen=True)
class Span:
    """Where the segments of one copy of a recording lie in a shard.

    Attributes
    ----------
    recording, copy
        What it is; copy 0 is the clean recording.
    offset, length
        First segment in the shard, and number of segments.
    """

    recording: str
    copy: int
    offset: int
    length: int


@dataclass(frozen=True, eq=False)
class Outline:
    """Segments of several recordings, one after the other, without their mel.

    Attributes
    ----------
    target
        float32 `[segments, targets]`, NaN where not known.
    spans
        What lies where.
    """

    target: NDArray[np.float32]
    spans: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True, eq=False)
class Shard:
    """An outline and its mel as stored, in dB, `[segments, n_mels, n_frames]`."""

    outline: Outline
    mel: NDArray[np.floating[Any]]


def read_outline(
    store: SegmentStore, ids: Sequence[str], copies: int, targets: Sequence[Target]
) -> Outline:
    """What a shard of these recordings would hold, read without their mel.

    Parameters
    ----------
    store
        Where they are stored.
    ids
        Recordings, in the order that they are to lie in.
    copies
        Augmented copies of each beside the clean recording, which comes first.
    targets
        Columns of `target`.
    """
    parts: list[NDArray[np.float32]] = []
    spans: list[Span] = []
    offset = 0
    for recording in ids:
        labels = store.labels(recording, targets)
        for copy in range(copies + 1):
            parts.append(labels)
            spans.append(Span(recording, copy, offset, len(labels)))
            offset += len(labels)
    empty = np.zeros((0, len(targets)), np.float32)
    return Outline(np.concatenate([empty, *parts]), tuple(spans))


def load_shard(
    store: SegmentStore, ids: Sequence[str], copies: int, targets: Sequence[Target]
) -> Shard:
    """The segments of these recordings and their copies; parameters as of `read_outline`."""
    outline = read_outline(store, ids, copies, targets)
    return Shard(outline, load_mel(store, outline.spans))


def mel_blocks(
    store: SegmentStore, spans: Sequence[Span]
) -> Iterator[tuple[slice, NDArray[np.floating[Any]]]]:
    """The mel of `spans` as stored, a block at a time, and where it lies among all of theirs."""
    first = 0
    for span in spans:
        for block in store.blocks(span.recording, span.copy):
            yield slice(first, first + len(block)), block.mel
            first += len(block)
    assert first == total_length(spans), "labels and mel are stored together"


def total_length(spans: Iterable[Span]) -> int:
    """Segments of all of `spans`."""
    return sum(span.length for span in spans)


def load_mel(store: SegmentStore, spans: Sequence[Span]) -> NDArray[np.floating[Any]]:
    """The mel of `spans` as stored, one after the other, `[segments, n_mels, n_frames]`."""
    mel: NDArray[np.floating[Any]] | None = None
    for where, block in mel_blocks(store, spans):
        if mel is None:
            mel = np.empty((total_length(spans), *block.shape[1:]), block.dtype)
        mel[where] = block
    assert mel is not None, "there is at least one recording"
    return mel


def windows(length: int, stride: int, *, segments: int, phase: int = 0) -> NDArray[np.int64]:
    """First segments of the windows of a recording of `segments` segments.

    >>> windows(3, 2, segments=8).tolist()
    [0, 2, 4]
    >>> windows(3, 2, segments=8, phase=1).tolist()
    [1, 3, 5]
    """
    assert 0 <= phase < stride
    return np.arange(phase, segments - length + 1, stride, dtype=np.int64)


def window_targets(
    target: NDArray[np.float32], starts: NDArray[np.integer[Any]], length: int, of: LabelOf
) -> NDArray[np.float32]:
    """Labels of windows, float32 `[rows, targets]`, NaN where a window has an unknown one.

    Parameters
    ----------
    target
        Labels of segments, `[segments, targets]`.
    starts
        First segment of each window, `[rows]`.
    length
        Segments in a window.
    of
        The mean over the window, its last segment, or the one at `length // 2`. A window with any
        unknown label has no label of its own, whichever of them is asked for.

    >>> y = np.array([[0.0], [1.0], [5.0], [np.nan]], np.float32)
    >>> window_targets(y, np.array([0, 1]), 3, "mean").tolist()
    [[2.0], [nan]]
    >>> window_targets(y, np.array([0]), 3, "centre").tolist()
    [[1.0]]
    """
    if not len(starts):
        return np.zeros((0, target.shape[1]), np.float32)
    held = np.lib.stride_tricks.sliding_window_view(target, length, axis=0)[starts]
    known = np.isfinite(held).all(axis=2)
    match of:
        case "mean":
            chosen = held.mean(axis=2, dtype=np.float64)
        case "last":
            chosen = held[:, :, -1]
        case "centre":
            chosen = held[:, :, length // 2]
    return np.where(known, chosen, np.nan).astype(np.float32)


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
            run=train.windows_per_run,
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
