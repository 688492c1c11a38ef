"""Batches of windows, and the interface of their sources."""

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
        Id of the recording.
    inputs
        Inputs of the segments, `[segments, *input_shape]`: log-mel in dB as stored, or features.
    starts
        First segment of each labelled sequence, `[rows]`.
    target
        Labels of the sequences, float32 `[rows, targets]`.
    """

    recording: str
    inputs: NDArray[np.floating[Any]] | Tensor
    starts: NDArray[np.int64]
    target: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Batch:
    """One worker's part of a batch.

    Attributes
    ----------
    inputs
        Inputs of the segments, `[groups, group_segments, *input_shape]`: log-mel in dB as stored,
        or features.
    target
        Labels of the windows, group after group, float32 `[windows, targets]`.
    """

    inputs: Tensor
    target: Tensor


class Source(Protocol):
    """A source of one worker's batches and validation recordings."""

    def batches(self, seed: int, epoch: int) -> Iterable[Batch]:
        """Yield this worker's part of an epoch's batches, in order, on the training's device."""

    def recordings(self) -> Iterable[Labelled]:
        """Return this worker's part of the validation recordings."""
