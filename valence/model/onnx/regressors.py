"""Add the best regressor of a sweep to a graph: scaler, reducer and regressor.

Numbers are float64 as in scikit-learn, because the operators that ONNX has for kernel machines
compute in float32, where a polynomial of high degree loses most digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from valence.errors import UsageError
from valence.model.onnx.graph import Graph
from valence.model.onnx.network import Head
from valence.model.onnx.trees import boosted, forest

_LINEAR = frozenset(
    {
        *("LinearRegression", "Ridge", "Lasso", "ElasticNet", "BayesianRidge", "HuberRegressor"),
        "LinearSVR",
    }
)
_SELECTORS = frozenset({"SelectKBest", "SelectPercentile", "VarianceThreshold"})
_FORESTS = frozenset({"RandomForestRegressor", "ExtraTreesRegressor"})


def regressor_head(pipeline: Pipeline, *, target: str, about: Mapping[str, Any]) -> Head:
    """Return the head of a fitted pipeline, from features to one target.

    Raises
    ------
    UsageError
        If ONNX has no operators for one of the steps.
    """
    steps = [step for _, step in pipeline.steps if step not in (None, "passthrough")]
    transforms = [_transform(step) for step in steps[:-1]]
    regress = _regress(steps[-1])

    def add(graph: Graph, features: str) -> str:
        x = graph.cast(features, "DOUBLE")
        for transform in transforms:
            x = transform(graph, x)
        return graph.cast(regress(graph, x), "FLOAT")

    return Head(add, (target,), about)


# Adds a step to a graph: from the name of `[rows, columns]` to that of its values, float64.
_Step = Callable[[Graph, str], str]


def _transform(step: Any) -> _Step:
    """Return what adds a fitted scaler or reducer."""
    name = type(step).__name__
    match name:
        case "StandardScaler":
            return _affine(step.mean_ if step.with_mean else None, step.scale_)
        case "RobustScaler":
            return _affine(step.center_, step.scale_)
        case "MaxAbsScaler" if not getattr(step, "clip", False):
            return _affine(None, step.scale_)
        case "MinMaxScaler":
            return _min_max(step)
        case "Normalizer":
            return _normalizer(step)
        case "TruncatedSVD":
            return _projection(None, step.components_.T)
        case "PCA":
            return _projection(step.mean_, _pca(step))
        case "FastICA":
            return _projection(getattr(step, "mean_", None), step.components_.T)
        case "FactorAnalysis":
            return _projection(step.mean_, _factors(step))
        case _ if name in _SELECTORS:
            return _selection(step)
    raise _unknown(step)


def _regress(step: Any) -> _Step:
    """Return what adds a fitted regressor, with the values `[rows, 1]`."""
    name = type(step).__name__
    match name:
        case _ if name in _LINEAR:
            return _linear(np.ravel(step.coef_), step.intercept_)
        case "SVR" | "NuSVR":
            kernel = _kernel(step, step.kernel, gamma=step._gamma, known=step.support_vectors_)
            return _weighted(kernel, np.ravel(step.dual_coef_), step.intercept_)
        case "KernelRidge":
            gamma = 1 / step.X_fit_.shape[1] if step.gamma is None else step.gamma
            kernel = _kernel(step, step.kernel, gamma=gamma, known=step.X_fit_)
            return _weighted(kernel, np.ravel(step.dual_coef_), 0.0)
        case "XGBRegressor":
            return boosted(step)
        case "VotingRegressor":
            return _mean([_regress(member) for member in step.estimators_])
        case _ if name in _FORESTS:
            return forest(step)
    raise _unknown(step)


def _unknown(step: Any) -> UsageError:
    return UsageError(
        f"The sweep's best combination has a {type(step).__name__} with {step.get_params()}, for "
        "which no ONNX operators are known here. Expected steps such as StandardScaler, PCA, "
        "Ridge, SVR or XGBRegressor. Export the deep model, without --regressor, or predict with "
        "'valence predict --regressor best'."
    )


def _double(graph: Graph, values: ArrayLike) -> str:
    return graph.keep(np.asarray(values, np.float64))


def _affine(shift: ArrayLike | None, scale: ArrayLike | None) -> _Step:
    def add(graph: Graph, x: str) -> str:
        if shift is not None:
            x = graph.add("Sub", x, _double(graph, shift))
        return x if scale is None else graph.add("Div", x, _double(graph, scale))

    return add


def _min_max(step: Any) -> _Step:
    def add(graph: Graph, x: str) -> str:
        x = graph.add("Mul", x, _double(graph, step.scale_))
        x = graph.add("Add", x, _double(graph, step.min_))
        if not step.clip:
            return x
        low, high = step.feature_range
        return graph.add("Min", graph.add("Max", x, _double(graph, low)), _double(graph, high))

    return add


def _normalizer(step: Any) -> _Step:
    def add(graph: Graph, x: str) -> str:
        size = graph.add("Abs", x)
        match step.norm:
            case "l1":
                norm = graph.add("ReduceSum", size, graph.whole(1), keepdims=1)
            case "l2":
                squares = graph.add("Mul", x, x)
                norm = graph.add("Sqrt", graph.add("ReduceSum", squares, graph.whole(1)))
            case _:
                norm = graph.add("ReduceMax", size, axes=[1], keepdims=1)
        nothing = graph.add("Equal", norm, _double(graph, 0))
        return graph.add("Div", x, graph.add("Where", nothing, _double(graph, 1), norm))

    return add


def _selection(step: Any) -> _Step:
    columns = np.asarray(step.get_support(indices=True), np.int64)
    return lambda graph, x: graph.add("Gather", x, graph.keep(columns), axis=1)


def _projection(mean: ArrayLike | None, weight: ArrayLike) -> _Step:
    centre = _affine(mean, None)
    return lambda graph, x: graph.add("MatMul", centre(graph, x), _double(graph, weight))


def _pca(step: Any) -> ArrayLike:
    weight = np.asarray(step.components_, np.float64).T
    if not step.whiten:
        return weight
    scale = np.sqrt(np.asarray(step.explained_variance_, np.float64))
    whitened: ArrayLike = weight / np.maximum(scale, np.finfo(np.float64).eps)
    return whitened


def _factors(step: Any) -> ArrayLike:
    """Return the matrix of the factors' expected values (Barber, 2012, 21.2.2)."""
    scaled = step.components_ / step.noise_variance_
    covariance = np.linalg.inv(np.eye(len(scaled)) + scaled @ step.components_.T)
    weight: ArrayLike = scaled.T @ covariance
    return weight


def _linear(weight: ArrayLike, intercept: ArrayLike) -> _Step:
    return _weighted(lambda _, x: x, weight, intercept)


def _weighted(values: _Step, weight: ArrayLike, intercept: ArrayLike) -> _Step:
    """Return what adds `values(x) @ weight + intercept`."""

    def add(graph: Graph, x: str) -> str:
        column = _double(graph, np.reshape(weight, (-1, 1)))
        total = graph.add("MatMul", values(graph, x), column)
        return graph.add("Add", total, _double(graph, np.ravel(intercept)))

    return add


def _kernel(step: Any, kernel: str, *, gamma: float, known: ArrayLike) -> _Step:
    """Return what adds the kernel of rows with known rows, `[rows, known]`."""
    if kernel not in ("linear", "poly", "polynomial", "rbf", "sigmoid"):
        raise _unknown(step)
    rows = np.asarray(known, np.float64)

    def add(graph: Graph, x: str) -> str:
        products = graph.add("MatMul", x, _double(graph, rows.T))
        if kernel == "linear":
            return products
        if kernel == "rbf":
            own = graph.add("ReduceSum", graph.add("Mul", x, x), graph.whole(1), keepdims=1)
            both = graph.add("Add", own, _double(graph, np.square(rows).sum(axis=1)))
            distance = graph.add("Sub", both, graph.add("Mul", products, _double(graph, 2)))
            return graph.add("Exp", graph.add("Mul", distance, _double(graph, -gamma)))
        scaled = graph.add("Mul", products, _double(graph, gamma))
        shifted = graph.add("Add", scaled, _double(graph, step.coef0))
        if kernel == "sigmoid":
            return graph.add("Tanh", shifted)
        return graph.add("Pow", shifted, _double(graph, step.degree))

    return add


def _mean(members: list[_Step]) -> _Step:
    def add(graph: Graph, x: str) -> str:
        total = graph.add("Sum", *(member(graph, x) for member in members))
        return graph.add("Div", total, _double(graph, len(members)))

    return add
