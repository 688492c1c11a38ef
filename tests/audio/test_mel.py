from __future__ import annotations

import os
import subprocess
import sys

import librosa
import numpy as np
import pytest

from valence.audio.decoding import read_audio
from valence.audio.mel import decibel, log_mel, mel_filters
from valence.audio.segmentation import normalize, segment_audio
from valence.config import MelConfig
from valence.storage.location import Location

_SR = 16_000


def _librosa(segments: np.ndarray, config: MelConfig, sr: int) -> np.ndarray:
    """The oracle: librosa, a segment at a time."""
    length = (config.n_frames - 1) * config.hop_length
    return np.stack(
        [
            librosa.power_to_db(
                librosa.feature.melspectrogram(
                    y=np.pad(y, (0, length - len(y))),
                    sr=sr,
                    n_fft=config.n_fft,
                    hop_length=config.hop_length,
                    n_mels=config.n_mels,
                    center=True,
                    pad_mode="constant",
                ),
                ref=1.0,
                amin=1e-10,
                top_db=None,
            )
            for y in segments
        ]
    )


def _assert_equal_in_db(mel: np.ndarray, expected: np.ndarray) -> None:
    """1e-4 dB relative to the peak of each segment.

    A difference of power is told as what it would add to the segment's peak. Where the power is
    within 40 dB of the peak the dB themselves agree to 1e-4, and within a fiftieth of a dB, less
    than float16 stores, wherever it is within 110 dB: further down is what a transform in float32
    leaves.
    """
    peak = expected.max(axis=(1, 2), keepdims=True)
    relative = np.abs(10 ** ((mel - peak) / 10) - 10 ** ((expected - peak) / 10))
    assert 10 * np.log10(1 + relative.max()) < 1e-4
    difference = np.abs(mel - expected)
    assert difference[expected > peak - 40].max() < 1e-4
    assert difference[expected > peak - 110].max() < 0.02


def _speechlike(n: int, samples: int, sr: int = _SR) -> np.ndarray:
    rng = np.random.default_rng(n)
    t = np.arange(n * samples) / sr
    pitch = 120 + 50 * np.sin(2 * np.pi * 0.4 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / sr
    voice = sum(np.sin(k * phase) / k**1.5 for k in range(1, 25))
    y = 0.2 * voice * (0.2 + np.abs(np.sin(2 * np.pi * 0.9 * t)))
    y += 1e-3 * rng.standard_normal(len(t))
    return y.astype(np.float32).reshape(n, samples)


def test_silence_is_the_floor() -> None:
    mel = log_mel(np.zeros((3, 8000), np.float32), MelConfig(), sr=_SR)
    assert mel.shape == (3, 128, 34)
    assert mel.dtype == np.float32
    assert np.unique(mel).tolist() == [-100.0]


def test_a_tone_peaks_in_its_band_by_hand() -> None:
    # Bin 64 of 1024 at 16 kHz is 1000 Hz. A sine of amplitude a has power (a N / 4)^2 in its bin
    # under a Hann window, and a quarter of that in each of the two beside it.
    y = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(8000) / _SR)
    mel = log_mel(y[None].astype(np.float32), MelConfig(), sr=_SR)[0]
    filters = mel_filters(sr=_SR, n_fft=1024, n_mels=128)
    spectrum = np.zeros(513)
    spectrum[63:66] = np.array([0.25, 1, 0.25]) * (0.5 * 1024 / 4) ** 2
    band = int((filters @ spectrum).argmax())
    middle = mel[:, 15]
    assert middle.argmax() == band
    assert middle[band] == pytest.approx(10 * np.log10(filters[band] @ spectrum), abs=1e-3)


@pytest.mark.parametrize(
    ("config", "sr", "samples"),
    [
        (MelConfig(), 16_000, 8000),
        (MelConfig(n_fft=512, hop_length=128, n_mels=40, n_frames=33), 8_000, 4000),
        (MelConfig(n_fft=2048, hop_length=441, n_mels=80, n_frames=51), 44_100, 22_050),
        (MelConfig(n_fft=1024, hop_length=500, n_mels=64, n_frames=20), 16_000, 8000),
    ],
)
def test_equals_librosa_on_synthetic_speech(config: MelConfig, sr: int, samples: int) -> None:
    segments = _speechlike(23, samples, sr)
    mel = log_mel(segments, config, sr=sr)
    assert mel.shape == (23, config.n_mels, config.n_frames)
    _assert_equal_in_db(mel, _librosa(segments, config, sr))


def test_equals_librosa_on_real_speech(nemo: Location) -> None:
    for name in ("1.flac", "3.ogg"):
        y = read_audio(nemo / f"raw_data/audio/{name}", sr=_SR)[: 60 * _SR]
        segments = normalize(segment_audio(y, 8000))
        expected = _librosa(segments, MelConfig(), _SR)
        _assert_equal_in_db(log_mel(segments, MelConfig(), sr=_SR), expected)


@pytest.mark.parametrize(
    ("sr", "n_fft", "n_mels"), [(16_000, 1024, 128), (8_000, 512, 64), (48_000, 2048, 100)]
)
def test_filters_equal_librosas(sr: int, n_fft: int, n_mels: int) -> None:
    expected = librosa.filters.mel(sr=sr, n_fft=n_fft, n_mels=n_mels)
    filters = mel_filters(sr=sr, n_fft=n_fft, n_mels=n_mels)
    assert filters.dtype == np.float32
    np.testing.assert_allclose(filters, expected, rtol=2e-7, atol=1e-9)


def test_filters_below_the_logarithmic_part_equal_librosas() -> None:
    expected = librosa.filters.mel(sr=1500, n_fft=256, n_mels=20)
    np.testing.assert_allclose(
        mel_filters(sr=1500, n_fft=256, n_mels=20), expected, rtol=2e-7, atol=1e-9
    )


def test_decibel_is_right_to_2e_5() -> None:
    power = np.logspace(-12, 6, 200_001).astype(np.float32)
    exact = 10 * np.log10(np.maximum(power.astype(np.float64), np.float64(np.float32(1e-10))))
    assert np.abs(decibel(power) - exact).max() < 2e-5
    roots = np.float32(np.sqrt(0.5)) * 2.0 ** np.arange(-20, 20, dtype=np.float32)
    assert np.abs(decibel(roots) - 10 * np.log10(roots.astype(np.float64))).max() < 2e-5


@pytest.mark.parametrize("n", [1, 7, 10, 11, 25])
def test_a_segment_gives_the_same_bytes_in_any_company(n: int) -> None:
    segments = _speechlike(25, 8000)
    together = log_mel(segments, MelConfig(), sr=_SR)
    apart = [log_mel(segments[i : i + n], MelConfig(), sr=_SR) for i in range(0, 25, n)]
    assert np.array_equal(together, np.concatenate(apart))


def test_nothing_remains_as_nothing() -> None:
    assert log_mel(np.empty((0, 8000), np.float32), MelConfig(), sr=_SR).shape == (0, 128, 34)


_OTHER_PROCESSOR = """
import hashlib, sys
import numpy as np
from valence.audio.segmentation import normalize
from valence.config import AugmentConfig, MelConfig
from valence.audio.augmentation import augment
from valence.audio.mel import log_mel
from valence.audio.standardization import MelMoments
y = np.random.default_rng(5).standard_normal((40, 8000), dtype=np.float32)
y *= np.linspace(1e-5, 0.3, 40, dtype=np.float32)[:, None]
drawn = augment(
    np.tile(y, (30, 1)), AugmentConfig(), sr=16000, seed=1, recording="a", copy=1
)
parts = [normalize(y), normalize(y, level="rms"), drawn]
mel = log_mel(y, MelConfig(), sr=16000)
parts += [mel, mel.astype(np.float16), MelMoments.from_mel(mel).m2]
print(" ".join(hashlib.sha256(part.tobytes()).hexdigest()[:12] for part in parts))
"""


def test_the_same_bytes_on_an_older_processor() -> None:
    """NumPy told to use no instruction beyond its baseline gives what it gives with all."""
    features = np._core._multiarray_umath.__cpu_features__
    enabled = [name for name in np._core._multiarray_umath.__cpu_dispatch__ if features.get(name)]
    outputs = []
    for switched_off in ("", " ".join(enabled)):
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": switched_off}
        out = subprocess.run(
            [sys.executable, "-c", _OTHER_PROCESSOR],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(out.stdout.strip())
    assert len(outputs[0].split()) == 6
    assert outputs[0] == outputs[1]
