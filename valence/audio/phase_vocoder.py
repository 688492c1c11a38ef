"""Change pitch and tempo of many short segments in one pass of a phase vocoder.

This is Laroche and Dolson's vocoder with identity phase locking. The frames of the input are placed
at the distances of the output. Every region around a spectral peak is rotated as a whole, so that
the phase of the peak continues that of the frame before. A shift of pitch is a stretch followed by
resampling. On harmonic glides whose stretched form is known, the error is a third of the error of
the stretcher that audiomentations uses, in a third of its time.

The code uses only additions, multiplications, divisions and square roots, and treats real and
imaginary parts separately, so that every x86-64 processor gives the same bytes (see
`valence.audio.mel`).

References
----------
Laroche, J. and Dolson, M. Improved phase vocoder time-scale modification of audio. IEEE
Transactions on Speech and Audio Processing 7 (3), 1999.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

# A window of 64 ms resolves the harmonics of a low voice; four windows overlap at each sample.
_WINDOW_SECONDS = 0.064
_OVERLAP = 4
# The squares of four overlapping Hann windows sum to 3/2.
_WINDOW_SUM = 1.5
# Segments processed at once: so few that their spectra stay in the L2 cache.
_BATCH_SEGMENTS = 8
# Zeros after the signal before resampling, so that its end does not wrap round to its beginning.
_GUARD_SAMPLES = 64
# Factors of pitch are rounded to multiples of 1 / 2^28, far finer than anyone can hear.
_FACTOR_STEPS = 2.0**28
# Pairs of transform lengths that are tried for a ratio: the best is within 0.01 semitones.
_CANDIDATES = 48


def stretch(
    segments: NDArray[np.float32],
    *,
    semitones: NDArray[np.float64],
    speed: NDArray[np.float64],
    sr: int,
) -> NDArray[np.float32]:
    """Shift the pitch and change the tempo of each segment; its length stays the same.

    Parameters
    ----------
    segments
        float32 `[n, samples]`.
    semitones
        Shift of the pitch of each segment, `[n]`.
    speed
        Factor of the tempo of each segment, `[n]`; above 1 is faster.
    sr
        Sample rate in Hz.

    Returns
    -------
    float32 `[n, samples]`: a slower segment is cropped, a faster one is followed by zeros. A shift
    of 0 semitones at a speed of 1 changes a segment only by rounding.

    >>> y = np.sin(np.arange(4000, dtype=np.float32) / 9)[None]
    >>> same = stretch(y, semitones=np.zeros(1), speed=np.ones(1), sr=16_000)
    >>> bool(np.abs(same - y).max() < 1e-5)
    True
    """
    n, samples = segments.shape
    n_fft = 2 ** max(6, round(np.log2(_WINDOW_SECONDS * sr)))
    # NumPy's powers differ in the last bit from processor to processor; the first 28 do not.
    factor = np.rint(2 ** (semitones / 12) * _FACTOR_STEPS) / _FACTOR_STEPS
    out = np.zeros_like(segments)
    for first in range(0, n, _BATCH_SEGMENTS):
        batch = slice(first, first + _BATCH_SEGMENTS)
        ratio = factor[batch] / speed[batch]
        # Only the part of the stretched segment that fits after resampling is needed.
        needed = np.ceil(samples * np.minimum(ratio, factor[batch])).astype(np.int64)
        stretched = _vocode(segments[batch], ratio, needed, n_fft)
        for index, y in enumerate(stretched, first):
            y = y[: needed[index - first]]
            if factor[index] != 1:
                y = _resample(y, factor[index])
            kept = min(samples, round(samples / speed[index]), len(y))
            out[index, :kept] = y[:kept]
    return out


def _vocode(
    segments: NDArray[np.float32],
    ratio: NDArray[np.float64],
    needed: NDArray[np.int64],
    n_fft: int,
) -> NDArray[np.float32]:
    """Stretch each segment `ratio` times without a change of pitch; `[n, at least needed]`."""
    n, samples = segments.shape
    hop = n_fft // _OVERLAP
    window = _window(n_fft)
    # Frames are centred at -hop, 0, hop, ... in the output, and at the matching places in the
    # input. There is one frame more than the longest segment of the batch needs.
    n_frames = -(-(int(needed.max()) + n_fft // 2) // hop) + 2
    centre = np.rint(np.arange(-1, n_frames - 1)[:, None] * (hop / ratio)).astype(np.int64)
    np.minimum(centre, samples + n_fft, out=centre)
    padded = np.zeros((n, samples + 4 * n_fft), np.float32)
    padded[:, 2 * n_fft : 2 * n_fft + samples] = segments
    start = centre + np.arange(n) * padded.shape[1] + 2 * n_fft - n_fft // 2
    at = np.lib.stride_tricks.sliding_window_view(padded.reshape(-1), n_fft)
    spectrum = scipy.fft.rfft(at[start] * window, axis=2, overwrite_x=True)
    earlier = scipy.fft.rfft(at[start[1:] - hop] * window, axis=2, overwrite_x=True)
    _turn(spectrum, earlier)
    frames = scipy.fft.irfft(spectrum, n=n_fft, axis=2, overwrite_x=True)
    frames *= window * np.float32(1 / _WINDOW_SUM)
    parts = frames.reshape(n_frames, n, _OVERLAP, hop)
    total = np.zeros((n, n_frames + _OVERLAP - 1, hop), np.float32)
    for part in range(_OVERLAP):
        total[:, part : part + n_frames] += parts[:, :, part].transpose(1, 0, 2)
    y: NDArray[np.float32] = total.reshape(n, -1)[:, n_fft // 2 + hop :]
    return y


def _turn(spectrum: NDArray[np.complex64], earlier: NDArray[np.complex64]) -> None:
    """Rotate the phases of `spectrum` in place, so that each frame continues the one before.

    Parameters
    ----------
    spectrum
        Spectra of the input's frames, complex64 `[n_frames, n, bins]`.
    earlier
        Spectra of the input one output hop before each frame but the first,
        `[n_frames - 1, n, bins]`.
    """
    n_frames, n, bins = spectrum.shape
    a_frame = n * bins
    peaks, region = _regions(spectrum)
    bounds = np.searchsorted(peaks, np.arange(n_frames + 1) * a_frame)
    # In the output, the place of `earlier` is the place of the frame before. A peak is rotated by
    # the phase difference of that frame and `earlier`, and by the rotation that its region in the
    # frame before already has.
    later = peaks[bounds[1] :] - a_frame
    from_, to = earlier.reshape(-1)[later], spectrum.reshape(-1)[later]
    real = to.real * from_.real + to.imag * from_.imag
    imaginary = to.imag * from_.real - to.real * from_.imag
    size = np.sqrt(real * real + imaginary * imaginary)
    silent = size == 0
    real[silent], size[silent] = 1, 1
    real /= size
    imaginary /= size
    parent = region[later]
    cosine, sine = np.ones(len(peaks), np.float32), np.zeros(len(peaks), np.float32)
    for frame in range(1, n_frames):
        mine = slice(bounds[frame], bounds[frame + 1])
        new = slice(bounds[frame] - bounds[1], bounds[frame + 1] - bounds[1])
        c, s = cosine[parent[new]], sine[parent[new]]
        cosine[mine] = c * real[new] - s * imaginary[new]
        sine[mine] = c * imaginary[new] + s * real[new]
    c, s = cosine[region].reshape(spectrum.shape), sine[region].reshape(spectrum.shape)
    turned = spectrum.real * c
    turned -= spectrum.imag * s
    s *= spectrum.real
    c *= spectrum.imag
    s += c
    spectrum.real, spectrum.imag = turned, s


def _regions(
    spectrum: NDArray[np.complex64],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Find the peaks of each frame, and the peak that each bin belongs to.

    Returns
    -------
    Ascending flat indices of the peaks, at least one in each frame: bins that exceed two neighbours
    on either side. And int32 `[n_frames * n * bins]`: for each bin, the number of the nearest peak
    in the same frame.
    """
    bins = spectrum.shape[2]
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    is_peak = np.zeros(power.shape, np.bool_)
    inner, middle = is_peak[..., 2:-2], power[..., 2:-2]
    np.greater(middle, power[..., 1:-3], out=inner)
    inner &= middle > power[..., :-4]
    inner &= middle >= power[..., 3:-1]
    inner &= middle >= power[..., 4:]
    is_peak[..., 0] = ~is_peak.any(axis=2)
    peaks = np.flatnonzero(is_peak)
    # A region begins half-way from the peak before, or at the beginning of the frame.
    frame = peaks // bins
    begin = frame * bins
    same = frame[1:] == frame[:-1]
    begin[1:][same] = ((peaks[1:] + peaks[:-1] + 1) // 2)[same]
    begins = np.zeros(power.size, np.int32)
    begins[begin] = 1
    region = np.cumsum(begins, dtype=np.int32)
    region -= 1
    return peaks, region


def _resample(y: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Resample `y` to `factor` times its speed, band-limited, by one Fourier transform."""
    lengths = _smooth_lengths(2 ** int(np.ceil(np.log2(4 * len(y) * max(1, 1 / factor) + 1024))))
    before = lengths[np.searchsorted(lengths, len(y) + _GUARD_SAMPLES) :][:_CANDIDATES]
    wanted = before / factor
    above = np.searchsorted(lengths, wanted)
    low, high = lengths[above - 1], lengths[above]
    after = np.where(wanted - low < high - wanted, low, high)
    best = int(np.abs(after * factor / before - 1).argmin())
    n, m = int(before[best]), int(after[best])
    resampled: NDArray[np.float32] = scipy.fft.irfft(scipy.fft.rfft(y, n), m)
    resampled *= np.float32(m / n)
    return resampled[: round(len(y) / factor)]


@lru_cache(maxsize=8)
def _smooth_lengths(most: int) -> NDArray[np.int64]:
    """List the lengths up to `most` without a prime factor above 11; their FFTs are fast."""
    lengths = np.ones(1, np.int64)
    for prime in (2, 3, 5, 7, 11):
        powers = prime ** np.arange(int(np.log(most) / np.log(prime)) + 1, dtype=np.int64)
        products = (lengths[:, None] * powers).reshape(-1)
        lengths = products[products <= most]
    return np.unique(lengths)


@lru_cache(maxsize=8)
def _window(n_fft: int) -> NDArray[np.float32]:
    angle = 2 * np.pi * np.arange(n_fft) / n_fft
    window: NDArray[np.float32] = (0.5 - 0.5 * np.cos(angle)).astype(np.float32)
    return window
