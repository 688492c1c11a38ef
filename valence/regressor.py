"""The best pipeline of a sweep on disk: `pipeline.skops` and, beside it, `regressor.json`.

skops stores no code. What a file may hold beyond scikit-learn's own estimators and NumPy arrays is
listed here; a file with anything else is refused before any of it is built.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from valence.config import versions
from valence.errors import ModelError
from valence.storage import Location

TRUSTED = (
    # SelectKBest keeps its score function, with the seed of its noise.
    "functools.partial",
    "sklearn.feature_selection._mutual_info.mutual_info_regression",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.feature_selection._univariate_selection.r_regression",
    # What VotingRegressor, forests and boosting keep their members in.
    "sklearn.utils._bunch.Bunch",
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBRegressor",
)

_FORMAT = 1
_PIPELINE = "pipeline.skops"
_ABOUT = "regressor.json"


@dataclass(frozen=True)
class Regressor:
    """A fitted pipeline from deep features to the target.

    Attributes
    ----------
    pipeline
        Scaler, reducer and regressor.
    about
        What `regressor.json` says: target, model, features, scores, versions.
    """

    pipeline: Pipeline
    about: Mapping[str, Any]

    def predict(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Predict the target, float64 `[rows]`, from features `[rows, columns]` of any float.

        Raises
        ------
        ModelError
            If the number of columns is not the one it was fitted on.
        """
        columns = self.about["columns"]
        if features.ndim != 2 or features.shape[1] != columns:
            raise ModelError(
                f"The regressor takes features of {columns} columns, and got an array of shape "
                f"{features.shape}. Use it with the model whose features it was fitted on."
            )
        if not len(features):
            return np.empty(0)
        return np.asarray(self.pipeline.predict(features.astype(np.float64)), np.float64)


def save_regressor(
    folder: Location, pipeline: Pipeline, *, columns: int, about: Mapping[str, Any]
) -> None:
    """Write a fitted pipeline and what there is to know about it.

    Parameters
    ----------
    folder
        Where to; what stands there is replaced.
    pipeline
        Fitted, made of what `valence.combinations` offers.
    columns
        Number of features that it takes.
    about
        JSON-like; `format`, `columns`, `sha256` and `versions` are added.
    """
    content = _skops().io.dumps(pipeline)
    (folder / _PIPELINE).write_bytes(content)
    # Last, so that it always speaks of a pipeline that is there, whole.
    (folder / _ABOUT).write_json(
        {
            "format": _FORMAT,
            "columns": columns,
            "sha256": hashlib.sha256(content).hexdigest(),
            **about,
            "versions": versions(),
        }
    )


def load_regressor(folder: Location) -> Regressor:
    """Read what `save_regressor` wrote, such as `RUN/sweep/best`.

    Raises
    ------
    ModelError
        If something is missing or damaged, or holds a type that is not trusted.
    """
    try:
        about = (folder / _ABOUT).read_json()
        content = (folder / _PIPELINE).read_bytes()
    except FileNotFoundError as error:
        raise ModelError(
            f"'{folder}' holds no regressor. Run 'valence sweep' on the run first."
        ) from error
    except json.JSONDecodeError as error:
        raise ModelError(
            f"'{folder / _ABOUT}' is damaged: {error}. Run the sweep again."
        ) from error
    if about.get("format") != _FORMAT or hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise ModelError(
            f"'{folder}' holds a regressor of another version, or one that is damaged: its "
            "checksum is not the one written with it. Run 'valence sweep' with --overwrite."
        )
    skops = _skops()
    try:
        pipeline = skops.io.loads(content, trusted=list(TRUSTED))
    except skops.io.exceptions.UntrustedTypesFoundException as error:
        raise ModelError(
            f"'{folder / _PIPELINE}' holds types that no sweep makes: {error}. Do not use it "
            "unless you know who wrote it; make your own with 'valence sweep'."
        ) from error
    except (BadZipFile, KeyError, ValueError, TypeError) as error:
        raise ModelError(
            f"'{folder / _PIPELINE}' cannot be read by the installed versions of scikit-learn and "
            f"xgboost: {error}. Run 'valence sweep' with --overwrite."
        ) from error
    assert isinstance(pipeline, Pipeline)
    return Regressor(pipeline, about)


def _skops() -> ModuleType:
    """The package skops with its module `io`, imported when it is first needed, without torch.

    To list the estimators there are, it imports every module of scikit-learn, and one of them
    imports torch where that is installed: seconds and 200 MB for nothing.
    """
    absent = object()
    loaded = sys.modules.get("torch", absent)
    if loaded is absent:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("skops.io.exceptions")
    finally:
        if loaded is absent:
            del sys.modules["torch"]
    return importlib.import_module("skops")
