"""Mix several channels to one: their mean, or a chosen channel.

Channels may cancel each other (stereo in opposite phase, such as a balanced line that was recorded
as two channels). Their mean is then only the noise in which they differ, and levelling would raise
this noise to the level of speech. In such places the louder channel replaces the mean. The decision
is made for short stretches on a fixed grid, and loud neighbours of a stretch have most weight:
between two words there is only noise, which says nothing about phase. This needs only one pass,
works if only a part of a recording is affected, and depends only on neighbouring stretches,
wherever a recording is cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Channel = Literal["mean"] | int
Block = NDArray[np.int16] | NDArray[np.float32]

# Frames of a stretch: shorter than a segment at every usual rate.
_STRETCH = 4096
# Neighbours on either side that take part in a decision: 1.4 s at 48 kHz and 4 s at 16 kHz, long
# enough to contain a word.
_NEIGHBOURS = 16
# The mean of n channels keeps 1/n of the power of independent sounds. If only a sixteenth of this
# is left (12 dB less; two channels then lose 15 dB), the sound that the channels share has
# cancelled, and only their differences remain.
_LEAST_KEPT = 1 / 16
# A loss of 30 dB is no chance; the neighbours then take no part in the decision.
_SURELY_LOST = 1e-3
# Below one step of sixteen bits nothing is audible, and channels are opposite by chance.
_LEAST_POWER = 2.0**-30
# A channel must be clearly louder to replace the first one, because each change is a click.
_LOUDER = 2.0


@dataclass(frozen=True)
class _Held:
    """A block that waits for its neighbours, with the power and votes of its stretches."""

    channels: NDArray[np.float32]
    y: NDArray[np.float32]
    starts: NDArray[np.intp]
    power: NDArray[np.float64]
    votes: NDArray[np.float64]
    sure: NDArray[np.bool_]


class Mixer:
    """Mixes consecutive blocks to one channel, and counts the frames in which channels cancelled.

    Parameters
    ----------
    channel
        `"mean"`, or the number of the chosen channel, counted from 0.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.cancelled = 0
        self.frames = 0

    def mono(self, blocks: Iterable[Block]) -> Iterator[NDArray[np.float32]]:
        """Mix each block `[frames, channels]` to float32 `[frames]`, where full scale is 1.

        All blocks but the last two must hold a multiple of 4,096 frames.
        """
        held: deque[_Held] = deque()
        # Power and votes of the stretches before the first held block.
        before = (np.zeros((0, 1)), np.zeros(0))
        for block in blocks:
            if self._channel != "mean" or block.shape[1] == 1:
                self.frames += len(block)
                chosen = 0 if self._channel == "mean" else self._channel
                yield _scaled(block[:, chosen], block.dtype)
                continue
            held.append(_weighed(block))
            while sum(len(one.votes) for one in list(held)[1:]) >= _NEIGHBOURS:
                yield self._decided(held, before)
                before = _last(before, held.popleft())
        while held:
            yield self._decided(held, before)
            before = _last(before, held.popleft())

    def _decided(
        self, held: deque[_Held], before: tuple[NDArray[np.float64], NDArray[np.float64]]
    ) -> NDArray[np.float32]:
        """Mix the first block that is held."""
        first = held[0]
        n, past = len(first.votes), len(before[1])
        self.frames += len(first.y)
        votes = np.concatenate([before[1], *(one.votes for one in held)])
        lost = first.sure | (_around(votes)[past : past + n] > 0)
        if not lost.any():
            return first.y
        parts = [one.power for one in held]
        power = _around(np.concatenate([*([before[0]] if past else []), *parts]))[past : past + n]
        y = first.y.copy()
        stops = np.append(first.starts[1:], len(y))
        for stretch in np.flatnonzero(lost):
            part = slice(first.starts[stretch], stops[stretch])
            loudest = int(np.argmax(power[stretch]))
            plain = power[stretch, 0] * _LOUDER >= power[stretch, loudest]
            y[part] = first.channels[part, 0 if plain else loudest]
            self.cancelled += int(part.stop - part.start)
        return y

    def remarks(self, sr: int) -> tuple[str, ...]:
        """Remark on channels that cancelled in the blocks so far, at `sr` Hz."""
        if not self.cancelled:
            return ()
        return (
            f"its channels cancel each other (opposite phase) in {self.cancelled / sr:.1f} of "
            f"{self.frames / sr:.1f} s, where the louder one was taken in place of their mean",
        )


def _weighed(block: Block) -> _Held:
    """Compute a block's mean and the votes of its stretches; above 0 is against the mean."""
    y = _scaled(block.mean(axis=1, dtype=np.float32), block.dtype)
    channels = _scaled(block, block.dtype)
    starts = np.arange(0, len(y), _STRETCH)
    lengths = np.diff([*starts, len(y)])
    if not len(y):
        none = np.zeros(0)
        return _Held(channels, y, starts, np.zeros((0, block.shape[1])), none, none > 0)
    power = np.add.reduceat(np.square(channels), starts, axis=0) / lengths[:, None]
    kept = np.add.reduceat(np.square(y), starts) / lengths
    whole = power.mean(axis=1)
    # Samples that are not finite count as silence here; `AudioReading` refuses them.
    heard = (whole > _LEAST_POWER) & np.isfinite(whole)
    power = np.where(heard[:, None], power, 0).astype(np.float64)
    whole = np.where(heard, whole, 0).astype(np.float64)
    votes = np.where(kept < _LEAST_KEPT / block.shape[1] * whole, whole, -whole)
    return _Held(channels, y, starts, power, votes, heard & (kept < _SURELY_LOST * whole))


def _around(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add the mean of its neighbours to each row, so that loud rows outweigh quiet ones.

    >>> _around(np.array([0.0, 320.0, 0.0])).tolist()
    [10.0, 320.0, 10.0]
    """
    around = found.copy()
    for distance in range(1, _NEIGHBOURS + 1):
        around[distance:] += found[:-distance] / (2 * _NEIGHBOURS)
        around[:-distance] += found[distance:] / (2 * _NEIGHBOURS)
    return around


def _last(
    before: tuple[NDArray[np.float64], NDArray[np.float64]], gone: _Held
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return power and votes of the stretches that are neighbours of later ones."""
    power = np.concatenate([*([before[0]] if len(before[1]) else []), gone.power])
    return power[-_NEIGHBOURS:], np.concatenate([before[1], gone.votes])[-_NEIGHBOURS:]


def _scaled(y: NDArray[np.floating] | NDArray[np.int16], dtype: np.dtype) -> NDArray[np.float32]:
    """Convert samples that come from `dtype` to float32, where full scale is 1."""
    if dtype == np.int16:
        return np.multiply(y, np.float32(1 / 2**15), dtype=np.float32)
    return np.asarray(y, np.float32)
