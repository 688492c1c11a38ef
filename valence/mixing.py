"""Several channels to one: their mean, or a channel that is named.

Where channels cancel each other (stereo in opposite phase, such as a balanced line that was
recorded as two channels), their mean is rounding noise, which levelling would raise to speech.
There the louder channel is taken in its place. That is decided for short stretches on a fixed grid,
so that it costs one pass, holds where only a part of a recording is so, and does not depend on
where a recording is cut.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Channel = Literal["mean"] | int

# Frames of a stretch: shorter than a segment at every usual rate.
_STRETCH = 4096
# Channels that are independent of each other lose 3 dB in their mean, 64 of them 18 dB. 30 dB are
# lost only where one is the other inverted, to within 6 %.
_LEAST_KEPT = 1e-3
# Below one step of sixteen bits there is nothing to be heard, and chance makes channels opposite.
_LEAST_POWER = 2.0**-30
# A channel of equal power is no reason to leave the first one: each change is a click.
_LOUDER = 2.0


class Mixer:
    """Makes one channel of blocks that follow each other, and remembers where channels cancelled.

    Parameters
    ----------
    channel
        `"mean"`, or the number of the channel that is taken, from 0.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.cancelled = 0
        self.frames = 0

    def mono(self, block: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.float32]:
        """Mix a block `[frames, channels]` to float32 `[frames]`, full scale at 1.

        All blocks but the last hold a multiple of 4,096 frames.
        """
        self.frames += len(block)
        if self._channel != "mean":
            return _scaled(block[:, self._channel], block.dtype)
        if block.shape[1] == 1:
            return _scaled(block[:, 0], block.dtype)
        y = _scaled(block.mean(axis=1, dtype=np.float32), block.dtype)
        if not len(y):
            return y
        channels = _scaled(block, block.dtype)
        starts = np.arange(0, len(y), _STRETCH)
        lengths = np.diff([*starts, len(y)])
        power = np.add.reduceat(np.square(channels), starts, axis=0) / lengths[:, None]
        kept = np.add.reduceat(np.square(y), starts) / lengths
        whole = power.mean(axis=1)
        lost = (whole > _LEAST_POWER) & (kept < _LEAST_KEPT * whole)
        if lost.any():
            y = y.copy()
            for stretch in np.flatnonzero(lost):
                part = slice(starts[stretch], starts[stretch] + lengths[stretch])
                loudest = int(np.argmax(power[stretch]))
                first = power[stretch, 0] * _LOUDER >= power[stretch, loudest]
                y[part] = channels[part, 0 if first else loudest]
                self.cancelled += int(lengths[stretch])
        return y

    def remarks(self, sr: int) -> tuple[str, ...]:
        """What is odd about the blocks so far, at `sr` Hz."""
        if not self.cancelled:
            return ()
        return (
            f"its channels cancel each other (opposite phase) in {self.cancelled / sr:.1f} of "
            f"{self.frames / sr:.1f} s, where the louder one was taken in place of their mean",
        )


def _scaled(y: NDArray[np.floating] | NDArray[np.int16], dtype: np.dtype) -> NDArray[np.float32]:
    """Samples that were of `dtype` as float32, full scale at 1."""
    if dtype == np.int16:
        return np.multiply(y, np.float32(1 / 2**15), dtype=np.float32)
    return np.asarray(y, np.float32)
