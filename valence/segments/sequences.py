"""Sequences: windows of consecutive segments of a recording, as views of segments stored once.

A sequence never crosses the border of a recording. The seed and the epoch alone determine the
windows of an epoch and their order. So every worker, every way of holding the segments and every
resumed run sees the same batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from valence.config import Target
from valence.segments.store import SegmentStore

LabelOf = Literal["mean", "last", "centre"]


@dataclass(frozen=True)
class Span:
    """The place of one copy of a recording in a shard.

    Attributes
    ----------
    recording, copy
        Id of the recording, and number of the copy; copy 0 is the clean recording.
    offset, length
        First segment in the shard, and number of segments.
    """

    recording: str
    copy: int
    offset: int
    length: int


@dataclass(frozen=True, eq=False)
class Outline:
    """The labels of several recordings, one after the other, without the mel.

    Attributes
    ----------
    target
        Labels, float32 `[segments, targets]`, NaN where unknown.
    spans
        The place of each copy of each recording.
    """

    target: NDArray[np.float32]
    spans: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.target)


def read_outline(
    store: SegmentStore, ids: Sequence[str], copies: int, targets: Sequence[Target]
) -> Outline:
    """Read the outline of a shard of these recordings, without the mel.

    Parameters
    ----------
    store
        Store that holds the recordings.
    ids
        Ids of the recordings, in the order of the shard.
    copies
        Number of augmented copies of each recording; they follow the clean recording.
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


def total_length(spans: Iterable[Span]) -> int:
    """Count the segments of all `spans`."""
    return sum(span.length for span in spans)


def windows(length: int, stride: int, *, segments: int, phase: int = 0) -> NDArray[np.int64]:
    """List the first segment of each window of a recording that has `segments` segments.

    Windows have `length` segments; the first begins at `phase`, the others `stride` apart.

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
    """Compute the labels of windows, float32 `[rows, targets]`, NaN where one is unknown.

    Parameters
    ----------
    target
        Labels of segments, `[segments, targets]`.
    starts
        First segment of each window, `[rows]`.
    length
        Number of segments in a window.
    of
        The label of a window: `mean` over its segments, that of its `last` segment, or that of its
        `centre`, the segment at `length // 2`. In all three cases a window has no label if the
        label of any of its segments is unknown.

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
