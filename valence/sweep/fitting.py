"""A regressor of the sweep on transformed features: fit, predict, average.

One transform serves every regressor behind it, and an ensemble is the mean of predictions that its
members have made: the numbers are those of the plain Pipeline.
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
# Of a tree that is grown until every row has a leaf: 64 bytes of structure and a value.
_NODE_BYTES = 72
# Reducers that hand columns on as they are: others centre them, and the kernel stays narrow.
_SELECTORS = frozenset({"SelectKBest", "SelectPercentile", "VarianceThreshold"})
# So many columns a reducer is taken to leave.
_REDUCED_COLUMNS = 20
# Predictions beyond this are no labels, and their squares soon are no numbers.
_LARGEST = 1e100
# Of a kernel machine's cache: scikit-learn's own size, and what a trial may have on a small node.
_LEAST_CACHE_MB, _MOST_CACHE_MB = 200, 1024


def fit_regressor(
    step: StepConfig, x: Array, y: Array, *, recording: NDArray[np.str_], config: SweepConfig
) -> tuple[Any, NDArray[np.intp] | slice]:
    """Fit a regressor with the configured engine; also returns the rows that it was fitted on.

    Parameters
    ----------
    step
        Its definition.
    x, y
        Training rows, `[rows, columns]`, and their labels, `[rows]`.
    recording
        The recording of each row, `[rows]`: where the rows are too many for a kernel machine, each
        is thinned on its own.
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
            # It changes how often the kernel is computed, and no number.
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
        # Of which it says nothing itself.
        raise ConvergenceWarning(f"Solver terminated early (max_iter={regressor.max_iter}).")
    return regressor, rows


def kernel_cache_mb(rows: int) -> int:
    """Megabytes for a kernel machine's cache: all of the kernel of `rows` rows, within bounds.

    >>> kernel_cache_mb(2000), kernel_cache_mb(8000), kernel_cache_mb(100_000)
    (200, 489, 1024)
    """
    return min(_MOST_CACHE_MB, max(_LEAST_CACHE_MB, math.ceil(8 * rows**2 / 2**20)))


def thin(n: int, most: int) -> NDArray[np.intp]:
    """At most `most` of `n` indices, evenly spaced.

    >>> thin(10, 4)
    array([1, 3, 6, 8])
    """
    if n <= most:
        return np.arange(n)
    return ((np.arange(most) + 0.5) * n / most).astype(np.intp)


def thin_within(recording: NDArray[np.str_], most: int) -> NDArray[np.intp]:
    """At most `most` rows, ascending: of every recording its share, evenly spaced.

    A recording keeps one row at least, and beyond it in proportion to the rest of its rows, by
    largest remainder; only where there are more recordings than rows to keep are recordings left
    out, evenly too.

    Parameters
    ----------
    recording
        The recording of each row, `[rows]`, rows in order of time.
    most
        How many rows may stay.

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

    Also returns the regressor, scikit-learn's or XGBoost's own, or None where there is none.
    Numerical failure is an outcome: a solver that does not converge or refuses the data, or a
    prediction that cannot be scored. Want of memory is none: it says nothing of the combination.

    Parameters
    ----------
    step
        Its definition.
    data
        Transformed features of the three splits.
    y, recording
        Label and recording of each training row, `[rows]`.
    config
        Engine, row limit and seed.
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
    """The outcome of an ensemble from those of its members, given with their names."""
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
    """About how long a combination may take: to start the long ones first, and no more.

    libsvm's steps grow with the range of the kernel's values, which a polynomial of degree 5 lets
    differ by a factor of a hundred between scalers: the kernel of rows with themselves tells.

    Parameters
    ----------
    combination
        Not an ensemble.
    sample
        Some training rows as they are, `[rows, columns]`.
    rows
        How many there are in all.
    svr_max_rows
        How many of them a kernel machine is fitted on at most.

    Returns
    -------
    Seconds as measured on one core, within a factor of ten. Infinite for a regressor that was not
    measured, which goes first and on as many workers as there may be; and where the scaler cannot
    be fitted or the kernel overflows, which the combination itself will find out.
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
            # The more columns there are, the sooner such a kernel is fitted all the same.
            seconds *= 1 + steps * min(1.0, _REDUCED_COLUMNS / columns)
        except (ValueError, ArithmeticError):
            return math.inf
    return math.inf if math.isnan(seconds) else seconds


def working_bytes(step: StepConfig, *, rows: int, config: SweepConfig) -> int:
    """What a regressor takes beside its data while it is fitted: kernels and forests, in bytes.

    >>> ridge = StepConfig(name="a", estimator="KernelRidge")
    >>> working_bytes(ridge, rows=20_000, config=SweepConfig()) // 2**20
    6103
    """
    if step.estimator in KERNEL_MACHINES:
        own = step.parameters.get("cache_size")
        cache = kernel_cache_mb(min(rows, config.svr_max_rows or rows))
        return round((own if isinstance(own, (int, float)) else cache) * 2**20)
    if step.estimator == "KernelRidge":
        # The kernel, and the copy that is factorised.
        return 2 * 8 * rows**2
    if step.estimator in _FORESTS:
        return _trees(step) * 2 * rows * _NODE_BYTES
    return 0


def _trees(step: StepConfig) -> int:
    trees = step.parameters.get("n_estimators", 100)
    return trees if isinstance(trees, int) else 100


def _diagonal(scaler: StepConfig, sample: Array) -> float:
    """Median of the linear kernel of scaled rows with themselves, by their variance."""
    made = build("scaler", scaler, seed=0)
    with warnings.catch_warnings():
        # Whoever fits it on all rows is warned.
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
    """The fitted pipeline of a combination, all of it scikit-learn's or XGBoost's own.

    Equal to `plain_pipeline(combination, config).fit(...)` where neither the engine nor
    `svr_max_rows` makes it another. What `kept` holds of its regressors, by their names, as
    `evaluate` returned them, is not fitted again.
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
        # Fitted by hand: its members may have been fitted on other rows, or by another engine.
        regressor.estimators_ = fitted
    else:
        regressor = fitted[0]
    return Pipeline([("scaler", data.scaler), ("reducer", data.reducer), ("regressor", regressor)])


def _predict(regressor: Any, x: Array) -> Array:
    return np.asarray(regressor.predict(x), np.float64) if len(x) else np.empty(0)


def _as_sklearn(step: StepConfig, fitted: Any, config: SweepConfig) -> Any:
    """What the configured engine has fitted, as scikit-learn's, which needs no other to predict."""
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
