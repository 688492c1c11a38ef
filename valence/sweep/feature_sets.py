"""Put functionals of a feature set in the place of the deep features, on the same sequences.

A sequence takes part if each of its segments has a value; one row of a set of sequences describes a
sequence as a whole. The deep model's predictions stay beside the functionals, so that both are
scored on the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valence.errors import FeatureError
from valence.formatting import plural, some
from valence.segments.feature_sets import FeatureSet, require_equal_stamps
from valence.segments.feature_sets.files import Stamps
from valence.sweep.features import Features

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Described:
    """The sequences of one recording, described by a feature set.

    Attributes
    ----------
    recording
        Id of the recording.
    value
        float64 `[sequences, columns]`. A row of a sequence that takes no part is all NaN; in the
        others, NaN means that a feature has no value anywhere in the sequence.
    remarks
        Oddities of the recording's file.
    refused
        Reason why the recording's file cannot be used, or `""`.
    stamps
        Whether the file's timestamps name the start or the end of a segment.
    """

    recording: str
    value: Array
    remarks: tuple[str, ...] = ()
    refused: str = ""
    stamps: Stamps = "start"


@dataclass(frozen=True)
class SetRows:
    """The sequences that a feature set describes, in the form of deep features.

    Attributes
    ----------
    features
        The rows, with functionals in the place of the deep features; all are finite.
    about
        JSON-like description: columns, what stands for a missing value, what was left out and why.
    """

    features: Features
    about: Mapping[str, Any]


def columns_of(chosen: FeatureSet) -> tuple[str, ...]:
    """Name the columns that `describe` computes."""
    if chosen.length > 1:
        return chosen.columns
    return (
        *(f"mean of {name}" for name in chosen.columns),
        *(f"sd of {name}" for name in chosen.columns),
    )


def describe(
    chosen: FeatureSet,
    recording: str,
    starts: NDArray[np.integer],
    *,
    length: int,
    segments: int,
) -> Described:
    """Describe sequences of a recording by a feature set.

    Parameters
    ----------
    chosen
        The feature set.
    recording
        Id of the recording.
    starts
        First segment of each sequence, `[sequences]`.
    length
        Number of segments in a sequence.
    segments
        Number of segments of the recording.

    Returns
    -------
    The columns of `columns_of`. A file that cannot be used is named in `refused` and not raised.
    """
    try:
        if chosen.length > 1:
            rows = chosen.read_sequences(recording, starts).astype(np.float64)
            return Described(recording, rows)
        found = chosen.joined(recording, segments)
    except FeatureError as error:
        return Described(recording, np.empty((0, len(columns_of(chosen)))), refused=str(error))
    value = functionals_of(found.value, starts, length)
    return Described(recording, value, found.remarks, stamps=found.stamps)


def functionals_of(value: NDArray[np.floating], starts: NDArray[np.integer], length: int) -> Array:
    """Compute mean and standard deviation (ddof 0) of each feature over each sequence.

    Parameters
    ----------
    value
        Features of segments, `[segments, features]`, NaN where there is no value.
    starts, length
        First segment and number of segments of each sequence.

    Returns
    -------
    Means, then standard deviations, float64 `[sequences, 2 * features]`, over the segments that
    have a value; NaN for a feature without any, and for all of a sequence with a segment that has
    no value at all.

    >>> x = np.array([[1.0, 5.0], [3.0, np.nan], [np.nan, np.nan]])
    >>> functionals_of(x, np.array([0, 1]), 2).tolist()
    [[2.0, 5.0, 1.0, 0.0], [nan, nan, nan, nan]]
    """
    width = value.shape[1]
    found = np.full((len(starts), 2 * width), np.nan)
    for row, start in enumerate(starts.tolist()):
        part = value[start : start + length].astype(np.float64)
        known = np.isfinite(part)
        if len(part) < length or not known.any(axis=1).all():
            continue
        n = known.sum(axis=0)
        some_value = n > 0
        mean = np.where(known, part, 0.0).sum(axis=0)[some_value] / n[some_value]
        off = np.where(known, part, 0.0)[:, some_value] - mean
        variance = np.where(known[:, some_value], off**2, 0.0).sum(axis=0) / n[some_value]
        # Equal values have no spread; the rounding of their mean would give them one.
        low = np.where(known, part, np.inf).min(axis=0)[some_value]
        high = np.where(known, part, -np.inf).max(axis=0)[some_value]
        found[row, :width][some_value] = mean
        found[row, width:][some_value] = np.where(low == high, 0.0, np.sqrt(variance))
    return found


def join(features: Features, described: Sequence[Described], chosen: FeatureSet) -> SetRows:
    """Put the functionals in the place of the deep features.

    A value that is missing in a sequence becomes the mean of its column over the training rows. A
    column that no training row has is left out.

    Parameters
    ----------
    features
        Labelled rows, ordered by recording and start.
    described
        Description of each recording in them, its rows in the same order.
    chosen
        The feature set.

    Raises
    ------
    FeatureError
        If no training or no validation row is left, or files state different ends of segments.
    """
    names = columns_of(chosen)
    by_name = {each.recording: each for each in described}
    require_equal_stamps(
        chosen.name, {name: each.stamps for name, each in by_name.items() if not each.refused}
    )
    value = np.full((len(features), len(names)), np.nan)
    for name, each in by_name.items():
        if not each.refused:
            value[features.recording == name] = each.value
    kept = np.isfinite(value).any(axis=1)
    refused = {name: each.refused for name, each in by_name.items() if each.refused}
    _require_rows(features, kept, refused, chosen)
    value, rows = value[kept], features.rows(kept)
    training = value[rows.split == "train"]
    known = np.isfinite(training)
    used = known.any(axis=0)
    count = np.maximum(known.sum(axis=0), 1)
    fill = np.where(known, training, 0.0).sum(axis=0) / count
    missing = ~np.isfinite(value)
    value = np.where(missing, fill, value)[:, used]
    left_out = _left_out(features, kept, refused)
    remarks = [
        f"recording '{each.recording}': {text}" for each in described for text in each.remarks
    ]
    about = {
        "name": chosen.name,
        "features": len(chosen.columns),
        "columns": [name for name, use in zip(names, used, strict=True) if use],
        "unused_columns": [name for name, use in zip(names, used, strict=True) if not use],
        "fill": fill[used].tolist(),
        "filled_share": float(missing[:, used].mean()),
        "sequences": len(rows),
        "sequences_left_out": int((~kept).sum()),
        "recordings_left_out": left_out,
        "remarks": remarks,
        "made": dict(chosen.about),
    }
    return SetRows(replace(rows, feature=value.astype(np.float32)), about)


def remarks_on(about: Mapping[str, Any]) -> list[str]:
    """Say what a feature set left out, for the terminal and the report."""
    found = []
    if left_out := about["recordings_left_out"]:
        first = next(iter(left_out.values()))
        found.append(
            f"{plural(len(left_out), 'recording')} without usable features "
            f"{'takes' if len(left_out) == 1 else 'take'} no part: "
            f"{some(sorted(left_out))}; the first: {first.rstrip('.')}"
        )
    if n := about["sequences_left_out"]:
        found.append(
            f"{plural(n, 'sequence')} that the set does not wholly describe "
            f"{'takes' if n == 1 else 'take'} no part; every score here is on the others"
        )
    if unused := about["unused_columns"]:
        found.append(f"columns without a value in training are left out: {some(unused)}")
    if about["filled_share"] > 0:
        found.append(
            f"{100 * about['filled_share']:.2g} % of the values are missing and were set to the "
            "training mean of their column"
        )
    return [*found, *about["remarks"][:3]]


def _require_rows(
    features: Features, kept: NDArray[np.bool_], refused: Mapping[str, str], chosen: FeatureSet
) -> None:
    for split, name in (("train", "training"), ("validation", "validation")):
        of_split = features.split == split
        if not (kept & of_split).any():
            mine = set(features.recording[of_split].tolist())
            why = next((text for key, text in refused.items() if key in mine), "")
            raise FeatureError(
                f"The feature set '{chosen.name}' describes none of the {int(of_split.sum())} "
                f"{name} sequences. Expected a file with a row for each segment; make the set for "
                f"all recordings. {why}".rstrip()
            )


def _left_out(
    features: Features, kept: NDArray[np.bool_], refused: Mapping[str, str]
) -> dict[str, str]:
    """Give the reason for each recording of which no sequence takes part."""
    whole = set(features.recording.tolist()) - set(features.recording[kept].tolist())
    return {
        name: refused.get(name, "no sequence has a value in each of its segments")
        for name in sorted(whole)
    }
