"""Cut sound into segments, and bring segments to a level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray


def segment_audio(y: NDArray[np.float32], segment_samples: int) -> NDArray[np.float32]:
    """Cut `y` into segments; the rest after the last whole segment is dropped.

    Returns
    -------
    A view, shape `[n, segment_samples]`.

    >>> segment_audio(np.arange(7, dtype=np.float32), 3).tolist()
    [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """
    n = len(y) // segment_samples
    return y[: n * segment_samples].reshape(n, segment_samples)


def iter_segments(
    blocks: Iterable[NDArray[np.float32]], segment_samples: int, *, segments: int
) -> Iterator[NDArray[np.float32]]:
    """Cut a stream of samples into segments, and yield `segments` of them at a time.

    Yields
    ------
    float32 `[segments, segment_samples]`; the last array may have fewer segments. An incomplete
    segment at the end is dropped. The cut depends only on the samples, not on the blocks. The
    caller may change an array in place; its memory is used again for the next one.
    """
    buffer = np.empty(segments * segment_samples, np.float32)
    filled = 0
    for block in blocks:
        taken = 0
        while taken < len(block):
            part = block[taken : taken + len(buffer) - filled]
            buffer[filled : filled + len(part)] = part
            filled += len(part)
            taken += len(part)
            if filled == len(buffer):
                yield buffer.reshape(segments, segment_samples)
                filled = 0
    rest = segment_audio(buffer[:filled], segment_samples)
    if len(rest):
        yield rest


def normalize(
    segments: NDArray[np.float32],
    *,
    level: Literal["peak", "rms"] = "peak",
    level_dbfs: float = -3.0,
) -> NDArray[np.float32]:
    """Bring each segment to a level; a segment of zeros stays unchanged.

    Parameters
    ----------
    segments
        float32 `[n, samples]`, where full scale is 1.
    level
        The measure that is brought to the level: the largest absolute sample, which cannot clip, or
        the root mean square.
    level_dbfs
        The level in dB relative to full scale.

    Returns
    -------
    float32 of the same shape.

    >>> normalize(np.array([[0.1, -0.2], [0, 0]], np.float32), level_dbfs=0).tolist()
    [[0.5, -1.0], [0.0, 0.0]]
    """
    match level:
        case "peak":
            found = np.maximum(segments.max(axis=1), -segments.min(axis=1))
        case "rms":
            found = np.sqrt(np.square(segments, dtype=np.float64).mean(axis=1)).astype(np.float32)
    # Below the smallest normal number the gain would overflow, so such a segment is silence.
    heard = found >= np.finfo(np.float32).tiny
    gain = np.float32(10 ** (level_dbfs / 20)) / np.where(heard, found, np.float32(1))
    return segments * np.where(heard, gain, np.float32(1))[:, None]
