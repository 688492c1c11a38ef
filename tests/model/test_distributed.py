"""Two workers with half a batch each compute what one computes with the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from valence.model.distributed import average_gradients, gather, rank, sum_over_workers, world_size

_SCRIPT = Path(__file__).parents[1] / "helpers" / "two_workers.py"


def _train(folder: Path, world: int) -> dict[str, np.ndarray]:
    out = folder / f"{world}.npz"
    workers = [
        subprocess.Popen(
            [sys.executable, str(_SCRIPT), str(number), str(world), str(folder / str(world)), out]
        )
        for number in range(world)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0] * world
    with np.load(out) as content:
        return dict(content)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("workers")
    return [_train(folder, 1), _train(folder, 2)]


def _kind(results: list[dict[str, np.ndarray]], kind: str) -> list[tuple[np.ndarray, ...]]:
    names = [name for name in results[0] if f" {kind} " in name]
    assert len(names) > 2
    return [(results[0][name], results[1][name]) for name in names]


def test_gradients_of_two_workers_are_those_of_one(
    results: list[dict[str, np.ndarray]],
) -> None:
    for one, two in _kind(results, "gradient"):
        assert np.abs(one).max() > 0
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-5 * max(1, np.abs(one).max()))


def test_losses_weights_and_statistics_stay_together(
    results: list[dict[str, np.ndarray]],
) -> None:
    for one, two in _kind(results, "loss"):
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-5)
    for one, two in _kind(results, "state"):
        # Adam divides by the gradient's size: what is 0 but for rounding moves by a step at most.
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=3e-3)


def test_evaluation_is_the_same_to_the_last_bit(results: list[dict[str, np.ndarray]]) -> None:
    one, two = results[0]["same weights"], results[1]["same weights"]
    assert one.tolist() == two.tolist()
    assert one[3] == 4 + 2 + 8


def test_every_worker_hears_of_what_one_finds(results: list[dict[str, np.ndarray]]) -> None:
    for world, each in enumerate(results, start=1):
        output = each["stopped"].tolist()
        assert len(output) == world
        assert all("not a number any more" in text for text in output)


def test_a_worker_alone_exchanges_nothing() -> None:
    tensor = torch.ones(2, requires_grad=True)
    assert world_size() == 1
    assert rank() == 0
    assert sum_over_workers(tensor) is tensor
    assert gather("x") == ["x"]
    average_gradients([torch.nn.Parameter(tensor)])
