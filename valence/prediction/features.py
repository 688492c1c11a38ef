"""Take the features of new recordings, for a model that takes a set of features in place of mel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from valence.errors import FeatureError, UsageError
from valence.model.network import FeatureInput
from valence.segments.feature_sets import FeatureSet
from valence.segments.feature_sets.sets import FOLDER, files_of
from valence.storage.location import Location

Array = NDArray[np.float32]
# Gives the features of a recording with so many segments, float32 `[segments, columns]`, NaN where
# there is no value, and remarks on them.
FeaturesOf = Callable[[int], tuple[Array, tuple[str, ...]]]


def require_input(taken: FeatureInput | None, *, given: bool, step_ms: int) -> None:
    """Refuse to predict without the features that a model takes, or with needless ones.

    Parameters
    ----------
    taken
        The set that the model takes; None if it takes mel.
    given
        Whether features are given.
    step_ms
        Milliseconds of a segment.

    Raises
    ------
    UsageError
        If features are given and the model takes none, or the other way round.
    """
    if taken is None and given:
        raise UsageError(
            "Features were given, and the model takes none: it makes its input from the sound. "
            "Leave them out."
        )
    if taken is not None and not given:
        raise UsageError(
            f"The model takes the feature set '{taken.set}' ({len(taken.columns)} columns), which "
            "is not made from sound here. Expected the features of each recording, a row every "
            f"{step_ms} ms, made as they were for the training. Give their folder with --features, "
            "or the array features to the Predictor."
        )


def find_features(folder: Location, taken: FeatureInput, *, step_ms: int) -> FeatureSet:
    """Open the features of new recordings.

    Parameters
    ----------
    folder
        Folder with `<stem>.csv` or `.parquet` for each recording; or a corpus, whose folder
        `feature_segments` holds the set.
    taken
        The set that the model takes.
    step_ms
        Milliseconds of a segment.

    Raises
    ------
    UsageError
        If there is no such folder, or it holds no such file.
    """
    inner = (folder / FOLDER / taken.set, folder / taken.set)
    chosen = next((each for each in inner if each.is_folder()), folder)
    files = files_of(chosen) if chosen.is_folder() else {}
    if not files:
        raise UsageError(
            f"'{folder}' holds no features. Expected a folder with <name>.csv or .parquet for each "
            f"recording: the columns timestamp and those of the set '{taken.set}', a row every "
            f"{step_ms} ms."
        )
    return FeatureSet(
        taken.set,
        taken.columns,
        chosen,
        step_ms,
        files,
        first="the model's input",
        stamps=taken.stamps,
    )


def given_features(features: ArrayLike) -> FeaturesOf:
    """Give the same features whatever the number of segments; `taken_features` checks the shape.

    Raises
    ------
    FeatureError
        If they are no numbers.
    """
    try:
        with np.errstate(over="ignore"):
            values = np.asarray(features).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise FeatureError(
            f"The features are no numbers: {error}. Expected an array of floats, "
            "[segments, columns]."
        ) from error
    return lambda _: (values, ())


def taken_features(
    features: FeaturesOf, segments: int, columns: int
) -> tuple[Array, tuple[str, ...]]:
    """Take the features of a recording, and check them.

    Parameters
    ----------
    features
        Function that gives them.
    segments
        Number of the recording's segments.
    columns
        Number of features that the model takes.

    Returns
    -------
    float32 `[segments, columns]`, NaN where there is no value, and remarks. The model puts the
    training's mean in the place of NaN, and a remark counts the segments.

    Raises
    ------
    FeatureError
        If they have another shape, hold an infinite value, or hold no value at all.
    """
    values, remarks = features(segments)
    if values.shape != (segments, columns):
        raise FeatureError(
            f"Features of shape {list(values.shape)} were found. Expected [{segments}, {columns}]: "
            "a row for each segment, and the columns that the model's description lists. Make them "
            "for this recording."
        )
    unknown = np.isnan(values)
    if np.isinf(values).any() or unknown.all():
        what = "no value at all" if unknown.all() else "an infinite value"
        raise FeatureError(
            f"The features hold {what}. Expected finite values, and NaN where there is none. Make "
            "them again."
        )
    lacking = int(unknown.any(axis=1).sum())
    if lacking:
        counted = f"{lacking} of {segments} segments lack features"
        return values, (f"{counted}: the training's mean stands for them", *remarks)
    return values, remarks
