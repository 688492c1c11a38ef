"""Find the feature sets of a corpus, and read a recording's features on the segment grid.

CORPUS/feature_segments/<set>/<Id>.csv (or .parquet)
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from valence.errors import FeatureError, UsageError
from valence.provenance import fingerprint
from valence.segments.feature_sets.files import SUFFIXES, read_columns, read_rows
from valence.storage.filenames import normal, printable
from valence.storage.location import Location
from valence.storage.manifest import digest_of

FOLDER = "feature_segments"
"""The folder of a corpus that holds its feature sets."""

# Features and audio that differ in length by more than this are joined with a remark.
_TOLERANCE_MS = 1000
_AT_ONCE = 8


@dataclass(frozen=True)
class FeatureSet:
    """A set of features made elsewhere: a row for each segment of each recording.

    Attributes
    ----------
    name
        Name of the set's folder.
    columns
        Names of the features, in the order of the set's first file.
    root
        The folder of the set, `CORPUS/feature_segments/<name>`.
    step_ms
        Milliseconds from one row to the next: the length of a segment.
    files
        Files by the Id of their recording, in composed Unicode form (NFC).
    """

    name: str
    columns: tuple[str, ...]
    root: Location
    step_ms: int = 500
    files: Mapping[str, tuple[Location, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def has(self, recording: str) -> bool:
        """Tell whether the set has a file for a recording."""
        return normal(recording) in self.files

    def read(self, recording: str, segments: int) -> NDArray[np.float32]:
        """Read the features of a recording's segments.

        Parameters
        ----------
        recording
            Id of the recording.
        segments
            Number of its segments.

        Returns
        -------
        float32 `[segments, features]`; NaN where the file has no row or an empty cell.

        Raises
        ------
        FeatureError
            If the set has no file for the recording or two, or the file cannot be used.
        """
        return self.joined(recording, segments)[0]

    def joined(self, recording: str, segments: int) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        """Read features like `read`, together with remarks on oddities of the file.

        A remark says that features and recording differ in length by more than a second.
        """
        file = self.file(recording)
        rows = read_rows(file, step_ms=self.step_ms)
        order = self._order(file, rows.columns)
        found = np.full((segments, len(self.columns)), np.nan, np.float32)
        inside = rows.segment < segments
        found[rows.segment[inside]] = rows.value[inside][:, order]
        excess_ms = (int(rows.segment[-1]) + 1 - segments) * self.step_ms
        if abs(excess_ms) <= _TOLERANCE_MS:
            return found, rows.remarks
        compared = "longer" if excess_ms > 0 else "shorter"
        remark = f"'{file.name}' is {abs(excess_ms) / 1000:g} s {compared} than the recording"
        return found, (*rows.remarks, remark)

    def file(self, recording: str) -> Location:
        """Return the file of a recording.

        Raises
        ------
        FeatureError
            If there is none, or more than one.
        """
        files = self.files.get(normal(recording), ())
        if not files:
            near = difflib.get_close_matches(normal(recording), list(self.files), n=1)
            hint = f" The nearest name there is '{near[0]}'." if near else ""
            raise FeatureError(
                f"The feature set '{self.name}' has no file for the recording '{recording}'.{hint} "
                f"Expected '{self.root}/{printable(recording)}.csv' or .parquet; make the features "
                "for it too."
            )
        if len(files) > 1:
            names = " and ".join(f"'{printable(file.name)}'" for file in files)
            raise FeatureError(
                f"The feature set '{self.name}' has {names} for the recording '{recording}'. "
                "Expected one file for each recording; remove the others."
            )
        return files[0]

    def digest(self, recordings: Iterable[str]) -> str:
        """Compute a fingerprint of the content of the files of some recordings."""
        chosen = sorted({name for name in map(normal, recordings) if name in self.files})
        files = [file for name in chosen for file in self.files[name]]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = dict(zip([file.name for file in files], pool.map(_digest, files), strict=True))
        return fingerprint({"files": found, "columns": self.columns, "step_ms": self.step_ms})

    def _order(self, file: Location, columns: tuple[str, ...]) -> list[int]:
        """Find each column of the set in a file, which may hold them in another order."""
        place = {name: number for number, name in enumerate(columns)}
        lacking = [name for name in self.columns if name not in place]
        surplus = [name for name in columns if name not in set(self.columns)]
        if lacking or surplus:
            which = f"lacks '{lacking[0]}'" if lacking else f"also has '{surplus[0]}'"
            raise FeatureError(
                f"'{file}' has {len(columns)} features and {which}; other files of the set "
                f"'{self.name}' have {len(self.columns)}. Expected the same columns in each; make "
                "the file again by the program that made the others."
            )
        return [place[name] for name in self.columns]


def open_set(corpus: Location, name: str, *, step_ms: int = 500) -> FeatureSet:
    """Open a feature set of a corpus; its folder is listed once, and one header is read.

    Raises
    ------
    UsageError
        If there is no such set; the message names the nearest.
    FeatureError
        If none of its files can be used.
    """
    known = list_sets(corpus)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        there = f"It has {', '.join(known)}." if known else f"It has no folder {FOLDER} with sets."
        raise UsageError(
            f"'{corpus}' has no feature set '{name}'.{hint} {there} Expected files "
            f"{FOLDER}/{name}/<Id>.csv with the columns timestamp and the features."
        )
    root = corpus / FOLDER / name
    files: dict[str, list[Location]] = defaultdict(list)
    for file in root.entries():
        if file.suffix in SUFFIXES:
            files[normal(file.stem)].append(file)
    columns = _columns([file for each in sorted(files) for file in files[each]])
    return FeatureSet(name, columns, root, step_ms, {key: tuple(v) for key, v in files.items()})


def list_sets(corpus: Location) -> list[str]:
    """List the names of the feature sets of a corpus: folders that hold a CSV or Parquet file."""
    folder = corpus / FOLDER
    if not folder.is_folder():
        return []
    return [
        entry.name
        for entry in folder.everything()
        if not entry.name.startswith(".")
        and entry.is_folder()
        and any(file.suffix in SUFFIXES for file in entry.entries())
    ]


def _columns(files: list[Location]) -> tuple[str, ...]:
    """Read the columns of the first file whose header can be used."""
    errors = []
    for file in files:
        try:
            return read_columns(file)
        except FeatureError as error:
            errors.append(error)
    raise errors[0]


def _digest(file: Location) -> str:
    try:
        return digest_of(file)
    except OSError as error:
        raise FeatureError(
            f"'{file}' cannot be read: {error}. Check that it is there and may be read."
        ) from error
