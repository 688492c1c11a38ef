"""The combinations of a sweep: a scaler, a reducer and a regressor, one after the other.

The section `[sweep]` of the configuration defines them, with estimators from a fixed list. All are
checked before any of them is fitted. The default is the paper's grid of 3 x 4 x 5 = 60.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from sklearn import decomposition, ensemble, feature_selection, linear_model, neighbors, svm
from sklearn.base import BaseEstimator
from sklearn.kernel_ridge import KernelRidge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from xgboost import XGBRegressor

from valence.config import StepConfig, SweepConfig
from valence.errors import ConfigError

Role = Literal["scaler", "reducer", "regressor"]
Engine = Literal["sklearn", "sklearnex", "xgboost"]

# A configuration may name only these estimators, so it cannot import or build any other object.
ESTIMATORS: dict[Role, dict[str, type[BaseEstimator]]] = {
    "scaler": {
        each.__name__: each
        for each in (
            StandardScaler,
            MinMaxScaler,
            MaxAbsScaler,
            RobustScaler,
            Normalizer,
            PowerTransformer,
            QuantileTransformer,
        )
    },
    "reducer": {
        each.__name__: each
        for each in (
            feature_selection.SelectKBest,
            feature_selection.SelectPercentile,
            feature_selection.VarianceThreshold,
            decomposition.PCA,
            decomposition.FastICA,
            decomposition.FactorAnalysis,
            decomposition.TruncatedSVD,
        )
    },
    "regressor": {
        each.__name__: each
        for each in (
            linear_model.LinearRegression,
            linear_model.Ridge,
            linear_model.Lasso,
            linear_model.ElasticNet,
            linear_model.BayesianRidge,
            linear_model.HuberRegressor,
            KernelRidge,
            neighbors.KNeighborsRegressor,
            svm.SVR,
            svm.NuSVR,
            svm.LinearSVR,
            ensemble.RandomForestRegressor,
            ensemble.ExtraTreesRegressor,
            ensemble.HistGradientBoostingRegressor,
            XGBRegressor,
        )
    },
}

SCORE_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "mutual_info_regression": feature_selection.mutual_info_regression,
    "f_regression": feature_selection.f_regression,
    "r_regression": feature_selection.r_regression,
}

# The user cannot set these parameters. A worker computes on one thread. It passes its matrices from
# one regressor to the next, so none may write into them. Neighbours are found without a tree,
# because the types of trees are not trusted in a saved regressor.
_FIXED: dict[str, Any] = {"n_jobs": 1, "copy": True, "copy_X": True}
_BRUTE = {"KNeighborsRegressor": {"algorithm": "brute"}}

# Parameters that count rows, columns, trees or rounds, and the value that a first try limits them
# to.
_SIZES = frozenset({"max_iter", "max_samples", "n_components", "n_estimators", "n_neighbors"})
_TRIED = 8

# The cost of these grows with the square of the rows, so `sweep.svr_max_rows` and the fast engine
# apply to them.
KERNEL_MACHINES = frozenset({"SVR", "NuSVR"})

# Each of these maps a column to a * column + b, which does not change its mutual information.
AFFINE_SCALERS = frozenset({"StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", None})


@dataclass(frozen=True)
class Combination:
    """The definitions of a scaler, a reducer and a regressor that follow each other."""

    scaler: StepConfig
    reducer: StepConfig
    regressor: StepConfig

    @property
    def names(self) -> tuple[str, str, str]:
        """Return the names of scaler, reducer and regressor."""
        return self.scaler.name, self.reducer.name, self.regressor.name

    def __str__(self) -> str:
        return "-".join(self.names)

    def __hash__(self) -> int:
        return hash(self.names)


def combinations(config: SweepConfig) -> tuple[Combination, ...]:
    """Combine every scaler with every reducer and every regressor, and check all definitions.

    Raises
    ------
    ConfigError
        If a definition has an unknown estimator or parameter, or a value that the estimator
        refuses, or if the engine is not installed.

    >>> len(combinations(SweepConfig()))
    60
    """
    kinds: tuple[tuple[Role, tuple[StepConfig, ...]], ...] = (
        ("scaler", config.scalers),
        ("reducer", config.reducers),
        ("regressor", config.regressors),
    )
    for role, steps in kinds:
        for step in steps:
            _check(role, step, config.regressors)
    if config.engine == "sklearnex" and find_spec("sklearnex") is None:
        raise ConfigError(
            "sweep.engine = 'sklearnex' needs the package scikit-learn-intelex, which is not "
            "installed. Install it with pip install -e '.[sklearnex]' (README), on a cluster in "
            "its image (cluster/Dockerfile, EXTRAS), or use 'sklearn'."
        )
    return tuple(
        Combination(scaler, reducer, regressor)
        for scaler in config.scalers
        for reducer in config.reducers
        for regressor in config.regressors
    )


def build(role: Role, step: StepConfig, *, seed: int) -> Any:
    """Build the unfitted estimator that a step defines; `"passthrough"` if it defines none.

    An estimator that draws random numbers gets `seed`, unless the step has its own `random_state`.
    All estimators compute on one thread: the sweep runs one combination on each CPU, and the last
    digits of a sum then do not depend on the machine.
    """
    if step.estimator is None:
        return "passthrough"
    parameters: dict[str, Any] = dict(step.parameters)
    if "score_func" in parameters:
        function = SCORE_FUNCTIONS[parameters["score_func"]]
        draws = function is feature_selection.mutual_info_regression
        parameters["score_func"] = partial(function, random_state=seed) if draws else function
    made = ESTIMATORS[role][step.estimator](**parameters)
    known = made.get_params()
    if "random_state" in known and "random_state" not in parameters:
        made.set_params(random_state=seed)
    fixed = _fixed(step.estimator)
    return made.set_params(**{name: fixed[name] for name in fixed.keys() & known.keys()})


def _fixed(estimator: str) -> dict[str, Any]:
    """Return the parameters that the configuration cannot set, with their values."""
    return _FIXED | _BRUTE.get(estimator, {})


def regressor_parts(
    regressor: StepConfig, regressors: Iterable[StepConfig]
) -> tuple[StepConfig, ...]:
    """List the regressors whose predictions are averaged: the members, or the regressor alone."""
    by_name = {step.name: step for step in regressors}
    return tuple(by_name[name] for name in regressor.members) or (regressor,)


def plain_pipeline(combination: Combination, config: SweepConfig) -> Pipeline:
    """Build the combination as scikit-learn's unfitted Pipeline, which the sweep must equal."""
    parts = regressor_parts(combination.regressor, config.regressors)
    built = [(part.name, build("regressor", part, seed=config.seed)) for part in parts]
    return Pipeline(
        [
            ("scaler", build("scaler", combination.scaler, seed=config.seed)),
            ("reducer", build("reducer", combination.reducer, seed=config.seed)),
            ("regressor", ensemble.VotingRegressor(built) if len(built) > 1 else built[0][1]),
        ]
    )


def engine_of(step: StepConfig, engine: Literal["sklearn", "sklearnex"]) -> Engine:
    """Name the package that fits a regressor if `sweep.engine` is `engine`."""
    if step.estimator == "XGBRegressor":
        return "xgboost"
    return engine if step.estimator in KERNEL_MACHINES else "sklearn"


def _check(role: Role, step: StepConfig, regressors: tuple[StepConfig, ...]) -> None:
    where = f"[sweep] has the {role} '{step.name}'"
    if step.members:
        others = [other.name for other in regressors if other.estimator is not None]
        unknown = [name for name in step.members if name not in others]
        if role != "regressor" or step.estimator is not None or step.parameters:
            raise ConfigError(
                f"{where} with members. Only a regressor has members, and then neither estimator "
                "nor parameters: it is the mean of regressors that have one."
            )
        if unknown or len(set(step.members)) < max(2, len(step.members)):
            raise ConfigError(
                f"{where} with members {list(step.members)}. Expected two or more, each once, of "
                f"those in sweep.regressors that have an estimator: {', '.join(others) or 'none'}."
            )
        return
    if step.estimator is None:
        if role == "regressor" or step.parameters:
            raise ConfigError(f"{where} without an estimator. Add one of {_known(role)}.")
        return
    if step.estimator not in ESTIMATORS[role]:
        raise ConfigError(
            f"{where} with estimator = '{step.estimator}', which is not offered."
            f"{_nearest(step.estimator, ESTIMATORS[role])} Expected one of {_known(role)}."
        )
    accepted = set(ESTIMATORS[role][step.estimator]().get_params()) - set(_fixed(step.estimator))
    for name in step.parameters:
        if name not in accepted:
            raise ConfigError(
                f"{where} with the parameter '{name}', which {step.estimator} does not take here."
                f"{_nearest(name, accepted)} Known: {', '.join(sorted(accepted))}."
            )
    # Without a score function, scikit-learn would score features as if the target were a class.
    if "score_func" in accepted and step.parameters.get("score_func") not in SCORE_FUNCTIONS:
        raise ConfigError(
            f"{where} with score_func = {step.parameters.get('score_func')!r}. Expected one of "
            f"{', '.join(SCORE_FUNCTIONS)}."
        )
    try:
        _try(role, step)
    except (ArithmeticError, IndexError, NotImplementedError, TypeError, ValueError) as error:
        raise ConfigError(f"{where} with a value that cannot be used: {_reason(error)}") from error


def _try(role: Role, step: StepConfig) -> None:
    """Fit a step on a small matrix, because estimators refuse many values only while fitting."""
    made = build(role, step, seed=0)
    if isinstance(made, XGBRegressor):
        trees = step.parameters.get("n_estimators", 1)
        if not isinstance(trees, int) or trees < 1:
            raise ValueError(f"n_estimators = {trees!r}, and one tree is the least")
    else:
        made._validate_params()
    # A corpus may have enough rows and columns, or large enough values, for parameters that the
    # small matrix cannot satisfy. So lower these for the try.
    parameters = made.get_params()
    small = {
        name: _TRIED
        for name in _SIZES & parameters.keys()
        if isinstance(parameters[name], int) and parameters[name] > _TRIED
    }
    if isinstance(made, feature_selection.VarianceThreshold):
        small["threshold"] = 0
    generator = np.random.default_rng(0)
    # Values between 0 and 1 also suit the estimators that require positive ones.
    x, y = generator.random((6 * _TRIED, 3 * _TRIED)), generator.random(6 * _TRIED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.set_params(**small).fit(x, y)
        if role == "reducer" and not made.transform(x).shape[1]:
            raise ValueError("it leaves no column")


def _reason(error: Exception) -> str:
    """Return the last line of a message, without the stack trace that XGBoost appends."""
    message = str(error).partition("Stack trace:")[0].strip()
    return message.splitlines()[-1] if message else type(error).__name__


def _known(role: Role) -> str:
    return ", ".join(ESTIMATORS[role])


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
