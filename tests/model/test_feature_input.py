"""A model that takes a set of features: the same BiLSTM and attention, without a CNN."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from valence.audio.standardization import Standardizer
from valence.config import Config
from valence.errors import ModelError
from valence.model.inference import Sequences, outputs_of, sequence_outputs
from valence.model.network import FeatureInput, ValenceModel
from valence.model.serialization import (
    ModelSections,
    expected_weights,
    export_model,
    load_model,
)
from valence.provenance import fingerprint
from valence.storage.location import Location
from valence.training.checkpoint import require_size, state_bytes

_COLUMNS = ("loudness", "pitch", "jitter", "alpha", "slope")
_FEATURES = FeatureInput("egemaps", _COLUMNS, "a" * 64, "CC BY-NC 4.0")
_STANDARDIZER = Standardizer(
    "column",
    np.array([0.5, 100, 0, -3, 7], np.float32),
    np.array([0.1, 30, 1, 2, 4], np.float32),
)
_CONFIG = Config.resolve(
    Config(),
    assignments=[
        "model.input=egemaps",
        "model.lstm_hidden=6",
        "model.dropout=0.5",
        'model.targets=["valence", "arousal"]',
    ],
)


@pytest.fixture
def model() -> ValenceModel:
    torch.manual_seed(3)
    return ValenceModel(_CONFIG.model, n_mels=128, n_frames=34, standardizer=_STANDARDIZER).eval()


def _values(*shape: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    values = rng.normal(_STANDARDIZER.mean, _STANDARDIZER.std, (*shape, 5)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    return torch.from_numpy(values)


def test_the_sizes_of_the_study_remain_behind_the_features() -> None:
    config = Config.resolve(Config(), assignments=["model.input=egemaps"]).model
    made = ValenceModel(config, n_mels=128, n_frames=34, standardizer=_STANDARDIZER)
    assert made.feature_size == 512
    assert made.encoded_size == 5
    assert made.input_shape == (5,)
    # Two layers of a BiLSTM of 128 units, the attention and the last layer; no CNN.
    first, second = (2 * 4 * 128 * (inputs + 128 + 2) for inputs in (5, 256))
    assert sum(each.numel() for each in made.parameters()) == first + second + 257 + 513
    assert not [name for name, _ in made.named_parameters() if name.startswith("blocks")]


def test_features_are_standardised_and_unknown_ones_are_the_mean(model: ValenceModel) -> None:
    given = torch.tensor([[0.7, 40, torch.nan, -3, 7], [torch.nan] * 5])
    expected = torch.tensor([[2.0, -2, 0, 0, 0], [0.0] * 5])
    torch.testing.assert_close(model.encode(given), expected)
    values = _values(4, 9)
    np.testing.assert_allclose(
        model.standardize(values).numpy(), _STANDARDIZER(values.numpy()), rtol=1e-6, atol=1e-6
    )


def test_the_model_equals_the_plain_one(model: ValenceModel) -> None:
    values = _values(4, 9)
    plain = nn.LSTM(5, 6, num_layers=2, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for place, layer in enumerate(model.lstm):
            for name, weight in layer.named_parameters():
                getattr(plain, name.replace("_l0", f"_l{place}")).copy_(weight)
        states, (final, _) = plain(torch.from_numpy(_STANDARDIZER(values.numpy())))
        weights = torch.softmax(model.attention(states), dim=1)
        context = (weights * states).sum(dim=1)
        expected = model.output(torch.cat([context, final[-2], final[-1]], dim=1))
        torch.testing.assert_close(model(values), expected, rtol=1e-5, atol=1e-6)


def test_groups_and_packs_give_what_single_sequences_give(model: ValenceModel) -> None:
    values = _values(14)
    with torch.no_grad():
        expected = model(torch.stack([values[start : start + 8] for start in (0, 3, 6)]))
        grouped = model.forward_groups(values[None], [0, 3, 6], 8)
    torch.testing.assert_close(grouped, expected)
    starts = np.array([0, 3, 6])
    outputs = sequence_outputs(model, values, starts, 8)
    np.testing.assert_allclose(outputs.prediction, expected, rtol=1e-4, atol=1e-6)
    assert outputs.feature.shape == (3, 24)
    given = [Sequences(values, starts), Sequences(_values(9, seed=1), starts[:0])]
    together = list(outputs_of(model, given, 8, precision="bfloat16"))
    # Only a CNN computes in less precision.
    np.testing.assert_array_equal(together[0].prediction, outputs.prediction)
    assert together[1].prediction.shape == (0, 2)


def test_missing_values_give_finite_gradients(model: ValenceModel) -> None:
    model.train()
    model(_values(4, 9)).sum().backward()
    gradients = [each.grad for each in model.parameters()]
    assert all(each is not None and each.isfinite().all() for each in gradients)


@pytest.fixture
def folder(model: ValenceModel, tmp_path: Path) -> Location:
    place = Location.parse(tmp_path / "model")
    export_model(place, model, _CONFIG, {}, _FEATURES)
    return place


def test_a_model_is_read_as_it_was_written(folder: Location, model: ValenceModel) -> None:
    again, description = load_model(folder)
    assert description.features == _FEATURES
    assert description.config.model.feature_set == "egemaps"
    values = _values(4, 9)
    with torch.no_grad():
        assert torch.equal(again(values), model(values))


def _forge(folder: Location, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "model.json"
    content = json.loads(file.read_text())
    del content["digest"]
    change(content)
    file.write_json({**content, "digest": fingerprint(content)})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.pop("features"), "'features' is missing"),
        (lambda c: c["features"].update(set="other"), "its features are 'other' and model.input"),
        (lambda c: c["features"].update(columns=["a"]), "5 means for 1 columns"),
        (lambda c: c["features"].update(columns=["a"] * 5), "names a column twice"),
        (lambda c: c["features"].update(columns="abcde"), "no list of names"),
        (lambda c: c["features"].update(columns=[1] * 5), "is no text"),
        (lambda c: c["features"].update(licence=3), "is no text"),
        (lambda c: c["standardizer"].update(scope="global"), "5 means for 5 columns"),
        (lambda c: c["config"]["model"].pop("input"), "5 means for 128 mel bands"),
        (lambda c: c["config"]["model"].update(input="a/x"), "is a path"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(
    folder: Location, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    _forge(folder, change)
    with pytest.raises(ModelError, match=says):
        load_model(folder)


def test_the_size_of_the_weights_depends_on_the_columns(model: ValenceModel) -> None:
    sections = ModelSections(
        **{name: getattr(_CONFIG, name) for name in ModelSections.model_fields}
    )
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    expected = expected_weights(sections, None, columns=5)
    assert {name: value.shape for name, value in expected.items()} == shapes
    # Each column adds a mean, a deviation and 4 gates of 6 units in both directions.
    assert state_bytes(_CONFIG, 6) - state_bytes(_CONFIG, 5) == 4 * 4 * (2 + 2 * 4 * 6)
    require_size(_CONFIG, 5)


def test_the_card_says_what_the_model_takes(folder: Location) -> None:
    card = (folder / "README.md").read_text()
    assert "over the set of features `egemaps` (5 columns) in place of its CNN" in card
    assert "(y, sr=sr, features=x)" in card
    assert "loudness itself is not seen" not in card
    assert "CNN-BiLSTM" not in card
    assert "- Licence of the features `egemaps`: CC BY-NC 4.0.\n" in card


def test_onnx_runtime_computes_what_torch_computes(folder: Location, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    from valence.model.onnx.export import export_onnx

    model, description = load_model(folder)
    file = Location.parse(tmp_path / "model.onnx")
    export_onnx(file, model, description, takes="set")
    session = onnxruntime.InferenceSession(str(file))
    (given,) = session.get_inputs()
    assert (given.name, given.shape) == ("set", ["batch", "segments", 5])
    about = json.loads(session.get_modelmeta().custom_metadata_map["valence"])
    assert about["features"]["columns"] == list(_COLUMNS)
    for batch, length in ((1, 40), (3, 1), (2, 7)):
        values = _values(batch, length, seed=length)
        prediction, features, attention = session.run(None, {"set": values.numpy()})
        with torch.no_grad():
            deep, weights = model.embed(model.encode(values.flatten(0, 1)).view(batch, length, -1))
            np.testing.assert_allclose(prediction, model(values), atol=1e-5)
        np.testing.assert_allclose(features, deep, atol=1e-5)
        np.testing.assert_allclose(attention, weights, atol=1e-5)
    # NaN is a missing value, and an infinite one is no value.
    infinite = _values(2, 7, seed=7).numpy()
    infinite[1, 3, 2] = -np.inf
    for found in session.run(None, {"set": infinite}):
        assert np.isfinite(found[0]).all()
        assert np.isnan(found[1]).all()
