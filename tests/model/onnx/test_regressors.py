"""Fitted pipelines in ONNX Runtime against their own predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline

from valence.config import StepConfig, SweepConfig
from valence.errors import UsageError
from valence.model.onnx.graph import new_graph
from valence.model.onnx.regressors import regressor_head
from valence.model.onnx.trees import _rounded_down
from valence.sweep.grid import ESTIMATORS, Combination, build, combinations, plain_pipeline

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

_COLUMNS = 24


def _rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features, as deep ones are, and labels that depend on them."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((5, _COLUMNS))
    latent = rng.standard_normal((n, 5))
    x = np.tanh(latent @ mixing * 0.4 + 0.2 * rng.standard_normal((n, _COLUMNS)))
    y = 0.5 * np.tanh(latent[:, 0] + 0.5 * latent[:, 1] ** 2 - 0.3)
    return x.astype(np.float32), y


def _predicted(pipeline: Pipeline, x: np.ndarray) -> np.ndarray:
    """The predictions of the pipeline's graph, float32 `[rows]`."""
    head = regressor_head(pipeline, target="arousal", about={})
    assert head.targets == ("arousal",)
    graph = new_graph()
    graph.add("Identity", head.add(graph, "x"), named="y")
    content = graph.finish({"x": ["rows", _COLUMNS]}, {"y": ["rows", 1]}, {})
    (found,) = onnxruntime.InferenceSession(content).run(None, {"x": x})
    return found[:, 0]


def _fit(pipeline: Pipeline) -> Pipeline:
    x, y = _rows(160, seed=0)
    return pipeline.fit(x.astype(np.float64), y)


def _require_equal(pipeline: Pipeline) -> None:
    x, _ = _rows(60, seed=1)
    # The pipeline stays as it is: it may be used after its export.
    _predicted(pipeline, x)
    expected = pipeline.predict(x.astype(np.float64))
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(_predicted(pipeline, x), expected, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(_predicted(pipeline, x[:1]), expected[:1], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("combination", combinations(SweepConfig()), ids=str)
def test_every_combination_of_the_study_is_exported(combination: Combination) -> None:
    _require_equal(_fit(plain_pipeline(combination, SweepConfig())))


def _step(estimator: str, **parameters: Any) -> StepConfig:
    return StepConfig(name="step", estimator=estimator, parameters=parameters)


_SCALERS = [
    _step("StandardScaler", with_mean=False),
    _step("StandardScaler", with_std=False),
    _step("MinMaxScaler", feature_range=(-1, 2), clip=True),
    _step("MaxAbsScaler"),
    _step("RobustScaler"),
    _step("RobustScaler", with_centering=False, with_scaling=False),
    _step("Normalizer"),
    _step("Normalizer", norm="l1"),
    _step("Normalizer", norm="max"),
]
_REDUCERS = [
    _step("SelectKBest", score_func="f_regression", k=5),
    _step("SelectPercentile", score_func="f_regression", percentile=30),
    _step("VarianceThreshold", threshold=0.4),
    _step("PCA", n_components=6, whiten=True),
    _step("TruncatedSVD", n_components=6),
    _step("FactorAnalysis", n_components=4),
    _step("FastICA", n_components=4, max_iter=2000),
]
_REGRESSORS = [
    _step("Lasso", alpha=0.001),
    _step("ElasticNet", alpha=0.001),
    _step("BayesianRidge"),
    _step("HuberRegressor", max_iter=1000),
    _step("LinearSVR", max_iter=10_000),
    _step("Ridge", fit_intercept=False),
    _step("SVR", kernel="linear"),
    _step("SVR", kernel="rbf", gamma=0.05, C=10.0),
    _step("SVR", kernel="sigmoid", gamma=0.01, coef0=0.5),
    _step("SVR", kernel="poly", degree=5, coef0=1.0),
    _step("NuSVR", kernel="rbf"),
    _step("KernelRidge", kernel="linear"),
    _step("KernelRidge", kernel="rbf", alpha=0.1),
    _step("KernelRidge", kernel="polynomial", degree=3, alpha=0.1),
    _step("KernelRidge", kernel="sigmoid", gamma=0.01, alpha=0.1),
    _step("RandomForestRegressor", n_estimators=12),
    _step("ExtraTreesRegressor", n_estimators=12, max_depth=4),
    _step("XGBRegressor", n_estimators=30, max_depth=4),
    _step("XGBRegressor", n_estimators=1, max_depth=1, base_score=0.25),
    _step("XGBRegressor", n_estimators=5, num_parallel_tree=3, subsample=0.5),
]


def _names(step: StepConfig) -> str:
    return f"{step.estimator}-{'-'.join(map(str, step.parameters.values()))}"


@pytest.mark.filterwarnings("ignore:FastICA did not converge")
@pytest.mark.parametrize("step", [*_SCALERS, *_REDUCERS], ids=_names)
def test_other_scalers_and_reducers(step: StepConfig) -> None:
    role = "scaler" if step in _SCALERS else "reducer"
    steps = [
        ("step", build(role, step, seed=0)),
        ("ridge", build("regressor", _step("Ridge"), seed=0)),
    ]
    pipeline = _fit(Pipeline(steps))
    assert pipeline[:-1].transform(np.ones((1, _COLUMNS))).shape[1] < _COLUMNS or role == "scaler"
    _require_equal(pipeline)


@pytest.mark.parametrize("step", _REGRESSORS, ids=_names)
def test_other_regressors(step: StepConfig) -> None:
    _require_equal(
        _fit(Pipeline([("scaler", "passthrough"), ("step", build("regressor", step, seed=0))]))
    )


def test_clipped_columns_and_rows_of_zeros() -> None:
    ridge = build("regressor", _step("Ridge"), seed=0)
    x = np.array([[50.0] * _COLUMNS, [-50.0] * _COLUMNS, [0.0] * _COLUMNS], np.float32)
    for scaler in (_SCALERS[2], _SCALERS[6]):
        pipeline = _fit(Pipeline([("a", build("scaler", scaler, seed=0)), ("b", ridge)]))
        np.testing.assert_allclose(
            _predicted(pipeline, x), pipeline.predict(x.astype(np.float64)), rtol=2e-6, atol=2e-6
        )


_REFUSED = {
    "PowerTransformer",
    "QuantileTransformer",
    "KNeighborsRegressor",
    "HistGradientBoostingRegressor",
}


def test_every_estimator_is_exported_or_refused_by_name() -> None:
    tried = {str(step.estimator) for step in (*_SCALERS, *_REDUCERS, *_REGRESSORS)}
    known = {name for role in ESTIMATORS.values() for name in role}
    assert known - tried - _REFUSED == {"LinearRegression"}
    for name in _REFUSED:
        role = next(role for role, names in ESTIMATORS.items() if name in names)
        made = build(role, _step(name), seed=0)
        steps = [("step", made)] if role == "regressor" else [("step", made), ("pca", PCA(2))]
        with pytest.raises(UsageError, match=f"has a {name} with .*without --regressor"):
            regressor_head(Pipeline(steps), target="valence", about={})


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (_step("XGBRegressor", booster="gblinear"), "'gblinear' and the objective"),
        (_step("XGBRegressor", objective="reg:logistic", n_estimators=3), "'reg:logistic'"),
        (_step("KernelRidge", kernel="laplacian"), "has a KernelRidge with .*laplacian"),
    ],
)
def test_settings_without_operators_are_refused(step: StepConfig, says: str) -> None:
    x, y = _rows(80, seed=0)
    pipeline = Pipeline([("step", build("regressor", step, seed=0))])
    pipeline.fit(x.astype(np.float64), np.clip(y + 0.5, 0, 1))
    with pytest.raises(UsageError, match=says):
        regressor_head(pipeline, target="valence", about={})


@given(st.floats(-1e30, 1e30), st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_rounded_threshold_divides_float32_as_before(threshold: float, x: float) -> None:
    rounded = _rounded_down(np.array([threshold]))
    assert rounded.dtype == np.float32
    assert (np.float32(x) <= rounded[0]) == (x <= threshold)
