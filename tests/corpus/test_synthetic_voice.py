from __future__ import annotations

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from valence.corpus import synthetic_voice as voice
from valence.corpus.synthetic_voice import Emotion, Voice, speak

_SR = 16_000
_LOW = Voice(pitch=120.0, tract=1.0, tempo=4.5, breath=0.03, tilt=0.0, gain_db=0.0, floor_db=-50.0)


def _speak(
    valence: float = 0.0, arousal: float = 0.0, *, seconds: float = 8.0, sr: int = _SR
) -> NDArray[np.float64]:
    n = int(2 * seconds)
    emotion = Emotion(np.full(n, valence), np.full(n, arousal))
    return speak(_LOW, emotion, seconds=seconds, sr=sr, rng=np.random.default_rng(5))


def _pitch(y: NDArray[np.float64]) -> NDArray[np.float64]:
    f0, _, _ = librosa.pyin(y, fmin=60, fmax=400, sr=_SR, frame_length=1024, hop_length=512)
    return np.asarray(f0[np.isfinite(f0)])


def _spectrum(y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    frequency, power = signal.welch(y, _SR, nperseg=512)
    return frequency, power


@pytest.mark.parametrize(("seconds", "sr"), [(3.0, 16_000), (2.35, 22_050), (0.7, 16_000)])
def test_a_voice_speaks_as_long_as_asked_within_full_scale(seconds: float, sr: int) -> None:
    y = _speak(seconds=seconds, sr=sr)
    assert y.shape == (round(seconds * sr),)
    assert np.abs(y).max() == pytest.approx(0.9)
    assert np.isfinite(y).all()


def test_the_level_of_the_recording_is_the_voices() -> None:
    emotion = Emotion(np.zeros(4), np.zeros(4))
    quiet = Voice(120.0, 1.0, 4.5, 0.03, 0.0, gain_db=-20.0, floor_db=-50.0)
    y = speak(quiet, emotion, seconds=2.0, sr=_SR, rng=np.random.default_rng(0))
    assert np.abs(y).max() == pytest.approx(0.09)


def test_pitch_is_the_voices_and_rises_with_arousal() -> None:
    calm, neutral, excited = (
        np.median(_pitch(_speak(arousal=a, seconds=4.0))) for a in (-0.8, 0.0, 0.8)
    )
    assert neutral == pytest.approx(_LOW.pitch, rel=0.08)
    # 3.5 semitones for the whole scale's half, both ways.
    assert excited / calm == pytest.approx(2 ** (1.6 * 3.5 / 12), rel=0.1)


def test_melody_widens_with_valence() -> None:
    narrow, wide = (
        np.diff(np.percentile(12 * np.log2(_pitch(_speak(valence=v))), [10, 90]))[0]
        for v in (-0.8, 0.8)
    )
    assert wide > 1.3 * narrow


def test_the_spectrum_moves_up_with_a_smile_and_flattens_with_arousal() -> None:
    def centre(y: NDArray[np.float64], low: float, high: float) -> float:
        frequency, power = _spectrum(y)
        band = (frequency >= low) & (frequency <= high)
        return float((frequency[band] * power[band]).sum() / power[band].sum())

    assert centre(_speak(valence=0.8), 1500, 4000) > centre(_speak(valence=-0.8), 1500, 4000)

    def share_above(y: NDArray[np.float64], limit: float) -> float:
        frequency, power = _spectrum(y)
        return float(power[frequency > limit].sum() / power.sum())

    assert share_above(_speak(arousal=0.8), 1000) > 1.4 * share_above(_speak(arousal=-0.8), 1000)


def test_syllables_come_faster_with_arousal() -> None:
    def syllables(arousal: float) -> int:
        emotion = Emotion(np.zeros(120), np.full(120, arousal))
        spoken = voice._syllables(_LOW, emotion, 60.0, np.random.default_rng(1))[2]
        return int(spoken.sum())

    slow, neutral, fast = (syllables(arousal) for arousal in (-0.8, 0.0, 0.8))
    assert slow < neutral < fast
    # Pauses and long last syllables take their share of 4.5 a second.
    assert neutral == pytest.approx(4.5 * 60, rel=0.2)


def test_resting_poles_filter_as_a_plain_filter_does() -> None:
    rng = np.random.default_rng(2)
    hop, samples = 128, 6000
    excitation = rng.normal(size=samples)
    resonances = [
        voice._resonance(np.array([frequency]), np.array([bandwidth]), _SR)
        for frequency, bandwidth in ((500.0, 90.0), (1500.0, 120.0), (2500.0, 150.0))
    ]
    poles = resonances[0]
    for resonance in resonances[1:]:
        poles = voice._multiply(poles, resonance)
    np.testing.assert_allclose(
        poles[0], np.convolve(np.convolve(resonances[0][0], resonances[1][0]), resonances[2][0])
    )
    found = voice._resonate(excitation, np.repeat(poles, samples // hop + 2, axis=0), hop)
    expected = signal.lfilter([1.0], poles[0], excitation)
    assert found.shape == expected.shape
    inner = slice(1000, -1000)
    error = np.sqrt(np.mean((found - expected)[inner] ** 2) / np.mean(expected[inner] ** 2))
    assert error < 2e-3


def test_a_resonance_peaks_at_its_frequency() -> None:
    poles = voice._resonance(np.array([700.0, 2200.0]), np.array([60.0, 100.0]), _SR)
    for row, frequency in enumerate((700.0, 2200.0)):
        w, h = signal.freqz([1.0], poles[row], worN=8000, fs=_SR)
        assert w[np.argmax(np.abs(h))] == pytest.approx(frequency, abs=5)


def test_wandering_has_unit_variance_and_no_trend() -> None:
    curve = voice.wander(200_000, 20, np.random.default_rng(3))
    assert curve.shape == (200_000,)
    assert np.var(curve) == pytest.approx(1.0, rel=0.1)
    assert np.mean(curve) == pytest.approx(0.0, abs=0.1)
