"""Synthesise a babbling voice with an emotion by source and filter, frame by frame.

A train of glottal pulses and noise passes through resonances that move from vowel to vowel (G.
Fant, "Acoustic Theory of Speech Production", 1960). Emotion changes the properties that studies of
vocal expression report (K. Scherer, "Vocal communication of emotion", Speech Communication 40,
2003). Arousal changes the pitch, the tempo, the loudness and the slope of the spectrum. Valence
changes the resonances (a smile shortens the tract), the melody of syllables and how clear or
breathy the voice is. Speakers differ in the same properties, so a listener needs some time to tell
the emotion from the voice.

All sums are in float64, so that rounding to 16 bits hides differences between processors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, signal

Floats = NDArray[np.float64]

LABEL_SECONDS = 0.5
"""Seconds that one value of an emotion covers."""

_HOP_SECONDS = 0.008
_CHUNK_FRAMES = 256

# F1, F2, F3 in Hz of an adult's vowels, after G. Peterson and H. Barney (1952).
_VOWELS = np.array(
    [
        [730, 1090, 2440],
        [530, 1840, 2480],
        [300, 2240, 2980],
        [570, 840, 2410],
        [320, 900, 2240],
        [500, 1500, 2500],
        [660, 1720, 2410],
    ],
    dtype=np.float64,
)
# Resonances at the start of a syllable: a consonant at the lips, the teeth or the palate.
_PLACES = np.array([[280, 900, 2200], [300, 1750, 2650], [280, 2100, 2350]], dtype=np.float64)
_HIGHER = np.array([3500.0, 4500.0, 5500.0, 6500.0])
_BANDWIDTH = np.array([70.0, 90.0, 130.0, 190.0, 260.0, 350.0, 450.0])
# How far a smile moves each resonance.
_SMILE = np.array([0.5, 1.1, 1.2, 1.0, 1.0, 1.0, 1.0])

# Onsets: f, s, sh, a plosive, a sonorant. Centre and bandwidth of the noise in Hz, and its level.
_NOISE = np.array([[6000, 5000], [5600, 1800], [3200, 1300], [2500, 3000], [4000, 4000]], float)
_NOISE_LEVEL = np.array([0.4, 1.2, 1.2, 1.5, 0.0])
_ONSET_SHARE = np.array([0.28, 0.32, 0.32, 0.24, 0.24])
_ONSET_ODDS = np.array([0.12, 0.14, 0.12, 0.27, 0.35])
_PLOSIVE, _SONORANT = 3, 4


@dataclass(frozen=True)
class Voice:
    """The properties of a speaker that do not depend on emotion.

    Attributes
    ----------
    pitch
        Fundamental frequency at rest [Hz].
    tract
        Frequency of the resonances relative to an average adult.
    tempo
        Syllables per second at rest.
    breath
        Level of breath noise relative to the voice.
    tilt
        Slope of the microphone's response [dB per octave above 1 kHz].
    gain_db
        Level of the recording.
    floor_db
        Level of the room's noise relative to the voice.
    """

    pitch: float
    tract: float
    tempo: float
    breath: float
    tilt: float
    gain_db: float
    floor_db: float


@dataclass(frozen=True)
class Emotion:
    """Valence and arousal in [-1, 1], float64 `[n]`, one value every 500 ms."""

    valence: Floats
    arousal: Floats


def speak(
    voice: Voice, emotion: Emotion, *, seconds: float, sr: int, rng: np.random.Generator
) -> Floats:
    """Synthesise a voice that babbles with an emotion.

    Returns
    -------
    float64 `[seconds * sr]` within [-1, 1].
    """
    samples = round(seconds * sr)
    hop = round(_HOP_SECONDS * sr)
    time: Floats = np.arange(samples // hop + 2, dtype=np.float64) * (hop / sr)
    track = _articulate(voice, emotion, time, rng)
    voiced, frication = _excite(track, time, samples, sr, rng)
    y = _resonate(voiced, _tract_filter(track, sr), hop)
    y += _resonate(frication, _noise_filter(track, sr), hop)
    y = _through_microphone(y, voice, sr)
    level = np.sqrt(np.mean(y**2))
    y += level * 10 ** (voice.floor_db / 20) * rng.standard_normal(samples)
    return np.asarray(0.9 * 10 ** (voice.gain_db / 20) * y / np.abs(y).max())


@dataclass(frozen=True)
class _Track:
    """The course of the voice: one value for each frame of 8 ms."""

    f0: Floats
    voicing: Floats
    breath: Floats
    jitter: Floats
    noise: Floats
    formants: Floats  # [frames, 7] Hz
    bandwidth: Floats  # [frames, 7] Hz
    slope: Floats  # second pole of the glottis: near 1 is dark, near 0 bright
    noise_shape: Floats  # [frames, 2] Hz


def _articulate(voice: Voice, emotion: Emotion, time: Floats, rng: np.random.Generator) -> _Track:
    grid = (np.arange(len(emotion.valence)) + 0.5) * LABEL_SECONDS
    valence = np.interp(time, grid, emotion.valence)
    arousal = np.interp(time, grid, emotion.arousal)

    start, length, spoken = _syllables(voice, emotion, time[-1], rng)
    count = len(start)
    onset_kind = rng.choice(len(_ONSET_ODDS), size=count, p=_ONSET_ODDS)
    vowel = _with_higher(_VOWELS[rng.integers(len(_VOWELS), size=count)])
    locus = _with_higher(_PLACES[rng.integers(len(_PLACES), size=count)])
    accent = ndimage.gaussian_filter1d(rng.normal(0.0, 1.0, count), 0.7)
    stress = 10 ** (rng.normal(0.0, 1.5, count) / 20)

    # Find the syllable of each frame, and the frame's place (0 to 1) in the syllable.
    which = np.clip(np.searchsorted(start, time, side="right") - 1, 0, count - 1)
    place = np.clip((time - start[which]) / length[which], 0.0, 1.0)
    kind, onset = onset_kind[which], _ONSET_SHARE[onset_kind[which]]
    in_onset = place < onset
    level = spoken[which] * 10 ** ((5.0 * arousal + 1.0 * valence) / 20) * stress[which]

    # The vowel swells and fades; a sonorant is voiced softly, other onsets are not voiced.
    into = np.clip((place - onset) / (1 - onset), 0.0, 1.0)
    swell = 0.2 + 0.8 * np.sin(np.pi * into**0.7) ** 0.7
    voicing = level * np.where(in_onset, np.where(kind == _SONORANT, 0.25, 0.0), swell)

    since_release = np.clip(place - 0.65 * onset, 0.0, 1.0)
    burst = (since_release > 0) * np.exp(-30 * since_release)
    hiss = in_onset * np.sin(np.pi * np.clip(place / onset, 0.0, 1.0)) ** 0.5
    noise = level * _NOISE_LEVEL[kind] * np.where(kind == _PLOSIVE, burst, hiss)

    # A pleased voice rises and falls widely within a syllable, a displeased one sinks narrowly.
    hat, sink = np.sin(np.pi * place) - 0.5, 0.5 - place
    semitones = (
        3.5 * arousal
        + 0.8 * valence
        + (2.2 + 2.0 * valence) * hat
        + 0.6 * (1 - valence) * sink
        + (1.0 + 0.5 * arousal) * accent[which]
        + 0.5 * wander(len(time), 40, rng)
    )
    target = np.where(in_onset[:, None], locus[which], vowel[which])
    formants = ndimage.gaussian_filter1d(target, 3.5, axis=0)
    formants *= voice.tract * (1 + 0.10 * valence[:, None] * _SMILE)
    formants[:, :3] *= 1 + 0.02 * np.stack([wander(len(time), 40, rng) for _ in range(3)], axis=1)
    return _Track(
        f0=voice.pitch * 2 ** (ndimage.gaussian_filter1d(semitones, 3.0) / 12),
        voicing=ndimage.gaussian_filter1d(voicing, 1.2),
        breath=voice.breath * 2 ** (-1.8 * valence),
        jitter=0.012 * 2 ** (-0.8 * valence),
        noise=noise,
        formants=formants,
        bandwidth=_BANDWIDTH * (1 - 0.35 * valence[:, None]),
        slope=0.76 - 0.16 * arousal + 0.01 * wander(len(time), 50, rng),
        noise_shape=_NOISE[kind],
    )


def _with_higher(resonances: Floats) -> Floats:
    """Complete F1 to F3 `[n, 3]` to F1 to F7 `[n, 7]`; the higher ones hardly move."""
    return np.concatenate([resonances, np.tile(_HIGHER, (len(resonances), 1))], axis=1)


def _syllables(
    voice: Voice, emotion: Emotion, seconds: float, rng: np.random.Generator
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Draw start and length [s] of every syllable and pause, and which of them are spoken."""
    start, length, spoken = [], [], []
    now, left = 0.0, int(rng.integers(3, 10))
    while now < seconds:
        arousal = emotion.arousal[min(int(now / LABEL_SECONDS), len(emotion.arousal) - 1)]
        if left:
            took = rng.gamma(30.0, 1 / 30.0) / (voice.tempo * 2 ** (0.45 * arousal))
            took *= 1.35 if left == 1 else 1.0
            left -= 1
            spoken.append(True)
        else:
            took = rng.uniform(0.12, 0.5) * 2 ** (-0.8 * arousal)
            left = int(rng.integers(4, 12))
            spoken.append(False)
        start.append(now)
        length.append(took)
        now += took
    return np.array(start), np.array(length), np.array(spoken)


def _excite(
    track: _Track, time: Floats, samples: int, sr: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Make the pulses with breath, and the noise of consonants: each float64 `[samples]`."""
    at = np.arange(samples) / sr
    f0 = np.interp(at, time, track.f0)
    phase = np.cumsum(f0) / sr
    cycles = np.arange(1, int(phase[-1]) + 1, dtype=float)
    position = np.interp(cycles, phase, np.arange(samples, dtype=float))
    period = sr / f0[position.astype(int)]
    jitter = np.interp(position / sr, time, track.jitter)
    position += jitter * period * rng.standard_normal(len(cycles))
    position = np.clip(position, 0, samples - 2)
    whole = position.astype(int)
    part = position - whole
    # Longer periods carry more air, so that the level does not depend on the pitch.
    size = np.sqrt(period) * (1 + 0.06 * rng.standard_normal(len(cycles)))
    pulses = np.bincount(whole, size * (1 - part), minlength=samples)
    pulses += np.bincount(whole + 1, size * part, minlength=samples)
    voicing = np.interp(at, time, track.voicing)
    breath = np.interp(at, time, track.breath)
    voiced = voicing * (pulses + 3.0 * breath * rng.standard_normal(samples))
    frication = np.interp(at, time, track.noise) * rng.standard_normal(samples)
    return np.diff(voiced, prepend=0.0), 0.25 * frication


def _tract_filter(track: _Track, sr: int) -> Floats:
    """Compute denominators `[frames, 17]`: two glottal poles and a pair for each resonance."""
    ones = np.ones_like(track.slope)
    poles = _multiply(
        np.stack([ones, -0.95 * ones], axis=1), np.stack([ones, -track.slope], axis=1)
    )
    gain = 1 - track.slope
    for formant in range(track.formants.shape[1]):
        pair = _resonance(track.formants[:, formant], track.bandwidth[:, formant], sr)
        gain = gain * pair.sum(axis=1)
        poles = _multiply(poles, pair)
    return np.asarray(poles / gain[:, None])


def _noise_filter(track: _Track, sr: int) -> Floats:
    pair = _resonance(track.noise_shape[:, 0], track.noise_shape[:, 1], sr)
    return np.asarray(2.0 * pair / np.abs(pair).sum(axis=1, keepdims=True))


def _resonance(frequency: Floats, bandwidth: Floats, sr: int) -> Floats:
    frequency = np.minimum(frequency, 0.47 * sr)
    radius = np.exp(-np.pi * bandwidth / sr)
    angle = 2 * np.pi * frequency / sr
    return np.stack([np.ones_like(radius), -2 * radius * np.cos(angle), radius**2], axis=1)


def _multiply(a: Floats, b: Floats) -> Floats:
    """Multiply two polynomials in each row."""
    product = np.zeros((len(a), a.shape[1] + b.shape[1] - 1))
    for power in range(b.shape[1]):
        product[:, power : power + a.shape[1]] += a * b[:, power : power + 1]
    return product


def _resonate(excitation: Floats, poles: Floats, hop: int) -> Floats:
    """Filter with moving poles: each overlapping Hann window by the poles of its frame."""
    size = 4 * hop
    n_fft = 2 * size
    window = signal.get_window("hann", size) / 2
    frames = len(poles) - 1
    padded = np.concatenate([np.zeros(size // 2), excitation, np.zeros(size + hop)])
    rows = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    y = np.zeros(frames * hop + n_fft + hop)
    for begin in range(0, frames, _CHUNK_FRAMES):
        chosen = slice(begin, min(begin + _CHUNK_FRAMES, frames))
        spectrum = fft.rfft(rows[chosen] * window, n_fft, axis=1)
        spectrum /= fft.rfft(poles[chosen], n_fft, axis=1)
        filtered = fft.irfft(spectrum, n_fft, axis=1)
        for part in range(0, n_fft, hop):
            piece = filtered[:, part : part + hop].reshape(-1)
            y[begin * hop + part : begin * hop + part + len(piece)] += piece
    return y[size // 2 : size // 2 + len(excitation)]


def _through_microphone(y: Floats, voice: Voice, sr: int) -> Floats:
    frequency = np.array([0.0, 60.0, 120.0, 1000.0, 2000.0, 4000.0, sr / 2])
    gain_db = voice.tilt * np.log2(np.maximum(frequency, 1000.0) / 1000.0)
    gain = 10 ** (gain_db / 20) * (frequency > 60.0)
    return np.asarray(signal.fftconvolve(y, signal.firwin2(511, frequency, gain, fs=sr), "same"))


def wander(n: int, width: float, rng: np.random.Generator) -> Floats:
    """Draw noise smoothed over `width` values, with long-term mean 0 and variance 1."""
    edge = int(4 * width)
    noise = ndimage.gaussian_filter1d(rng.standard_normal(n + 2 * edge), width)
    return np.asarray(noise[edge : edge + n] * np.sqrt(2 * np.sqrt(np.pi) * width))
