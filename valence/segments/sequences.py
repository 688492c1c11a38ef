"""Sequences: windows of consecutive segments over recordings, as views of what is stored once.

A sequence never crosses the border of a recording. Which windows an epoch holds and in what order
is a function of the seed and the epoch alone, so that every worker, every way of holding the
segments and every resumed run sees the same batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from valence.config import Target
from valence.segments.store import SegmentStore

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
