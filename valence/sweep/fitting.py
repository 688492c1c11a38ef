"""Fit the regressors of a sweep on transformed features, predict with them, and average.

All regressors behind a transform use the same transformed features, and an ensemble is the mean of
its members' predictions. The numbers are still those of scikit-learn's plain Pipeline.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import VotingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from valence.config import StepConfig, SweepConfig
from valence.errors import first_line
from valence.sweep.grid import (
    KERNEL_MACHINES,
    Combination,
    build,
    engine_of,
    plain_pipeline,
    regressor_parts,
)
from valence.sweep.kept.outcomes import TrialOutcome
from valence.sweep.transforms import Array, Transformed

_LEAST_SQUARES = frozenset({"LinearRegression", "Ridge"})
_FORESTS = frozenset({"ExtraTreesRegressor", "RandomForestRegressor"})
# Bytes of a node in a tree that grows until every row has a leaf: 64 of structure, 8 of a value.
_NODE_BYTES = 72
# These reducers leave the values of columns unchanged. Others centre the columns, so that the
# kernel's values stay in a narrow range.
_SELECTORS = frozenset({"SelectKBest", "SelectPercentile", "VarianceThreshold"})
# Assumed number of columns after a reducer.
_REDUCED_COLUMNS = 20
# Larger predictions cannot be labels, and their squares would soon overflow.
_LARGEST = 1e100
# Bounds of a kernel machine's cache: scikit-learn's own size, and the most that a trial may take on
# a small node.
_LEAST_CACHE_MB, _MOST_CACHE_MB = 200, 1024


def fit_regressor(
    step: StepConfig, x: Array, y: Array, *, recording: NDArray[np.str_], config: SweepConfig
) -> tuple[Any, NDArray[np.intp] | slice]:
    """Fit a regressor with the configured engine; return it and the rows that it was fitted on.

    Parameters
    ----------
    step
        Definition of the regressor.
    x, y
        Training rows, `[rows, columns]`, and their labels, `[rows]`.
    recording
        Recording of each row, `[rows]`. If there are too many rows for a kernel machine, the rows
        of each recording are thinned evenly.
    config
        Engine, row limit and seed.

    Raises
    ------
    ConvergenceWarning
        If the solver gives up before it has converged.
    """
    regressor = build("regressor", step, seed=config.seed)
    rows: NDArray[np.intp] | slice = slice(None)
    if step.estimator in KERNEL_MACHINES:
        if config.svr_max_rows is not None:
            rows = thin_within(recording, config.svr_max_rows)
        if "cache_size" in regressor.get_params() and "cache_size" not in step.parameters:
            # The size of the cache changes how often the kernel is computed, but no result.
            regressor.set_params(cache_size=kernel_cache_mb(len(y[rows])))
    if engine_of(step, config.engine) == "sklearnex":
        from sklearnex.svm import SVR, NuSVR

        fast = {"SVR": SVR, "NuSVR": NuSVR}[str(step.estimator)]
        regressor = fast(**regressor.get_params(), n_jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        regressor.fit(x[rows], y[rows])
    if (
        engine_of(step, config.engine) == "sklearnex"
        and 0 <= regressor.max_iter <= regressor.n_iter_
    ):
        # sklearnex gives no warning of its own when it stops early.
        raise ConvergenceWarning(f"Solver terminated early (max_iter={regressor.max_iter}).")
    return regressor, rows


def kernel_cache_mb(rows: int) -> int:
    """Compute the megabytes of a kernel machine's cache: the kernel of `rows` rows, within bounds.

    >>> kernel_cache_mb(2000), kernel_cache_mb(8000), kernel_cache_mb(100_000)
    (200, 489, 1024)
    """
    return min(_MOST_CACHE_MB, max(_LEAST_CACHE_MB, math.ceil(8 * rows**2 / 2**20)))


def thin(n: int, most: int) -> NDArray[np.intp]:
    """Choose at most `most` of `n` indices, evenly spaced.

    >>> thin(10, 4)
    array([1, 3, 6, 8])
    """
    if n <= most:
        return np.arange(n)
    return ((np.arange(most) + 0.5) * n / most).astype(np.intp)


def thin_within(recording: NDArray[np.str_], most: int) -> NDArray[np.intp]:
    """Choose at most `most` rows, in ascending order: a share of each recording, evenly spaced.

    Each recording keeps at least one row. The other rows are shared out in proportion to the rest
    of each recording's rows, by largest remainder. If there are more recordings than rows to keep,
    evenly spaced recordings keep one row each.

    Parameters
    ----------
    recording
        Recording of each row, `[rows]`; the rows are in order of time.
    most
        Most rows to keep.

    >>> thin_within(np.array(["a", "a", "b", "b", "b", "b", "b", "b"]), 4)
    array([1, 3, 5, 7])
    """
    if len(recording) <= most:
        return np.arange(len(recording))
    _, number, counts = np.unique(recording, return_inverse=True, return_counts=True)
    if len(counts) >= most:
        quota = np.zeros_like(counts)
        quota[thin(len(counts), most)] = 1
    else:
        spare = most - len(counts)
        share, remainder = np.divmod(spare * (counts - 1), len(recording) - len(counts))
        share[np.argsort(-remainder, kind="stable")[: spare - share.sum()]] += 1
        quota = 1 + share
    kept = [
        np.flatnonzero(number == each)[thin(count, most_of_it)]
        for each, (count, most_of_it) in enumerate(zip(counts, quota, strict=True))
    ]
    return np.sort(np.concatenate(kept))


def evaluate(
    step: StepConfig,
    data: Transformed,
    y: Array,
    *,
    recording: NDArray[np.str_],
    config: SweepConfig,
) -> tuple[TrialOutcome, Any]:
    """Fit a regressor on transformed features and predict validation and test rows.

    A numerical failure is an outcome: a solver that does not converge or refuses the data, or a
    prediction that cannot be scored. A lack of memory is raised instead, because it says nothing
    about the combination.

    Parameters
    ----------
    step
        Definition of the regressor.
    data
        Transformed features of the three splits.
    y, recording
        Label and recording of each training row, `[rows]`.
    config
        Engine, row limit and seed.

    Returns
    -------
    The outcome; and the fitted regressor, of scikit-learn or XGBoost, or None for a failure.
    """
    engine = engine_of(step, config.engine)
    started = time.perf_counter()
    try:
        regressor, rows = fit_regressor(step, data.training, y, recording=recording, config=config)
        validation, test = (_predict(regressor, x) for x in (data.validation, data.test))
    except ConvergenceWarning as warning:
        reason = f"did not converge: {first_line(warning)}"
        return TrialOutcome.failure(
            reason, seconds=time.perf_counter() - started, engine=engine
        ), None
    except (ValueError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        return TrialOutcome.failure(
            reason, seconds=time.perf_counter() - started, engine=engine
        ), None
    seconds = time.perf_counter() - started
    both = np.concatenate([validation, test])
    broken = int(np.sum(~(np.abs(both) <= _LARGEST)))
    if broken:
        reason = f"predicts no number, or one beyond {_LARGEST:g}, for {broken} of {len(both)} rows"
        return TrialOutcome.failure(reason, seconds=seconds, engine=engine), None
    used = len(y[rows])
    remark = "" if used == len(y) else f"fitted on {used} of {len(y)} rows (sweep.svr_max_rows)"
    outcome = TrialOutcome("ok", remark, seconds, engine, used, validation, test)
    return outcome, _as_sklearn(step, regressor, config)


def average(members: Sequence[tuple[str, TrialOutcome]]) -> TrialOutcome:
    """Average the outcomes of an ensemble's members, which are given with their names."""
    started = time.perf_counter()
    engine = "+".join(sorted({member.engine for _, member in members}))
    for name, member in members:
        if member.status == "failed":
            reason = f"its member '{name}' failed: {member.reason}"
            return TrialOutcome.failure(reason, engine=engine)
    remarks = [f"{name} {member.reason}" for name, member in members if member.reason]
    validation = np.mean(np.stack([member.validation for _, member in members], axis=1), axis=1)
    test = np.mean(np.stack([member.test for _, member in members], axis=1), axis=1)
    rows = min(member.rows for _, member in members)
    seconds = time.perf_counter() - started
    return TrialOutcome("ok", "; ".join(remarks), seconds, engine, rows, validation, test)


def expected_seconds(
    combination: Combination, sample: Array, *, rows: int, svr_max_rows: int | None = None
) -> float:
    """Estimate the seconds that a combination takes; they only serve to start long ones first.

    libsvm needs more steps for a wider range of the kernel's values. For a polynomial of degree 5
    the range differs between scalers by a factor of a hundred; it is estimated from the kernel of
    rows with themselves.

    Parameters
    ----------
    combination
        Combination whose regressor is not an ensemble.
    sample
        Some untransformed training rows, `[rows, columns]`.
    rows
        Number of all training rows.
    svr_max_rows
        Most rows that a kernel machine is fitted on.

    Returns
    -------
    Seconds on one core, within a factor of ten of those measured. They are infinite for a regressor
    that was not measured, so that it starts first and on as many workers as possible. They are also
    infinite if the scaler cannot be fitted or the kernel overflows; the combination itself will
    then report the error.
    """
    step, reducer = combination.regressor, combination.reducer
    whole = reducer.estimator is None
    columns: int = sample.shape[1] if whole else min(sample.shape[1], _REDUCED_COLUMNS)
    if step.estimator == "XGBRegressor":
        return 5e-6 * columns * (1 + rows / 2000) * _trees(step)
    if step.estimator in _LEAST_SQUARES:
        return 1e-3 + 1.6e-10 * rows * columns**2
    if step.estimator not in KERNEL_MACHINES:
        return math.inf
    seconds = 1e-7 * min(rows, svr_max_rows or rows) ** 2 * (1 + columns / 256)
    if step.parameters.get("kernel") == "poly" and (whole or reducer.estimator in _SELECTORS):
        degree = step.parameters.get("degree", 3)
        assert isinstance(degree, int)
        try:
            steps = math.sqrt(math.pow(_diagonal(combination.scaler, sample), degree))
            # With more columns, such a kernel is nevertheless fitted in fewer steps.
            seconds *= 1 + steps * min(1.0, _REDUCED_COLUMNS / columns)
        except (ValueError, ArithmeticError):
            return math.inf
    return math.inf if math.isnan(seconds) else seconds


def working_bytes(step: StepConfig, *, rows: int, config: SweepConfig) -> int:
    """Estimate the bytes of kernels and forests that fitting a regressor takes beside its data.

    >>> ridge = StepConfig(name="a", estimator="KernelRidge")
    >>> working_bytes(ridge, rows=20_000, config=SweepConfig()) // 2**20
    6103
    """
    if step.estimator in KERNEL_MACHINES:
        own = step.parameters.get("cache_size")
        cache = kernel_cache_mb(min(rows, config.svr_max_rows or rows))
        return round((own if isinstance(own, (int, float)) else cache) * 2**20)
    if step.estimator == "KernelRidge":
        # The kernel and the copy of it that is factorised.
        return 2 * 8 * rows**2
    if step.estimator in _FORESTS:
        return _trees(step) * 2 * rows * _NODE_BYTES
    return 0


def _trees(step: StepConfig) -> int:
    trees = step.parameters.get("n_estimators", 100)
    return trees if isinstance(trees, int) else 100


def _diagonal(scaler: StepConfig, sample: Array) -> float:
    """Compute the median linear kernel of scaled rows with themselves, divided by the variance."""
    made = build("scaler", scaler, seed=0)
    with warnings.catch_warnings():
        # Fitting the scaler on all rows gives the same warnings, and gives them there.
        warnings.simplefilter("ignore")
        x = sample if made == "passthrough" else made.fit_transform(sample)
        variance = float(np.var(x))
        typical = float(np.median(np.mean(x * x, axis=1)))
    return typical / variance if variance else 0.0


def assemble(
    combination: Combination,
    data: Transformed,
    y: Array,
    *,
    recording: NDArray[np.str_],
    config: SweepConfig,
    kept: Mapping[str, Any] = MappingProxyType({}),
) -> Pipeline:
    """Assemble the fitted pipeline of a combination from estimators of scikit-learn and XGBoost.

    The pipeline equals `plain_pipeline(combination, config).fit(...)`, unless the engine or
    `svr_max_rows` makes a difference. `kept` has regressors by their names, as `evaluate` returned
    them; these are not fitted again.
    """
    pipeline = plain_pipeline(combination, config)
    fitted = []
    for part in regressor_parts(combination.regressor, config.regressors):
        made = kept.get(part.name)
        if made is None:
            made, _ = fit_regressor(part, data.training, y, recording=recording, config=config)
            made = _as_sklearn(part, made, config)
        fitted.append(made)
    regressor = pipeline.named_steps["regressor"]
    if isinstance(regressor, VotingRegressor):
        # Set the members directly: they may have been fitted on other rows, or by another engine.
        regressor.estimators_ = fitted
    else:
        regressor = fitted[0]
    return Pipeline([("scaler", data.scaler), ("reducer", data.reducer), ("regressor", regressor)])


def _predict(regressor: Any, x: Array) -> Array:
    return np.asarray(regressor.predict(x), np.float64) if len(x) else np.empty(0)


def _as_sklearn(step: StepConfig, fitted: Any, config: SweepConfig) -> Any:
    """Convert a regressor of the configured engine to scikit-learn's, which predicts without it."""
    if engine_of(step, config.engine) != "sklearnex":
        return fitted
    plain = build("regressor", step, seed=config.seed)
    for name in ("support_vectors_", "fit_status_", "shape_fit_", "n_iter_", "_sparse"):
        setattr(plain, name, getattr(fitted, name))
    plain.support_ = np.array(fitted.support_, np.int32)
    plain.n_features_in_ = fitted.n_features_in_
    plain.dual_coef_ = plain._dual_coef_ = np.array(fitted.dual_coef_, np.float64)
    plain.intercept_ = plain._intercept_ = np.array(fitted.intercept_, np.float64)
    plain._n_support = np.array([len(plain.support_), 0], np.int32)
    plain._gamma = float(fitted._gamma)
    plain._probA = plain._probB = np.empty(0)
    plain._effective_probability = False
    return plain
