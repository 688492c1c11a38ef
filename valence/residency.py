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
from valence.delivery import deliver, picks
from valence.distributed import rank, world_size
from valence.errors import TrainingError
from valence.evaluation import Labelled
from valence.segments import SegmentStore
from valence.sequences import (
    LabelOf,
    Outline,
    Sampling,
    Span,
    epoch_plan,
    mel_blocks,
    read_outline,
    total_length,
    window_targets,
    windows,
)
from valence.training import Batch

Residency = Literal["device", "host", "stream"]

# What is left of a device's memory for the model, its gradients and the batches.
_DEVICE_SHARE = 0.6

# Pools that are in memory where segments are streamed: one is used, one waits, two are being read.
POOLS_HELD = 4


@dataclass(frozen=True)
class Members:
    """The recordings of a training, sorted by Id, and what of them is read.

    Attributes
    ----------
    train, validation
        Ids.
    copies
        Augmented copies of each training recording.
    targets
        Labels.
    short
        Labelled recordings that are left out because they are too short.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    copies: int
    targets: tuple[Target, ...]
    short: tuple[str, ...] = ()


def members(store: SegmentStore, config: Config) -> Members:
    """The recordings that `config` can train and validate on.

    Raises
    ------
    TrainingError
        If there is none to train or none to validate on.
    """
    frame = store.recordings()
    run = Sampling.of(config.sequence, config.train).run_segments
    labelled = frame[(frame["status"] == "ok") & (frame["labelled"] > 0)]
    found: dict[str, tuple[str, ...]] = {}
    short: list[str] = []
    for split, least in (("train", run), ("validation", config.sequence.length)):
        those = labelled[labelled["split"] == split]
        enough = those["segments"] >= least
        found[split] = tuple(those.loc[enough, "Id"])
        short.extend(those.loc[~enough, "Id"])
    train, validation = found["train"], found["validation"]
    if not train or not validation:
        raise TrainingError(
            f"'{store.root}' holds {len(train)} labelled recordings to train on with at least "
            f"{run} segments each (sequence.length, and sequence.stride more for each further of "
            f"train.windows_per_run) and {len(validation)} to validate on with at least "
            f"{config.sequence.length}; at least one of each is needed. Look at 'valence check', "
            "at [split], and at sequence.length."
        )
    targets = config.model.targets
    return Members(train, validation, config.augment.copies, targets, tuple(sorted(short)))


def held_bytes(store: SegmentStore, config: Config, chosen: Members) -> int:
    """Bytes of the mel of all segments that training and validation read."""
    segments = store.recordings().set_index("Id")["segments"]
    n = int(segments[list(chosen.train)].sum()) * (chosen.copies + 1)
    return (n + int(segments[list(chosen.validation)].sum())) * _segment_bytes(config)


def pool_bytes(store: SegmentStore, config: Config, chosen: Members) -> int:
    """Most bytes of mel in a pool that an epoch shuffles within itself."""
    segments = store.recordings().set_index("Id")["segments"][list(chosen.train)]
    whole = int(segments.sum()) * (chosen.copies + 1)
    most = max(config.train.shuffle_segments, int(segments.max()))
    return min(whole, most) * _segment_bytes(config)


def require_streamable(size: int, limit: float) -> None:
    """Refuse to stream if what is held meanwhile, `size` bytes, is more than `limit` bytes.

    Raises
    ------
    TrainingError
        If it is.
    """
    if size > limit:
        raise TrainingError(
            f"Streaming would hold {size / 2**30:.3g} GiB of segments, {POOLS_HELD} times "
            f"train.shuffle_segments, and a worker may hold {limit / 2**30:.3g} GiB. Lower "
            "train.shuffle_segments, or raise train.host_gib if the machine has more."
        )


def _segment_bytes(config: Config) -> int:
    return config.mel.n_mels * config.mel.n_frames * np.dtype(config.preprocess.dtype).itemsize


def device_room(device: torch.device) -> int:
    """Bytes that segments may take on `device`; a CPU has none beside the host's."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return int(_DEVICE_SHARE * free)


def require_room(size: int, room: int) -> None:
    """Refuse to hold `size` bytes of segments on a device with `room` for fewer.

    Raises
    ------
    TrainingError
        If it is fewer.
    """
    if size > room:
        raise TrainingError(
            f"train.residency = 'device' asks for {size / 2**30:.3g} GiB of segments on the "
            f"device, which has {room / 2**30:.3g} GiB for them beside what the model needs. Set "
            "train.residency to 'auto' or 'host', or preprocess again with fewer augment.copies."
        )


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
        self._mel = _held(store, self.outline.spans, kept)
        validation = read_outline(store, chosen.validation, 0, chosen.targets)
        self._recordings = tuple(
            Labelled(span.recording, _held(store, [span], kept), *labelled)
            for span in my_share(validation.spans)
            for labelled in [labelled_windows(_of_span(validation, span), self._sampling, self._of)]
        )

    def batches(self, seed: int, epoch: int) -> Iterator[Batch]:
        """This worker's part of each batch, gathered as it is asked for."""
        plan = epoch_plan(self.outline, self._sampling, seed=seed, epoch=epoch, least=world_size())
        picked = (
            pick
            for pool in plan
            for pick in picks(
                pool.batches, self._mel, self.outline.target, self._sampling, self._of
            )
        )
        return deliver(picked, held=self._mel.device, device=self._device)

    def recordings(self) -> tuple[Labelled, ...]:
        """This worker's part of the validation recordings."""
        return self._recordings


def _held(store: SegmentStore, spans: Sequence[Span], device: torch.device) -> Tensor:
    """The mel of `spans` on `device`, which the host never holds more of than a block."""
    mel: Tensor | None = None
    for where, block in mel_blocks(store, spans):
        # What is read lies in memory that may not be written, which torch would not take.
        part = torch.from_numpy(block.copy())
        if mel is None:
            size = (total_length(spans), *part.shape[1:])
            mel = torch.empty(size, dtype=part.dtype, device=device)
        mel[where] = part
    assert mel is not None, "there is at least one recording"
    return mel


def _of_span(outline: Outline, span: Span) -> NDArray[np.float32]:
    return outline.target[span.offset : span.offset + span.length]
