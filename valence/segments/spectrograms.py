"""Mel spectrograms of a recording and of its augmented copies, computed chunk by chunk."""

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

# Segments that are levelled, augmented and transformed at once: few enough that each step finds
# the values of the step before in the cache, and enough that Python's overhead does not matter.
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
    """Compute the spectrograms of consecutive segments, of the clean recording and of each copy.

    Parameters
    ----------
    blocks
        The samples of the recording at `config.preprocess.sr`, in blocks of any length.
    config
        Settings for cutting, levelling, augmenting and transforming the segments.
    recording
        Id of the recording; the augmentation depends on it.
    copies
        Number of augmented copies.
    clock
        Clock that measures the steps `decode`, `level`, `augment` and `mel`.
    first, stop
        The segments before `first` and from `stop` on are left out; both are multiples of
        `CHUNK_SEGMENTS`. No block beyond `stop` is read; without `stop`, all blocks are read.

    Yields
    ------
    A list with one array for each copy, the clean recording first. Each array is float32
    `[n, n_mels, n_frames]` in dB; `n` is `CHUNK_SEGMENTS`, or fewer at the end.
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
