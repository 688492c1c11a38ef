"""Compute the model's outputs for the sequences of a recording.

Sequences overlap, so the CNN and the input projection of the first recurrent layer run once for
each segment, and only the recurrence runs once for each sequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from valence.config import Precision
from valence.model.network import ValenceModel

# On a CPU, few enough that the values stay near the cache; on other devices, enough to keep the
# device busy.
SEGMENTS_AT_ONCE = {"cpu": 32}
SEQUENCES_AT_ONCE = {"cpu": 512, "cuda": 2048}
# Recordings are packed together until they have so many sequences. On a CPU packing saves no time;
# without it, the last bit of a recording's values does not depend on the other recordings.
PACKED_SEQUENCES = {"cpu": 0}
# A pack is also complete with so many segments, since sequences far apart cover many of them. With
# the study's sizes this is half a GiB of mel, and as much again of the CNN's values on the device.
PACKED_SEGMENTS = 65_536
_MANY = 4096

Inputs = NDArray[np.floating[Any]] | Tensor


@dataclass(frozen=True, eq=False)
class SequenceOutputs:
    """The model's outputs for sequences, one a row.

    Attributes
    ----------
    feature
        Deep features, float32 `[rows, features]`.
    prediction
        Predicted targets, float32 `[rows, targets]`.
    attention
        Weights over the segments of each sequence, float32 `[rows, length]`.
    """

    feature: NDArray[np.float32]
    prediction: NDArray[np.float32]
    attention: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences of one recording.

    Attributes
    ----------
    inputs
        Inputs of consecutive segments, `[n, *input_shape]`: mel in dB as stored, or features.
    starts
        First segment of each sequence, `[rows]`; each is at most `n` minus a sequence's length.
    """

    inputs: Inputs
    starts: NDArray[np.integer[Any]]


def sequence_outputs(
    model: ValenceModel, inputs: Inputs, starts: NDArray[np.integer[Any]], length: int
) -> SequenceOutputs:
    """Compute features, predictions and attention of the sequences that begin at `starts`.

    Parameters
    ----------
    model
        Model on any device; it is in evaluation mode during the call.
    inputs, starts
        The attributes of `Sequences`.
    length
        Number of segments in a sequence.
    """
    (outputs,) = outputs_of(model, [Sequences(inputs, starts)], length)
    return outputs


def outputs_of(
    model: ValenceModel,
    recordings: Iterable[Sequences],
    length: int,
    *,
    precision: Precision = "float32",
) -> Iterator[SequenceOutputs]:
    """Compute the outputs of `sequence_outputs` for several recordings, in order.

    A single recording does not keep a GPU busy. So recordings are packed together there, until they
    have enough sequences, or as many segments as memory should hold at once.

    Parameters
    ----------
    model, length
        The parameters of `sequence_outputs`.
    recordings
        Sequences of each recording; the iterable is read only as far as it is needed.
    precision
        Precision of the CNN's values; all other values are float32.
    """
    most = PACKED_SEQUENCES.get(model.mean.device.type, _MANY)
    pack: list[Sequences] = []
    rows = segments = 0
    for each in recordings:
        pack.append(each)
        rows += len(each.starts)
        segments += len(each.inputs)
        if rows >= most or segments >= PACKED_SEGMENTS:
            yield from _outputs_of_pack(model, pack, length, precision)
            pack, rows, segments = [], 0, 0
    if pack:
        yield from _outputs_of_pack(model, pack, length, precision)


@torch.inference_mode()
def _outputs_of_pack(
    model: ValenceModel, pack: list[Sequences], length: int, precision: Precision
) -> list[SequenceOutputs]:
    """Compute the outputs of several recordings together, their segments joined in one tensor."""
    rows = [len(each.starts) for each in pack]
    if not sum(rows):
        return [_nothing(model, length)] * len(pack)
    offsets = np.cumsum([0, *(len(each.inputs) for each in pack)])
    for each in pack:
        if len(each.starts):
            assert each.starts.min() >= 0
            assert each.starts.max() + length <= len(each.inputs)
    starts = np.concatenate(
        [np.asarray(e.starts, np.int64) + at for e, at in zip(pack, offsets[:-1], strict=True)]
    )
    device = model.mean.device
    # cuDNN runs the whole recurrence in one call. That is faster on a GPU, although it projects a
    # segment once for each of its sequences. On a CPU the projection is most of the work, so
    # overlapping sequences share it.
    fused = device.type == "cuda"
    at_once = SEGMENTS_AT_ONCE.get(device.type, _MANY)
    training = model.training
    model.eval()
    reduced = precision == "bfloat16"
    try:
        values = torch.cat(
            [
                _each_segment(model, part.to(device), fused=fused, reduced=reduced)
                for each in pack
                for part in torch.split(torch.as_tensor(each.inputs), at_once)
            ]
        )
        first = torch.from_numpy(starts).to(device)
        within = torch.arange(length, device=device)
        outputs: list[tuple[Tensor, Tensor, Tensor]] = []
        for some in torch.split(first, SEQUENCES_AT_ONCE.get(device.type, _MANY)):
            held = values[some[:, None] + within]
            feature, attention = model.embed(held) if fused else model.embed_projected(held)
            outputs.append((feature, model.head(feature), attention))
    finally:
        model.train(training)
    found = [torch.cat(each).float().cpu() for each in zip(*outputs, strict=True)]
    by_recording = zip(*(torch.split(each, rows) for each in found), strict=True)
    return [SequenceOutputs(*(part.numpy() for part in parts)) for parts in by_recording]


def _each_segment(model: ValenceModel, inputs: Tensor, *, fused: bool, reduced: bool) -> Tensor:
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=reduced):
        encoded = model.encode(inputs)
    encoded = encoded.to(model.mean)
    return encoded if fused else model.project(encoded)


def _nothing(model: ValenceModel, length: int) -> SequenceOutputs:
    return SequenceOutputs(
        np.zeros((0, model.feature_size), np.float32),
        np.zeros((0, len(model.config.targets)), np.float32),
        np.zeros((0, length), np.float32),
    )
