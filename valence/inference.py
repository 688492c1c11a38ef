"""From the segments of a recording to the model's outputs for its sequences.

Sequences overlap, so the CNN and the first recurrent layer's input projection run once a segment,
and only the recurrence once a sequence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from valence.model import ValenceModel

# On a CPU few enough to stay near the cache, on another device enough to fill it.
SEGMENTS_AT_ONCE = {"cpu": 32}
SEQUENCES_AT_ONCE = {"cpu": 512}
_MANY = 4096


@dataclass(frozen=True, eq=False)
class SequenceOutputs:
    """What the model says of sequences, one a row.

    Attributes
    ----------
    feature
        Deep features, float32 `[rows, features]`.
    prediction
        float32 `[rows, targets]`.
    attention
        Weights over the segments of each sequence, float32 `[rows, length]`.
    """

    feature: NDArray[np.float32]
    prediction: NDArray[np.float32]
    attention: NDArray[np.float32]


@torch.inference_mode()
def sequence_outputs(
    model: ValenceModel,
    mel: NDArray[np.floating[Any]] | Tensor,
    starts: NDArray[np.integer[Any]],
    length: int,
) -> SequenceOutputs:
    """Features, predictions and attention of the sequences that begin at `starts`.

    Parameters
    ----------
    model
        Put into evaluation mode for the call, on whatever device it is.
    mel
        Consecutive segments in dB as stored, `[n, n_mels, n_frames]`.
    starts
        First segment of each sequence, `[rows]`, each at most `n - length`.
    length
        Segments in a sequence.
    """
    rows, config = len(starts), model.config
    if not rows:
        return SequenceOutputs(
            np.zeros((0, model.feature_size), np.float32),
            np.zeros((0, len(config.targets)), np.float32),
            np.zeros((0, length), np.float32),
        )
    assert starts.min() >= 0
    assert starts.max() + length <= len(mel)
    device = model.mean.device
    training = model.training
    model.eval()
    try:
        segments = torch.as_tensor(mel)
        projected = torch.cat(
            [
                model.project(model.encode(part.to(device)))
                for part in torch.split(segments, SEGMENTS_AT_ONCE.get(device.type, _MANY))
            ]
        )
        first = torch.as_tensor(np.asarray(starts, np.int64), device=device)
        within = torch.arange(length, device=device)
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for some in torch.split(first, SEQUENCES_AT_ONCE.get(device.type, _MANY)):
            feature, attention = model.embed_projected(projected[some[:, None] + within])
            parts.append((feature, model.head(feature), attention))
    finally:
        model.train(training)
    features, predictions, attentions = zip(*parts, strict=True)
    return SequenceOutputs(_joined(features), _joined(predictions), _joined(attentions))


def _joined(parts: Iterable[Tensor]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = torch.cat(list(parts)).float().cpu().numpy()
    return values
