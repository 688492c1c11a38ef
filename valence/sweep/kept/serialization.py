"""Save and load the best pipeline of a sweep, `pipeline.skops` with its `regressor.json`.

skops stores no code. A file may hold scikit-learn's own estimators, NumPy arrays, and the types
listed here. A file with any other type is refused before any object in it is built.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from valence.config import Target
from valence.errors import IncompatibleError, ModelError
from valence.provenance import fingerprint, versions
from valence.stage import Stage
from valence.storage.kept_file import KeptFile
from valence.storage.location import Location
from valence.storage.manifest import noted_digest
from valence.sweep.kept.archive import most_bytes, require_as_declared

TRUSTED = (
    # SelectKBest stores its score function, with the seed of the function's noise.
    "functools.partial",
    "sklearn.feature_selection._mutual_info.mutual_info_regression",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.feature_selection._univariate_selection.r_regression",
    # VotingRegressor, forests and boosting store their members in these types.
    "sklearn.utils._bunch.Bunch",
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBRegressor",
)

_FORMAT = 2
_PIPELINE = "pipeline.skops"
_ABOUT = "regressor.json"
REGRESSOR_FILES = (_PIPELINE, _ABOUT)
# Deep features are four times model.lstm_hidden, which is 4,096 at most.
_MOST_COLUMNS = 16_384
# Entries of `regressor.json` that this program uses; the file may have others.
_KINDS = {"columns": int, "sha256": str, "target": str, "model": str | None, "steps": dict}


@dataclass(frozen=True)
class Regressor:
    """A fitted pipeline from deep features to the target.

    Attributes
    ----------
    pipeline
        Scaler, reducer and regressor.
    about
        The content of `regressor.json`: target, model, features, scores, versions.
    """

    pipeline: Pipeline
    about: Mapping[str, Any]

    def predict(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Predict the target, float64 `[rows]`, from features `[rows, columns]` of any float type.

        Raises
        ------
        ModelError
            If the number of columns is not the one that the pipeline was fitted on.
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


def dump(fitted: Any) -> bytes:
    """Convert a fitted estimator to bytes without code, which `load` reads."""
    content: bytes = _skops().io.dumps(fitted)
    return content


def load(content: bytes) -> Any:
    """Read an estimator that `dump` converted; skops raises its own error for untrusted types."""
    return _skops().io.loads(content, trusted=list(TRUSTED))


def save_regressor(
    folder: Location, pipeline: Pipeline, *, columns: int, about: Mapping[str, Any]
) -> None:
    """Write a fitted pipeline and its description.

    Parameters
    ----------
    folder
        Folder to write to; files of the same names are replaced.
    pipeline
        Fitted pipeline, built from the estimators of `valence.sweep.grid`.
    columns
        Number of features that the pipeline takes.
    about
        Description, JSON-like, with `target`, `model` and `steps`. The entries `format`, `columns`,
        `sha256`, `versions` and a `digest` of the whole are added.
    """
    content = dump(pipeline)
    (folder / _PIPELINE).write_bytes(content)
    description = {
        "format": _FORMAT,
        "columns": columns,
        "sha256": hashlib.sha256(content).hexdigest(),
        **about,
        "versions": versions(),
    }
    # Written last, so that it always describes a pipeline that is there and complete.
    (folder / _ABOUT).write_json({**description, "digest": fingerprint(description)})


def load_regressor(folder: Location, record: Mapping[str, Any] | None = None) -> Regressor:
    """Load a regressor that `save_regressor` wrote.

    Parameters
    ----------
    folder
        Folder of the regressor, such as `RUN/sweep/best`.
    record
        Record of the sweep that the regressor comes from; None if there is none.

    Raises
    ------
    ModelError
        If a file is missing, damaged or from another sweep, or holds a type that is not trusted.
    IncompatibleError
        If all files are whole and the installed packages cannot read the pipeline.
    """
    about, content, kept = _read(folder, record)
    file = kept.file
    skops = _skops()
    try:
        pipeline = _load_as_declared(content, kept)
    except ModelError:
        raise
    except skops.io.exceptions.UntrustedTypesFoundException as error:
        raise ModelError(
            f"'{file}' holds types that no sweep makes: {error}. Do not use it unless you know who "
            "wrote it; make your own with 'valence sweep'."
        ) from error
    except Exception as error:
        # The errors that a maliciously made file can cause while it is read cannot be listed.
        raise IncompatibleError(
            f"'{file}' cannot be read by the installed versions of scikit-learn and xgboost: "
            f"{error!r}. {_remedy(folder)}"
        ) from error
    if not isinstance(pipeline, Pipeline):
        raise ModelError(
            f"'{file}' holds a {type(pipeline).__name__}. Expected a pipeline of scikit-learn, as "
            "'valence sweep' writes it."
        )
    return Regressor(pipeline, about)


def require_regressor(folder: Location, record: Mapping[str, Any]) -> None:
    """Refuse a folder that does not hold the complete best pipeline of a sweep.

    No object of the pipeline is built.

    Parameters
    ----------
    folder
        Folder of the pipeline, such as `RUN/sweep/best`.
    record
        Record of the stage, with the digests of the features that the pipeline was fitted on and of
        the files.

    Raises
    ------
    ModelError
        If a file is missing, damaged or from another sweep, or the features were others.
    """
    about, _, _ = _read(folder, record)
    if about.get("features") != record["made_of"]["features"]:
        raise ModelError(
            f"'{folder}' holds a pipeline that was fitted on other features than its sweep had. "
            f"Expected the best of that sweep. {_remedy(folder)}"
        )


def _read(
    folder: Location, record: Mapping[str, Any] | None
) -> tuple[dict[str, Any], bytes, KeptFile]:
    """Read the description and the pipeline's bytes and file; compare both files to the record."""
    about = _read_about(folder)
    content, kept = _read_pipeline(folder, about)
    for name in REGRESSOR_FILES:
        noted = noted_digest(record or {}, f"{folder.name}/{name}")
        replace(kept, file=folder / name).require(noted)
    return about, content, kept


def _read_pipeline(folder: Location, about: Mapping[str, Any]) -> tuple[bytes, KeptFile]:
    """Read the bytes of the pipeline's file, and check their size and digest."""
    file, rows = folder / _PIPELINE, about.get("rows")
    if not file.exists():
        raise _absent(file, folder)
    kept = KeptFile(
        file,
        f"the pipeline that {_ABOUT} describes, as 'valence sweep' writes it",
        _remedy(folder),
        most=most_bytes(rows=rows if isinstance(rows, int) else 0, columns=about["columns"]),
        error=ModelError,
    )
    content = kept.read()
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise kept.damaged(
            f"its checksum is not the one given in {_ABOUT}, or it belongs to another one"
        )
    return content, kept


def _load_as_declared(content: bytes, kept: KeptFile) -> Any:
    """Load the pipeline after checking that its archive holds what it declares."""
    try:
        require_as_declared(content)
    except ValueError as error:
        raise ModelError(
            f"The file '{kept.file}' {error}. Expected {kept.expected}, in which nothing is "
            f"compressed. Do not use it unless you know who wrote it. {kept.remedy}"
        ) from error
    return load(content)


def _remedy(folder: Location) -> str:
    """Return the sentence that tells how to make `folder`, the `best` of a sweep, again."""
    return f"Run '{Stage('sweep', folder.parent).command()}', which makes it again."


def _absent(file: Location, folder: Location) -> ModelError:
    return ModelError(
        f"'{folder}' holds no regressor: '{file.name}' is missing. Expected what 'valence sweep' "
        f"leaves there. {_remedy(folder)}"
    )


def _read_about(folder: Location) -> dict[str, Any]:
    """Read `regressor.json` and check it against its own digest."""
    file = folder / _ABOUT
    if not file.exists():
        raise _absent(file, folder)
    kept = KeptFile(file, f"the description of {_PIPELINE}", _remedy(folder), error=ModelError)
    about = kept.table({"format": int})
    digest, version = about.pop("digest", None), about["format"]
    if version == _FORMAT and fingerprint(about) == digest:
        try:
            _require_kinds(about)
        except (ValueError, TypeError, KeyError) as error:
            raise kept.damaged(str(error)) from error
        return about
    if version == _FORMAT:
        raise kept.damaged("its digest is not the one that it gives")
    raise ModelError(
        f"'{file}' is of format {version!r}, and this version reads format {_FORMAT}. Use the "
        f"version that wrote it. Or: {_remedy(folder)}"
    )


def _require_kinds(about: Mapping[str, Any]) -> None:
    for name, kind in _KINDS.items():
        if name not in about:
            raise ValueError(f"{name} is missing in it")
        if not isinstance(about[name], kind):
            raise TypeError(f"{name} is {about[name]!r}")
    if about["target"] not in get_args(Target):
        raise ValueError(f"target is {about['target']!r}")
    if not 0 < about["columns"] <= _MOST_COLUMNS:
        raise ValueError(f"columns is {about['columns']}")


def _skops() -> ModuleType:
    """Import the package skops and its module `io` when it is first needed, without torch.

    skops lists all estimators by importing every module of scikit-learn. One of these imports torch
    if it is installed, which would take seconds and 200 MB without any use.
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
