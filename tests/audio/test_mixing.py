from __future__ import annotations

import numpy as np
import pytest

from valence.audio.mixing import Mixer

_SR = 16_000


def _voice(n: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def _mono(mixer: Mixer, *blocks: np.ndarray) -> np.ndarray:
    return np.concatenate(list(mixer.mono(blocks)))


def test_the_mean_by_hand() -> None:
    mixer = Mixer("mean")
    np.testing.assert_array_equal(
        _mono(mixer, np.array([[16384, 0], [-32768, -32768]], np.int16)), [0.25, -1]
    )
    np.testing.assert_array_equal(_mono(mixer, np.array([[0.5, 0.25, 0]], np.float32)), [0.25])
    assert mixer.remarks(_SR) == ()


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_channel_that_is_named(channel: int) -> None:
    block = np.stack([_voice(5000, seed) for seed in range(3)], axis=1)
    np.testing.assert_array_equal(_mono(Mixer(channel), block), block[:, channel])


@pytest.mark.parametrize("gain", [-1.0, -0.98, -1.02, -(2.0**-0.05)])
def test_opposite_channels_give_the_first(gain: float) -> None:
    y = _voice(65_536)
    mixer = Mixer("mean")
    np.testing.assert_array_equal(_mono(mixer, np.stack([y, np.float32(gain) * y], axis=1)), y)
    assert mixer.remarks(_SR) == (
        "its channels cancel each other (opposite phase) in 4.1 of 4.1 s, where the louder one was "
        "taken in place of their mean",
    )


def test_the_louder_of_three() -> None:
    y = _voice(4096)
    block = np.stack([y, -3 * y, 2 * y], axis=1)
    np.testing.assert_array_equal(_mono(Mixer("mean"), block), block[:, 1])


def test_sixteen_bits_that_cancel() -> None:
    y = np.round(3000 * np.sin(np.arange(8192) / 9)).astype(np.int16)
    got = _mono(Mixer("mean"), np.stack([y, -y], axis=1))
    np.testing.assert_array_equal(got, y / np.float32(32768))


def test_a_part_in_opposite_phase() -> None:
    y = _voice(16 * 4096)
    other = y.copy()
    other[8 * 4096 : 10 * 4096] *= -1
    mixer = Mixer("mean")
    np.testing.assert_array_equal(_mono(mixer, np.stack([y, other], axis=1)), y)
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
        np.testing.assert_array_equal(_mono(Mixer("mean"), block), expected)


def test_opposite_noise_below_a_step_is_left() -> None:
    block = np.zeros((4096, 2), np.int16)
    block[7] = 1, -1
    assert not _mono(Mixer("mean"), block).any()


def _words(n: int, sr: int) -> np.ndarray:
    """A voice of 150 Hz and its harmonics in words of 0.3 s, 30 dB above what is between them."""
    t = np.arange(n) / sr
    voice = sum(np.sin(2 * np.pi * 150 * k * t + k) / k for k in range(1, 20))
    loud = np.clip(2 * np.sin(2 * np.pi * t / 0.6), 0.03, 1)
    return (0.1 * loud * voice).astype(np.float32)


@pytest.mark.parametrize("sr", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("snr", [20, 25, 30, 60])
def test_noise_of_two_lines_does_not_pass_as_speech(sr: int, snr: int) -> None:
    y = _words(12 * sr, sr)
    noise = np.random.default_rng(snr).standard_normal((2, len(y)))
    noise *= np.sqrt(np.mean(y**2)) * 10 ** (-snr / 20)
    both = np.stack([y + noise[0], noise[1] - y], axis=1).astype(np.float32)
    mixer = Mixer("mean")
    # All stretches alike: it does not jump between the voice and its noise.
    np.testing.assert_array_equal(_mono(mixer, both), both[:, 0])
    assert "opposite phase) in 12.0 of 12.0 s" in mixer.remarks(sr)[0]


def test_a_line_that_is_late() -> None:
    y = _words(48_000 * 5, 48_000)
    both = np.stack([y, -np.roll(y, 2)], axis=1)
    mean = both.mean(axis=1)
    assert 10 * np.log10(np.mean(mean**2) / np.mean(both**2)) < -20
    np.testing.assert_array_equal(_mono(Mixer("mean"), both), y)


def test_two_who_speak_in_turn_keep_their_mean() -> None:
    one, other = _words(200_000, 16_000), _words(203_000, 16_000)[3000:] * np.float32(0.3)
    turn = (np.arange(200_000) // 30_000) % 2 == 0
    both = np.stack([np.where(turn, one, 0), np.where(turn, 0, -other)], axis=1)
    mixer = Mixer("mean")
    np.testing.assert_array_equal(_mono(mixer, both), both.mean(axis=1, dtype=np.float32))
    assert mixer.remarks(_SR) == ()


def test_how_a_recording_is_divided_and_cut_changes_nothing() -> None:
    """A stretch depends on sixteen to either side, and on no other."""
    rng = np.random.default_rng(3)
    n = 80
    y = (rng.standard_normal(n * 4096) * 0.1).astype(np.float32)
    levels = np.repeat(10.0 ** rng.uniform(-2, 0, n), 4096).astype(np.float32)
    phase = np.repeat(np.where(np.arange(n) // 13 % 2, 1, -1), 4096)
    noise = rng.standard_normal((2, len(y))) * 0.004
    both = np.stack([levels * y + noise[0], phase * levels * y + noise[1]], 1).astype(np.float32)
    both = both[:-1000]
    whole = _mono(Mixer("mean"), both)
    assert (whole == both[:, 0]).any()
    assert (whole == both.mean(axis=1, dtype=np.float32)).any()
    for step in (4096, 3 * 4096, 16 * 4096):
        blocks = [both[at : at + step] for at in range(0, len(both), step)]
        np.testing.assert_array_equal(_mono(Mixer("mean"), *blocks, both[:0]), whole)
    first, last = 20 * 4096, 60 * 4096
    part = _mono(Mixer("mean"), both[first:last])
    inside = slice(16 * 4096, 24 * 4096)
    np.testing.assert_array_equal(part[inside], whole[first:last][inside])
