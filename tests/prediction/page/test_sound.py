"""The sound of a page: its stream is in time and small, its mel is that of the recording."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.helpers.paged import SILENT, SR, STEP, TONE_HZ, made_sound
from valence.prediction.page.sound import BYTES_A_SECOND, listen, mel_picture


def test_the_stream_is_in_time_and_of_the_stated_size(tmp_path: Path) -> None:
    n = 40
    y = made_sound(tmp_path / "talk.wav", n=n)
    rng = np.random.default_rng(0)
    noise = (0.2 * rng.standard_normal(len(y))).astype(np.float32)
    soundfile.write(tmp_path / "noise.wav", noise, SR)
    stream = listen(tmp_path / "noise.wav", segments=n, step=STEP).stream
    assert stream is not None
    assert len(stream) == pytest.approx(BYTES_A_SECOND * n * STEP, rel=0.03)
    decoded, sr = soundfile.read(io.BytesIO(stream), dtype="float32")
    assert sr == SR
    # With the encoder's delay in its header, the decoder gives the samples in their places.
    assert len(decoded) == len(y)
    lags = np.arange(-1500, 1501)
    middle = slice(40_000, 60_000)
    fits = [float(np.dot(noise[middle], np.roll(decoded, -lag)[middle])) for lag in lags]
    assert lags[int(np.argmax(fits))] == 0


def test_the_same_sound_gives_the_same_stream(tmp_path: Path) -> None:
    made_sound(tmp_path / "talk.wav")
    first = listen(tmp_path / "talk.wav", segments=40, step=STEP)
    assert listen(tmp_path / "talk.wav", segments=40, step=STEP).stream == first.stream
    assert listen(tmp_path / "talk.wav", segments=40, step=STEP, compress=False).stream is None


def test_the_mel_is_not_levelled_so_silence_is_dark(tmp_path: Path) -> None:
    made_sound(tmp_path / "talk.wav")
    mel = listen(tmp_path / "talk.wav", segments=40, step=STEP, compress=False).mel
    assert mel.shape == (64, 40 * 16)
    centres = librosa.mel_frequencies(66, fmin=0, fmax=SR / 2)[1:-1]
    by_segment = mel.reshape(64, 40, 16)
    loudest = centres[by_segment[:, 3].mean(axis=1).argmax()]
    assert loudest == pytest.approx(TONE_HZ, rel=0.06)
    assert by_segment[:, SILENT].max() == -100
    assert by_segment[:, 3].max() > 0


def test_the_mel_of_a_long_recording_is_thinned(tmp_path: Path) -> None:
    n = 2500
    y = np.zeros(n * 800, np.float32)
    y[1250 * 800 :] = 0.5 * np.sin(2 * np.pi * 1000 / SR * np.arange(1250 * 800))
    soundfile.write(tmp_path / "long.wav", y, SR)
    mel = listen(tmp_path / "long.wav", segments=n, step=0.05, compress=False).mel
    # Three segments a column.
    assert mel.shape == (64, 834)
    top = mel.max(axis=0)
    assert (top[:416] == -100).all()
    assert (top[417:] > -10).all()


def test_the_picture_has_a_pixel_for_each_value_and_low_bands_below() -> None:
    mel = np.full((3, 5), -200, np.float32)
    mel[0, 2] = 10
    mel[2, 4] = -25
    uri = mel_picture(mel)
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    assert image.size == (5, 3)
    levels = np.asarray(image)
    assert levels[2, 2] == 255
    # 35 dB below the loudest is the middle of a range of 70 dB.
    assert levels[0, 4] == 128
    assert (np.sort(levels.ravel())[:-2] == 0).all()
