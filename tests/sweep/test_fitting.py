"""Every combination equals scikit-learn's plain Pipeline, fitted on its own."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from valence.config import StepConfig, SweepConfig
from valence.sweep.features import Features
from valence.sweep.fitting import assemble, average, evaluate, expected_seconds, thin, thin_within
from valence.sweep.grid import Combination, combinations, plain_pipeline, regressor_parts
from valence.sweep.kept.outcomes import TrialOutcome
from valence.sweep.mutual_information import mutual_information
from valence.sweep.transforms import (
    Array,
    Transformed,
    divide,
    training_target,
    transform,
    untransformed,
)

Make = Callable[..., Features]

# Of the training rows below, as `make_features` has them.
_RECORDING = np.repeat(["r01", "r02", "r03", "r04"], 60)


@pytest.fixture(scope="module")
def rows(make_features: Make) -> tuple[Transformed, Array]:
    division = divide(make_features())
    return untransformed(division), training_target(division.training)


def _outcome(
    combination: Combination, data: Transformed, y: Array, config: SweepConfig
) -> TrialOutcome:
    parts = regressor_parts(combination.regressor, config.regressors)
    found = [
        (part.name, evaluate(part, data, y, recording=_RECORDING, config=config)[0])
        for part in parts
    ]
    return average(found) if combination.regressor.members else found[0][1]


def test_all_sixty_equal_the_plain_pipeline(rows: tuple[Transformed, Array]) -> None:
    raw, y = rows
    config = SweepConfig()
    with threadpool_limits(limits=1):
        shared = mutual_information(raw.training, y, seed=config.seed)
        for combination in combinations(config):
            data = transform(
                combination.scaler, combination.reducer, raw, y, seed=config.seed, shared=shared
            )
            found = _outcome(combination, data, y, config)
            plain = plain_pipeline(combination, config).fit(raw.training, y)
            tolerance = 1e-6 if combination.regressor.name == "xgboost" else 1e-9
            for part in ("validation", "test"):
                np.testing.assert_allclose(
                    getattr(found, part),
                    plain.predict(getattr(raw, part)),
                    rtol=0,
                    atol=tolerance,
                    err_msg=str(combination),
                )
            assert (found.status, found.reason, found.rows) == ("ok", "", 240)


def test_the_saved_form_is_the_plain_pipeline_fitted(rows: tuple[Transformed, Array]) -> None:
    raw, y = rows
    config = SweepConfig()
    for combination in combinations(config):
        if combination.scaler.name == "standard" and combination.reducer.name != "pca20":
            data = transform(combination.scaler, combination.reducer, raw, y, seed=0)
            fitted = assemble(combination, data, y, recording=_RECORDING, config=config)
            plain = plain_pipeline(combination, config).fit(raw.training, y)
            np.testing.assert_allclose(
                fitted.predict(raw.test), plain.predict(raw.test), rtol=0, atol=1e-9
            )
            assert str(fitted) == str(plain)


@pytest.mark.parametrize("engine", ["sklearn", "sklearnex"])
def test_what_was_kept_is_not_fitted_again(
    rows: tuple[Transformed, Array], monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    pytest.importorskip("sklearnex" if engine == "sklearnex" else "sklearn")
    raw, y = rows
    config = SweepConfig(engine=engine)
    ensemble = next(each for each in combinations(config) if each.regressor.members)
    data = transform(ensemble.scaler, ensemble.reducer, raw, y, seed=0)
    again = assemble(ensemble, data, y, recording=_RECORDING, config=config)
    kept = {
        part.name: evaluate(part, data, y, recording=_RECORDING, config=config)[1]
        for part in regressor_parts(ensemble.regressor, config.regressors)
    }
    assert len(kept) == 2
    monkeypatch.setattr("valence.sweep.fitting.fit_regressor", None)
    found = assemble(ensemble, data, y, recording=_RECORDING, config=config, kept=kept)
    assert found.named_steps["regressor"].estimators_ == list(kept.values())
    assert "sklearnex" not in str([type(each) for each in kept.values()])
    np.testing.assert_array_equal(found.predict(raw.test), again.predict(raw.test))


def _step(name: str, estimator: str, **parameters: Any) -> StepConfig:
    return StepConfig(name=name, estimator=estimator, parameters=parameters)


def test_a_solver_that_does_not_converge_is_an_outcome(rows: tuple[Transformed, Array]) -> None:
    raw, y = rows
    step = _step("lasso", "Lasso", alpha=1e-6, max_iter=2)
    found, fitted = evaluate(step, raw, y, recording=_RECORDING, config=SweepConfig())
    assert (found.status, fitted) == ("failed", None)
    assert found.reason.startswith("did not converge: ")
    assert not len(found.validation)


@pytest.mark.parametrize("engine", ["sklearn", "sklearnex"])
def test_a_kernel_machine_that_does_not_converge_is_one_on_either_engine(
    rows: tuple[Transformed, Array], engine: Literal["sklearn", "sklearnex"]
) -> None:
    if engine == "sklearnex":
        pytest.importorskip("sklearnex")
    raw, y = rows
    step = _step("svr", "SVR", kernel="poly", degree=5, max_iter=2)
    found, fitted = evaluate(step, raw, y, recording=_RECORDING, config=SweepConfig(engine=engine))
    assert (found.status, found.engine, fitted) == ("failed", engine, None)
    assert found.reason.startswith("did not converge: Solver terminated early (max_iter=2)")


def test_what_scikit_learn_refuses_is_an_outcome(rows: tuple[Transformed, Array]) -> None:
    raw, y = rows
    broken = Transformed(
        "passthrough", "passthrough", raw.training.copy(), raw.validation, raw.test
    )
    broken.training[3, 5] = np.nan
    found, fitted = evaluate(
        _step("ridge", "Ridge"), broken, y, recording=_RECORDING, config=SweepConfig()
    )
    assert (found.status, fitted) == ("failed", None)
    assert found.reason.startswith("ValueError: Input X contains NaN")


@pytest.mark.parametrize("value", [1e80, 1e32], ids=["overflows", "squares overflow"])
def test_a_prediction_that_cannot_be_scored_is_an_outcome(
    rows: tuple[Transformed, Array], value: float
) -> None:
    raw, y = rows
    far = Transformed(
        "passthrough", "passthrough", raw.training, raw.validation, np.full_like(raw.test, value)
    )
    found, fitted = evaluate(
        _step("svr", "SVR", kernel="poly", degree=5),
        far,
        y,
        recording=_RECORDING,
        config=SweepConfig(),
    )
    assert (found.status, fitted) == ("failed", None)
    assert found.reason == "predicts no number, or one beyond 1e+100, for 70 of 160 rows"


def test_an_ensemble_fails_with_its_member() -> None:
    good = TrialOutcome("ok", "", 1.0, "sklearn", 5, np.ones(3), np.ones(2))
    bad = TrialOutcome.failure("did not converge: x", engine="sklearnex")
    found = average([("linear", good), ("svr", bad)])
    assert (found.status, found.reason, found.engine) == (
        "failed",
        "its member 'svr' failed: did not converge: x",
        "sklearn+sklearnex",
    )


def test_an_ensemble_is_the_mean_and_names_its_engines() -> None:
    one = TrialOutcome("ok", "", 1.0, "sklearn", 9, np.array([0.0, 1.0, 5.0]), np.array([2.0, 4.0]))
    other = TrialOutcome("ok", "thin", 9.0, "sklearnex", 4, np.array([2.0, 2.0, 0.0]), np.zeros(2))
    found = average([("linear", one), ("svr", other)])
    np.testing.assert_array_equal(found.validation, [1.0, 1.5, 2.5])
    np.testing.assert_array_equal(found.test, [1.0, 2.0])
    assert (found.engine, found.rows, found.reason) == ("sklearn+sklearnex", 4, "svr thin")


def test_without_test_rows_there_are_no_test_predictions(rows: tuple[Transformed, Array]) -> None:
    raw, y = rows
    untested = Transformed(
        "passthrough", "passthrough", raw.training, raw.validation, np.empty((0, 36))
    )
    found, _ = evaluate(
        _step("ridge", "Ridge"), untested, y, recording=_RECORDING, config=SweepConfig()
    )
    assert (len(found.validation), len(found.test)) == (90, 0)


def test_thinning_is_even_and_exact() -> None:
    np.testing.assert_array_equal(thin(5, 9), np.arange(5))
    for n, most in ((10, 3), (1000, 999), (4801, 600)):
        chosen = thin(n, most)
        assert len(chosen) == most
        steps = np.diff(chosen)
        assert steps.min() >= n // most
        assert steps.max() <= -(-n // most)
        assert chosen[-1] < n


def test_every_recording_keeps_its_share_however_short() -> None:
    counts = np.array([10] * 20 + [400] * 20)
    recording = np.repeat([f"{k:02d}" for k in range(40)], counts)
    chosen = thin_within(recording, 300)
    assert len(chosen) == len(set(chosen)) == 300
    kept = np.unique(recording[chosen], return_counts=True)[1]
    # One each, and 260 more in proportion to 9 and 399: 0.29 and 12.71, rounded to 0 and 13.
    np.testing.assert_array_equal(kept, [1] * 20 + [14] * 20)
    # Evenly in time: the gaps of a recording differ by one.
    last = chosen[recording[chosen] == "39"]
    assert np.ptp(np.diff(last)) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_thinning_is_exact_for_any_recordings(seed: int) -> None:
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 60, int(generator.integers(1, 30)))
    recording = np.repeat([f"{k:02d}" for k in range(len(counts))], counts)
    most = int(generator.integers(1, len(recording) + 5))
    chosen = thin_within(recording, most)
    assert len(set(chosen)) == len(chosen) == min(most, len(recording))
    assert (np.diff(chosen) > 0).all()
    assert len(np.unique(recording[chosen])) == min(len(counts), len(chosen))


def test_want_of_memory_is_no_outcome() -> None:
    x = np.random.default_rng(0).standard_normal((6000, 2))
    data = Transformed("passthrough", "passthrough", x, x[:3], x[:2])
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    # Its kernel takes 288 MB.
    resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 2**20, hard))
    try:
        with pytest.raises(MemoryError):
            evaluate(
                _step("kernel", "KernelRidge"),
                data,
                x[:, 0],
                recording=np.repeat("r01", 6000),
                config=SweepConfig(),
            )
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_a_row_limit_thins_the_kernel_machine_alone_and_says_so(
    rows: tuple[Transformed, Array],
) -> None:
    raw, y = rows
    config = SweepConfig(svr_max_rows=80)
    machine, _ = evaluate(
        _step("svr", "SVR", kernel="poly", degree=5), raw, y, recording=_RECORDING, config=config
    )
    assert machine.rows == 80
    assert machine.reason == "fitted on 80 of 240 rows (sweep.svr_max_rows)"
    chosen = thin_within(_RECORDING, 80)
    from sklearn.svm import SVR

    plain = SVR(kernel="poly", degree=5).fit(raw.training[chosen], y[chosen])
    np.testing.assert_array_equal(machine.test, plain.predict(raw.test))
    line, _ = evaluate(
        _step("linear", "LinearRegression"), raw, y, recording=_RECORDING, config=config
    )
    assert (line.rows, line.reason) == (240, "")


def test_the_fast_engine_agrees_and_is_saved_as_scikit_learns_own(
    rows: tuple[Transformed, Array],
) -> None:
    """Both stop within the same tolerance of the optimum, and that far apart may they be."""
    pytest.importorskip("sklearnex")
    raw, y = rows
    fast, plain = SweepConfig(engine="sklearnex"), SweepConfig()
    differences = []
    for combination in combinations(fast):
        if combination.regressor.name != "svr":
            continue
        data = transform(combination.scaler, combination.reducer, raw, y, seed=0)
        found, expected = (_outcome(combination, data, y, each) for each in (fast, plain))
        assert (found.engine, expected.engine) == ("sklearnex", "sklearn")
        differences.append(np.max(np.abs(found.validation - expected.validation)))
        saved = assemble(combination, data, y, recording=_RECORDING, config=fast)
        np.testing.assert_allclose(saved.predict(raw.test), found.test, rtol=0, atol=1e-9)
        assert "sklearnex" not in str(type(saved.named_steps["regressor"]))
    assert len(differences) == 12
    assert np.median(differences) < 2e-3
    assert max(differences) < 2e-2


def test_what_will_take_long_is_known_beforehand(rows: tuple[Transformed, Array]) -> None:
    raw, _ = rows
    by_name = {str(each): each for each in combinations(SweepConfig())}

    def seconds(name: str, rows: int = 8000) -> float:
        return expected_seconds(by_name[name], raw.training, rows=rows)

    # The kernel behind min-max first, then the other kernel machines, then trees.
    assert seconds("minmax-selectkbest-svr") > 10 * seconds("standard-selectkbest-svr")
    assert seconds("minmax-pca10-svr") == seconds("standard-pca10-svr")
    assert seconds("standard-pca10-svr") == 16 * seconds("standard-pca10-svr", rows=2000)
    assert seconds("standard-pca10-svr") > seconds("none-none-xgboost")
    for name, rows_of_it in (("standard-pca10-svr", 2000), ("none-none-xgboost", 8000)):
        limited = expected_seconds(by_name[name], raw.training, rows=8000, svr_max_rows=2000)
        assert limited == seconds(name, rows=rows_of_it)
    assert seconds("none-none-xgboost") > seconds("none-none-linear")
    assert expected_seconds(by_name["none-none-svr"], np.zeros((9, 4)), rows=9) > 0
    unknown = replace(by_name["none-none-svr"], regressor=_step("a", "KernelRidge"))
    assert expected_seconds(unknown, raw.training, rows=9) == math.inf
    many = _step("many", "XGBRegressor", n_estimators=2000)
    assert expected_seconds(
        replace(by_name["none-none-xgboost"], regressor=many), raw.training, rows=8000
    ) == pytest.approx(10 * seconds("none-none-xgboost"))


def test_what_cannot_be_estimated_is_taken_for_long(rows: tuple[Transformed, Array]) -> None:
    raw, _ = rows
    config = SweepConfig()
    machine = next(step for step in config.regressors if step.name == "svr")
    # Box-Cox is for positive values alone, and 4000 a degree that overflows.
    box = _step("box", "PowerTransformer", method="box-cox")
    steep = _step("steep", "SVR", kernel="poly", degree=4000)
    none = config.reducers[0]
    for combination in (
        Combination(box, none, machine),
        Combination(config.scalers[2], none, steep),
    ):
        assert expected_seconds(combination, raw.training, rows=240) == math.inf
