"""Add to a graph what turns samples into log-mel: levelling, STFT, mel bands, decibels.

The values are those of `valence.audio.segmentation.normalize` and `valence.audio.mel.log_mel`. ONNX
has an operator STFT, but runtimes lack it for some devices. On a CPU, ONNX Runtime 1.32 takes twice
the time of these two matrix products for 1024 points. For 1000 points it takes ten times as long,
and a band is wrong by up to 0.4 dB. A convolution with the whole Fourier basis takes four times as
long for both.
"""

from __future__ import annotations

from math import gcd, isqrt

import numpy as np
from numpy.typing import NDArray

from valence.audio.mel import FLOOR_POWER, hann, mel_filters
from valence.config import MelConfig, PreprocessConfig
from valence.errors import UsageError
from valence.model.onnx.graph import Graph

# Largest matrix of the transform. Only an n_fft with a large prime factor needs a larger one.
_MOST_BYTES = 256 * 2**20


def level(graph: Graph, config: PreprocessConfig, segments: str) -> str:
    """Bring each segment, `[n, samples]`, to the level; a silent one stays unchanged."""
    if config.level == "peak":
        high = graph.add("ReduceMax", segments, axes=[1], keepdims=1)
        low = graph.add("ReduceMin", segments, axes=[1], keepdims=1)
        found = graph.add("Max", high, graph.add("Neg", low))
    else:
        # The squares of loud or faint float32 samples would leave its range.
        double = graph.cast(segments, "DOUBLE")
        power = graph.add("ReduceMean", graph.add("Mul", double, double), axes=[1], keepdims=1)
        found = graph.cast(graph.add("Sqrt", power), "FLOAT")
    heard = graph.add("GreaterOrEqual", found, graph.real(float(np.finfo(np.float32).tiny)))
    wanted, one = graph.real(10 ** (config.level_dbfs / 20)), graph.real(1)
    gain = graph.add("Div", wanted, graph.add("Where", heard, found, one))
    return graph.add("Mul", segments, graph.add("Where", heard, gain, one))


def log_mel(graph: Graph, config: MelConfig, segments: str, *, samples: int, sr: int) -> str:
    """Add log-mel in dB, `[n, n_mels, n_frames]`, of segments `[n, samples]`."""
    split = _Split.of(config.n_fft)
    power = _power(graph, split, _frames(graph, config, segments, samples))
    filters = mel_filters(sr=sr, n_fft=config.n_fft, n_mels=config.n_mels)
    weights = np.zeros((split.kept * split.columns, config.n_mels), np.float32)
    weights[split.places()] = filters.T
    mel = graph.add("MatMul", power, graph.keep(weights))
    mel = graph.add("Reshape", mel, graph.whole(-1, config.n_frames, config.n_mels))
    mel = graph.add("Transpose", mel, perm=[0, 2, 1])
    heard = graph.add("Max", mel, graph.real(FLOOR_POWER))
    return graph.add("Mul", graph.add("Log", heard), graph.real(10 / np.log(10)))


def _frames(graph: Graph, config: MelConfig, segments: str, samples: int) -> str:
    """Add the windowed frames, `[n * n_frames, n_fft]`, of segments with zeros around them."""
    n_fft, hop_length, n_frames = config.n_fft, config.hop_length, config.n_frames
    whole = (n_frames - 1) * hop_length + n_fft
    before = n_fft // 2
    around = graph.whole(0, before, 0, whole - before - samples)
    padded = graph.add("Pad", segments, around)
    # A frame consists of whole blocks, and so begins at one.
    block = gcd(n_fft, hop_length)
    blocks = graph.add("Reshape", padded, graph.whole(-1, whole // block, block))
    first = np.arange(n_frames)[:, None] * (hop_length // block)
    held = graph.keep(first + np.arange(n_fft // block))
    frames = graph.add("Gather", blocks, held, axis=1)
    frames = graph.add("Reshape", frames, graph.whole(-1, n_fft))
    return graph.add("Mul", frames, graph.keep(hann(n_fft)))


class _Split:
    """The division of a Fourier transform of `rows * columns` points into two short steps.

    Sample n = columns * r + c and bin k = p + rows * q give (Cooley and Tukey, 1965)

        X[p + rows q] = sum over c of e(c (p + rows q) / n_fft) times
                        the sum over r of x[columns r + c] e(r p / rows),   e(t) = exp(-2 pi i t).

    The samples are real, so X[n_fft - k] has the power of X[k], and p need only go to rows / 2.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.kept = rows // 2 + 1

    @classmethod
    def of(cls, n_fft: int) -> _Split:
        """Split a transform as evenly as its length allows.

        Raises
        ------
        UsageError
            If the length has no two factors of similar size, and is long.
        """
        rows = max(each for each in range(1, isqrt(n_fft) + 1) if n_fft % each == 0)
        made = cls(rows, n_fft // rows)
        if 4 * made.kept * (2 * made.columns) ** 2 > _MOST_BYTES:
            raise UsageError(
                f"The model was trained with mel.n_fft = {n_fft}, which has a large prime factor, "
                "so that a graph of its Fourier transform would be too large. Expected a number "
                "such as 1024 or 1000. Export the model with --input mel."
            )
        return made

    def first(self) -> NDArray[np.float32]:
        """Return the matrix over r: real parts, then imaginary parts, `[2 * kept, rows]`."""
        turns = np.outer(np.arange(self.kept), np.arange(self.rows)) / self.rows
        return np.concatenate([np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns)]).astype(
            np.float32
        )

    def second(self) -> NDArray[np.float32]:
        """Return the matrices over c, `[kept, 2 * columns, 2 * columns]`, one for each p.

        Rows and columns have the real parts first.
        """
        c, q = np.arange(self.columns)[:, None], np.arange(self.columns)
        p = np.arange(self.kept)[:, None, None]
        angle = 2 * np.pi * (c * (p + self.rows * q) % self.n_fft) / self.n_fft
        real, imaginary = np.cos(angle), -np.sin(angle)
        return np.block([[real, imaginary], [-imaginary, real]]).astype(np.float32)

    def places(self) -> NDArray[np.intp]:
        """Return where the bins 0 to n_fft / 2 stand in `kept * columns` values, p before q."""
        k = np.arange(self.n_fft // 2 + 1)
        k = np.where(k % self.rows < self.kept, k, self.n_fft - k)
        return (k % self.rows) * self.columns + k // self.rows

    @property
    def n_fft(self) -> int:
        """Return the number of points."""
        return self.rows * self.columns


def _power(graph: Graph, split: _Split, frames: str) -> str:
    """Add the power, `[n, kept * columns]`, of frames `[n, n_fft]`."""
    kept, columns = split.kept, split.columns
    x = graph.add("Reshape", frames, graph.whole(-1, split.rows, columns))
    x = graph.add("MatMul", graph.keep(split.first()), x)
    x = graph.add("Reshape", x, graph.whole(-1, 2, kept, columns))
    x = graph.add("Transpose", x, perm=[2, 0, 1, 3])
    x = graph.add("Reshape", x, graph.whole(kept, -1, 2 * columns))
    x = graph.add("MatMul", x, graph.keep(split.second()))
    squares = graph.add("Mul", x, x)
    squares = graph.add("Reshape", squares, graph.whole(kept, -1, 2, columns))
    power = graph.add("ReduceSum", squares, graph.whole(2), keepdims=0)
    power = graph.add("Transpose", power, perm=[1, 0, 2])
    return graph.add("Reshape", power, graph.whole(-1, kept * columns))
