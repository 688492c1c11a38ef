"""Evaluation agrees with audmetric on every sequence, counted once."""

from __future__ import annotations

import audmetric
import numpy as np
import pytest
import torch

from valence.audio.standardization import Standardizer
from valence.config import ModelConfig
from valence.errors import TrainingError
from valence.metrics import ConstantWarning
from valence.model.inference import sequence_outputs
from valence.model.network import ValenceModel
from valence.segments.sequences import windows
from valence.training.data.batches import Labelled
from valence.training.validation import evaluate

LENGTH = 5


@pytest.fixture
def model() -> ValenceModel:
    torch.manual_seed(0)
    config = ModelConfig(channels=(3, 4), lstm_hidden=5, targets=("valence", "arousal"))
    standardizer = Standardizer("global", np.array([-30], np.float32), np.array([20], np.float32))
    return ValenceModel(config, n_mels=16, n_frames=12, standardizer=standardizer)


@pytest.fixture
def labelled() -> Labelled:
    rng = np.random.default_rng(7)
    starts = windows(LENGTH, 2, segments=40)
    mel = rng.normal(-30, 5, (40, 16, 12)).astype(np.float32)
    return Labelled("r", mel, starts, rng.normal(size=(len(starts), 2)).astype(np.float32))


def test_every_sequence_counts_once(model: ValenceModel, labelled: Labelled) -> None:
    parts = [
        Labelled(name, labelled.inputs, labelled.starts[which], labelled.target[which])
        for name, which in (("b", slice(0, 7)), ("a", slice(7, None)))
    ]
    prediction = sequence_outputs(model, labelled.inputs, labelled.starts, LENGTH).prediction
    for recordings in ([labelled], parts):
        found = evaluate(model, recordings, LENGTH)
        assert found.n == len(labelled.starts) == 18
        assert not found.constant
        difference = labelled.target.astype(np.float64) - prediction
        assert found.mse == pytest.approx(np.mean(difference**2), rel=1e-6, abs=1e-7)
        assert found.mae == pytest.approx(np.mean(np.abs(difference)), rel=1e-6, abs=1e-7)
        expected = [
            audmetric.concordance_cc(labelled.target[:, k], prediction[:, k]) for k in (0, 1)
        ]
        assert found.ccc == pytest.approx(np.mean(expected), rel=1e-6, abs=1e-7)


def test_a_constant_model_agrees_by_nothing_with_a_warning(
    model: ValenceModel, labelled: Labelled
) -> None:
    torch.nn.init.zeros_(model.output.weight)
    with pytest.warns(ConstantWarning):
        found = evaluate(model, [labelled], LENGTH)
    assert found.ccc == 0
    assert found.constant
    assert np.isfinite([found.mse, found.mae]).all()


def test_predictions_that_are_no_numbers_are_an_error(
    model: ValenceModel, labelled: Labelled
) -> None:
    torch.nn.init.constant_(model.output.bias, torch.nan)
    with pytest.raises(TrainingError, match="not a number any more"):
        evaluate(model, [labelled], LENGTH)


def test_nothing_to_evaluate_is_an_error(model: ValenceModel, labelled: Labelled) -> None:
    nothing = Labelled("r", labelled.inputs, labelled.starts[:0], labelled.target[:0])
    with pytest.raises(TrainingError, match="No validation recording"):
        evaluate(model, [nothing], LENGTH)
