"""A batch of windows, and where batches come from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Labelled:
    """A recording to evaluate on.

    Attributes
    ----------
    recording
        Its Id.
    mel
        In dB as stored, `[segments, n_mels, n_frames]`.
    starts
        First segment of each labelled sequence, `[rows]`.
    target
        Labels of the sequences, float32 `[rows, targets]`.
    """

    recording: str
    mel: NDArray[np.floating[Any]] | Tensor
    starts: NDArray[np.int64]
    target: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Batch:
    """One worker's part of a batch.

    Attributes
    ----------
    mel
        In dB as stored, `[runs, run_segments, n_mels, n_frames]`.
    target
        Labels of the windows, run after run, float32 `[windows, targets]`.
    """

    mel: Tensor
    target: Tensor


class Source(Protocol):
    """Where a worker's batches come from."""

    def batches(self, seed: int, epoch: int) -> Iterable[Batch]:
        """This worker's part of the batches of an epoch, in order, on the training's device."""

    def recordings(self) -> Iterable[Labelled]:
        """This worker's part of the validation recordings."""
