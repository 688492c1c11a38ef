"""Selection on validation rows, the test rows scored once, intervals, and plain baselines."""

from __future__ import annotations

from collections.abc import Callable

import audmetric
import numpy as np
import pytest

from valence.config import SweepConfig
from valence.errors import SplitError, TrainingError
from valence.sweep.features import Features
from valence.sweep.grid import Combination, combinations
from valence.sweep.kept.outcomes import TrialOutcome
from valence.sweep.model_selection import (
    RESULT_COLUMNS,
    check_rows,
    constant_outcome,
    rank,
    select,
    tabulate,
)
from valence.sweep.transforms import Division, divide

Make = Callable[..., Features]
Outcomes = dict[Combination, TrialOutcome]

# Three combinations whose order differs between validation and test, and one that failed.
_ADMIXTURE = ((0.5, 0.1), (0.1, 0.5), (0.3, 0.3))


@pytest.fixture
def division(make_features: Make) -> Division:
    return divide(make_features())


@pytest.fixture
def outcomes(division: Division) -> Outcomes:
    generator = np.random.default_rng(1)
    grid = combinations(SweepConfig())
    found = {grid[0]: TrialOutcome.failure("did not converge: x", engine="sklearn")}
    for combination, noises in zip(grid[1:4], _ADMIXTURE, strict=True):
        validation, test = (
            rows.target[:, 0] + noise * generator.standard_normal(len(rows))
            for rows, noise in zip((division.validation, division.test), noises, strict=True)
        )
        found[combination] = TrialOutcome("ok", "", 0.5, "sklearn", 240, validation, test)
    return found


def test_ranks_by_the_chosen_split_and_failures_last(
    division: Division, outcomes: Outcomes
) -> None:
    grid = list(outcomes)
    assert rank(outcomes, division, on="validation") == [grid[2], grid[3], grid[1], grid[0]]
    assert rank(outcomes, division, on="test") == [grid[1], grid[3], grid[2], grid[0]]


def test_the_test_labels_have_no_say_in_the_selection(
    division: Division, outcomes: Outcomes
) -> None:
    before = rank(outcomes, division, on="validation")
    division.test.target[:] = np.nan
    assert rank(outcomes, division, on="validation") == before


def test_the_table_equals_audmetric(division: Division, outcomes: Outcomes) -> None:
    ranking = rank(outcomes, division, on="validation")
    table = tabulate(ranking, outcomes, division)
    assert tuple(table.columns) == RESULT_COLUMNS
    assert table["ccc_validation"].iloc[:3].is_monotonic_decreasing
    for row, combination in zip(table.itertuples(), ranking, strict=True):
        outcome = outcomes[combination]
        assert (row.scaler, row.reducer, row.regressor) == combination.names
        if outcome.status == "failed":
            assert np.isnan([row.ccc_validation, row.ccc_test, row.mse_test, row.mae_test]).all()
            assert row.reason == "did not converge: x"
            continue
        truth = division.validation.target[:, 0].astype(float)
        assert row.ccc_validation == pytest.approx(
            audmetric.concordance_cc(truth, outcome.validation), abs=1e-12
        )
        truth = division.test.target[:, 0].astype(float)
        assert row.ccc_test == pytest.approx(
            audmetric.concordance_cc(truth, outcome.test), abs=1e-12
        )
        assert row.mse_test == pytest.approx(np.mean((truth - outcome.test) ** 2), abs=1e-12)
        assert row.mae_test == pytest.approx(np.mean(abs(truth - outcome.test)), abs=1e-12)


def test_selecting_on_test_rows_needs_some(make_features: Make) -> None:
    features = make_features()
    untested = divide(features.rows(features.split != "test"))
    with pytest.raises(SplitError, match="select_on = 'test'"):
        check_rows(untested, "test")
    check_rows(untested, "validation")


def test_when_all_fail_the_first_reason_is_told(division: Division, outcomes: Outcomes) -> None:
    failed = {each: TrialOutcome.failure("why not", engine="sklearn") for each in outcomes}
    ranking = rank(failed, division, on="validation")
    assert tabulate(ranking, failed, division)["reason"].tolist() == ["why not"] * 4
    with pytest.raises(TrainingError, match="All 4 combinations failed; the first of them: why"):
        select(ranking, failed, division, config=SweepConfig(), baselines={})


def test_says_how_the_best_compares_with_the_deep_model(
    division: Division, outcomes: Outcomes
) -> None:
    config = SweepConfig(bootstrap=200, seed=3)
    for rows in (division.validation, division.test):
        rows.subject[:] = [f"s{row % 7}" for row in range(len(rows))]
    ranking = rank(outcomes, division, on="validation")
    baselines = {"constant": constant_outcome(division)}
    found = select(ranking, outcomes, division, config=config, baselines=baselines)
    assert (found["select_on"], found["engine"], found["seed"]) == ("validation", "sklearn", 3)
    assert (found["best"]["scaler"], found["best"]["regressor"]) == ("none", "svr")
    for part in ("validation", "test"):
        best, deep = found["best"][part], found["deep"][part]
        low, high = best["ccc_ci"]
        assert low <= best["ccc"] <= high
        paired = found["paired"][part]
        assert paired["difference"] == pytest.approx(best["ccc"] - deep["ccc"], abs=1e-12)
        assert paired["ci"][0] <= paired["difference"] <= paired["ci"][1]
        less = found["deep_less_baseline"]["constant"][part]
        assert less["difference"] == pytest.approx(deep["ccc"], abs=1e-12)
        assert less["ci"][0] <= less["difference"] <= less["ci"][1]
    assert found["baselines"]["constant"]["validation"]["ccc"] == 0
    assert found["failed"] == 1
    assert [each["regressor"] for each in found["leaders"]] == ["svr", "xgboost", "ridge"]


def test_the_constant_is_the_mean_of_the_training_labels(division: Division) -> None:
    found = constant_outcome(division)
    mean = division.training.target[:, 0].astype(np.float64).mean()
    np.testing.assert_array_equal(found.validation, np.full(90, mean))
    np.testing.assert_array_equal(found.test, np.full(70, mean))
