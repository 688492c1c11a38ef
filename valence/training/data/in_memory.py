"""Keep the segments of a training in memory, the device's or the host's, and make its batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from valence.config import Config
from valence.model.distributed import rank, world_size
from valence.segments.sequences import (
    LabelOf,
    Outline,
    Span,
    read_outline,
    total_length,
    window_targets,
    windows,
)
from valence.training.data.batches import Batch, Labelled
from valence.training.data.capacity import Members
from valence.training.data.inputs import SegmentInputs, input_blocks
from valence.training.data.prefetch import deliver, picks
from valence.training.data.sampling import Sampling, epoch_plan


def labelled_windows(
    target: NDArray[np.float32], sampling: Sampling, of: LabelOf
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the windows to evaluate on, of phase 0 and with all labels known, and their labels."""
    starts = windows(sampling.length, sampling.stride, segments=len(target))
    labels = window_targets(target, starts, sampling.length, of)
    known = np.isfinite(labels).all(axis=1)
    return starts[known], labels[known]


def my_share(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return this worker's share of the recordings that all workers evaluate."""
    return tuple(spans[rank() :: world_size()])


class ResidentSource:
    """A `Source` whose segments are in memory.

    Parameters
    ----------
    inputs
        Inputs of the segments, which are read once.
    config
        The whole configuration.
    chosen
        Recordings to read.
    device
        Device that batches are delivered to.
    residency
        Memory that holds the segments: the device's or the host's.
    """

    def __init__(
        self,
        inputs: SegmentInputs,
        config: Config,
        chosen: Members,
        *,
        device: torch.device,
        residency: Literal["device", "host"],
    ) -> None:
        self._sampling = Sampling.of(config.sequence, config.train)
        self._of: LabelOf = config.sequence.target
        self._device = device
        kept = device if residency == "device" else torch.device("cpu")
        self.outline = read_outline(inputs.store, chosen.train, chosen.copies, chosen.targets)
        self._inputs = _held(inputs, self.outline.spans, kept)
        validation = read_outline(inputs.store, chosen.validation, 0, chosen.targets)
        self._recordings = tuple(
            Labelled(span.recording, _held(inputs, [span], kept), *labelled)
            for span in my_share(validation.spans)
            for labelled in [labelled_windows(_of_span(validation, span), self._sampling, self._of)]
        )

    def batches(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield this worker's part of each batch, gathered when it is needed."""
        plan = epoch_plan(self.outline, self._sampling, seed=seed, epoch=epoch, least=world_size())
        picked = (
            pick
            for pool in plan
            for pick in picks(
                pool.batches, self._inputs, self.outline.target, self._sampling, self._of
            )
        )
        return deliver(picked, held=self._inputs.device, device=self._device)

    def recordings(self) -> tuple[Labelled, ...]:
        """Return this worker's part of the validation recordings."""
        return self._recordings


def _held(inputs: SegmentInputs, spans: Sequence[Span], device: torch.device) -> Tensor:
    """Read the inputs of `spans` onto `device`; the host holds only one block on the way."""
    held: Tensor | None = None
    for where, block in input_blocks(inputs, spans):
        # The block's memory is read-only, and torch warns of such memory, so copy it.
        part = torch.from_numpy(block.copy())
        if held is None:
            size = (total_length(spans), *part.shape[1:])
            held = torch.empty(size, dtype=part.dtype, device=device)
        held[where] = part
    assert held is not None, "there is at least one recording"
    return held


def _of_span(outline: Outline, span: Span) -> NDArray[np.float32]:
    return outline.target[span.offset : span.offset + span.length]
