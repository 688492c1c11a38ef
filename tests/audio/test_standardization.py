from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valence.audio.standardization import MelMoments, Scope, Standardizer, fit
from valence.errors import ModelError

# 2 segments, 3 bands, 4 frames.
_SMALL = np.array(
    [
        [[0, 2, 4, 6], [1, 1, 1, 1], [-3, -1, 1, 3]],
        [[8, 10, 12, 14], [1, 1, 1, 1], [5, 7, 9, 11]],
    ],
    np.float32,
)


def _mel(n: int, *, n_mels: int = 5, n_frames: int = 7, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    # Far from zero and close together, as dB are: sums of squares would lose half their digits.
    return (-60 + 3 * rng.standard_normal((n, n_mels, n_frames))).astype(np.float16)


def test_moments_by_hand() -> None:
    moments = MelMoments.from_mel(_SMALL)
    assert moments.count == 8
    assert moments.mean.tolist() == [7.0, 1.0, 4.0]
    # Band 0 is 0, 2, ..., 14: deviations 7, 5, 3, 1 twice over, 2 * (49 + 25 + 9 + 1).
    assert moments.m2.tolist() == [168.0, 0.0, 168.0]


def test_fit_by_hand() -> None:
    by_band = fit(MelMoments.from_mel(_SMALL), "mel_band")
    assert by_band.mean.tolist() == [7.0, 1.0, 4.0]
    np.testing.assert_allclose(by_band.std, [np.sqrt(21), 1, np.sqrt(21)], rtol=1e-7)
    over_all = fit(MelMoments.from_mel(_SMALL), "global")
    assert over_all.mean.tolist() == [4.0]
    # Within the bands 168 + 0 + 168, between them 8 * (9 + 9 + 0), over 24 values.
    np.testing.assert_allclose(over_all.std, [np.sqrt(480 / 24)], rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_equals_numpy_over_the_concatenated_data(dtype: type) -> None:
    parts = [_mel(n, seed=n).astype(dtype) for n in (13, 1, 29, 60)]
    merged = MelMoments.empty(5)
    for part in parts:
        merged = merged.merge(MelMoments.from_mel(part))
    everything = np.concatenate(parts).astype(np.float64)
    over_all, by_band = fit(merged, "global"), fit(merged, "mel_band")
    np.testing.assert_allclose(over_all.mean, [everything.mean()], rtol=1e-7)
    np.testing.assert_allclose(over_all.std, [everything.std()], rtol=1e-7)
    np.testing.assert_allclose(by_band.mean, everything.mean(axis=(0, 2)), rtol=1e-7)
    np.testing.assert_allclose(by_band.std, everything.std(axis=(0, 2)), rtol=1e-7)
    standardized = over_all(np.concatenate(parts))
    assert standardized.dtype == np.float32
    np.testing.assert_allclose(standardized.mean(dtype=np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(standardized.std(dtype=np.float64), 1, rtol=1e-6)


def test_longer_than_a_chunk_of_sums() -> None:
    mel = _mel(70, n_mels=64, n_frames=33)
    moments = MelMoments.from_mel(mel)
    np.testing.assert_allclose(moments.mean, mel.astype(np.float64).mean(axis=(0, 2)), rtol=1e-13)
    np.testing.assert_allclose(
        moments.m2 / moments.count, mel.astype(np.float64).var(axis=(0, 2)), rtol=1e-12
    )


def test_no_digits_are_lost_far_from_zero() -> None:
    mel = (1e6 + _mel(50).astype(np.float64) / 1e3)[:, :1]
    moments = MelMoments.from_mel(mel)
    np.testing.assert_allclose(moments.m2[0] / moments.count, mel.var(), rtol=1e-7)


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_any_grouping_gives_the_same(sizes: list[int], seed: int) -> None:
    parts = [_mel(n, seed=seed + i) for i, n in enumerate(sizes)]
    forward, backward = MelMoments.empty(5), MelMoments.empty(5)
    for part in parts:
        forward = forward.merge(MelMoments.from_mel(part))
        backward = MelMoments.from_mel(part).merge(backward)
    whole = MelMoments.from_mel(np.concatenate(parts))
    for other in (forward, backward):
        assert other.count == whole.count
        np.testing.assert_allclose(other.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(other.m2, whole.m2, rtol=1e-9, atol=1e-9)


def test_band_axis_is_the_second_last() -> None:
    standardizer = Standardizer(
        "mel_band", np.array([1, 2, 3], np.float32), np.array([1, 2, 4], np.float32)
    )
    mel = np.full((2, 5, 3, 4), 7.0)  # [batch, sequence, bands, frames]
    out = standardizer(mel)
    assert out.shape == mel.shape
    assert out[1, 4, :, 0].tolist() == [6.0, 2.5, 1.0]


def test_segment_minmax_by_hand() -> None:
    mel = np.stack([np.arange(6).reshape(2, 3), np.full((2, 3), 5)]).astype(np.float16)
    out = fit(MelMoments.empty(2), "segment_minmax")(mel)
    np.testing.assert_allclose(out[0].ravel(), [0, 0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-6)
    assert out[1].ravel().tolist() == [0.0] * 6


def test_the_input_is_left_alone() -> None:
    mel = _mel(3).astype(np.float32)
    before = mel.copy()
    for scope in ("global", "mel_band", "segment_minmax"):
        fit(MelMoments.from_mel(mel), scope)(mel)
    assert np.array_equal(mel, before)


@pytest.mark.parametrize("scope", ["global", "mel_band", "segment_minmax"])
def test_json_keeps_every_bit(scope: Scope) -> None:
    moments = MelMoments.from_mel(_mel(11))
    standardizer = fit(moments, scope)
    again = Standardizer.from_json(json.loads(json.dumps(standardizer.to_json())))
    assert again.scope == scope
    assert np.array_equal(again.mean, standardizer.mean)
    assert np.array_equal(again.std, standardizer.std)
    back = MelMoments.from_json(json.loads(json.dumps(moments.to_json())))
    assert back.count == moments.count
    assert np.array_equal(back.mean, moments.mean)
    assert np.array_equal(back.m2, moments.m2)


@pytest.mark.parametrize(
    "content",
    [
        {"scope": "global", "mean": [0.0]},
        {"scope": "per_voice", "mean": [0.0], "std": [1.0]},
        {"scope": "mel_band", "mean": [0.0, 1.0], "std": [1.0]},
        {"scope": "global", "mean": [0.0], "std": [0.0]},
        {"scope": "global", "mean": [float("nan")], "std": [1.0]},
        {"scope": "global", "mean": "four", "std": [1.0]},
    ],
)
def test_damaged_standardization_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="standardisation found"):
        Standardizer.from_json(content)
