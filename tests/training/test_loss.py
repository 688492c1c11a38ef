"""The loss is 1 - CCC, with a gradient wherever there is one."""

from __future__ import annotations

import audmetric
import numpy as np
import pytest
import torch

from valence.training.loss import ccc_loss, ccc_of_sums, is_constant, pair_sums


def test_ccc_by_hand() -> None:
    # Means 2 and 7/3, variances 2/3 and 14/9, covariance 1: 2 / (2/3 + 14/9 + 1/9) = 6/7.
    sums = pair_sums(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[1.0], [2.0], [3.0]]))
    assert float(ccc_of_sums(sums)) == pytest.approx(6 / 7, abs=1e-15)


def test_ccc_of_each_target_is_audmetrics() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.normal(3, 0.1, (50, 2)), rng.normal(3, 0.2, (50, 2))
    sums = pair_sums(torch.from_numpy(p), torch.from_numpy(y))
    expected = [audmetric.concordance_cc(y[:, k], p[:, k]) for k in range(2)]
    np.testing.assert_allclose(ccc_of_sums(sums).numpy(), expected, rtol=1e-9)
    assert float(ccc_loss(sums)) == pytest.approx(1 - np.mean(expected), rel=1e-9)


def test_gradient_of_the_loss_is_the_numerical_one() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(9, 2, generator=generator, dtype=torch.float64)
    p = torch.randn(9, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: ccc_loss(pair_sums(p, y)), (p,))


@pytest.mark.parametrize(
    ("p", "y"), [("same", "same"), ("same", "varied"), ("varied", "same")], ids=str
)
def test_constant_values_have_a_loss_and_a_gradient(p: str, y: str) -> None:
    values = {"same": torch.full((4, 1), 0.3), "varied": torch.tensor([[1.0], [2], [3], [5]])}
    prediction = values[p].clone().requires_grad_()
    sums = pair_sums(prediction, values[y])
    loss = ccc_loss(sums)
    loss.backward()
    assert float(loss.detach()) == 1
    assert is_constant(sums).tolist() == [True]
    assert prediction.grad is not None
    assert torch.isfinite(prediction.grad).all()
    # Predictions that are all the same are led apart, towards their labels.
    uphill = prediction.grad[:, 0].argsort().tolist()
    assert uphill == [3, 2, 1, 0] if y == "varied" else not prediction.grad.any()


def test_equal_constants_agree_by_nothing_whatever_their_rounding() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        n, value = int(rng.integers(2, 3000)), float(rng.normal() * 10.0 ** rng.integers(-3, 4))
        same = torch.full((n, 1), value)
        varied = torch.from_numpy(rng.normal(size=(n, 1)))
        for p, y in ((same, same), (same, varied), (varied, same), (same, same + 1)):
            assert float(ccc_of_sums(pair_sums(p, y))) == 0


def test_values_that_vary_little_are_not_constant() -> None:
    p = 100 + 1e-3 * torch.arange(4, dtype=torch.float64)[:, None]
    sums = pair_sums(p, p)
    assert is_constant(sums).tolist() == [False]
    assert float(ccc_of_sums(sums)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["prediction", "label"])
def test_what_is_no_number_is_no_loss(bad: float, where: str) -> None:
    fine, broken = torch.ones(3, 1), torch.tensor([[1.0], [bad], [2.0]])
    pair = (broken, fine) if where == "prediction" else (fine, broken)
    assert torch.isnan(ccc_loss(pair_sums(*pair)))
