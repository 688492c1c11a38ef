"""Note the set of features that a training takes: its columns, files and standardisation.

The note lies in `RUN/train`. The files themselves stay in the corpus, so the note is what shows
later that one of them was changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from valence.audio.standardization import Standardizer
from valence.errors import FeatureError, ModelError
from valence.formatting import plural, some
from valence.model.network import FeatureInput
from valence.provenance import fingerprint
from valence.segments.feature_sets import FeatureSet, require_equal_stamps
from valence.segments.feature_sets.files import Stamps
from valence.segments.feature_sets.licence import licence_of
from valence.storage.kept_file import KeptFile
from valence.storage.location import Location
from valence.training.data.columns import ColumnMoments

NOTE_FILE = "input.json"
# 200 bytes for each of a million recordings.
_MOST_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class SetNote:
    """The set of features that a training takes.

    Attributes
    ----------
    set, columns
        Name of the set, and names of its features in the order of the model's inputs.
    files
        SHA-256 of the file of each recording of the run, by Id.
    segments
        Digest of the run's segments: these say which recordings are there, and which ones train.
    standardizer
        Standardisation fitted on the training recordings.
    remarks
        Facts about the set that a reader must know, such as missing values.
    licence
        The bond of the features in words, or None if none is known.
    stamps
        Whether timestamps name the start or the end of a segment.
    """

    set: str
    columns: tuple[str, ...]
    files: Mapping[str, str]
    segments: str
    standardizer: Standardizer
    remarks: tuple[str, ...] = ()
    licence: str | None = None
    stamps: Stamps = "start"

    @property
    def features(self) -> FeatureInput:
        """Return the set as a model's file states it."""
        made_of = {"set": self.set, "columns": list(self.columns), "files": dict(self.files)}
        return FeatureInput(self.set, self.columns, fingerprint(made_of), self.licence, self.stamps)

    def is_of(self, source: FeatureSet, files: Mapping[str, str], segments: str) -> bool:
        """Tell whether this is the note of these files and segments."""
        return (self.set, self.columns, dict(self.files), self.segments) == (
            source.name,
            source.columns,
            dict(files),
            segments,
        )

    def write(self, folder: Location) -> None:
        """Write the note into `RUN/train`."""
        content = {
            "set": self.set,
            "columns": list(self.columns),
            "files": dict(self.files),
            "segments": self.segments,
            "standardizer": self.standardizer.to_json(),
            "remarks": list(self.remarks),
            "licence": self.licence,
            "stamps": self.stamps,
        }
        (folder / NOTE_FILE).write_json({**content, "digest": fingerprint(content)})

    @classmethod
    def read(cls, folder: Location, *, command: str) -> SetNote:
        """Read the note in `RUN/train`.

        Raises
        ------
        DamagedError
            If it is missing or damaged; `command` makes it again.
        """
        kept = KeptFile(
            folder / NOTE_FILE,
            "the note of the features that the training took",
            f"Run '{command}' to write it again.",
            most=_MOST_BYTES,
        )
        content = kept.table(
            {"set": str, "columns": list, "files": dict, "segments": str, "digest": str}
        )
        if content.pop("digest") != fingerprint(content):
            raise kept.damaged("its digest is not the one that it gives")
        try:
            return cls(
                content["set"],
                tuple(content["columns"]),
                content["files"],
                content["segments"],
                Standardizer.from_json(content["standardizer"]),
                tuple(content["remarks"]),
                content["licence"],
                content["stamps"],
            )
        except (KeyError, TypeError, ModelError) as error:
            raise kept.damaged(str(error)) from error


def digests_of(source: FeatureSet, recordings: Collection[str]) -> dict[str, str]:
    """Compute the SHA-256 of the file of each recording, by Id, sorted.

    Raises
    ------
    FeatureError
        If a recording has no file or two, or a file cannot be read.
    """
    lacking = sorted(name for name in recordings if not source.has(name))
    if lacking:
        raise FeatureError(
            f"The feature set '{source.name}' has no file for {len(lacking)} of "
            f"{plural(len(recordings), 'recording')}: {some(lacking)}. Expected "
            f"'{source.root}/<Id>.csv' or .parquet for each. Make the features for them too, or "
            "take these recordings out of the corpus and preprocess again."
        )
    return source.digests(recordings)


def differing(note: SetNote, source: FeatureSet, files: Mapping[str, str]) -> str | None:
    """Name the files that are not those of a note; None if all are the same.

    The result is a clause such as "'CORPUS/feature_segments/egemaps/a.csv' was changed".
    """
    clauses = [
        f"'{source.file(name)}' was changed"
        for name, sha256 in sorted(files.items())
        if note.files.get(name, sha256) != sha256
    ]
    clauses += [f"'{source.file(name)}' is new" for name in sorted({*files} - {*note.files})]
    clauses += [f"'{name}' takes no part any more" for name in sorted({*note.files} - {*files})]
    if not clauses and set(note.columns) != set(source.columns):
        clauses.append(f"'{source.root}' has other columns")
    if not clauses:
        return None
    more = f" (and {plural(len(clauses) - 1, 'file')} more)" if len(clauses) > 1 else ""
    return clauses[0] + more


def survey(
    source: FeatureSet, files: Mapping[str, str], recordings: pd.DataFrame, segments: str
) -> SetNote:
    """Read the features of every recording once, and fit their standardisation.

    Parameters
    ----------
    source
        The set.
    files
        The result of `digests_of` for all recordings.
    recordings
        Columns `Id, split, segments`, a row for each recording.
    segments
        Digest of the run's segments.

    Raises
    ------
    FeatureError
        If a file cannot be used, holds no value for its recording, or a column has no value in any
        training recording; or if files state different ends of segments.
    """
    moments = ColumnMoments.empty(len(source.columns))
    lengths = dict(zip(recordings["Id"], recordings["segments"], strict=True))
    splits = dict(zip(recordings["Id"], recordings["split"], strict=True))
    remarks: list[str] = []
    rows = cells = 0
    affected: list[str] = []
    stamps: dict[str, Stamps] = {}
    # The order of the Ids decides the last bit of the sums.
    for name in files:
        joined = source.joined(name, int(lengths[name]))
        values = joined.value
        stamps[name] = joined.stamps
        unknown = np.isnan(values)
        if unknown.all():
            raise FeatureError(
                f"'{source.file(name)}' holds no value for any of {len(values)} segments. Expected "
                f"the features of '{name}'. Make the file again, or take the recording "
                "out of the corpus and preprocess again."
            )
        whole = unknown.all(axis=1)
        rows += int(whole.sum())
        cells += int(unknown[~whole].sum())
        if unknown.any():
            affected.append(name)
        remarks += joined.remarks
        if splits[name] == "train":
            moments = moments.merge(ColumnMoments.of(values))
    require_equal_stamps(source.name, stamps)
    _refuse_unknown_columns(source, moments)
    licence = licence_of(source.columns, source.about)
    if licence is not None:
        remarks.insert(0, f"licence of the features '{source.name}': {licence}")
    return SetNote(
        source.name,
        source.columns,
        dict(files),
        segments,
        moments.standardizer(),
        (*_remarks(source, moments, rows, cells, affected), *remarks),
        licence,
        next(iter(stamps.values())),
    )


def _refuse_unknown_columns(source: FeatureSet, moments: ColumnMoments) -> None:
    unknown = [source.columns[k] for k in np.flatnonzero(moments.count == 0)]
    if unknown:
        raise FeatureError(
            f"The feature set '{source.name}' has no value in any training recording for "
            f"{len(unknown)} of {plural(len(source.columns), 'column')}: {some(unknown)}. Expected "
            "values to standardise them by. Remove these columns from the files."
        )


def _remarks(
    source: FeatureSet, moments: ColumnMoments, rows: int, cells: int, affected: list[str]
) -> list[str]:
    remarks = []
    if rows or cells:
        parts = [plural(rows, "segment") + " without any value"] if rows else []
        parts += [plural(cells, "single value") + " missing"] if cells else []
        remarks.append(
            f"the feature set '{source.name}' has {' and '.join(parts)}, in {some(affected)}: the "
            "model sees the training's mean there"
        )
    constant = [source.columns[k] for k in np.flatnonzero(moments.constant)]
    if constant:
        remarks.append(
            f"the feature set '{source.name}' has {plural(len(constant), 'column')} with one value "
            f"throughout the training recordings: {some(constant)}"
        )
    return remarks
