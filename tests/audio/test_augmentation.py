from __future__ import annotations

import hashlib

import audiomentations
import numpy as np
import pytest

from valence.audio.augmentation import augment, draw_parameters
from valence.audio.mel import log_mel
from valence.config import AugmentConfig, MelConfig
from valence.stage import FORMAT

_SR = 16_000
_ONLY_NOTHING = {"noise": (0.0, 0.0), "semitones": (0, 0), "speed": (1, 1), "gain": (1, 1)}


def _only(**ranges: tuple[float, float]) -> AugmentConfig:
    """Every transform always applies, and all but those named do nothing."""
    return AugmentConfig.model_validate({**_ONLY_NOTHING, **ranges, "probability": 1.0})


def _augment(segments: np.ndarray, config: AugmentConfig, **which: object) -> np.ndarray:
    chosen = {"seed": 3, "recording": "17", "copy": 1, **which}
    return augment(segments, config, sr=_SR, **chosen)  # type: ignore[arg-type]


def _voice(n: int, samples: int = 8000, pitch: float = 150.0) -> np.ndarray:
    t = np.arange(samples) / _SR
    one = sum(np.sin(2 * np.pi * k * pitch * t + k) / k for k in range(1, 15))
    return np.tile((0.3 * one).astype(np.float32), (n, 1))


def test_parameters_are_in_their_ranges_and_apply_half_of_the_time() -> None:
    n = 20_000
    config = AugmentConfig()
    drawn = draw_parameters(n, config, seed=0, recording="1", copy=1)
    applies = []
    for values, (low, high) in (
        (drawn.noise, config.noise),
        (drawn.semitones, config.semitones),
        (drawn.speed, config.speed),
        (drawn.gain, config.gain),
    ):
        known = values[np.isfinite(values)]
        # Five standard deviations of a binomial.
        assert abs(len(known) - n / 2) < 5 * np.sqrt(n / 4)
        assert known.min() >= low
        assert known.max() <= high
        # Uniform over the range: mean and spread of a uniform distribution.
        assert known.mean() == pytest.approx((low + high) / 2, abs=0.02 * (high - low))
        assert known.std() == pytest.approx((high - low) / np.sqrt(12), rel=0.03)
        applies.append(np.isfinite(values))
    # The four are chosen independently of each other.
    correlation = np.corrcoef(np.array(applies, float))[~np.eye(4, dtype=bool)]
    assert np.abs(correlation).max() < 5 / np.sqrt(n)


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_never_and_always(probability: float, share: float) -> None:
    config = AugmentConfig(probability=probability)
    drawn = draw_parameters(500, config, seed=0, recording="1", copy=1)
    for values in (drawn.noise, drawn.semitones, drawn.speed, drawn.gain):
        assert np.isfinite(values).mean() == share
    if probability == 0:
        segments = _voice(5)
        assert np.array_equal(_augment(segments, config), segments)


def test_a_cut_changes_nothing() -> None:
    segments = np.random.default_rng(0).normal(0, 0.1, (31, 2000)).astype(np.float32)
    together = _augment(segments, AugmentConfig())
    for size in (1, 4, 30):
        apart = [
            _augment(segments[i : i + size], AugmentConfig(), first_segment=i)
            for i in range(0, 31, size)
        ]
        assert np.array_equal(np.concatenate(apart), together)


def test_a_cut_changes_nothing_far_from_the_original() -> None:
    config = _only(speed=(0.3, 0.45), semitones=(-9, 9))
    segments = np.random.default_rng(0).normal(0, 0.1, (7, 4000)).astype(np.float32)
    together = _augment(segments, config)
    alone = _augment(segments[5:6], config, first_segment=5)
    assert np.array_equal(alone[0], together[5])


def test_seed_recording_and_copy_each_give_another_copy() -> None:
    segments = _voice(9, 2000)
    first = _augment(segments, AugmentConfig())
    assert np.array_equal(_augment(segments, AugmentConfig()), first)
    for other in ({"seed": 4}, {"recording": "71"}, {"copy": 2}):
        assert not np.array_equal(_augment(segments, AugmentConfig(), **other), first)


def test_the_input_is_left_alone() -> None:
    segments = _voice(6)
    before = segments.copy()
    out = _augment(segments, AugmentConfig(probability=1))
    assert np.array_equal(segments, before)
    assert out.shape == segments.shape
    assert out.dtype == np.float32


def test_noise_is_white_and_of_its_level() -> None:
    segments = np.zeros((40, 8000), np.float32)
    out = _augment(segments, _only(noise=(0.02, 0.02)))
    np.testing.assert_allclose(out.std(axis=1), 0.02, rtol=0.05)
    # White: no sample tells of the next one, no segment of another, and the spectrum is flat.
    neighbours = [np.corrcoef(y[:-1], y[1:])[0, 1] for y in out]
    assert np.abs(neighbours).max() < 5 / np.sqrt(8000)
    between = np.corrcoef(out)[~np.eye(40, dtype=bool)]
    assert np.abs(between).max() < 6 / np.sqrt(8000)
    power = (np.abs(np.fft.rfft(out, axis=1)) ** 2).mean(axis=0)[1:-1]
    quarters = [part.mean() for part in np.array_split(power, 4)]
    assert max(quarters) / min(quarters) < 1.05


def test_gain_by_hand() -> None:
    segments = _voice(3)
    np.testing.assert_allclose(_augment(segments, _only(gain=(1.1, 1.1))), 1.1 * segments, 1e-6)


def test_faster_speech_is_followed_by_zeros_and_slower_is_cropped() -> None:
    faster = _augment(_voice(2), _only(speed=(1.15, 1.15)))
    assert faster.shape == (2, 8000)
    assert not faster[:, 6957:].any()
    assert faster[:, 6900:6957].any()
    slower = _augment(_voice(2), _only(speed=(0.85, 0.85)))
    assert slower.shape == (2, 8000)
    assert slower[:, -50:].any()


def test_noise_comes_before_the_stretch_and_gain_after_it() -> None:
    """Sped-up noise ends where the sped-up speech does, and the gain scales both."""
    silent = np.zeros((1, 8000), np.float32)
    config = _only(noise=(0.05, 0.05), speed=(1.15, 1.15))
    out = _augment(silent, config)
    assert out[:, :6900].any()
    assert not out[:, 6957:].any()
    louder = _augment(silent, config.model_copy(update={"gain": (1.1, 1.1)}))
    np.testing.assert_allclose(louder, 1.1 * out, rtol=1e-5, atol=1e-8)


def test_no_segments() -> None:
    assert _augment(np.empty((0, 8000), np.float32), AugmentConfig()).shape == (0, 8000)


def test_effect_as_a_whole_resembles_audiomentations() -> None:
    """Over many segments, level and spread of what the two pipelines make agree."""
    segments = _voice(120, 4000)
    config = AugmentConfig()
    ours = _augment(segments, config)
    pipeline = audiomentations.Compose(
        [
            audiomentations.AddGaussianNoise(*config.noise, p=0.5),
            audiomentations.PitchShift(*config.semitones, p=0.5),
            audiomentations.TimeStretch(*config.speed, p=0.5),
            audiomentations.Gain(*(20 * np.log10(config.gain)), p=0.5),
        ]
    )
    theirs = np.stack([pipeline(y, sample_rate=_SR) for y in segments])

    def level(y: np.ndarray) -> np.ndarray:
        return 20 * np.log10(y.std(axis=1))

    assert level(ours).mean() == pytest.approx(level(theirs).mean(), abs=0.3)
    assert level(ours).std() == pytest.approx(level(theirs).std(), abs=0.3)


def test_what_is_stored_has_not_changed_unnoticed() -> None:
    """Whoever changes these bytes raises FORMAT["segments"] in `valence.stage`, and this digest."""
    rng = np.random.default_rng(11)
    segments = 0.1 * rng.standard_normal((60, 8000), dtype=np.float32)
    made = _augment(segments, AugmentConfig())
    mel = log_mel(made, MelConfig(), sr=_SR).astype(np.float16)
    digest = hashlib.sha256(mel.tobytes()).hexdigest()[:16]
    assert (FORMAT["segments"], digest) == (3, "4a730882538b0158")
