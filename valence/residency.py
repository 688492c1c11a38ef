"""Where the segments of a training live: on the device, in the host's memory, or in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from valence.config import Config, Target
from valence.distributed import rank, world_size
from valence.errors import TrainingError
from valence.segments import SegmentStore
from valence.sequences import (
    LabelOf,
    Outline,
    Sampling,
    Span,
    epoch_plan,
    load_mel,
    read_outline,
    window_starts,
    window_targets,
    windows,
)
from valence.training import Batch, Labelled

Residency = Literal["device", "host", "stream"]

# What is left of a device's memory for the model, its gradients and the batches.
_DEVICE_SHARE = 0.6


@dataclass(frozen=True)
class Members:
    """The recordings of a training, sorted by Id, and what of them is read."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    copies: int
    targets: tuple[Target, ...]


def members(store: SegmentStore, config: Config) -> Members:
    """The recordings that `config` can train and validate on.

    Raises
    ------
    TrainingError
        If there is none to train or none to validate on.
    """
    frame = store.recordings()
    long_enough = frame["segments"] >= config.sequence.length
    usable = frame[(frame["status"] == "ok") & (frame["labelled"] > 0) & long_enough]
    train = tuple(usable.loc[usable["split"] == "train", "Id"])
    validation = tuple(usable.loc[usable["split"] == "validation", "Id"])
    if not train or not validation:
        raise TrainingError(
            f"'{store.root}' holds {len(train)} labelled recordings to train on and "
            f"{len(validation)} to validate on with at least {config.sequence.length} segments "
            "each; at least one of each is needed. Look at 'valence check', at [split], and at "
            "sequence.length."
        )
    return Members(train, validation, config.augment.copies, config.model.targets)


def held_bytes(store: SegmentStore, config: Config, chosen: Members) -> int:
    """Bytes of the mel of all segments that training and validation read."""
    segments = store.recordings().set_index("Id")["segments"]
    n = int(segments[list(chosen.train)].sum()) * (chosen.copies + 1)
    n += int(segments[list(chosen.validation)].sum())
    return n * config.mel.n_mels * config.mel.n_frames * np.dtype(config.preprocess.dtype).itemsize


def fits_device(size: int, device: torch.device) -> bool:
    """Whether `size` bytes may live on `device`, which is no CPU."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return size <= _DEVICE_SHARE * free


def labelled_windows(
    target: NDArray[np.float32], sampling: Sampling, of: LabelOf
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The windows of a recording to evaluate on: phase 0, all labels known; and their labels."""
    starts = windows(sampling.length, sampling.stride, segments=len(target))
    labels = window_targets(target, starts, sampling.length, of)
    known = np.isfinite(labels).all(axis=1)
    return starts[known], labels[known]


def my_share(spans: Sequence[Span]) -> tuple[Span, ...]:
    """This worker's recordings of those that all workers evaluate."""
    return tuple(spans[rank() :: world_size()])


class ResidentSource:
    """A `Source` whose segments are in memory.

    Parameters
    ----------
    store
        Where they are read from, once.
    config
        The whole configuration.
    chosen
        What is read.
    device
        Where batches are wanted.
    residency
        Where segments are kept.
    """

    def __init__(
        self,
        store: SegmentStore,
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
        self.outline = read_outline(store, chosen.train, chosen.copies, chosen.targets)
        self._mel = torch.from_numpy(load_mel(store, self.outline.spans)).to(kept)
        validation = read_outline(store, chosen.validation, 0, chosen.targets)
        self._recordings = tuple(
            Labelled(span.recording, mel, *labelled)
            for span in my_share(validation.spans)
            for labelled in [labelled_windows(_of_span(validation, span), self._sampling, self._of)]
            for mel in [torch.from_numpy(load_mel(store, [span])).to(kept)]
        )
        self._within = torch.arange(self._sampling.run_segments, device=kept)

    def batches(self, seed: int, epoch: int) -> Iterator[Batch]:
        """This worker's part of each batch, gathered as it is asked for."""
        workers = world_size()
        plan = epoch_plan(self.outline, self._sampling, seed=seed, epoch=epoch, least=workers)
        for pool in plan:
            for runs in pool.batches:
                mine = runs[rank() :: workers]
                starts = window_starts(mine, self._sampling)
                target = window_targets(
                    self.outline.target, starts, self._sampling.length, self._of
                )
                yield Batch(self._gather(mine), torch.from_numpy(target).to(self._device))

    def recordings(self) -> tuple[Labelled, ...]:
        """This worker's part of the validation recordings."""
        return self._recordings

    def _gather(self, runs: NDArray[np.int64]) -> Tensor:
        first = torch.from_numpy(runs).to(self._mel.device)
        index = (first[:, None] + self._within).flatten()
        segments = self._mel.index_select(0, index)
        if segments.device != self._device:
            # The copy to the device then runs beside what the device computes.
            segments = segments.pin_memory().to(self._device, non_blocking=True)
        return segments.view(len(runs), len(self._within), *segments.shape[1:])


def _of_span(outline: Outline, span: Span) -> NDArray[np.float32]:
    return outline.target[span.offset : span.offset + span.length]
