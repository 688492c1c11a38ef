"""The model equals the study's written plainly, in values, gradients and running statistics."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from valence.audio.standardization import Scope, Standardizer
from valence.config import ModelConfig
from valence.model.network import ValenceModel
from valence.training.loss import ccc_loss, pair_sums

N_MELS, N_FRAMES = 24, 18


def _bench() -> ModuleType:
    file = Path(__file__).parents[1] / "bench" / "bench_train.py"
    spec = importlib.util.spec_from_file_location("bench_train", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _standardizer(scope: Scope = "global", bands: int = 1) -> Standardizer:
    mean = np.linspace(-35, -25, bands, dtype=np.float32)
    std = np.linspace(15, 25, bands, dtype=np.float32)
    return Standardizer(scope, mean, std)


def _model(standardizer: Standardizer | None = None, **settings: object) -> ValenceModel:
    torch.manual_seed(3)
    config = ModelConfig.model_validate({"channels": [2, 3, 5], "lstm_hidden": 7, **settings})
    model = ValenceModel(
        config, n_mels=N_MELS, n_frames=N_FRAMES, standardizer=standardizer or _standardizer()
    )
    with torch.no_grad():
        for block in model.blocks:
            # Weights of both signs: the sign decides which of four values the pooling keeps.
            nn.init.normal_(block.norm.weight)
            nn.init.normal_(block.norm.bias)
    return model


def _mel(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, N_MELS, N_FRAMES, generator=generator) * 20 - 30


def test_sizes_are_the_studys() -> None:
    model = ValenceModel(
        ModelConfig(), n_mels=128, n_frames=34, standardizer=_standardizer()
    ).eval()
    assert model.encoded_size == 32 * 16 * 4
    assert model.feature_size == 512
    with torch.inference_mode():
        features, attention = model.embed(torch.zeros(2, 40, 2048))
    assert features.shape == (2, 512)
    assert attention.shape == (2, 40)
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("chunk", [1, 2**18], ids=["a segment a chunk", "one chunk"])
def test_model_equals_the_plain_one(
    training: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("valence.model.cnn_block._CHUNK_VALUES", chunk)
    model = _model().double()
    plain = _bench().PlainModel(model).train(training)
    model.train(training)
    mel, weights = _mel(3, 4), torch.tensor([[0.3], [-1.0], [2.0]], dtype=torch.float64)
    got, expected = model(mel), plain(mel)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    if training:
        (got * weights).sum().backward()
        (expected * weights).sum().backward()
    for index, block in enumerate(model.blocks):
        conv, norm = plain.cnn[4 * index], plain.cnn[4 * index + 1]
        if training:
            for own, other in zip(
                (block.conv.weight, block.norm.weight, block.norm.bias),
                (conv.weight, norm.weight, norm.bias),
                strict=True,
            ):
                torch.testing.assert_close(own.grad, other.grad, rtol=1e-9, atol=1e-12)
        assert block.norm.num_batches_tracked == norm.num_batches_tracked == int(training)
        for name in ("running_mean", "running_var"):
            own, other = getattr(block.norm, name), getattr(norm, name)
            torch.testing.assert_close(own, other, rtol=0, atol=1e-12)


def test_float32_is_within_rounding_of_the_plain_model() -> None:
    model = _model().train()
    plain = _bench().PlainModel(model).train()
    torch.testing.assert_close(model(_mel(5, 6)), plain(_mel(5, 6)), rtol=0, atol=1e-5)


def test_gradient_of_a_chunked_block_is_the_numerical_one() -> None:
    block = _model().double().train().blocks[1]
    # Values apart from each other, so that a small change moves no maximum.
    x = torch.randperm(2 * 2 * 6 * 5, generator=torch.Generator().manual_seed(1)).double()
    x = x.view(2, 6, 5, 2).permute(0, 3, 1, 2).requires_grad_()

    def run(x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        fresh = copy.deepcopy(block)
        fresh.conv.weight, fresh.norm.weight = block.conv.weight, block.norm.weight
        y = fresh(x)
        assert isinstance(y, torch.Tensor)
        return y

    parameters = (block.conv.weight, block.norm.weight, block.norm.bias)
    assert torch.autograd.gradcheck(run, (x, *parameters[:2]), eps=1e-6, atol=1e-5)


def test_plain_composition_equals_the_chunked_block() -> None:
    """What runs on a GPU, run here by telling the block that it is being compiled."""
    mel = _mel(2, 5)
    chunked, composed = _model().double().train(), _model().double().train()
    chunked(mel).sum().backward()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        composed(mel).sum().backward()
    for own, other in zip(chunked.parameters(), composed.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-9, atol=1e-12)
    for own, other in zip(chunked.buffers(), composed.buffers(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-12)


def test_statistics_of_all_workers_keep_the_precision_of_the_block() -> None:
    block = _model().train().blocks[1]
    y = torch.randn(4, 3, 6, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
    expected = copy.deepcopy(block.norm)(y)
    for dtype, close in ((torch.float32, 1e-5), (torch.bfloat16, 0.02)):
        fresh = copy.deepcopy(block)
        got = fresh._normalize(y.to(dtype))
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), expected, rtol=0, atol=close)
        assert fresh.norm.running_mean.dtype == torch.float32


@pytest.mark.parametrize("scope", ["global", "mel_band", "segment_minmax"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_standardisation_is_the_standardizers(scope: Scope, dtype: torch.dtype) -> None:
    standardizer = _standardizer(scope, N_MELS if scope == "mel_band" else 1)
    mel = _mel(2, 3).to(dtype)
    mel[1, 2] = -100  # A constant segment.
    got = _model(standardizer).standardize(mel)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), standardizer(mel.numpy()), rtol=1e-6, atol=1e-6)


def test_runs_of_overlapping_windows_equal_their_windows() -> None:
    model = _model(targets=["valence", "arousal"]).double().eval()
    mel = _mel(2, 9)
    got = model.forward_groups(mel, (0, 2, 4), 5)
    expected = torch.stack([model(mel[:, first : first + 5]) for first in (0, 2, 4)], dim=1)
    assert got.shape == (6, 2)
    torch.testing.assert_close(got, expected.flatten(0, 1), rtol=0, atol=1e-12)


def test_a_run_of_one_window_trains_as_the_window_does() -> None:
    one, other = _model().double().train(), _model().double().train()
    one.forward_groups(_mel(3, 4), (0,), 4).sum().backward()
    other(_mel(3, 4)).sum().backward()
    for own, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(own.grad, theirs.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_projected_recurrence_equals_torchs(layers: int) -> None:
    model = _model(lstm_layers=layers).double().eval()
    encoded = model.encode(_mel(6)).view(2, 3, -1)
    features, attention = model.embed(encoded)
    again, attention_again = model.embed_projected(model.project(encoded))
    torch.testing.assert_close(again, features, rtol=0, atol=1e-12)
    torch.testing.assert_close(attention_again, attention, rtol=0, atol=1e-12)


def test_what_follows_a_cnn_in_less_precision_is_in_float32() -> None:
    model, mel, seen = _model().train(), _mel(2, 7), []
    model.lstm[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))

    def encode(mel: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            encoded = model.encode(mel)
        seen.append(encoded.dtype)
        return encoded

    prediction = model.forward_groups(mel, (0, 2), 5, encode=encode)
    assert seen == [torch.bfloat16, torch.float32]
    assert prediction.dtype == torch.float32
    assert not torch.equal(prediction, prediction.bfloat16().float())


def test_dropout_is_for_training_alone() -> None:
    model = _model(dropout=0.5).eval()
    features = torch.ones(4, model.feature_size)
    assert torch.equal(model.head(features), model.head(features))
    model.train()
    assert not torch.equal(model.head(features), model.head(features))


@pytest.mark.parametrize("scope", ["global", "mel_band", "segment_minmax"])
def test_a_step_makes_nothing_on_another_device_than_the_models(scope: Scope) -> None:
    """Meta tensors hold no values, refuse others beside them, and take the path of a GPU."""
    bands = N_MELS if scope == "mel_band" else 1
    model = _model(_standardizer(scope, bands), dropout=0.5).to("meta").train()
    mel = _mel(3, 9).half().to("meta")
    sums = pair_sums(model.forward_groups(mel, (0, 2, 4), 5), torch.zeros(9, 1, device="meta"))
    ccc_loss(sums).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.device.type == "meta"
    model.eval()
    features, attention = model.embed_projected(model.project(model.encode(mel[0]))[None])
    assert {each.device.type for each in (model.head(features), attention)} == {"meta"}
