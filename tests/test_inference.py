"""A sequence's outputs are those of the model on that sequence alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from valence import inference
from valence.config import ModelConfig
from valence.inference import sequence_outputs
from valence.model import ValenceModel
from valence.standardization import Standardizer

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
