"""The ONNX file in ONNX Runtime against torch, for all kinds of standardisation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from valence.audio.standardization import Scope, Standardizer
from valence.config import Config
from valence.model.network import ValenceModel
from valence.model.onnx.export import export_onnx
from valence.model.serialization import export_model, load_model
from valence.storage.location import Location

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")


def _standardizer(scope: Scope, n_mels: int) -> Standardizer:
    n = n_mels if scope == "mel_band" else 1
    mean = np.linspace(-30, -10, n, dtype=np.float32)
    return Standardizer(scope, mean, np.linspace(9, 21, n, dtype=np.float32))


@pytest.mark.parametrize("scope", ["global", "mel_band", "segment_minmax"])
@pytest.mark.parametrize("targets", [["valence"], ["valence", "arousal"]])
def test_onnx_runtime_computes_what_torch_computes(
    tmp_path: Path, scope: Scope, targets: list[str]
) -> None:
    config = Config.resolve(
        Config(),
        assignments=[
            "mel.n_mels=40",
            "model.channels=[2,3]",
            "model.lstm_hidden=5",
            "model.lstm_layers=2",
            "model.dropout=0.5",
            f"model.targets={json.dumps(targets)}",
        ],
    )
    torch.manual_seed(3)
    made = ValenceModel(config.model, n_mels=40, n_frames=34, standardizer=_standardizer(scope, 40))
    for block in made.blocks:
        # Statistics as after training, so that a normalisation left out would show.
        torch.nn.init.uniform_(block.norm.running_mean, -1, 1)
        torch.nn.init.uniform_(block.norm.running_var, 0.5, 2)
    folder = Location.parse(tmp_path / "model")
    export_model(folder, made, config, {})
    model, description = load_model(folder)
    file = Location.parse(tmp_path / "model.onnx")
    export_onnx(file, model, description, takes="mel")
    session = onnxruntime.InferenceSession(str(file))

    assert [each.name for each in session.get_inputs()] == ["mel"]
    for batch, length in ((1, 40), (3, 1), (2, 7)):
        mel = 20 * torch.randn(batch, length, 40, 34) - 25
        mel[0, 0] = -100  # A silent segment has no range to divide by.
        prediction, features, attention = session.run(None, {"mel": mel.numpy()})
        with torch.no_grad():
            expected = model(mel)
            encoded = model.encode(mel.flatten(0, 1)).view(batch, length, -1)
            deep, weights = model.embed(encoded)
        assert prediction.shape == (batch, len(targets))
        np.testing.assert_allclose(prediction, expected, atol=1e-5)
        np.testing.assert_allclose(features, deep, atol=1e-5)
        np.testing.assert_allclose(attention, weights, atol=1e-5)


def test_the_file_says_how_its_input_is_made(tmp_path: Path, tiny_config: Config) -> None:
    model = ValenceModel(
        tiny_config.model, n_mels=128, n_frames=34, standardizer=_standardizer("global", 128)
    )
    folder = Location.parse(tmp_path / "model")
    export_model(folder, model, tiny_config, {})
    file = Location.parse(tmp_path / "model.onnx")
    export_onnx(file, *load_model(folder), takes="mel")
    metadata = onnxruntime.InferenceSession(str(file)).get_modelmeta().custom_metadata_map
    about = json.loads(metadata["valence"])
    assert about["targets"] == ["valence"]
    assert about["config"]["mel"]["n_frames"] == 34
    assert about["config"]["preprocess"]["level_dbfs"] == -3.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_mel_that_is_not_finite_marks_its_sequence_alone(
    tmp_path: Path, tiny_config: Config, value: float
) -> None:
    """By themselves, two layers of pooling would leave nothing of it."""
    torch.manual_seed(3)
    model = ValenceModel(
        tiny_config.model, n_mels=128, n_frames=34, standardizer=_standardizer("global", 128)
    ).eval()
    folder, file = Location.parse(tmp_path / "model"), Location.parse(tmp_path / "model.onnx")
    export_model(folder, model, tiny_config, {})
    export_onnx(file, *load_model(folder), takes="mel")
    mel = (20 * torch.randn(3, 6, 128, 34) - 25).numpy()
    session = onnxruntime.InferenceSession(str(file))
    expected = session.run(None, {"mel": mel})
    assert all(np.isfinite(each).all() for each in expected)
    mel[1, 4, 60, 20] = value
    for found, before in zip(session.run(None, {"mel": mel}), expected, strict=True):
        assert np.isnan(found[1]).all()
        np.testing.assert_array_equal(found[[0, 2]], before[[0, 2]])
