"""Compiled, the CNN gives the same gradients; where it cannot be, training goes on without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from valence.audio.standardization import Standardizer
from valence.config import Config
from valence.model.network import ValenceModel
from valence.training.data.batches import Batch
from valence.training.loop import Stepper, TrainingSpec
from valence.training.loss import ccc_loss

_STANDARDIZER = Standardizer("global", np.array([-30], np.float32), np.array([20], np.float32))


def _stepper(compile: str, device: str = "cpu") -> Stepper:
    config = Config.resolve(
        Config(),
        assignments=[
            "mel.n_mels=16",
            "model.channels=[3, 4]",
            "model.lstm_hidden=5",
            "sequence.length=5",
            "sequence.stride=2",
            "train.batch_size=8",
            "train.windows_per_group=2",
            f"train.compile={compile}",
        ],
    )
    task = TrainingSpec(config, {}, _STANDARDIZER, torch.device(device))
    torch.manual_seed(0)
    model = ValenceModel(config.model, n_mels=16, n_frames=34, standardizer=_STANDARDIZER)
    return Stepper(model.to(device).double().train(), task)


def _batches() -> list[Batch]:
    """Two full batches of four groups of two windows, and a last one of three groups."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return [
        Batch((normal(groups, 7, 16, 34) * 20 - 30).half(), normal(2 * groups, 1))
        for groups in (4, 4, 3)
    ]


def _same(one: Stepper, other: Stepper) -> None:
    for batch in _batches():
        losses = [ccc_loss(each.step(batch)) for each in (one, other)]
        torch.testing.assert_close(*losses, rtol=0, atol=1e-12)
        for own, theirs in zip(one.parameters, other.parameters, strict=True):
            torch.testing.assert_close(own.grad, theirs.grad, rtol=1e-9, atol=1e-12)
    for own, theirs in zip(one.model.buffers(), other.model.buffers(), strict=True):
        torch.testing.assert_close(own, theirs, rtol=0, atol=1e-12)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many segments each call of what was compiled has had."""
    seen: list[int] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            seen.append(max(len(each) for each in given if each.dim() == 3))
            return graph(*given)

        return run

    monkeypatch.setattr("valence.model.acceleration.BACKEND", counting)
    return seen


def test_compiled_steps_have_the_gradients_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("valence.model.acceleration.BACKEND", "aot_eager")
    compiled = _stepper("always")
    assert compiled.remarks == ["the CNN is compiled"]
    _same(compiled, _stepper("never"))


def test_only_full_batches_are_compiled_for(calls: list[int]) -> None:
    compiled = _stepper("always")
    _same(compiled, _stepper("never"))
    # Once to try, and the two full batches of four groups of seven segments.
    assert calls == [28, 28, 28]


@pytest.mark.parametrize("compile", ["auto", "never"])
def test_a_cpu_is_not_compiled_for_unasked(compile: str, calls: list[int]) -> None:
    stepper = _stepper(compile)
    stepper.step(_batches()[0])
    assert calls == []
    assert stepper.remarks == []


@pytest.mark.parametrize("fails", ["compiling", "running"])
def test_without_a_compiler_training_goes_on(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            raise RuntimeError("no kernel for this device")

        if fails == "compiling":
            raise RuntimeError("no compiler here")
        return run

    monkeypatch.setattr("valence.model.acceleration.BACKEND", broken)
    stepper = _stepper("always")
    (remark,) = stepper.remarks
    assert remark.startswith("the CNN is not compiled")
    assert ("no compiler here" if fails == "compiling" else "no kernel") in remark
    _same(stepper, _stepper("never"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_compiled_for_and_steps_as_a_cpu_does() -> None:
    there, here = _stepper("auto", "cuda"), _stepper("never")
    assert there.remarks == ["the CNN is compiled"]
    for batch in _batches():
        sent = Batch(batch.inputs.cuda(), batch.target.cuda())
        losses = [float(ccc_loss(each.step(b))) for each, b in ((there, sent), (here, batch))]
        assert losses[0] == pytest.approx(losses[1], abs=1e-6)
        for own, theirs in zip(there.parameters, here.parameters, strict=True):
            torch.testing.assert_close(own.grad.cpu(), theirs.grad, rtol=0, atol=1e-6)
