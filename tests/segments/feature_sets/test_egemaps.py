"""eGeMAPS of segments and sequences: openSMILE's habits, met one by one."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from valence.errors import UsageError
from valence.segments.feature_sets.egemaps import (
    FULL_SCALE,
    SR,
    Extractor,
    Measured,
    limited,
    measure_recording,
    require_opensmile,
    without_false_zeros,
)

_SEGMENT = SR // 2


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    pytest.importorskip("opensmile", reason="the extra opensmile is not installed")
    return Extractor.load()


def _voice(seconds: float) -> np.ndarray:
    """Vibrating harmonics of 150 Hz with noise, which openSMILE takes for voiced speech."""
    t = np.arange(int(seconds * SR)) / SR
    f0 = 150 + 20 * np.sin(2 * np.pi * 5 * t)
    phase = 2 * np.pi * np.cumsum(f0) / SR
    y = sum(np.sin(k * phase) / k for k in range(1, 30))
    noise = np.random.default_rng(0).standard_normal(len(t))
    return np.asarray(0.1 * y + 0.002 * noise, np.float32)


class _Sum:
    """Stands for openSMILE: the sum and the length of what it gets."""

    def __call__(self, y: np.ndarray, sr: int) -> np.ndarray:
        assert sr == SR
        return np.array([[[y.sum()], [len(y)]]])


def test_segments_and_sequences_are_cut_by_hand() -> None:
    y = np.repeat(np.arange(1, 8, dtype=np.float32) / 10, 4)
    blocks = [y[:5], y[5:6], y[6:], np.zeros(3, np.float32)]
    fake = Extractor(_Sum(), ("sum", "samples"))
    counts = Measured()
    found = list(measure_recording(fake, blocks, counts, segment_samples=4))
    assert [start for start, _ in found] == list(range(7))
    np.testing.assert_allclose([value for _, value in found], [(0.4 * k, 4) for k in range(1, 8)])
    # The three samples after the last whole segment are no segment.
    assert counts.segments == 7

    found = list(measure_recording(fake, blocks, Measured(), segment_samples=4, length=3, stride=2))
    expected = {0: 0.4 * (1 + 2 + 3), 2: 0.4 * (3 + 4 + 5), 4: 0.4 * (5 + 6 + 7)}
    assert [start for start, _ in found] == list(expected)
    np.testing.assert_allclose(
        [value for _, value in found], [(total, 12) for total in expected.values()], rtol=1e-6
    )


def test_samples_beyond_full_scale_are_limited_and_counted() -> None:
    y = np.array([0.5, 1.0, -1.0, 3.0, -0.25], np.float32)
    found, beyond = limited(y)
    assert beyond == 3
    assert found.tolist() == [0.5, FULL_SCALE, -FULL_SCALE, FULL_SCALE, -0.25]
    counts = Measured()
    list(measure_recording(Extractor(_Sum(), ("a", "b")), [y], counts, segment_samples=2))
    # The last sample is in no whole segment.
    assert counts.beyond == 3


def test_zeros_are_missing_unless_they_can_be_measured(extractor: Extractor) -> None:
    zeros = np.zeros(len(extractor.columns), np.float32)
    kept = {
        name
        for name, value in zip(
            extractor.columns, without_false_zeros(zeros, extractor.columns), strict=True
        )
        if value == 0
    }
    assert kept == {
        "loudness_sma3_amean",
        "loudness_sma3_percentile20.0",
        "loudness_sma3_percentile50.0",
        "loudness_sma3_percentile80.0",
        "loudness_sma3_pctlrange0-2",
        "spectralFlux_sma3_amean",
        "loudnessPeaksPerSec",
        "VoicedSegmentsPerSec",
        "equivalentSoundLevel_dBp",
    }


def test_noise_has_no_voice_and_voice_has_pitch(extractor: Extractor) -> None:
    assert len(extractor.columns) == 88
    noise = 0.01 * np.random.default_rng(0).standard_normal(_SEGMENT).astype(np.float32)
    unvoiced = dict(zip(extractor.columns, extractor.measure(noise), strict=True))
    voiced = dict(zip(extractor.columns, extractor.measure(_voice(0.5)), strict=True))
    for name in (
        "F0semitoneFrom27.5Hz_sma3nz_amean",
        "HNRdBACF_sma3nz_amean",
        "F1amplitudeLogRelF0_sma3nz_amean",
    ):
        assert np.isnan(unvoiced[name]), name
        assert np.isfinite(voiced[name]), name
    assert unvoiced["VoicedSegmentsPerSec"] == 0
    assert unvoiced["loudness_sma3_amean"] > 0
    # 150 Hz are 12 log2(150 / 27.5) = 29.4 semitones above 27.5 Hz.
    assert voiced["F0semitoneFrom27.5Hz_sma3nz_amean"] == pytest.approx(29.4, abs=0.7)


def test_opensmiles_own_table_is_the_oracle(extractor: Extractor) -> None:
    y = _voice(1.5)
    rows = list(measure_recording(extractor, [y], Measured(), segment_samples=_SEGMENT))
    assert len(rows) == 3
    for start, found in rows:
        part = y[start * _SEGMENT : (start + 1) * _SEGMENT]
        frame = extractor.smile.process_signal(part, SR)
        assert list(frame.columns) == list(extractor.columns)
        own = frame.iloc[0].to_numpy(np.float32)
        known = np.isfinite(found)
        np.testing.assert_array_equal(found[known], own[known])
        assert set(own[~known].tolist()) <= {0.0, -201.0}
    ((start, whole),) = measure_recording(
        extractor, [y], Measured(), segment_samples=_SEGMENT, length=3, stride=3
    )
    assert start == 0
    own = extractor.smile.process_signal(y, SR).iloc[0].to_numpy(np.float32)
    np.testing.assert_array_equal(whole[np.isfinite(whole)], own[np.isfinite(whole)])


def test_sound_at_full_scale_keeps_its_loudness(extractor: Extractor) -> None:
    """Unlimited, plateaus at 1.0 would jump to the negative end, and loudness with them."""
    tone = 1.5 * np.sin(2 * np.pi * 150 * np.arange(_SEGMENT) / SR)
    loud = np.clip(tone, -1, 1).astype(np.float32)
    place = extractor.columns.index("loudness_sma3_amean")
    ((_, at_full),) = measure_recording(extractor, [loud], Measured(), segment_samples=_SEGMENT)
    below = extractor.measure(np.float32(0.99) * loud)
    assert at_full[place] == pytest.approx(below[place], rel=0.02)
    wrapped = np.asarray(extractor.smile(loud, SR)).reshape(-1)
    assert wrapped[place] > 2 * at_full[place]


def test_a_missing_package_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    monkeypatch.setattr(
        "valence.segments.feature_sets.egemaps.find_spec", lambda name: None, raising=True
    )
    with pytest.raises(UsageError, match=r"pip install -e '.\[opensmile\]'.*commercial"):
        require_opensmile()
