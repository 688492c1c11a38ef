"""Compute log-mel spectrograms of many segments at a time.

The result of every step is either fixed by IEEE 754, or the libraries compute it alike on every
x86-64 processor. A cluster whose nodes differ therefore gives the same bytes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray

from valence.config import MelConfig

# Smaller powers count as silence: 10 log10 of this power is -100 dB.
FLOOR_POWER = 1e-10

# Segments transformed at once: so few that frames, spectra and bands stay in the L2 cache.
_CHUNK_SEGMENTS = 10

# Slaney's scale is linear up to 1000 Hz and logarithmic above.
_HZ_PER_MEL = 200 / 3
_BREAK_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27

# Bits of the float32 nearest to the square root of 1/2; number of bits below the exponent.
_HALF_ROOT_BITS = np.int32(0x3F3504F3)
_MANTISSA_BITS = 23
# Coefficients of the series of 10 log10(exp(2 artanh s)) / s; the dB of a factor of 2.
_ARTANH = [np.float32(20 / np.log(10) / odd) for odd in (1, 3, 5, 7)]
_OCTAVE = np.float32(10 * np.log10(2))


def log_mel(segments: NDArray[np.float32], config: MelConfig, *, sr: int) -> NDArray[np.float32]:
    """Compute the log-mel spectrogram of each segment.

    A segment is padded with zeros to `(n_frames - 1) * hop_length` samples and transformed by a
    centred STFT (periodic Hann window, zeros beyond the ends). Its power is summed in mel bands
    (Slaney's scale and area normalisation) and expressed in dB: `10 log10(max(S, 1e-10))`, with no
    limit relative to the segment's maximum. This equals librosa's `melspectrogram` followed by
    `power_to_db` with `top_db=None`.

    Parameters
    ----------
    segments
        float32 `[n, samples]`, where full scale is 1.
    config
        Settings of transform, bands and frames.
    sr
        Sample rate in Hz.

    Returns
    -------
    float32 `[n, n_mels, n_frames]`, in dB. Each segment's result is independent of the others.

    >>> log_mel(np.zeros((2, 8000), np.float32), MelConfig(), sr=16_000).shape
    (2, 128, 34)
    """
    n, samples = segments.shape
    n_fft, hop_length, n_frames = config.n_fft, config.hop_length, config.n_frames
    assert samples <= (n_frames - 1) * hop_length, "the frames hold the segment"
    window, filters = hann(n_fft), _filters(sr, n_fft, config.n_mels)
    size = max(1, min(n, _CHUNK_SEGMENTS))
    padded = np.zeros((size, (n_frames - 1) * hop_length + n_fft), np.float32)
    row, sample = padded.strides
    frames = np.lib.stride_tricks.as_strided(
        padded, (size, n_frames, n_fft), (row, hop_length * sample, sample), writeable=False
    )
    windowed = np.empty((size, n_frames, n_fft), np.float32)
    power = np.empty((size * n_frames, n_fft // 2 + 1), np.float32)
    imaginary = np.empty_like(power)
    by_bin = np.empty(power.shape[::-1], np.float32)
    mel = np.empty((n, config.n_mels, n_frames), np.float32)
    for first in range(0, n, size):
        chunk = segments[first : first + size]
        padded[: len(chunk), n_fft // 2 : n_fft // 2 + samples] = chunk
        np.multiply(frames, window, out=windowed)
        spectrum = scipy.fft.rfft(windowed.reshape(-1, n_fft), axis=1, overwrite_x=True)
        np.square(spectrum.real, out=power)
        np.square(spectrum.imag, out=imaginary)
        power += imaginary
        by_bin[:] = power.T
        bands = decibel(filters @ by_bin).reshape(config.n_mels, size, n_frames)
        mel[first : first + len(chunk)] = bands.transpose(1, 0, 2)[: len(chunk)]
    return mel


def decibel(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute `10 log10(max(power, 1e-10))` in float32, with an error below 2e-5 dB.

    The computation uses only additions, multiplications and divisions, because the last bits of
    numpy's logarithm differ between processors with and without AVX-512.

    >>> decibel(np.array([1, 100, 0], np.float32)).tolist()
    [0.0, 20.0, -100.0]
    """
    # power = mantissa * 2**exponent with the mantissa in [sqrt(1/2), sqrt(2)).
    bits = np.maximum(power, np.float32(FLOOR_POWER)).view(np.int32)
    exponent = bits - _HALF_ROOT_BITS
    exponent >>= _MANTISSA_BITS
    bits -= exponent << _MANTISSA_BITS
    mantissa = bits.view(np.float32)
    # ln m = 2 artanh s, s = (m - 1) / (m + 1); with |s| < 0.172 four terms leave 1e-7 dB.
    s = mantissa - np.float32(1)
    mantissa += np.float32(1)
    s /= mantissa
    square = np.multiply(s, s, out=mantissa)
    series: NDArray[np.float32] = square * _ARTANH[-1]
    for coefficient in _ARTANH[-2:0:-1]:
        series += coefficient
        series *= square
    series += _ARTANH[0]
    series *= s
    np.multiply(exponent, _OCTAVE, out=s, casting="unsafe", dtype=np.float32)
    series += s
    return series


def mel_filters(*, sr: int, n_fft: int, n_mels: int) -> NDArray[np.float32]:
    """Compute triangular filters of area 1 on Slaney's mel scale, as librosa's `filters.mel`.

    Returns
    -------
    float32 `[n_mels, n_fft // 2 + 1]`, from 0 Hz to `sr / 2`.

    References
    ----------
    Slaney, M. Auditory Toolbox, version 2. Interval Research Corporation, 1998.
    """
    top = _BREAK_HZ / _HZ_PER_MEL + np.log(sr / 2 / _BREAK_HZ) / _LOG_STEP
    if sr / 2 < _BREAK_HZ:
        top = sr / 2 / _HZ_PER_MEL
    mels = np.linspace(0, top, n_mels + 2)
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_HZ / _HZ_PER_MEL))
    edges = np.where(mels * _HZ_PER_MEL < _BREAK_HZ, mels * _HZ_PER_MEL, above)
    ramps = edges[:, None] - np.fft.rfftfreq(n_fft, 1 / sr)
    width = np.diff(edges)[:, None]
    rising, falling = -ramps[:-2] / width[:-1], ramps[2:] / width[1:]
    area = 2 / (edges[2:] - edges[:-2])[:, None]
    weights: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling)) * area
    return weights.astype(np.float32)


@lru_cache(maxsize=8)
def hann(n_fft: int) -> NDArray[np.float32]:
    """Compute the periodic Hann window, float32 `[n_fft]`.

    >>> hann(4).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    angle = 2 * np.pi * np.arange(n_fft) / n_fft
    window: NDArray[np.float32] = (0.5 - 0.5 * np.cos(angle)).astype(np.float32)
    return window


@lru_cache(maxsize=8)
def _filters(sr: int, n_fft: int, n_mels: int) -> scipy.sparse.csr_matrix:
    # Only one weight in sixty is not zero. A sparse product reads each power once or twice, and its
    # order of addition depends neither on the machine nor on the number of segments.
    return scipy.sparse.csr_matrix(mel_filters(sr=sr, n_fft=n_fft, n_mels=n_mels))
