"""A sequence's outputs are those of the model on that sequence alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from valence.audio.standardization import Standardizer
from valence.config import ModelConfig
from valence.model import inference
from valence.model.inference import Sequences, outputs_of, sequence_outputs
from valence.model.network import ValenceModel

LENGTH = 6


@pytest.fixture
def model() -> ValenceModel:
    torch.manual_seed(5)
    config = ModelConfig(channels=(2, 4), lstm_hidden=3, targets=("valence", "arousal"))
    standardizer = Standardizer("global", np.array([-30], np.float32), np.array([20], np.float32))
    return ValenceModel(config, n_mels=16, n_frames=10, standardizer=standardizer)


def _mel(segments: int) -> np.ndarray:
    return np.random.default_rng(2).normal(-30, 20, (segments, 16, 10)).astype(np.float16)


@pytest.mark.parametrize("at_once", [(3, 2), (1000, 1000)], ids=["in parts", "at once"])
def test_outputs_equal_the_model_on_each_sequence(
    model: ValenceModel, at_once: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(inference.SEGMENTS_AT_ONCE, "cpu", at_once[0])
    monkeypatch.setitem(inference.SEQUENCES_AT_ONCE, "cpu", at_once[1])
    mel, starts = _mel(17), np.array([0, 1, 4, 11])
    got = sequence_outputs(model, mel, starts, LENGTH)
    assert got.feature.shape == (4, 12)
    assert got.prediction.shape == (4, 2)
    assert got.attention.shape == (4, LENGTH)
    model.eval()
    for row, start in enumerate(starts):
        with torch.inference_mode():
            segments = torch.from_numpy(mel[start : start + LENGTH])
            features, attention = model.embed(model.encode(segments)[None])
            prediction = model(segments[None])
        np.testing.assert_allclose(got.feature[row], features[0], atol=1e-5)
        np.testing.assert_allclose(got.attention[row], attention[0], atol=1e-6)
        np.testing.assert_allclose(got.prediction[row], prediction[0], atol=1e-5)


def test_the_mode_of_the_model_is_left_as_it_was(model: ValenceModel) -> None:
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sequence_outputs(model, _mel(LENGTH), np.array([0]), LENGTH)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_no_sequence_gives_no_row(model: ValenceModel) -> None:
    got = sequence_outputs(model, _mel(3), np.array([], np.int64), LENGTH)
    assert got.feature.shape == (0, 12)
    assert got.prediction.shape == (0, 2)
    assert got.attention.shape == (0, LENGTH)


@pytest.mark.parametrize(
    ("most", "segments", "asked_for"),
    [
        (0, 10**6, [1, 2, 3, 4]),
        (5, 10**6, [2, 2, 4, 4]),
        (10**6, 10**6, [4, 4, 4, 4]),
        (10**6, 25, [3, 3, 3, 4]),
        (10**6, 1, [1, 2, 3, 4]),
    ],
    ids=["alone", "by twos", "all together", "by segments", "each too long"],
)
def test_recordings_put_together_keep_their_own_outputs(
    model: ValenceModel,
    most: int,
    segments: int,
    asked_for: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(inference.PACKED_SEQUENCES, "cpu", most)
    monkeypatch.setattr(inference, "PACKED_SEGMENTS", segments)
    starts = ([0, 3, 4], [2, 0], [], [11, 5, 0, 1])
    given = [
        Sequences(_mel(held), np.array(first, np.int64))
        for held, first in zip((10, 8, 7, 17), starts, strict=True)
    ]
    asked = []

    def recordings() -> Iterator[Sequences]:
        for number, each in enumerate(given):
            asked.append(number)
            yield each

    found = []
    # No more are asked for than fill a pack.
    for outputs, before in zip(outputs_of(model, recordings(), LENGTH), asked_for, strict=True):
        assert len(asked) == before
        found.append(outputs)
    for each, outputs in zip(given, found, strict=True):
        alone = sequence_outputs(model, each.inputs, each.starts, LENGTH)
        for name in ("feature", "prediction", "attention"):
            got, expected = getattr(outputs, name), getattr(alone, name)
            assert got.shape == expected.shape
            if asked_for == [1, 2, 3, 4]:
                np.testing.assert_array_equal(got, expected)
            np.testing.assert_allclose(got, expected, atol=1e-6)


def test_reduced_precision_stays_near(model: ValenceModel) -> None:
    given = [Sequences(_mel(17), np.arange(11))]
    (reduced,) = outputs_of(model, given, LENGTH, precision="bfloat16")
    (full,) = outputs_of(model, given, LENGTH)
    assert reduced.feature.dtype == reduced.prediction.dtype == np.float32
    assert not np.array_equal(reduced.feature, full.feature)
    np.testing.assert_allclose(reduced.feature, full.feature, atol=0.05)
    np.testing.assert_allclose(reduced.prediction, full.prediction, atol=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_a_cpu_gives(model: ValenceModel) -> None:
    given = [Sequences(_mel(17), np.arange(11)), Sequences(_mel(9), np.array([3, 0]))]
    expected = list(outputs_of(model, given, LENGTH))
    found = list(outputs_of(model.to("cuda"), given, LENGTH))
    # Convolutions and recurrences of a GPU round to ten bits.
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.feature, other.feature, atol=0.01)
        np.testing.assert_allclose(one.prediction, other.prediction, atol=0.01)
