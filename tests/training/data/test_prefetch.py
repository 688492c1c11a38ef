"""Batches come in order and whole, whoever makes them ahead, and reach a GPU as they were."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from valence.training.data.prefetch import Pick, ahead, deliver, picks
from valence.training.data.sampling import Sampling

_SAMPLING = Sampling(
    length=4, stride=2, random=False, windows_per_group=3, batch_size=6, pool=10**6
)
_CPU = torch.device("cpu")


def _picks(mel: torch.Tensor, batches: int = 5) -> list[Pick]:
    rng = np.random.default_rng(1)
    target = rng.normal(size=(len(mel), 2)).astype(np.float32)
    groups = [rng.integers(len(mel) - 8, size=size) for size in [2, 2, 1, 2, 2][:batches]]
    return list(picks(groups, mel, target, _SAMPLING, "mean"))


def _mel() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(30, 5, 3)).astype(np.float16))


def test_picks_are_naive_slices() -> None:
    mel = _mel()
    target = np.arange(60, dtype=np.float32).reshape(30, 2)
    groups = [np.array([3, 20]), np.array([7])]
    found = [pick.gather() for pick in picks(groups, mel, target, _SAMPLING, "last")]
    assert len(found) == 2
    for batch, starts in zip(found, groups, strict=True):
        # Three windows of 4 at a stride of 2 are 8 segments.
        assert batch.inputs.shape == (len(starts), 8, 5, 3)
        assert torch.equal(batch.inputs, torch.stack([mel[start : start + 8] for start in starts]))
        last = [target[start + offset + 3] for start in starts for offset in (0, 2, 4)]
        np.testing.assert_array_equal(batch.target.numpy(), last)
    assert list(picks([], mel, target, _SAMPLING, "last")) == []


@pytest.mark.parametrize("most", [1, 3])
def test_items_come_in_order_and_no_more_than_asked_for_are_made(most: int) -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    taken = []
    for number in ahead(items(), most=most):
        deadline = time.monotonic() + 10
        while len(made) < min(20, number + 1 + most) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.005)
        assert len(made) == min(20, number + 1 + most)
        taken.append(number)
    assert taken == list(range(20))


def test_an_error_of_the_maker_is_raised_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("no more")

    found = ahead(items(), most=5)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(OSError, match="no more"):
        next(found)


def test_a_maker_ends_with_who_listens() -> None:
    found = ahead(iter(range(10**9)), most=2)
    assert next(found) == 0
    assert any(thread.name == "ahead" for thread in threading.enumerate())
    found.close()  # type: ignore[attr-defined]
    assert not any(thread.name == "ahead" for thread in threading.enumerate())


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_gpu
@pytest.mark.parametrize("held", ["cpu", "cuda"])
def test_a_gpu_gets_the_batches_of_a_cpu(held: str) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    mel = torch.from_numpy(np.random.default_rng(0).normal(size=(4000, 64, 34)).astype(np.float16))
    expected = [pick.gather() for pick in _picks(mel)] * 40
    picked = (pick for _ in range(40) for pick in _picks(mel.to(held)))
    busy = torch.randn(4000, 4000, device=device)
    got = []
    for batch in deliver(picked, held=torch.device(held), device=device):
        # The device is kept behind, so that a copy or a reuse that does not wait would show.
        busy = (busy @ busy).clamp(-1, 1)
        got.append((batch.inputs * 1, batch.target * 1))
    assert len(got) == len(expected)
    for (mel_there, target), batch in zip(got, expected, strict=True):
        assert mel_there.device.type == "cuda"
        assert torch.equal(mel_there.cpu(), batch.inputs)
        assert torch.equal(target.cpu(), batch.target)
