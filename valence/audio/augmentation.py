"""The four transforms of an augmented copy, chosen by what a segment is and by nothing else.

Noise, pitch, speed and volume, in this order, each with its own probability on each segment. Pitch
and speed come out of one pass (see `valence.audio.phase_vocoder`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valence.audio.phase_vocoder import stretch
from valence.config import AugmentConfig

# Draws of a segment: does each transform apply, and how much. They fill whole blocks of four of the
# random stream, so that a segment's own begin at a place that its number tells.
_TRANSFORMS = 4
_BLOCKS = 2 * _TRANSFORMS // 4


@dataclass(frozen=True, eq=False)
class Parameters:
    """What is done to each segment; NaN where the transform does not apply.

    Attributes
    ----------
    noise
        Standard deviation of the white noise, full scale at 1, float64 `[n]`.
    semitones
        Shift of the pitch, float64 `[n]`.
    speed
        Tempo as a multiple, above 1 faster, float64 `[n]`.
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
    """What is done to segments `first_segment` to `first_segment + n - 1` of a copy.

    Each segment has its own place in the random stream of (seed, recording, copy), so that it
    comes out the same however the recording is cut and whoever computes it.
    """
    stream = _stream(_key(seed, recording, copy), block=_BLOCKS * first_segment)
    draws = np.random.Generator(stream).random((n, 2 * _TRANSFORMS))
    applies, amount = draws[:, :_TRANSFORMS] < config.probability, draws[:, _TRANSFORMS:]

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
        float32 `[n, samples]`, full scale at 1; not changed.
    config
        Probability and ranges.
    sr
        Sample rate in Hz.
    seed, recording, copy
        What the draws depend on, together with a segment's place in the recording.
    first_segment
        Place of `segments[0]` in the recording.

    Returns
    -------
    float32 `[n, samples]`. Slower speech is cropped and faster speech followed by zeros, so that
    the length stays.
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
        # A segment's noise has 2^64 blocks of the stream to itself, after those of the draws.
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
    """The random stream of `key` from a block of four 64-bit numbers on, in one of its lanes."""
    return np.random.Philox(key=key, counter=np.array([block, lane, 0, 0], np.uint64))
