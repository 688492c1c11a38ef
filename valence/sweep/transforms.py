"""Features of the sweep on their way to a regressor: divided by split, scaled, reduced.

Scalers and reducers are fitted on training rows alone. The mutual information of the unscaled
columns is computed once and serves every affine scaler, without changing which columns are chosen.
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

# Columns nearest to the cut whose mutual information is computed for each scaler anyway.
_NEAREST = 16
# Differences of mutual information below this are taken for possible, whatever is observed.
_LEAST_MARGIN = 1e-4
_SAFETY = 4.0
# A column whose mean is so many times its standard deviation hardly varies.
_STEADY = 1e4


class TransformError(ValenceError):
    """A scaler or reducer that cannot be fitted on the training rows."""


@dataclass(frozen=True)
class Division:
    """Labelled sequences of the three splits; `test` may be empty.

    Raises
    ------
    SplitError
        If a part holds a row of another split: none that leaks can be made, and all that is
        scaled, reduced or fitted comes out of one.
    """

    training: Features
    validation: Features
    test: Features

    def __post_init__(self) -> None:
        for rows, split in zip(_splits(self), ("train", "validation", "test"), strict=True):
            _require_split(rows, split)


@dataclass(frozen=True)
class Transformed:
    """Features after a fitted scaler and reducer (each `"passthrough"` where there is none).

    Attributes
    ----------
    training, validation, test
        float64 `[rows, columns]`.
    """

    scaler: Any
    reducer: Any
    training: Array
    validation: Array
    test: Array

    @property
    def matrices(self) -> tuple[Array, Array, Array]:
        """Training, validation, test."""
        return self.training, self.validation, self.test


def divide(features: Features, *, allow_subject_overlap: bool = False) -> Division:
    """The labelled sequences by split.

    Raises
    ------
    SplitError
        If there is nothing to fit on or to select by, or if a subject (a recording, where subjects
        may overlap) is in more than one split.
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
    """The features as they are, in float64, in which every combination computes."""
    matrices = [rows.feature.astype(np.float64) for rows in _splits(division)]
    return Transformed("passthrough", "passthrough", *_unwritable(matrices))


def training_target(rows: Features) -> Array:
    """Labels of the first target that may be fitted to, float64 `[rows]`.

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
    """Fit a scaler and a reducer on the training rows and apply them to all.

    Parameters
    ----------
    scaler, reducer
        What to fit, one after the other.
    raw
        Features as they are.
    y
        Training labels, `[rows]`.
    seed
        For what draws random numbers.
    shared
        Mutual information of the unscaled columns with `y`, `[columns]`, if it has been computed
        and `uses_mutual_information(reducer)`.

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
    """Fitted transforms, so that one serves all the regressors behind it.

    Those used longest ago are forgotten where all together would take more than `most_bytes`; a
    refusal is kept too. Features that are handed on as they are take nothing.

    Parameters
    ----------
    raw, y, seed
        As for `transform`.
    most_bytes
        Of matrices kept; the one used last stays whatever it takes.
    """

    def __init__(self, raw: Transformed, y: Array, *, seed: int, most_bytes: float) -> None:
        self._raw, self._y, self._seed, self._most = raw, y, seed, most_bytes
        self._kept: OrderedDict[tuple[str, str], Transformed | TransformError] = OrderedDict()

    def get(self, scaler: StepConfig, reducer: StepConfig, *, shared: Array | None) -> Transformed:
        """As `transform`, fitted now or before.

        Raises
        ------
        TransformError
            As `transform`.
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
        """What is kept, in bytes."""
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
    """Whether a reducer selects columns by their mutual information with the target."""
    return (
        reducer.estimator == "SelectKBest"
        and reducer.parameters.get("score_func") == "mutual_info_regression"
        and isinstance(reducer.parameters.get("k", 10), int)
    )


def shares_mutual_information(scaler: StepConfig) -> bool:
    """Whether the mutual information of the unscaled columns serves behind this scaler."""
    return scaler.estimator in AFFINE_SCALERS


def _confirm(shared: Array, raw: Array, x: Array, y: Array, *, count: int, seed: int) -> Array:
    """Mutual information of `raw` behind a scaler, as `x`, that chooses the right `count` columns.

    An affine scaler leaves it alone but for rounding and for the noise against ties, which goes by
    a column's mean. What that can move is computed anew wherever it lies: columns that hardly vary,
    and columns that repeat a value where the label repeats, too. Of the others the nearest to the
    cut are computed anew, and as many more as lie within four times the largest difference seen:
    all of them, if need be.
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
    """Of each column `[columns]`, whether two rows have the same value in it and the same label."""
    tied = np.zeros(x.shape[1], bool)
    order = np.argsort(y, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(y[order])) + 1):
        if len(rows) > 1:
            tied |= (np.diff(np.sort(x[rows], axis=0), axis=0) == 0).any(axis=0)
    return tied


def _select_by(selector: SelectKBest, x: Array, y: Array, scores: Array) -> SelectKBest:
    """Fit a selector by scores that are known."""
    score_func = selector.score_func
    selector.set_params(score_func=lambda _x, _y: scores).fit(x, y)
    return selector.set_params(score_func=score_func)


def _fit_apply(step: Any, matrices: list[Array], y: Array) -> list[Array]:
    # As in a Pipeline: PCA's fit_transform is not its fit and transform to the last digit.
    training = step.fit_transform(matrices[0], y)
    return [training, *_apply(step, matrices[1:])]


def _apply(step: Any, matrices: list[Array]) -> list[Array]:
    # scikit-learn refuses an empty matrix, and a corpus may have no labelled test recordings.
    return [
        step.transform(x) if len(x) else np.empty((0, step.transform(matrices[0][:1]).shape[1]))
        for x in matrices
    ]


def _unwritable(matrices: list[Array]) -> list[Array]:
    """The same: regressors take turns with them, and none may change what the next one sees."""
    for matrix in matrices:
        matrix.flags.writeable = False
    return matrices


def _splits(division: Division) -> tuple[Features, Features, Features]:
    return division.training, division.validation, division.test
