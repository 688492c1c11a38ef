from __future__ import annotations

import numpy as np
import pytest

from valence.audio.augmentation import augment
from valence.audio.mel import log_mel
from valence.audio.segmentation import normalize, segment_audio
from valence.config import Config
from valence.segments.spectrograms import CHUNK_SEGMENTS, iter_spectrograms
from valence.segments.timing import StepClock

_SMALL = Config.resolve(
    Config(),
    assignments=[
        "preprocess.sr=8000",
        "mel.n_fft=256",
        "mel.hop_length=128",
        "mel.n_mels=20",
        "mel.n_frames=33",
        "preprocess.seed=5",
    ],
)


@pytest.mark.parametrize("block", [777, 4000, 10**6])
def test_equals_the_functions_over_the_whole(block: int) -> None:
    n = 2 * CHUNK_SEGMENTS + 7
    y = np.random.default_rng(0).normal(0, 0.1, 4000 * n + 99).astype(np.float32)
    blocks = (y[start : start + block] for start in range(0, len(y), block))
    clock = StepClock()
    parts = list(iter_spectrograms(blocks, _SMALL, recording="a", copies=2, clock=clock))
    assert [len(part[0]) for part in parts] == [CHUNK_SEGMENTS, CHUNK_SEGMENTS, 7]
    clean = normalize(segment_audio(y, 4000))
    for copy in range(3):
        segments = clean
        if copy:
            segments = augment(clean, _SMALL.augment, sr=8000, seed=5, recording="a", copy=copy)
        expected = log_mel(segments, _SMALL.mel, sr=8000)
        assert np.array_equal(np.concatenate([part[copy] for part in parts]), expected)
    assert set(clock.seconds) == {"decode", "level", "augment", "mel"}


def test_less_than_a_segment_gives_nothing() -> None:
    blocks = [np.ones(3999, np.float32)]
    parts = iter_spectrograms(blocks, _SMALL, recording="a", copies=0, clock=StepClock())
    assert list(parts) == []
