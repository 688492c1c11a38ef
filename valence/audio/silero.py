"""Find speech with the network Silero VAD, whose weights lie in the package `silero-vad`.

The package itself is never imported: that would set torch to one thread for the whole process. ONNX
Runtime runs the network's ONNX form, which takes many frames in one call. A frame is 512 samples at
16 kHz, and the network needs the 64 samples before it too: without them it hears no speech at all.

Source: Silero Team, "Silero VAD: pre-trained enterprise-grade Voice Activity Detector", 2024,
https://github.com/snakers4/silero-vad (MIT licence).
"""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from valence.errors import ModelError, first_line

Array = NDArray[np.float32]

SR = 16_000
FRAME_SAMPLES = 512
# From this probability on, a frame is speech: the network's own default.
LEAST_PROBABILITY = 0.5

_PACKAGE = "silero-vad"
_WEIGHTS = Path("data") / "silero_vad_16k_sequence.onnx"
_CONTEXT_SAMPLES = 64
_STATE_SHAPE = (1, 1, 128)
# Frames in one call, 16 seconds: more gain no time and take more memory.
_MOST_FRAMES = 512


def version() -> str | None:
    """Return the version of the installed network, or None if it cannot be run here.

    Both the package with the weights and ONNX Runtime are needed; neither is imported.
    """
    if find_spec("onnxruntime") is None or _weights() is None:
        return None
    return metadata.version(_PACKAGE)


class SileroFrames:
    """The frames of a recording in which the network hears speech.

    Parameters
    ----------
    sr
        Sample rate of the recording in Hz. Other rates than 16 kHz are resampled.

    Raises
    ------
    ModelError
        If the network cannot be loaded.
    """

    def __init__(self, sr: int) -> None:
        self._session = _session()
        self._resampler = None if sr == SR else soxr.ResampleStream(sr, SR, 1)
        self._rest = np.empty(0, np.float32)
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)
        self._hidden = np.zeros(_STATE_SHAPE, np.float32)
        self._cell = np.zeros(_STATE_SHAPE, np.float32)
        self._found: list[NDArray[np.bool_]] = []

    def add(self, y: Array) -> None:
        """Hear the next samples of the recording, float32 `[samples]`."""
        if self._resampler is not None:
            y = self._resampler.resample_chunk(np.ascontiguousarray(y))
        self._rest = np.concatenate([self._rest, y])
        block = _MOST_FRAMES * FRAME_SAMPLES
        while len(self._rest) >= block:
            self._hear(self._rest[:block])
            self._rest = self._rest[block:]

    def finish(self) -> tuple[NDArray[np.bool_], float]:
        """Return whether each frame is speech, bool `[frames]`, and a frame's length in seconds."""
        if self._resampler is not None:
            last = self._resampler.resample_chunk(np.empty(0, np.float32), last=True)
            self._rest = np.concatenate([self._rest, last])
        if len(self._rest):
            self._hear(np.pad(self._rest, (0, -len(self._rest) % FRAME_SAMPLES)))
            self._rest = self._rest[:0]
        found = np.concatenate([np.empty(0, np.bool_), *self._found])
        return found, FRAME_SAMPLES / SR

    def _hear(self, y: Array) -> None:
        """Give whole frames to the network, each with the samples before it."""
        for start in range(0, len(y), _MOST_FRAMES * FRAME_SAMPLES):
            frames = y[start : start + _MOST_FRAMES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
            before = np.vstack([self._context, frames[:-1, -_CONTEXT_SAMPLES:]])
            probability, self._hidden, self._cell = self._session.run(
                ["speech_probs", "hn", "cn"],
                {"input": np.hstack([before, frames]), "h": self._hidden, "c": self._cell},
            )
            self._context = frames[-1, -_CONTEXT_SAMPLES:]
            self._found.append(np.ravel(probability) >= LEAST_PROBABILITY)


def _weights() -> Path | None:
    """Find the file of the weights without importing the package."""
    spec = find_spec("silero_vad")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (Path(folder) / _WEIGHTS).is_file():
            return Path(folder) / _WEIGHTS
    return None


def _session() -> Any:
    weights = _weights()
    assert weights is not None, "`version` has found the weights"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread, so that sums have one order; and no warnings about needless weights in the file.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(weights), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelError(
            f"'{weights}' cannot be loaded: {first_line(error)}. Expected the network of the "
            f"package {_PACKAGE}. Install it again, or choose '--speech energy'."
        ) from error
