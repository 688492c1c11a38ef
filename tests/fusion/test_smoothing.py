"""The filter against its own definition, and at gaps."""

from __future__ import annotations

import numpy as np
import pytest

from valence.fusion.smoothing import savitzky_golay

NAN = np.nan


def test_the_middle_of_a_window_of_five_has_the_known_coefficients() -> None:
    """Savitzky and Golay (1964), table I: -3, 12, 17, 12, -3 over 35."""
    impulse = np.array([0.0, 0.0, 0.0, 0.0, 35.0, 0.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(
        savitzky_golay(impulse, 5)[2:7], [-3.0, 12.0, 17.0, 12.0, -3.0], atol=1e-12
    )


def test_a_cubic_stays_to_its_ends() -> None:
    t = np.linspace(-1, 1, 11)
    cubic = 0.3 * t**3 - 0.5 * t + 0.1
    np.testing.assert_allclose(savitzky_golay(cubic, 7), cubic, atol=1e-12)


def test_gaps_stay_and_are_not_bridged() -> None:
    t = np.linspace(-1, 1, 8)
    before, after = t**3, 5 + t**2
    values = np.concatenate([before, [NAN, NAN], after, [NAN, 1.0, 2.0]])
    smoothed = savitzky_golay(values, 5)
    # Each side is a cubic and stays as it is; over the gap they would bend towards each other.
    np.testing.assert_allclose(smoothed, values, atol=1e-12)


def test_a_stretch_shorter_than_the_window_stays() -> None:
    values = np.array([0.0, 1.0, 0.0, 1.0])
    np.testing.assert_array_equal(savitzky_golay(values, 5), values)


@pytest.mark.parametrize("constant", [0.5, 0.3, 0.1234, -0.7])
def test_a_constant_stretch_stays_to_the_last_digit(constant: float) -> None:
    values = np.concatenate([np.full(50, constant), [NAN], np.sin(np.arange(20))])
    smoothed = savitzky_golay(values, 5)
    np.testing.assert_array_equal(smoothed[:50], values[:50])
    assert np.abs(smoothed[51:] - values[51:]).max() > 1e-3
