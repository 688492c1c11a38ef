"""The model: a CNN over each segment, a BiLSTM with attention over the sequence, a linear head.

If the model takes a set of features, their standardised values stand in place of the CNN's. All
that follows is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from valence.audio.standardization import Standardizer
from valence.config import ModelConfig
from valence.model.cnn_block import Block

__all__ = ["Block", "FeatureInput", "ValenceModel"]


@dataclass(frozen=True)
class FeatureInput:
    """The set of features that a model takes in place of mel.

    Attributes
    ----------
    set
        Name of the set.
    columns
        Names of the features, in the order of the model's inputs.
    digest
        Fingerprint of the name, the columns and the files that the model was made with.
    licence
        The bond of the features in words, or None if none is known.
    stamps
        Whether timestamps in the set's files name the start or the end of a segment.
    """

    set: str
    columns: tuple[str, ...]
    digest: str
    licence: str | None = None
    stamps: Literal["start", "end"] = "start"

    def to_json(self) -> dict[str, Any]:
        """Return JSON that `from_json` reads back."""
        known = {
            "set": self.set,
            "columns": list(self.columns),
            "digest": self.digest,
            "stamps": self.stamps,
        }
        return known if self.licence is None else {**known, "licence": self.licence}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FeatureInput:
        """Read what `to_json` returned.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the content is something else.
        """
        columns = content["columns"]
        if not isinstance(columns, list) or not columns:
            raise TypeError("its columns are no list of names")
        licence, stamps = content.get("licence"), content["stamps"]
        if stamps not in ("start", "end"):
            raise ValueError(f"its timestamps name '{stamps}'")
        texts = [content["set"], content["digest"], *columns, licence or "none"]
        if not all(isinstance(text, str) and text for text in texts):
            raise TypeError("its set, digest or licence or the name of a column is no text")
        if len(set(columns)) != len(columns):
            raise ValueError("it names a column twice")
        return cls(content["set"], tuple(columns), content["digest"], licence, stamps)


class ValenceModel(nn.Module):
    """The network that maps the inputs of consecutive segments to a value of each target.

    The input of a segment is its mel, `[n_mels, n_frames]`, or a row of a set of features,
    `[columns]`. The first layer standardises, so that the model takes log-mel in dB as the store
    holds it, or features as their files state them.

    Parameters
    ----------
    config
        Input, channels, sizes, dropout and targets.
    n_mels, n_frames
        Shape of a segment's mel; a model that takes features does not use it.
    standardizer
        Standardisation fitted on the training recordings; that of features has a mean for each
        column, and so says how many columns there are.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, config: ModelConfig, *, n_mels: int, n_frames: int, standardizer: Standardizer
    ) -> None:
        super().__init__()
        self.config, self.n_mels, self.n_frames = config, n_mels, n_frames
        self.standardizer = standardizer
        mean, std = (torch.from_numpy(v.copy()) for v in (standardizer.mean, standardizer.std))
        self.takes_features = config.feature_set is not None
        assert self.takes_features == (standardizer.scope == "column")
        self.register_buffer("mean", mean if self.takes_features else mean[:, None])
        self.register_buffer("std", std if self.takes_features else std[:, None])
        channels = () if self.takes_features else config.channels
        self.blocks = nn.ModuleList(
            Block(*sizes) for sizes in zip((1, *channels), channels, strict=False)
        )
        self.input_shape = (len(mean),) if self.takes_features else (n_mels, n_frames)
        halvings = len(config.channels)
        self.encoded_size = (
            len(mean)
            if self.takes_features
            else config.channels[-1] * (n_mels >> halvings) * (n_frames >> halvings)
        )
        both = 2 * config.lstm_hidden
        sizes = (self.encoded_size, *([both] * (config.lstm_layers - 1)))
        self.lstm = nn.ModuleList(
            nn.LSTM(size, config.lstm_hidden, batch_first=True, bidirectional=True)
            for size in sizes
        )
        self.attention = nn.Linear(both, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(2 * both, len(config.targets))

    @property
    def feature_size(self) -> int:
        """Return the number of deep features of a sequence: 512 with the study's sizes."""
        return self.output.in_features

    def standardize(self, inputs: Tensor) -> Tensor:
        """Standardise inputs of any float, `[..., *input_shape]`; returns the model's dtype.

        A feature that is NaN becomes 0, the mean of the training.
        """
        values = inputs.to(self.mean.dtype)
        if self.takes_features:
            values = (values - self.mean) / self.std
            return torch.where(values.isnan(), torch.zeros_like(values), values)
        if self.standardizer.scope == "segment_minmax":
            low = values.amin(dim=(-2, -1), keepdim=True)
            span = values.amax(dim=(-2, -1), keepdim=True) - low
            return (values - low) / torch.where(span > 0, span, 1.0)
        return (values - self.mean) / self.std

    def encode(self, inputs: Tensor) -> Tensor:
        """Compute values `[n, encoded_size]` of segments `[n, *input_shape]`, each by itself.

        They are the CNN's values of mel in dB, or the standardised features.
        """
        if self.takes_features:
            return self.standardize(inputs)
        # Build the tensor channels-last: with this few channels convolutions are faster, and torch
        # keeps the layout in later layers.
        x = self.standardize(inputs).unsqueeze(-1).permute(0, 3, 1, 2)
        for block in self.blocks:
            x = block(x)
        # The axes are now in the order of memory, so flattening copies nothing.
        return x.permute(0, 2, 3, 1).flatten(1)

    def embed(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Compute deep features and attention of sequences.

        Parameters
        ----------
        encoded
            Values of `encode`, `[batch, length, encoded_size]`.

        Returns
        -------
        Features `[batch, feature_size]`: the sum over time weighted by the attention, then the
        final states of both directions of the top layer. Attention `[batch, length]`, which sums
        to 1 over each sequence.
        """
        states = encoded
        for layer in self.lstm:
            states, (final, _) = layer(states)
        return self._attend(states, final)

    def project(self, encoded: Tensor) -> Tensor:
        """Compute the first recurrent layer's input projection of `[n, encoded_size]`.

        The result is `[n, 8 * lstm_hidden]`, the forward direction first. It does not depend on
        other segments, so overlapping sequences share it.
        """
        ahead, behind = self.first_layer()
        weight = torch.cat([ahead[0], behind[0]])
        bias = torch.cat([ahead[2] + ahead[3], behind[2] + behind[3]])
        return F.linear(encoded, weight, bias)

    def first_layer(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return, for each direction, the weights and then the biases of inputs and states."""
        first = self.lstm[0]
        assert isinstance(first, nn.LSTM)
        ahead, behind = first.all_weights
        return list(ahead), list(behind)

    def embed_projected(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """Compute `embed` from the values of `project`, `[batch, length, 8 * lstm_hidden]`."""
        ahead_weights, behind_weights = self.first_layer()
        forwards, backwards = projected.transpose(0, 1).chunk(2, dim=-1)
        ahead = _recur(forwards, ahead_weights[1])
        behind = _recur(backwards.flip(0), behind_weights[1])
        final = torch.stack([ahead[-1], behind[-1]])
        states = torch.cat([ahead, behind.flip(0)], dim=-1).transpose(0, 1)
        for layer in self.lstm[1:]:
            states, (final, _) = layer(states)
        return self._attend(states, final)

    def _attend(self, states: Tensor, final: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features and attention of the top layer's states.

        States are `[batch, length, 2h]`, final states `[2, batch, h]`.
        """
        attention = self.attention(states).squeeze(-1).softmax(dim=1)
        context = torch.einsum("bt,bth->bh", attention, states)
        return torch.cat([context, final[0], final[1]], dim=1), attention

    def head(self, features: Tensor) -> Tensor:
        """Compute values `[batch, targets]` of features `[batch, feature_size]`."""
        values: Tensor = self.output(self.dropout(features))
        return values

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute `[batch, targets]` of sequences `[batch, length, *input_shape]`."""
        batch, length = inputs.shape[:2]
        encoded = self.encode(inputs.flatten(0, 1)).view(batch, length, -1)
        return self.head(self.embed(encoded)[0])

    def forward_groups(
        self,
        inputs: Tensor,
        offsets: Sequence[int],
        length: int,
        *,
        encode: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Compute the values of groups of overlapping windows; the CNN sees each segment once.

        Parameters
        ----------
        inputs
            Groups of consecutive segments, `[groups, segments, *input_shape]`.
        offsets
            First segment of each window, counted from the start of its group.
        length
            Number of segments in a window.
        encode
            Function to use instead of `encode`, such as a compiled or less precise one.

        Returns
        -------
        Values `[groups * windows, targets]`, group after group.
        """
        groups, segments = inputs.shape[:2]
        encoded = (encode or self.encode)(inputs.flatten(0, 1)).to(self.mean)
        encoded = encoded.view(groups, segments, -1)
        held = torch.stack([encoded[:, first : first + length] for first in offsets], dim=1)
        return self.head(self.embed(held.flatten(0, 1))[0])


def _recur(projected: Tensor, weight: Tensor) -> Tensor:
    """Compute the hidden states `[length, batch, h]` of an LSTM whose inputs are projected.

    `projected` is `[length, batch, 4h]` with the biases, `weight` is `[4h, h]`, gates in torch's
    order: input, forget, cell, output.
    """
    hidden = projected.new_zeros(projected.shape[1], weight.shape[1])
    cell = hidden
    transposed = weight.t().contiguous()
    states = []
    for step in projected:
        gates = torch.addmm(step, hidden, transposed)
        enter, keep, candidate, leave = gates.chunk(4, dim=1)
        cell = keep.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        states.append(hidden)
    return torch.stack(states)
