"""The mel spectrograms of a recording and of its augmented copies, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

from valence.audio.augmentation import augment
from valence.audio.mel import log_mel
from valence.audio.segmentation import iter_segments, normalize
from valence.config import Config
from valence.segments.timing import StepClock

# Segments levelled, augmented and transformed at once: few enough that what one step leaves in the
# cache the next one finds there, and enough that Python's own work does not count.
CHUNK_SEGMENTS = 20


def iter_spectrograms(
    blocks: Iterable[NDArray[np.float32]],
    config: Config,
    *,
    recording: str,
    copies: int,
    clock: StepClock,
    first: int = 0,
    stop: int | None = None,
) -> Iterator[list[NDArray[np.float32]]]:
    """Spectrograms of consecutive segments, of the clean recording and of each copy.

    Parameters
    ----------
    blocks
        The recording at `config.preprocess.sr`, in blocks of any length.
    config
        How segments are cut, levelled, augmented and transformed.
    recording
        Its Id, which the augmentation depends on.
    copies
        Augmented copies.
    clock
        Takes the time of the steps `decode`, `level`, `augment` and `mel`.
    first, stop
        Segments before `first`, and from `stop` on, are left out; both are multiples of
        `CHUNK_SEGMENTS`. Blocks are not asked for beyond `stop`, and to their end without it.

    Yields
    ------
    One array a copy, the clean recording's first, each float32 `[n, n_mels, n_frames]` in dB, `n`
    being `CHUNK_SEGMENTS` but at the end.
    """
    preprocess = config.preprocess
    chunks = iter_segments(blocks, preprocess.segment_samples, segments=CHUNK_SEGMENTS)
    for start in count(0, CHUNK_SEGMENTS):
        if start == stop:
            return
        with clock.step("decode"):
            chunk = next(chunks, None)
        if chunk is None:
            return
        if start < first:
            continue
        with clock.step("level"):
            clean = normalize(chunk, level=preprocess.level, level_dbfs=preprocess.level_dbfs)
        spectrograms = []
        for copy in range(copies + 1):
            segments = clean
            if copy:
                with clock.step("augment"):
                    segments = augment(
                        clean,
                        config.augment,
                        sr=preprocess.sr,
                        seed=preprocess.seed,
                        recording=recording,
                        copy=copy,
                        first_segment=start,
                    )
            with clock.step("mel"):
                spectrograms.append(log_mel(segments, config.mel, sr=preprocess.sr))
        yield spectrograms
