"""Prepare the features of a sweep for its regressors: divide them by split, scale and reduce them.

Scalers and reducers are fitted on training rows alone. The mutual information of the unscaled
columns is computed once and used for all affine scalers; the choice of columns stays the same.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectKBest

from valence.config import StepConfig
from valence.errors import ModelError, SplitError, ValenceError, first_line
from valence.sweep.features import Features
from valence.sweep.grid import AFFINE_SCALERS, build
from valence.sweep.mutual_information import mutual_information

Array = NDArray[np.float64]

# For so many columns nearest to the cut, mutual information is always computed for each scaler.
_NEAREST = 16
# A scaler is assumed to change mutual information by at least this much ...
_LEAST_MARGIN = 1e-4
# ... and by at least so many times the largest change that was seen.
_SAFETY = 4.0
# A column counts as nearly constant if its mean is so many times its standard deviation.
_STEADY = 1e4


class TransformError(ValenceError):
    """Raised when a scaler or reducer cannot be fitted on the training rows."""


@dataclass(frozen=True)
class Division:
    """Labelled sequences of the three splits; `test` may be empty.

    All scaling, reducing and fitting starts from a division, so this check keeps every one of them
    from seeing rows of another split.

    Raises
    ------
    SplitError
        If a part holds a row of another split.
    """

    training: Features
    validation: Features
    test: Features

    def __post_init__(self) -> None:
        for rows, split in zip(_splits(self), ("train", "validation", "test"), strict=True):
            _require_split(rows, split)


@dataclass(frozen=True)
class Transformed:
    """Features after a fitted scaler and a fitted reducer.

    Attributes
    ----------
    scaler, reducer
        The fitted scaler and reducer, or `"passthrough"` for none.
    training, validation, test
        Transformed features, float64 `[rows, columns]`.
    """

    scaler: Any
    reducer: Any
    training: Array
    validation: Array
    test: Array

    @property
    def matrices(self) -> tuple[Array, Array, Array]:
        """Return the features of training, validation and test."""
        return self.training, self.validation, self.test


def divide(features: Features, *, allow_subject_overlap: bool = False) -> Division:
    """Divide the labelled sequences by split.

    Raises
    ------
    SplitError
        If there are no training or no validation rows, or if a subject is in more than one split.
        With `allow_subject_overlap`, a recording in more than one split is the error instead.
    ModelError
        If a feature is NaN or infinite.
    """
    division = Division(*(features.of(split) for split in ("train", "validation", "test")))
    for rows, name in ((division.training, "training"), (division.validation, "validation")):
        if not len(rows):
            raise SplitError(
                f"There are no labelled {name} sequences, and the sweep fits on the training and "
                "selects on the validation sequences. Check the split with 'valence check CORPUS'."
            )
    unit = "recording" if allow_subject_overlap else "subject"
    parts = [set(np.unique(getattr(rows, unit))) for rows in _splits(division)]
    crossing = (parts[0] & parts[1]) | (parts[0] & parts[2]) | (parts[1] & parts[2])
    if crossing:
        raise SplitError(
            f"The {unit} '{min(crossing)}' has sequences in more than one of training, validation "
            f"and test ({len(crossing)} such). Scores would speak of people the regressors were "
            "fitted on. Make the features again with a split by subject."
        )
    for rows in _splits(division):
        if not np.isfinite(rows.feature).all():
            raise ModelError(
                "The features hold NaN or infinity, so the deep model that made them is not "
                "usable. Train it again and run 'valence extract'."
            )
    return division


def untransformed(division: Division) -> Transformed:
    """Return the features unchanged, in float64, the precision of all combinations."""
    matrices = [rows.feature.astype(np.float64) for rows in _splits(division)]
    return Transformed("passthrough", "passthrough", *_unwritable(matrices))


def training_target(rows: Features) -> Array:
    """Return the training labels of the first target, float64 `[rows]`.

    Raises
    ------
    SplitError
        If a row is not a training row.
    """
    _require_split(rows, "train")
    return rows.target[:, 0].astype(np.float64)


def _require_split(rows: Features, split: str) -> None:
    others = rows.split[rows.split != split]
    if len(others):
        raise SplitError(
            f"{len(others)} of {len(rows)} rows that were taken for {split} rows belong to "
            f"{', '.join(np.unique(others))}. Scalers, reducers and regressors are fitted on "
            "training rows alone, and scored on none of them."
        )


def transform(
    scaler: StepConfig,
    reducer: StepConfig,
    raw: Transformed,
    y: Array,
    *,
    seed: int,
    shared: Array | None = None,
) -> Transformed:
    """Fit a scaler and a reducer on the training rows and apply them to all rows.

    Parameters
    ----------
    scaler, reducer
        Steps to fit, one after the other.
    raw
        Untransformed features.
    y
        Training labels, `[rows]`.
    seed
        Seed of steps that draw random numbers.
    shared
        Mutual information of the unscaled columns with `y`, `[columns]`, if it has been computed
        and `uses_mutual_information(reducer)` holds.

    Raises
    ------
    TransformError
        If scikit-learn refuses the data, or a reducer gives up before it has converged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            return _transform(scaler, reducer, raw, y, seed, shared)
    except (ConvergenceWarning, ValueError, ArithmeticError) as error:
        raise TransformError(
            f"{scaler.name} and {reducer.name} cannot be fitted: {type(error).__name__}: "
            f"{first_line(error)}"
        ) from error


class TransformCache:
    """A cache of fitted transforms, so that all regressors behind a transform use the same one.

    If the kept matrices take more than `most_bytes`, the transform used longest ago is dropped. The
    cache also keeps the error of a transform that failed. Untransformed features take no memory.

    Parameters
    ----------
    raw, y, seed
        The parameters of `transform`.
    most_bytes
        Most bytes of the kept matrices; the transform used last is kept even if it takes more.
    """

    def __init__(self, raw: Transformed, y: Array, *, seed: int, most_bytes: float) -> None:
        self._raw, self._y, self._seed, self._most = raw, y, seed, most_bytes
        self._kept: OrderedDict[tuple[str, str], Transformed | TransformError] = OrderedDict()

    def get(self, scaler: StepConfig, reducer: StepConfig, *, shared: Array | None) -> Transformed:
        """Return the transform that `transform` fits, from the cache if it is there.

        Raises
        ------
        TransformError
            If the scaler or the reducer cannot be fitted.
        """
        key = (scaler.name, reducer.name)
        if key not in self._kept:
            try:
                self._kept[key] = transform(
                    scaler, reducer, self._raw, self._y, seed=self._seed, shared=shared
                )
            except TransformError as error:
                self._kept[key] = error
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and self.nbytes > self._most:
            self._kept.popitem(last=False)
        found = self._kept[key]
        if isinstance(found, TransformError):
            raise found
        return found

    @property
    def nbytes(self) -> int:
        """Return the bytes of the kept matrices."""
        own = {id(matrix) for matrix in self._raw.matrices}
        return sum(
            matrix.nbytes
            for kept in self._kept.values()
            if isinstance(kept, Transformed)
            for matrix in kept.matrices
            if id(matrix) not in own
        )


def _transform(
    scaler: StepConfig,
    reducer: StepConfig,
    raw: Transformed,
    y: Array,
    seed: int,
    shared: Array | None,
) -> Transformed:
    first, second = build("scaler", scaler, seed=seed), build("reducer", reducer, seed=seed)
    matrices = list(raw.matrices)
    if scaler.estimator is not None:
        matrices = _fit_apply(first, matrices, y)
    if shared is not None and uses_mutual_information(reducer):
        if scaler.estimator is not None:
            count = second.k
            shared = _confirm(shared, raw.training, matrices[0], y, count=count, seed=seed)
        second = _select_by(second, matrices[0], y, shared)
        matrices = _apply(second, matrices)
    elif reducer.estimator is not None:
        matrices = _fit_apply(second, matrices, y)
    return Transformed(first, second, *_unwritable(matrices))


def uses_mutual_information(reducer: StepConfig) -> bool:
    """Return whether a reducer selects columns by their mutual information with the target."""
    return (
        reducer.estimator == "SelectKBest"
        and reducer.parameters.get("score_func") == "mutual_info_regression"
        and isinstance(reducer.parameters.get("k", 10), int)
    )


def shares_mutual_information(scaler: StepConfig) -> bool:
    """Return whether the unscaled columns' mutual information can be used after this scaler."""
    return scaler.estimator in AFFINE_SCALERS


def _confirm(shared: Array, raw: Array, x: Array, y: Array, *, count: int, seed: int) -> Array:
    """Correct the mutual information of `raw` until it chooses the right `count` columns of `x`.

    `x` is `raw` after an affine scaler. The scaler changes mutual information only by rounding, and
    by the noise against ties, which depends on a column's mean. Two kinds of column are sensitive
    to these and are always computed anew: nearly constant ones, and those that have equal values in
    rows with equal labels. Among the other columns, the nearest to the cut are computed anew. Then
    follow all columns within four times the largest difference seen, until none is left.
    """
    if count >= len(shared):
        return shared
    found = shared.copy()
    steady = np.abs(raw.mean(axis=0)) >= _STEADY * raw.std(axis=0)
    known = steady | _tied(raw, y)
    if known.any():
        moved = np.flatnonzero(known)
        found[moved] = mutual_information(x, y, seed=seed, columns=moved)
    descending = np.argsort(-found, kind="stable")
    cut = (found[descending[count - 1]] + found[descending[count]]) / 2
    distance = np.abs(shared - cut)
    near = np.argsort(np.where(known, np.inf, distance), kind="stable")[:_NEAREST]
    margin = _LEAST_MARGIN
    while len(near := near[~known[near]]):
        found[near] = mutual_information(x, y, seed=seed, columns=near)
        known[near] = True
        margin = max(margin, _SAFETY * float(np.max(np.abs(found - shared)[near])))
        near = np.flatnonzero(distance <= margin)
    return found


def _tied(x: Array, y: Array) -> NDArray[np.bool_]:
    """Return whether each column `[columns]` has two rows with equal values and equal labels."""
    tied = np.zeros(x.shape[1], bool)
    order = np.argsort(y, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(y[order])) + 1):
        if len(rows) > 1:
            tied |= (np.diff(np.sort(x[rows], axis=0), axis=0) == 0).any(axis=0)
    return tied


def _select_by(selector: SelectKBest, x: Array, y: Array, scores: Array) -> SelectKBest:
    """Fit a selector with the given scores instead of computing them."""
    score_func = selector.score_func
    selector.set_params(score_func=lambda _x, _y: scores).fit(x, y)
    return selector.set_params(score_func=score_func)


def _fit_apply(step: Any, matrices: list[Array], y: Array) -> list[Array]:
    # A Pipeline uses fit_transform too, and PCA's differs from fit and transform in the last digit.
    training = step.fit_transform(matrices[0], y)
    return [training, *_apply(step, matrices[1:])]


def _apply(step: Any, matrices: list[Array]) -> list[Array]:
    # A corpus may have no labelled test recordings, and scikit-learn refuses an empty matrix.
    return [
        step.transform(x) if len(x) else np.empty((0, step.transform(matrices[0][:1]).shape[1]))
        for x in matrices
    ]


def _unwritable(matrices: list[Array]) -> list[Array]:
    """Make the matrices read-only, so that no regressor changes them for the next one."""
    for matrix in matrices:
        matrix.flags.writeable = False
    return matrices


def _splits(division: Division) -> tuple[Features, Features, Features]:
    return division.training, division.validation, division.test
