"""Compute eGeMAPSv02 of segments or sequences with openSMILE, which is an extra.

Three habits of openSMILE 2.6.0 are met here. A sample of 1.0 or more wraps to the negative end, so
samples are limited below it. Loudness grows with the sample rate, so all sound comes at 16 kHz. A
feature that could not be measured is given as exactly 0, so it becomes NaN.

The features are those of Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for
Voice Research and Affective Computing", IEEE Transactions on Affective Computing 7(2), 2016.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valence.audio.segmentation import iter_segments
from valence.errors import UsageError

SR = 16_000
"""Sample rate in Hz of all sound that openSMILE gets."""

FULL_SCALE = np.float32(32_767 / 32_768)
"""The largest sample that openSMILE keeps as it is."""

# Where there is no voiced frame, the mean of a formant's relative amplitude is this floor.
_NO_VOICE = -201.0
_AMPLITUDES = tuple(f"F{each}amplitudeLogRelF0_sma3nz_amean" for each in (1, 2, 3))
# Features that can be 0 as a measurement: counts, and what digital silence has none of.
_TRUE_ZEROS = frozenset(
    {
        "loudnessPeaksPerSec",
        "VoicedSegmentsPerSec",
        "spectralFlux_sma3_amean",
        "equivalentSoundLevel_dBp",
        *(
            f"loudness_sma3_{each}"
            for each in ("amean", "percentile20.0", "percentile50.0", "percentile80.0")
        ),
        "loudness_sma3_pctlrange0-2",
    }
)
# Segments that are cut from the stream at once.
_TOGETHER = 64


@dataclass(frozen=True)
class Extractor:
    """openSMILE's eGeMAPSv02 functionals.

    Attributes
    ----------
    smile
        openSMILE's own object.
    columns
        Names of the 88 features.
    """

    smile: Any
    columns: tuple[str, ...]

    @classmethod
    def load(cls) -> Extractor:
        """Load openSMILE.

        Raises
        ------
        UsageError
            If the package is not installed.
        """
        require_opensmile()
        opensmile = import_module("opensmile")
        smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
        return cls(smile, tuple(map(str, smile.feature_names)))

    def measure(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the features of one piece of sound.

        Parameters
        ----------
        y
            float32 `[samples]` at `SR`, below full scale (`limited`).

        Returns
        -------
        float32 `[88]`, NaN where a feature could not be measured.
        """
        found = np.asarray(self.smile(y, SR), np.float32).reshape(-1)
        return without_false_zeros(found, self.columns)


def require_opensmile() -> str:
    """Return the version of openSMILE.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    if find_spec("opensmile") is None:
        raise UsageError(
            "eGeMAPS needs the package opensmile, which is not installed. Expected version 2.6 on "
            "every node. Install it with pip install -e '.[opensmile]', on a cluster in its image "
            "(cluster/Dockerfile, EXTRAS); its licence forbids commercial use, of features too."
        )
    return version("opensmile")


def limited(y: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Limit samples to what openSMILE keeps as it is; also count those that were beyond.

    >>> y, beyond = limited(np.array([0.5, 1.0, -1.2], np.float32))
    >>> bool(y.max() < 1), float(y.min()) > -1, beyond
    (True, True, 2)
    """
    beyond = int(np.count_nonzero(np.abs(y) > FULL_SCALE))
    return (np.clip(y, -FULL_SCALE, FULL_SCALE) if beyond else y), beyond


def without_false_zeros(value: NDArray[np.float32], columns: Iterable[str]) -> NDArray[np.float32]:
    """Replace the zeros that mean "not measurable" by NaN, and so the floor of -201.

    A segment without a voiced frame has no pitch, and openSMILE gives 0 semitones for it.

    >>> without_false_zeros(
    ...     np.array([0, 0, -201], np.float32),
    ...     ["loudnessPeaksPerSec", "HNRdBACF_sma3nz_amean", "F1amplitudeLogRelF0_sma3nz_amean"],
    ... ).tolist()
    [0.0, nan, nan]
    """
    names = list(columns)
    may_be_zero = np.array([name in _TRUE_ZEROS for name in names])
    of_amplitude = np.array([name in _AMPLITUDES for name in names])
    false = (value == 0) & ~may_be_zero
    false |= (value == _NO_VOICE) & of_amplitude
    return np.where(false, np.float32(np.nan), value).astype(np.float32)


@dataclass
class Measured:
    """What was counted while a recording was measured: segments, and samples beyond full scale."""

    segments: int = 0
    beyond: int = 0


def measure_recording(
    extractor: Extractor,
    blocks: Iterable[NDArray[np.float32]],
    counts: Measured,
    *,
    segment_samples: int,
    length: int = 1,
    stride: int = 1,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Compute the features of each segment, or of each sequence, of a recording.

    Parameters
    ----------
    extractor
        The features.
    blocks
        The sound at `SR`, float32 `[samples]` each.
    counts
        Filled while the sound is read.
    segment_samples
        Samples of a segment at `SR`.
    length, stride
        Segments in a sequence, and from one to the next; 1 and 1 for segments.

    Yields
    ------
    First segment of the segment or sequence, and its features, float32 `[88]`.
    """
    held: deque[NDArray[np.float32]] = deque(maxlen=length)
    for segments in iter_segments(blocks, segment_samples, segments=_TOGETHER):
        for segment in segments:
            y, beyond = limited(segment)
            counts.beyond += beyond
            # The memory of `segments` is used again for the next ones.
            held.append(y.copy())
            counts.segments += 1
            start = counts.segments - length
            if start >= 0 and start % stride == 0:
                yield start, extractor.measure(np.concatenate(held))
