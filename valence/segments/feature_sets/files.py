"""Read and write one file of a feature set: a row every 500 ms, a column for each feature.

A file that begins at 0 names the start of each segment, and one that begins at 500 its end, like a
label file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from valence.errors import FeatureError
from valence.formatting import plural
from valence.segments.feature_sets.cells import Cells, read_cells, read_names
from valence.storage.location import Location
from valence.storage.seal import SealError, read_sealed, write_sealed

Stamps = Literal["start", "end"]

SUFFIXES = (".csv", ".parquet")
"""Endings of the files of a set."""

_MOST_FLOAT32 = float(np.finfo(np.float32).max)
_MOST_MS = 2**52
_ORIGIN = "valence"


@dataclass(frozen=True)
class FeatureRows:
    """The rows of one file, in order of time.

    Attributes
    ----------
    columns
        Names of the features, in the order of the file.
    segment
        Number of the segment that each row describes, int64 `[rows]`, ascending.
    value
        Features, float32 `[rows, features]`; NaN where a cell is empty.
    remarks
        Oddities of the file that reading has corrected or accepted.
    stamps
        Whether a timestamp names the start or the end of its segment: the first one tells.
    """

    columns: tuple[str, ...]
    segment: NDArray[np.int64]
    value: NDArray[np.float32]
    remarks: tuple[str, ...] = ()
    stamps: Stamps = "start"


def read_columns(file: Location) -> tuple[str, ...]:
    """Read the names of a file's features.

    Raises
    ------
    FeatureError
        As `read_rows`.
    """
    return read_names(file)


def read_rows(file: Location, *, step_ms: int = 500, sparse: bool = False) -> FeatureRows:
    """Read a file of a set.

    Parameters
    ----------
    file
        CSV as `read_table` takes it, or Parquet.
    step_ms
        Milliseconds from one row to the next: the length of a segment.
    sparse
        Whether rows may be several steps apart, because each describes a sequence and its timestamp
        is the start of that.

    Raises
    ------
    FeatureError
        If the file cannot be read or holds no row; if a column is missing, nameless, occurs twice
        or holds text; if a row ends early; if a value is infinite or too large for float32; if a
        timestamp occurs twice; if rows are not `step_ms` apart; or if the first one is neither 0
        nor `step_ms` (0 if `sparse`). The message names the line.
    """
    cells = read_cells(file)
    if not len(cells.time):
        raise FeatureError(
            f"'{file}' has a header and no rows. Expected a row every {step_ms} ms; make the "
            "file again, or remove it if the recording has no features."
        )
    _refuse_large(file, cells)
    _refuse_fractions(file, cells, step_ms)
    remarks = []
    if np.any(np.diff(cells.time) < 0):
        cells = cells.chosen(np.argsort(cells.time, kind="stable"))
        remarks.append(f"'{file.name}' was not in order of time and has been sorted")
    _refuse_repeats(file, cells)
    if sparse:
        _refuse_off_grid(file, cells, step_ms)
        _refuse_late_begin(file, cells)
        segment = (cells.time // step_ms).astype(np.int64)
        return FeatureRows(cells.names, segment, cells.value.astype(np.float32), tuple(remarks))
    _refuse_other_steps(file, cells, step_ms)
    segment = ((cells.time - cells.time[0]) // step_ms).astype(np.int64)
    if gaps := int(segment[-1] + 1 - len(segment)):
        remarks.append(f"'{file.name}' lacks {plural(gaps, 'row')} between its first and last")
    value = cells.value.astype(np.float32)
    stamps: Stamps = "start" if cells.time[0] == 0 else "end"
    return FeatureRows(cells.names, segment, value, tuple(remarks), stamps)


def write_rows(
    file: Location,
    columns: Sequence[str],
    timestamp: NDArray[np.int64],
    value: NDArray[np.float32],
    *,
    made_of: str,
    remarks: Sequence[str] = (),
) -> None:
    """Write a file of a set as Parquet, atomically and sealed.

    Parameters
    ----------
    file
        File to write.
    columns
        Name of each feature.
    timestamp
        Start of each segment or sequence in ms, `[rows]`.
    value
        Features, `[rows, features]`, NaN where a feature could not be measured.
    made_of
        Fingerprint of all that the features depend on, for the file's metadata.
    remarks
        Oddities of the sound, for the metadata too.
    """
    table = pa.table(
        {"timestamp": timestamp}
        | {name: np.ascontiguousarray(value[:, place]) for place, name in enumerate(columns)}
    ).replace_schema_metadata({_ORIGIN: json.dumps({"made_of": made_of, "remarks": [*remarks]})})
    with file.writer() as target:
        write_sealed(target, table)


@dataclass(frozen=True)
class Origin:
    """What `write_rows` noted in a file: a fingerprint, the number of rows, and remarks."""

    made_of: str
    rows: int
    remarks: tuple[str, ...]


def read_origin(file: Location) -> Origin | None:
    """Read what `write_rows` noted; None if the file is absent, damaged or not its own."""
    try:
        with file.open() as source:
            table = read_sealed(source)
        noted = json.loads((table.schema.metadata or {})[_ORIGIN.encode()])
        return Origin(noted["made_of"], len(table), tuple(noted["remarks"]))
    except (FileNotFoundError, IsADirectoryError, SealError, KeyError, ValueError):
        return None


def _refuse_large(file: Location, cells: Cells) -> None:
    large = np.abs(cells.value) > _MOST_FLOAT32
    if not large.any():
        return
    row, column = (int(each) for each in np.argwhere(large)[0])
    raise FeatureError(
        f"'{file}', {cells.place(row)}: the value of '{cells.names[column]}' is "
        f"{cells.value[row, column]:g}. Expected a number that float32 holds, at most "
        f"{_MOST_FLOAT32:.2g}; leave the cell empty where there is no value."
    )


def _refuse_fractions(file: Location, cells: Cells, step_ms: int) -> None:
    """Refuse timestamps that are no whole milliseconds."""
    time = cells.time
    wrong = ~np.isfinite(time) | (np.abs(time) >= _MOST_MS)
    wrong |= np.where(wrong, 0.0, time) % 1 != 0
    if not wrong.any():
        return
    row = int(np.flatnonzero(wrong)[0])
    found = "is empty" if math.isnan(time[row]) else f"is {time[row]:g}"
    seconds = ""
    if np.isfinite(time).all() and np.abs(time).max() < step_ms * len(time):
        seconds = " If the file counts in seconds, multiply its timestamps by 1000."
    raise FeatureError(
        f"'{file}', {cells.place(row)}: the timestamp {found}. Expected whole milliseconds, "
        f"{step_ms} apart; correct or remove that row.{seconds}"
    )


def _refuse_repeats(file: Location, cells: Cells) -> None:
    again = np.flatnonzero(np.diff(cells.time) == 0)
    if again.size:
        row = int(again[0])
        raise FeatureError(
            f"'{file}', {cells.place(row + 1)}: the timestamp {cells.time[row]:.0f} ms was already "
            f"in {cells.place(row)}. Expected each once; remove one of the two."
        )


def _refuse_off_grid(file: Location, cells: Cells, step_ms: int) -> None:
    """Refuse starts of sequences that are no starts of segments."""
    wrong = np.flatnonzero((cells.time < 0) | (cells.time % step_ms != 0))
    if wrong.size:
        row = int(wrong[0])
        raise FeatureError(
            f"'{file}', {cells.place(row)}: the timestamp is {cells.time[row]:.0f} ms. Expected "
            f"the start of a sequence, a multiple of {step_ms} ms; make the features for the "
            "sequences of the run."
        )


def _refuse_late_begin(file: Location, cells: Cells) -> None:
    """Refuse sequences of which none begins at 0: their timestamps may name their ends."""
    if cells.time[0] != 0:
        raise FeatureError(
            f"'{file}', {cells.place(0)}: the first timestamp is {cells.time[0]:.0f} ms. Expected "
            "0, the start of the first sequence; write the start of each sequence, and a row with "
            "empty values where there are no features."
        )


def _refuse_other_steps(file: Location, cells: Cells, step_ms: int) -> None:
    """Refuse rows that lie on no grid of `step_ms`, or on one that begins elsewhere."""
    time, step = cells.time, np.diff(cells.time)
    wrong = np.flatnonzero(step != step_ms)
    gapped = bool(np.all(step % step_ms == 0)) and 2 * len(wrong) <= len(step)
    if wrong.size and not gapped:
        row, usual = int(wrong[0]), float(np.median(step))
        if usual < 10:
            remedy = "if the timestamps count seconds or rows, write them in milliseconds"
        elif usual < step_ms:
            remedy = f"write the mean of the rows in each {step_ms} ms"
        else:
            remedy = f"make the features with a row for each {step_ms} ms"
        raise FeatureError(
            f"'{file}', {cells.place(row + 1)}: the timestamp is {time[row + 1]:.0f} ms, after "
            f"{time[row]:.0f} ms; the rows are most often {usual:g} ms apart. Expected a row every "
            f"{step_ms} ms; {remedy}."
        )
    if time[0] not in (0, step_ms):
        raise FeatureError(
            f"'{file}', {cells.place(0)}: the first timestamp is {time[0]:.0f} ms. Expected 0 or "
            f"{step_ms}, the start or the end of the first segment; add the rows that are missing, "
            "with empty values, or give the times from the recording's beginning."
        )
