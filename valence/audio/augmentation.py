"""Augment copies of recordings with four transforms that depend only on the segment's identity.

Noise, pitch, speed and volume are applied in this order. Each transform is drawn separately for
each segment. One pass changes pitch and speed together (see `valence.audio.phase_vocoder`).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valence.audio.phase_vocoder import stretch
from valence.config import AugmentConfig

# The draws of a segment say whether each transform applies, and how strongly. They fill whole
# blocks of four numbers in the random stream, so that the segment's number gives their position.
_TRANSFORMS = 4
_BLOCKS = math.ceil(2 * _TRANSFORMS / 4)


@dataclass(frozen=True, eq=False)
class Parameters:
    """The strength of each transform for each segment; NaN where a transform does not apply.

    Attributes
    ----------
    noise
        Standard deviation of the white noise, where full scale is 1, float64 `[n]`.
    semitones
        Shift of the pitch, float64 `[n]`.
    speed
        Factor of the tempo, float64 `[n]`; above 1 is faster.
    gain
        Factor of the amplitude, float64 `[n]`.
    """

    noise: NDArray[np.float64]
    semitones: NDArray[np.float64]
    speed: NDArray[np.float64]
    gain: NDArray[np.float64]


def draw_parameters(
    n: int,
    config: AugmentConfig,
    *,
    seed: int,
    recording: str,
    copy: int,
    first_segment: int = 0,
) -> Parameters:
    """Draw the transforms of segments `first_segment` to `first_segment + n - 1` of a copy.

    Each segment has its own position in the random stream of (seed, recording, copy). The result is
    the same however the recording is divided into calls, and on every worker.
    """
    stream = _stream(_key(seed, recording, copy), block=_BLOCKS * first_segment)
    draws = np.random.Generator(stream).random((n, 4 * _BLOCKS))
    applies = draws[:, :_TRANSFORMS] < config.probability
    amount = draws[:, _TRANSFORMS : 2 * _TRANSFORMS]

    def of(column: int, low: float, high: float) -> NDArray[np.float64]:
        return np.where(applies[:, column], low + (high - low) * amount[:, column], np.nan)

    return Parameters(
        of(0, *config.noise), of(1, *config.semitones), of(2, *config.speed), of(3, *config.gain)
    )


def augment(
    segments: NDArray[np.float32],
    config: AugmentConfig,
    *,
    sr: int,
    seed: int,
    recording: str,
    copy: int,
    first_segment: int = 0,
) -> NDArray[np.float32]:
    """Augment normalised segments.

    Parameters
    ----------
    segments
        float32 `[n, samples]`, where full scale is 1; the array is not changed.
    config
        Probability and ranges.
    sr
        Sample rate in Hz.
    seed, recording, copy
        The draws depend on these values and on a segment's position in the recording.
    first_segment
        Position of `segments[0]` in the recording.

    Returns
    -------
    float32 `[n, samples]`. Slower speech is cropped and faster speech is followed by zeros, so that
    the length stays the same.
    """
    drawn = draw_parameters(
        len(segments),
        config,
        seed=seed,
        recording=recording,
        copy=copy,
        first_segment=first_segment,
    )
    key = _key(seed, recording, copy)
    augmented = segments.copy()
    for index in np.flatnonzero(np.isfinite(drawn.noise)):
        # The noise of each segment has its own lane of 2^64 blocks; lane 0 holds the draws above.
        stream = _stream(key, lane=1 + first_segment + int(index))
        generator = np.random.Generator(stream)
        white = generator.standard_normal((1, segments.shape[1]), dtype=np.float32)
        white *= np.float32(drawn.noise[index])
        augmented[index : index + 1] += white
    semitones, speed = np.nan_to_num(drawn.semitones), np.nan_to_num(drawn.speed, nan=1.0)
    chosen = np.flatnonzero((semitones != 0) | (speed != 1))
    augmented[chosen] = stretch(
        augmented[chosen], semitones=semitones[chosen], speed=speed[chosen], sr=sr
    )
    augmented *= np.nan_to_num(drawn.gain, nan=1.0).astype(np.float32)[:, None]
    return augmented


def _key(seed: int, recording: str, copy: int) -> NDArray[np.uint64]:
    digest = hashlib.sha256(f"{seed}:{copy}:{recording}".encode()).digest()
    return np.frombuffer(digest[:16], np.uint64)


def _stream(key: NDArray[np.uint64], *, lane: int = 0, block: int = 0) -> np.random.Philox:
    """Open the random stream of `key` in a lane, from a block of four 64-bit numbers on."""
    return np.random.Philox(key=key, counter=np.array([block, lane, 0, 0], np.uint64))
