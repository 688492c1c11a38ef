"""Find where somebody speaks: the share of speech in each segment of a recording.

Two methods are known. The network Silero VAD is used where the extra `speech` is installed. Without
it, speech is told from silence by the energy of the sound, which takes loud noise and music for
speech too. A result names its method.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from valence.audio import silero
from valence.errors import UsageError

Array = NDArray[np.float32]
SpeechMethod = Literal["auto", "silero", "energy"]

ENERGY = "energy"
INSTALL = "install the extra 'speech' (.venv/bin/pip install -e '.[speech]')"

# A step with less speech than this share counts as one in which nobody speaks.
LEAST_SHARE = 0.1

# Length of a frame whose energy is measured, that of Silero's.
_FRAME_SECONDS = 0.032
# Loud speech is the level that so small a share of the frames exceeds, the noise of the room the
# level below which so small a share lies.
_EXTREME = 0.05
# Speech lies at most so many dB below loud speech, and so many dB above the noise of the room.
_RANGE_DB = 35.0
_ABOVE_NOISE_DB = 6.0
# Down to so many dB below loud speech, all is speech: where there are no pauses, the quietest
# speech must not be taken for the noise of the room.
_ALWAYS_DB = 20.0
# Below this level in dB relative to full scale, everything is silence.
_SILENCE_DBFS = -70.0
# Pauses and bursts that are shorter are no pauses and no speech, in seconds.
_LEAST_PAUSE = 0.1
_LEAST_BURST = 0.1


@dataclass(frozen=True)
class SpeechSettings:
    """How speech is found, and what happens where nobody speaks.

    Attributes
    ----------
    by
        The method, as `speech_method` takes it.
    least_share
        A step with a smaller share of speech counts as one in which nobody speaks.
    mask
        Whether the predicted values of such steps are left out.
    """

    by: str = "auto"
    least_share: float = LEAST_SHARE
    mask: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.least_share <= 1:
            raise UsageError(
                f"The least share of speech was given as {self.least_share:g}. Expected a number "
                f"above 0 and up to 1, such as {LEAST_SHARE:g}: the part of a step in which "
                "somebody must speak. Give one with --speech-share."
            )


DEFAULT = SpeechSettings()


class _Frames(Protocol):
    """Finds the frames of one recording that are speech."""

    def add(self, y: Array) -> None:
        """Hear the next samples."""

    def finish(self) -> tuple[NDArray[np.bool_], float]:
        """Return whether each frame is speech, and the length of a frame in seconds."""


def speech_method(asked: str = "auto") -> str:
    """Name the method that finds speech here: `"silero-vad <version>"` or `"energy"`.

    Parameters
    ----------
    asked
        `"auto"`: Silero VAD where it is installed, else energy; `"silero"`; `"energy"`; or a name
        that this function has returned, perhaps on another machine.

    Raises
    ------
    UsageError
        If Silero VAD is asked for and not installed, or installed in another version than asked.
    """
    version = silero.version()
    found = ENERGY if version is None else f"silero-vad {version}"
    if asked in ("auto", found):
        return found
    if asked == ENERGY:
        return ENERGY
    if asked != "silero":
        raise UsageError(
            f"Speech was to be found by '{asked}', and this machine has '{found}'. Expected the "
            f"same on every machine. Where it is missing, {INSTALL}; or choose '--speech energy'."
        )
    if version is None:
        raise UsageError(
            "Speech was to be found by Silero VAD, which is not installed. Expected the packages "
            f"silero-vad and onnxruntime. To have them, {INSTALL}; or choose '--speech energy'."
        )
    return found


class SpeechDetector:
    """Finds the share of speech in each segment of one recording.

    Parameters
    ----------
    method
        The method, as `speech_method` takes it.
    sr
        Sample rate of the recording in Hz.

    Attributes
    ----------
    by
        Name of the method.

    Raises
    ------
    UsageError
        If the method is not available on this machine.
    """

    def __init__(self, method: str = "auto", *, sr: int) -> None:
        self.by = speech_method(method)
        self._frames: _Frames = _EnergyFrames(sr) if self.by == ENERGY else silero.SileroFrames(sr)

    def listen(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """Hear blocks of samples while they are handed on unchanged."""
        for block in blocks:
            self._frames.add(block)
            yield block

    def shares(self, n: int, *, step: float) -> Array:
        """Compute the share of speech in the first `n` segments of `step` seconds.

        Returns
        -------
        float32 `[n]`, from 0 to 1, with four decimals.
        """
        speech, seconds = self._frames.finish()
        return shares_of(speech, seconds, n, step=step)


def shares_of(speech: NDArray[np.bool_], seconds: float, n: int, *, step: float) -> Array:
    """Compute the share of speech in segments from frames of another length.

    Parameters
    ----------
    speech
        Whether each frame is speech, bool `[frames]`.
    seconds, step
        Length of a frame, and of a segment, in seconds.
    n
        Number of segments.

    Returns
    -------
    float32 `[n]`, from 0 to 1, with four decimals. What lies after the last frame is no speech.

    >>> shares_of(np.array([True, False, False, True]), 0.25, 2, step=0.5).tolist()
    [0.5, 0.5]
    """
    edges = seconds * np.arange(len(speech) + 1)
    spoken = np.concatenate([[0.0], np.cumsum(speech) * seconds])
    at = np.interp(step * np.arange(n + 1), edges, spoken)
    shares: Array = np.round(np.clip(np.diff(at) / step, 0, 1), 4).astype(np.float32)
    return shares


def silent_steps(shares: Array | None, least_share: float) -> NDArray[np.bool_] | None:
    """Tell in which steps nobody speaks: those with less speech than `least_share`.

    >>> silent_steps(np.array([0, 0.05, 0.1, 1], np.float32), 0.1).tolist()
    [True, True, False, False]
    """
    # Shares have four decimals; this keeps one that equals the least from being below it.
    return None if shares is None else shares < np.float32(least_share)


class _EnergyFrames:
    """The frames of a recording whose energy is that of speech."""

    def __init__(self, sr: int) -> None:
        self._samples = max(1, round(_FRAME_SECONDS * sr))
        self._seconds = self._samples / sr
        self._rest = np.empty(0, np.float32)
        self._power: list[NDArray[np.float64]] = []

    def add(self, y: Array) -> None:
        y = np.concatenate([self._rest, y])
        whole = len(y) // self._samples * self._samples
        self._measure(y[:whole])
        self._rest = y[whole:]

    def finish(self) -> tuple[NDArray[np.bool_], float]:
        if len(self._rest):
            self._measure(np.pad(self._rest, (0, self._samples - len(self._rest))))
            self._rest = self._rest[:0]
        power = np.concatenate([np.empty(0), *self._power])
        return speech_by_energy(power, self._seconds), self._seconds

    def _measure(self, y: Array) -> None:
        frames = y.reshape(-1, self._samples)
        self._power.append(np.square(frames, dtype=np.float64).mean(axis=1))


def speech_by_energy(power: NDArray[np.float64], seconds: float) -> NDArray[np.bool_]:
    """Tell frames of speech from silence by their energy.

    The level of loud speech is the one that 5 % of the frames exceed, and the noise of the room is
    the level of the quietest 5 %. A frame above -70 dBFS is speech if it lies less than 35 dB
    below loud speech and more than 6 dB above the noise; or, whatever the noise, less than 20 dB
    below loud speech. Pauses and bursts shorter than 0.1 s are then removed. The form of the rule
    is that of Praat's "To TextGrid (silences)", with quantiles in place of the maximum, so that one
    knock does not turn all else to silence. The numbers were chosen on 45 minutes of speech.

    Parameters
    ----------
    power
        Mean square of the samples of each frame, float64 `[frames]`, full scale being 1.
    seconds
        Length of a frame in seconds.

    Returns
    -------
    bool `[frames]`.
    """
    level = 10 * np.log10(np.maximum(power, 1e-20))
    heard = level > _SILENCE_DBFS
    if not heard.any():
        return heard
    loud = float(np.quantile(level[heard], 1 - _EXTREME))
    noise = float(np.quantile(level, _EXTREME))
    least = max(loud - _RANGE_DB, min(noise + _ABOVE_NOISE_DB, loud - _ALWAYS_DB))
    speech = heard & (level > least)
    speech = _without_short(speech, False, round(_LEAST_PAUSE / seconds))
    return _without_short(speech, True, round(_LEAST_BURST / seconds))


def _without_short(found: NDArray[np.bool_], value: bool, least: int) -> NDArray[np.bool_]:
    """Flip the runs of `value` that have fewer than `least` frames and lie between others."""
    kept = found.copy()
    edges = np.flatnonzero(np.diff(found.astype(np.int8))) + 1
    for start, end in pairwise(edges):
        if found[start] == value and end - start < least:
            kept[start:end] = not value
    return kept
