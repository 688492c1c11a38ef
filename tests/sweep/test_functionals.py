"""The baseline: mean and standard deviation of every mel band over a sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from valence.segments.store import Segments, SegmentStore
from valence.storage.location import Location
from valence.sweep.features import Features
from valence.sweep.functionals import functionals, functionals_outcome
from valence.sweep.transforms import divide

_N, _BANDS, _FRAMES, _LENGTH = 23, 5, 7, 4


class _InBlocks(SegmentStore):
    """A store that hands out one recording in blocks of unlike sizes."""

    def blocks(self, recording: str, copy: int = 0):
        assert copy == 0
        mel = _mel(recording)
        for low, high in ((0, 9), (9, 10), (10, _N)):
            n = high - low
            unknown = np.full(n, np.nan, np.float32)
            yield Segments(
                recording, 0, np.arange(n, dtype=np.int64), unknown, unknown, mel[low:high]
            )


def _mel(recording: str) -> np.ndarray:
    generator = np.random.default_rng(int(recording[1:]))
    level = generator.normal(-40, 20, size=(_N, _BANDS, 1))
    return (level + generator.normal(0, 3, size=(_N, _BANDS, _FRAMES))).astype(np.float16)


@pytest.fixture
def store(tmp_path: Path) -> SegmentStore:
    return _InBlocks(Location.parse(tmp_path))


def test_equals_numpy_over_the_sequence(store: SegmentStore) -> None:
    starts = np.array([0, 3, 8, _N - _LENGTH], np.int32)
    found = functionals(store, "r1", starts, length=_LENGTH)
    assert found.shape == (4, 2 * _BANDS)
    mel = _mel("r1").astype(np.float64)
    for row, start in zip(found, starts, strict=True):
        window = mel[start : start + _LENGTH]
        np.testing.assert_allclose(row[:_BANDS], window.mean(axis=(0, 2)), rtol=1e-10)
        np.testing.assert_allclose(row[_BANDS:], window.std(axis=(0, 2)), rtol=1e-7)


def test_a_constant_band_deviates_by_nothing(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        f"{__name__}._mel", lambda _: np.full((_N, _BANDS, _FRAMES), -99.9, np.float32)
    )
    found = functionals(store, "r1", np.array([0, 5]), length=_LENGTH)
    np.testing.assert_allclose(found[:, _BANDS:], 0, atol=1e-5)


def test_ridge_is_fitted_on_training_rows_alone(make_features: object) -> None:
    features: Features = make_features(rows=(40, 15, 12), subjects=(3, 2, 2))
    generator = np.random.default_rng(2)
    matrix = generator.standard_normal((67, 6)) * [1, 5, 9, 2, 3, 1]
    of_recording = {name: matrix[features.recording == name] for name in set(features.recording)}
    found = functionals_outcome(divide(features), of_recording)
    plain = make_pipeline(StandardScaler(), Ridge())
    plain.fit(matrix[:40], features.target[:40, 0].astype(np.float64))
    np.testing.assert_allclose(found.validation, plain.predict(matrix[40:55]), rtol=1e-12)
    np.testing.assert_allclose(found.test, plain.predict(matrix[55:]), rtol=1e-12)
    assert found.rows == 40
