from __future__ import annotations

import numpy as np
import pytest

from valence.mixing import Mixer

_SR = 16_000


def _voice(n: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def test_the_mean_by_hand() -> None:
    mixer = Mixer("mean")
    np.testing.assert_array_equal(
        mixer.mono(np.array([[16384, 0], [-32768, -32768]], np.int16)), [0.25, -1]
    )
    np.testing.assert_array_equal(mixer.mono(np.array([[0.5, 0.25, 0]], np.float32)), [0.25])
    assert mixer.remarks(_SR) == ()


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_channel_that_is_named(channel: int) -> None:
    block = np.stack([_voice(5000, seed) for seed in range(3)], axis=1)
    np.testing.assert_array_equal(Mixer(channel).mono(block), block[:, channel])


@pytest.mark.parametrize("gain", [-1.0, -0.98, -1.02, -(2.0**-0.05)])
def test_opposite_channels_give_the_first(gain: float) -> None:
    y = _voice(65_536)
    mixer = Mixer("mean")
    np.testing.assert_array_equal(mixer.mono(np.stack([y, np.float32(gain) * y], axis=1)), y)
    assert mixer.remarks(_SR) == (
        "its channels cancel each other (opposite phase) in 4.1 of 4.1 s, where the louder one was "
        "taken in place of their mean",
    )


def test_the_louder_of_three() -> None:
    y = _voice(4096)
    block = np.stack([y, -3 * y, 2 * y], axis=1)
    np.testing.assert_array_equal(Mixer("mean").mono(block), block[:, 1])


def test_sixteen_bits_that_cancel() -> None:
    y = np.round(3000 * np.sin(np.arange(8192) / 9)).astype(np.int16)
    got = Mixer("mean").mono(np.stack([y, -y], axis=1))
    np.testing.assert_array_equal(got, y / np.float32(32768))


def test_a_part_in_opposite_phase() -> None:
    y = _voice(16 * 4096)
    other = y.copy()
    other[8 * 4096 : 10 * 4096] *= -1
    mixer = Mixer("mean")
    np.testing.assert_array_equal(mixer.mono(np.stack([y, other], axis=1)), y)
    assert mixer.cancelled == 2 * 4096


@pytest.mark.parametrize("channels", [2, 3, 8, 64])
def test_ordinary_channels_keep_their_mean(channels: int) -> None:
    """Independent voices, one channel that is silent but for one, and a gain of 12 dB."""
    voices = np.stack([_voice(65_536, seed) for seed in range(channels)], axis=1)
    one = np.zeros_like(voices)
    one[:, -1] = voices[:, -1]
    scaled = voices[:, :1] * np.linspace(0.25, 1, channels, dtype=np.float32)
    for block in (voices, one, scaled, (voices * 1000).astype(np.int16)):
        expected = block.mean(axis=1, dtype=np.float32)
        if block.dtype == np.int16:
            expected = expected * np.float32(2**-15)
        np.testing.assert_array_equal(Mixer("mean").mono(block), expected)


def test_opposite_noise_below_a_step_is_left() -> None:
    block = np.zeros((4096, 2), np.int16)
    block[7] = 1, -1
    assert not Mixer("mean").mono(block).any()
