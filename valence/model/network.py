"""The model: a CNN over each segment, a BiLSTM with attention over the sequence, a linear head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from valence.audio.standardization import Standardizer
from valence.config import ModelConfig
from valence.model.cnn_block import Block

__all__ = ["Block", "ValenceModel"]


class ValenceModel(nn.Module):
    """From the stored mel of consecutive segments to the value of each target.

    Standardisation is its first layer, so that it takes log-mel in dB as the store holds it.

    Parameters
    ----------
    config
        Channels, sizes, dropout and targets.
    n_mels, n_frames
        Shape of a segment's mel.
    standardizer
        Fitted on the training recordings.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, config: ModelConfig, *, n_mels: int, n_frames: int, standardizer: Standardizer
    ) -> None:
        super().__init__()
        self.config, self.n_mels, self.n_frames = config, n_mels, n_frames
        self.standardizer = standardizer
        self.register_buffer("mean", torch.from_numpy(standardizer.mean.copy())[:, None])
        self.register_buffer("std", torch.from_numpy(standardizer.std.copy())[:, None])
        inputs = (1, *config.channels[:-1])
        self.blocks = nn.ModuleList(
            Block(*sizes) for sizes in zip(inputs, config.channels, strict=True)
        )
        halvings = len(config.channels)
        self.encoded_size = config.channels[-1] * (n_mels >> halvings) * (n_frames >> halvings)
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
        """Deep features of a sequence: 512 with the study's sizes."""
        return self.output.in_features

    def standardize(self, mel: Tensor) -> Tensor:
        """Standardise mel in dB, any float dtype `[..., n_mels, n_frames]`, to the model's."""
        values = mel.to(self.mean.dtype)
        if self.standardizer.scope == "segment_minmax":
            low = values.amin(dim=(-2, -1), keepdim=True)
            span = values.amax(dim=(-2, -1), keepdim=True) - low
            return (values - low) / torch.where(span > 0, span, 1.0)
        return (values - self.mean) / self.std

    def encode(self, mel: Tensor) -> Tensor:
        """The CNN's values `[n, encoded_size]` of segments `[n, n_mels, n_frames]` in dB."""
        # Made of [n, n_mels, n_frames, 1], the only channel counts as the innermost axis, and torch
        # keeps the channels of all that follows side by side: convolutions of so few like that.
        x = self.standardize(mel).unsqueeze(-1).permute(0, 3, 1, 2)
        for block in self.blocks:
            x = block(x)
        # In this order of the axes flattening moves nothing.
        return x.permute(0, 2, 3, 1).flatten(1)

    def embed(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Deep features and attention of sequences.

        Parameters
        ----------
        encoded
            `[batch, length, encoded_size]`, from `encode`.

        Returns
        -------
        Features `[batch, feature_size]`: the attention's weighted sum over time, then the final
        states of both directions of the top layer; attention `[batch, length]`, which sums to 1.
        """
        states = encoded
        for layer in self.lstm:
            states, (final, _) = layer(states)
        return self._attend(states, final)

    def project(self, encoded: Tensor) -> Tensor:
        """What the first recurrent layer makes of `[n, encoded_size]` before it looks at time.

        `[n, 8 * lstm_hidden]`, the forward direction first. Sequences that overlap share it.
        """
        ahead, behind = self._first_layer()
        weight = torch.cat([ahead[0], behind[0]])
        bias = torch.cat([ahead[2] + ahead[3], behind[2] + behind[3]])
        return F.linear(encoded, weight, bias)

    def _first_layer(self) -> tuple[list[Tensor], list[Tensor]]:
        """Of each direction: weights of inputs and states, biases of inputs and states."""
        first = self.lstm[0]
        assert isinstance(first, nn.LSTM)
        ahead, behind = first.all_weights
        return list(ahead), list(behind)

    def embed_projected(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """`embed` from `project`'s values `[batch, length, 8 * lstm_hidden]`."""
        ahead_weights, behind_weights = self._first_layer()
        forwards, backwards = projected.transpose(0, 1).chunk(2, dim=-1)
        ahead = _recur(forwards, ahead_weights[1])
        behind = _recur(backwards.flip(0), behind_weights[1])
        final = torch.stack([ahead[-1], behind[-1]])
        states = torch.cat([ahead, behind.flip(0)], dim=-1).transpose(0, 1)
        for layer in self.lstm[1:]:
            states, (final, _) = layer(states)
        return self._attend(states, final)

    def _attend(self, states: Tensor, final: Tensor) -> tuple[Tensor, Tensor]:
        """From the top layer's states `[batch, length, 2h]` and final states `[2, batch, h]`."""
        attention = self.attention(states).squeeze(-1).softmax(dim=1)
        context = torch.einsum("bt,bth->bh", attention, states)
        return torch.cat([context, final[0], final[1]], dim=1), attention

    def head(self, features: Tensor) -> Tensor:
        """Values `[batch, targets]` of features `[batch, feature_size]`."""
        values: Tensor = self.output(self.dropout(features))
        return values

    def forward(self, mel: Tensor) -> Tensor:
        """Values `[batch, targets]` of sequences `[batch, length, n_mels, n_frames]` in dB."""
        batch, length = mel.shape[:2]
        encoded = self.encode(mel.flatten(0, 1)).view(batch, length, -1)
        return self.head(self.embed(encoded)[0])

    def forward_runs(
        self,
        mel: Tensor,
        offsets: Sequence[int],
        length: int,
        *,
        encode: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Values of windows that overlap, for which the CNN sees each segment once.

        Parameters
        ----------
        mel
            Runs of consecutive segments in dB, `[runs, segments, n_mels, n_frames]`.
        offsets
            First segment of each window of a run.
        length
            Segments in a window.
        encode
            Another way to `encode`, such as a compiled one or one in less precision.

        Returns
        -------
        `[runs * windows, targets]`, run after run.
        """
        runs, segments = mel.shape[:2]
        encoded = (encode or self.encode)(mel.flatten(0, 1)).to(self.mean).view(runs, segments, -1)
        held = torch.stack([encoded[:, first : first + length] for first in offsets], dim=1)
        return self.head(self.embed(held.flatten(0, 1))[0])


def _recur(projected: Tensor, weight: Tensor) -> Tensor:
    """Hidden states `[length, batch, h]` of an LSTM whose inputs are already projected.

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
