from __future__ import annotations

import audiomentations
import librosa
import numpy as np
import pytest

from valence.audio.mel import log_mel
from valence.audio.phase_vocoder import stretch
from valence.config import MelConfig

_SR = 16_000


def _stretch(
    segments: np.ndarray, semitones: object = 0.0, speed: object = 1.0, sr: int = _SR
) -> np.ndarray:
    n = len(segments)
    return stretch(
        segments,
        semitones=np.broadcast_to(np.asarray(semitones, float), n),
        speed=np.broadcast_to(np.asarray(speed, float), n),
        sr=sr,
    )


def _noise(n: int, samples: int = 8000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (n, samples)).astype(np.float32)


def _glide(seed: int, *, factor: float = 1.0, speed: float = 1.0) -> np.ndarray:
    """A voice whose pitch and loudness move, as it is or as it would be shifted and faster."""
    rng = np.random.default_rng(seed)
    hz, slope = rng.uniform(90, 260), rng.uniform(-0.3, 0.3)
    vibrato, depth = rng.uniform(3, 7), rng.uniform(0, 0.03)
    swell, phases = rng.uniform(2, 8), rng.uniform(0, 2 * np.pi, 25)
    t = np.arange(8000) / _SR * speed
    pitch = factor * hz * (1 + slope * t / 0.5 + depth * np.sin(2 * np.pi * vibrato * t))
    phase = 2 * np.pi * np.cumsum(pitch) / _SR
    y = sum(
        np.sin(k * phase + phases[k]) / k**1.2 for k in range(1, 25) if k * pitch.max() < 7600
    ) * (0.3 + 0.7 * np.abs(np.sin(np.pi * swell * t)))
    y[t >= 0.5] = 0
    return (0.3 * y / np.abs(y).max()).astype(np.float32)


def _audiomentations(y: np.ndarray, semitones: float, speed: float) -> np.ndarray:
    shifted = audiomentations.PitchShift(semitones, semitones, p=1.0)(y, sample_rate=_SR)
    return audiomentations.TimeStretch(speed, speed, p=1.0)(shifted, sample_rate=_SR)


def _pitch(y: np.ndarray) -> float:
    hz, voiced, _ = librosa.pyin(y, fmin=80, fmax=400, sr=_SR, frame_length=2048)
    return float(np.median(hz[voiced]))


@pytest.mark.parametrize("sr", [8_000, 16_000, 44_100])
def test_nothing_to_do_gives_back_what_came(sr: int) -> None:
    segments = _noise(5, sr // 2)
    np.testing.assert_allclose(_stretch(segments, sr=sr), segments, atol=1e-6)


def test_shape_and_type() -> None:
    segments = _noise(11, 3001)
    before = segments.copy()
    out = _stretch(segments, np.linspace(-2, 2, 11), np.linspace(0.85, 1.15, 11))
    assert out.shape == segments.shape
    assert out.dtype == np.float32
    assert np.array_equal(segments, before)
    assert _stretch(np.empty((0, 3001), np.float32)).shape == (0, 3001)


def test_no_segment_depends_on_the_others() -> None:
    rng = np.random.default_rng(0)
    segments, semitones, speed = _noise(19), rng.uniform(-2, 2, 19), rng.uniform(0.85, 1.15, 19)
    together = _stretch(segments, semitones, speed)
    for index in (0, 7, 8, 18):
        part = slice(index, index + 1)
        alone = _stretch(segments[part], semitones[part], speed[part])
        assert np.array_equal(alone[0], together[index])


@pytest.mark.parametrize(
    ("semitones", "speed"), [(2, 1), (-2, 1), (0, 1.15), (0, 0.85), (1.5, 0.9)]
)
def test_a_tone_by_hand(semitones: float, speed: float) -> None:
    t = np.arange(8000) / _SR
    y = (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[None]
    out = _stretch(y, semitones, speed)[0]
    middle = out[1500:5500]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 2**18))
    found = spectrum.argmax() * _SR / 2**18
    expected = 440 * 2 ** (semitones / 12)
    assert found == pytest.approx(expected, rel=1e-3)
    # It stays a tone of its level: nothing beside it, and no beating.
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    beside = np.abs(np.arange(len(spectrum)) - spectrum.argmax()) > 60 / _SR * 2**18
    assert 20 * np.log10(spectrum[beside].max() / spectrum.max()) < -40


@pytest.mark.parametrize(
    ("semitones", "speed"), [(2.0, 1.0), (-2.0, 1.0), (0.0, 1.15), (1.5, 0.9), (-1.5, 1.1)]
)
def test_pitch_by_pyin_and_tempo_by_where_bursts_lie(semitones: float, speed: float) -> None:
    t = np.arange(16_000) / _SR
    voice = sum(np.sin(2 * np.pi * k * 150 * t + k) / k for k in range(1, 15))
    envelope = np.zeros(16_000)
    for start in (2400, 9600):
        envelope[start : start + 3200] = np.hanning(3200)
    segment = (0.3 * voice * envelope).astype(np.float32)
    out = _stretch(segment[None], semitones, speed)[0]
    expected = _pitch(segment) * 2 ** (semitones / 12)
    assert 12 * np.log2(_pitch(out) / expected) == pytest.approx(0, abs=0.15)
    loudness = np.convolve(np.abs(out), np.hanning(801), mode="same")
    between = round(7200 / speed)
    first, second = loudness[:between].argmax(), between + loudness[between:].argmax()
    assert first == pytest.approx(4000 / speed, abs=120)
    assert second == pytest.approx(11_200 / speed, abs=120)


def test_nearer_to_the_truth_than_audiomentations() -> None:
    """On glides whose shifted and faster form is known, by the mel that the model would see."""
    rng = np.random.default_rng(1)
    semitones, speed = rng.uniform(-2, 2, 24), rng.uniform(0.85, 1.15, 24)
    pairs = list(zip(semitones, speed, strict=True))
    segments = np.stack([_glide(seed) for seed in range(24)])
    truth = np.stack(
        [_glide(i, factor=2 ** (pitch / 12), speed=tempo) for i, (pitch, tempo) in enumerate(pairs)]
    )
    theirs = np.stack([_audiomentations(segments[i], *pair) for i, pair in enumerate(pairs)])
    expected = log_mel(truth, MelConfig(), sr=_SR)
    heard = expected > expected.max(axis=(1, 2), keepdims=True) - 45
    # The ends of a segment are no test: what is beyond them is not known.
    heard[:, :, :3] = heard[:, :, -6:] = False

    def error(segments: np.ndarray) -> float:
        return float(np.abs(log_mel(segments, MelConfig(), sr=_SR) - expected)[heard].mean())

    ours = error(_stretch(segments, semitones, speed))
    assert ours < 0.25
    assert ours < 0.5 * error(theirs)
    assert error(segments) > 5


def test_noise_stays_noise_of_its_level() -> None:
    noise = _noise(30)
    rng = np.random.default_rng(2)
    semitones, speed = rng.uniform(-2, 2, 30), rng.uniform(0.85, 1.15, 30)
    out = _stretch(noise, semitones, speed)[:, 1000:6500]
    # What a faster reading cuts off above half the sample rate is not there any more.
    assert 20 * np.log10(out.std() / 0.1) == pytest.approx(0, abs=0.8)
    assert np.mean((out / out.std()) ** 4) == pytest.approx(3, abs=0.2)


def test_a_click_stays_a_click() -> None:
    rng = np.random.default_rng(3)
    at, speed = rng.integers(1500, 6000, 16), rng.uniform(0.85, 1.15, 16)
    segments = np.zeros((16, 8000), np.float32)
    segments[np.arange(16), at] = 0.7
    for y, where in zip(_stretch(segments, 0.0, speed), at / speed, strict=True):
        near = slice(int(where) - 80, int(where) + 80)
        assert (y[near] ** 2).sum() > 0.75 * (y**2).sum()


def test_length() -> None:
    faster = _stretch(_noise(2), 0.0, 1.15)
    assert not faster[:, round(8000 / 1.15) :].any()
    assert faster[:, round(8000 / 1.15) - 20 : round(8000 / 1.15)].any()
    assert _stretch(_noise(2), 0.0, 0.85)[:, -20:].any()


def test_silence_and_half_silence() -> None:
    segments = np.zeros((3, 8000), np.float32)
    segments[1, :4000] = _noise(1, 4000)[0]
    segments[2, 4000:] = _noise(1, 4000)[0]
    out = _stretch(segments, 2.0, 1.1)
    assert np.isfinite(out).all()
    assert not out[0].any()
    assert out[1, :3000].std() == pytest.approx(0.1, rel=0.15)
    assert out[2, 4500:7000].std() == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize(("semitones", "speed"), [(12, 0.3), (-12, 3.0), (24, 0.85), (-24, 1.15)])
def test_far_from_the_original(semitones: float, speed: float) -> None:
    out = _stretch(_noise(3), semitones, speed)
    assert np.isfinite(out).all()
    assert 0 < out.std() < 0.5
