"""Compute the memory that the segments of a training take, and refuse a choice that cannot fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from valence.config import Config, Target
from valence.errors import TrainingError
from valence.segments.store import SegmentStore
from valence.training.data.inputs import SegmentInputs
from valence.training.data.sampling import Sampling

Residency = Literal["device", "host", "stream"]
# Segments may take this share of a device's free memory. The rest is for the model, its gradients
# and the batches.
_DEVICE_SHARE = 0.6
# Number of pools in memory while segments are streamed: one in use, one waiting, two being read.
POOLS_HELD = 4


@dataclass(frozen=True)
class Members:
    """The recordings of a training, sorted by Id, and the copies and labels to read.

    Attributes
    ----------
    train, validation
        Ids of the recordings to train on and to validate on.
    copies
        Number of augmented copies of each training recording; 0 if the model takes features, which
        only the clean recordings have.
    targets
        Labels to read.
    short
        Ids of labelled recordings that are left out because they are too short.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    copies: int
    targets: tuple[Target, ...]
    short: tuple[str, ...] = ()


def members(store: SegmentStore, config: Config) -> Members:
    """List the recordings that `config` can train and validate on.

    Raises
    ------
    TrainingError
        If there is none to train on, or none to validate on.
    """
    frame = store.recordings()
    group = Sampling.of(config.sequence, config.train).group_segments
    labelled = frame[(frame["status"] == "ok") & (frame["labelled"] > 0)]
    found: dict[str, tuple[str, ...]] = {}
    short: list[str] = []
    for split, least in (("train", group), ("validation", config.sequence.length)):
        those = labelled[labelled["split"] == split]
        enough = those["segments"] >= least
        found[split] = tuple(those.loc[enough, "Id"])
        short.extend(those.loc[~enough, "Id"])
    train, validation = found["train"], found["validation"]
    if not train or not validation:
        raise TrainingError(
            f"'{store.root}' holds {len(train)} labelled recordings to train on with at least "
            f"{group} segments each (sequence.length, and sequence.stride more for each further of "
            f"train.windows_per_group) and {len(validation)} to validate on with at least "
            f"{config.sequence.length}; at least one of each is needed. Look at 'valence check', "
            "at [split], and at sequence.length."
        )
    copies = config.augment.copies if config.model.feature_set is None else 0
    return Members(train, validation, copies, config.model.targets, tuple(sorted(short)))


def held_bytes(inputs: SegmentInputs, chosen: Members) -> int:
    """Compute the bytes of the inputs of all segments that training and validation read."""
    segments = inputs.store.recordings().set_index("Id")["segments"]
    n = int(segments[list(chosen.train)].sum()) * (chosen.copies + 1)
    return (n + int(segments[list(chosen.validation)].sum())) * inputs.segment_bytes


def pool_bytes(inputs: SegmentInputs, config: Config, chosen: Members) -> int:
    """Compute the most bytes of inputs that one pool of an epoch can hold."""
    segments = inputs.store.recordings().set_index("Id")["segments"][list(chosen.train)]
    whole = int(segments.sum()) * (chosen.copies + 1)
    most = max(config.train.shuffle_segments, int(segments.max()))
    return min(whole, most) * inputs.segment_bytes


def require_streamable(size: int, limit: float) -> None:
    """Refuse to stream if the pools in memory, `size` bytes, would exceed `limit` bytes.

    Raises
    ------
    TrainingError
        If `size` is larger than `limit`.
    """
    if size > limit:
        raise TrainingError(
            f"Streaming would hold {size / 2**30:.3g} GiB of segments, {POOLS_HELD} times "
            f"train.shuffle_segments, and a worker may hold {limit / 2**30:.3g} GiB. Lower "
            "train.shuffle_segments, or raise train.host_gib if the machine has more."
        )


def device_room(device: torch.device) -> int:
    """Return the bytes that segments may take on `device`; 0 for a CPU, which has the host's."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return int(_DEVICE_SHARE * free)


def require_room(size: int, room: int) -> None:
    """Refuse to hold `size` bytes of segments on a device that has only `room` bytes for them.

    Raises
    ------
    TrainingError
        If `size` is larger than `room`.
    """
    if size > room:
        raise TrainingError(
            f"train.residency = 'device' asks for {size / 2**30:.3g} GiB of segments on the "
            f"device, which has {room / 2**30:.3g} GiB for them beside what the model needs. Set "
            "train.residency to 'auto' or 'host', or preprocess again with fewer augment.copies."
        )
