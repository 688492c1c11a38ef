"""Read one file of a feature set: a row every 500 ms, a column for each feature, CSV or Parquet.

The columns are `timestamp` [ms] and the features; `segment_id` and Ids of people may stand beside
them and are no features. A file that begins at 0 names the start of each segment, and one that
begins at 500 its end, like a label file.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from valence.corpus.csv_tables import (
    Table,
    columns_of,
    plain,
    read_numbers,
    read_table,
)
from valence.errors import FeatureError, first_line
from valence.formatting import plural
from valence.storage.location import Location, is_address

SUFFIXES = (".csv", ".parquet")
"""Endings of the files of a set."""

_TIME = "timestamp"
# Columns beside the features, in the form that `plain` gives.
_NO_FEATURES = {"segmentid", "subjectid", "subjid", "recordingid", "id"}
# Names that pandas gives to an index that it wrote as a column.
_INDEX_NAMES = {"", "Unnamed: 0", "__index_level_0__"}
_MISSING = ["", "NaN", "nan", "NAN", "NA", "na", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL"]
_MARKS = (",", ";", "\t")
_MOST_FLOAT32 = float(np.finfo(np.float32).max)
_MOST_MS = 2**52


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
    """

    columns: tuple[str, ...]
    segment: NDArray[np.int64]
    value: NDArray[np.float32]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Cells:
    """The numbers of a file, in the order of its rows.

    Attributes
    ----------
    names
        Name of each feature.
    time
        Timestamps, float64 `[rows]`, as they stand.
    value
        Features, float64 `[rows, features]`.
    number
        Number of each row's line (CSV) or of the row itself (Parquet), int64 `[rows]`.
    unit
        `"line"` or `"row"`, for messages.
    """

    names: tuple[str, ...]
    time: NDArray[np.float64]
    value: NDArray[np.float64]
    number: NDArray[np.int64]
    unit: Literal["line", "row"]

    def place(self, row: int) -> str:
        """Name the place of a row in the file."""
        return f"{self.unit} {self.number[row]}"

    def chosen(self, order: NDArray[np.intp]) -> _Cells:
        """Return the rows in another order."""
        return _Cells(
            self.names, self.time[order], self.value[order], self.number[order], self.unit
        )


@dataclass(frozen=True)
class _Header:
    """Places of the columns in a file.

    Attributes
    ----------
    time
        Place of the timestamps.
    features
        Place of each feature.
    names
        Name of each feature.
    """

    time: int
    features: tuple[int, ...]
    names: tuple[str, ...]


def read_columns(file: Location) -> tuple[str, ...]:
    """Read the names of a file's features; a Parquet file gives them without its rows.

    Raises
    ------
    FeatureError
        As `read_rows`.
    """
    if file.suffix == ".parquet":
        schema = _parquet(file, pq.read_schema)
        return _header(file, schema.names).names
    head = _first_line(_content(file))
    if head is not None and len(head) > 1:
        return _header(file, head).names
    return read_rows(file).columns


def read_rows(file: Location, *, step_ms: int = 500, sparse: bool = False) -> FeatureRows:
    """Read a file of a set.

    Parameters
    ----------
    file
        CSV as `read_table` takes it, or Parquet.
    step_ms
        Milliseconds from one row to the next: the length of a segment.
    sparse
        Whether rows may be several steps apart and begin anywhere, because each describes a
        sequence and its timestamp is the start of that.

    Raises
    ------
    FeatureError
        If the file cannot be read or holds no row; if a column is missing, nameless, occurs twice
        or holds text; if a row ends early; if a value is infinite or too large for float32; if a
        timestamp occurs twice; if rows are not `step_ms` apart; or if the first one is neither 0
        nor `step_ms`. The message names the line.
    """
    cells = _parquet_cells(file) if file.suffix == ".parquet" else _csv_cells(file)
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
        segment = (cells.time // step_ms).astype(np.int64)
        return FeatureRows(cells.names, segment, cells.value.astype(np.float32), tuple(remarks))
    _refuse_other_steps(file, cells, step_ms)
    segment = ((cells.time - cells.time[0]) // step_ms).astype(np.int64)
    if gaps := int(segment[-1] + 1 - len(segment)):
        remarks.append(f"'{file.name}' lacks {plural(gaps, 'row')} between its first and last")
    return FeatureRows(cells.names, segment, cells.value.astype(np.float32), tuple(remarks))


def _csv_cells(file: Location) -> _Cells:
    """Read a CSV quickly if its form is plain, else carefully, cell by cell."""
    content = _content(file)
    fast = _fast_cells(file, content)
    if fast is not None:
        return fast
    table = read_table(file, FeatureError)
    if not table.rows:
        raise FeatureError(
            f"'{file}' is empty. Expected the columns timestamp [ms] and the features; make the "
            "file again, or remove it if the recording has no features."
        )
    header = _header(file, table.rows[0][1])
    _refuse_short_rows(table)
    rows = table.rows[1:]

    def numbers(column: int, name: str, expected: str) -> NDArray[np.float64]:
        found = read_numbers(table, rows, column, name, expected=expected, error=FeatureError)
        return np.fromiter(found, np.float64, len(rows))

    time = numbers(header.time, _TIME, "whole milliseconds")
    value = np.empty((len(rows), len(header.features)))
    for place, (column, name) in enumerate(zip(header.features, header.names, strict=True)):
        value[:, place] = numbers(column, f"value of '{name}'", "a number, or nothing")
    lines = np.array([line for line, _ in rows], np.int64)
    return _Cells(header.names, time, value, lines, "line")


def _fast_cells(file: Location, content: bytes) -> _Cells | None:
    """Read a CSV of a plain form by pyarrow; None if its form is another or a cell is odd."""
    names = _first_line(content)
    if names is None or len(names) < 2:
        return None
    header = _header(file, names)
    if len(set(names)) < len(names):
        # pyarrow takes columns by their names.
        return None
    wanted = [names[header.time], *header.names]
    try:
        table = pa_csv.read_csv(
            io.BytesIO(content.rstrip(b"\r\n")),
            parse_options=pa_csv.ParseOptions(delimiter=_mark(content), ignore_empty_lines=False),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(wanted, pa.float64()),
                include_columns=wanted,
                null_values=_MISSING,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None
    matrix = np.empty((table.num_rows, len(wanted)))
    for place, column in enumerate(table.columns):
        matrix[:, place] = column.to_numpy()
    empty = sum(column.null_count for column in table.columns)
    if np.isnan(matrix).sum() != empty or np.isinf(matrix).any() or np.isnan(matrix[:, 0]).any():
        # Text such as 'inf' is a number to pyarrow alone, and a blank line a row of empty cells.
        return None
    lines = np.arange(2, len(matrix) + 2)
    return _Cells(header.names, matrix[:, 0], matrix[:, 1:], lines, "line")


def _parquet_cells(file: Location) -> _Cells:
    table = _parquet(file, pq.read_table)
    header = _header(file, table.column_names)

    def numbers(column: int) -> NDArray[np.float64]:
        chosen = table.column(column)
        kind = chosen.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise FeatureError(
                f"'{file}' has the column '{table.column_names[column]}' of type {kind}. Expected "
                "numbers; write it as such, or leave it out."
            )
        found: NDArray[np.float64] = chosen.cast(pa.float64()).to_numpy()
        return found

    value = np.empty((table.num_rows, len(header.features)))
    for place, column in enumerate(header.features):
        value[:, place] = numbers(column)
    rows = np.arange(1, table.num_rows + 1)
    return _Cells(header.names, numbers(header.time), value, rows, "row")


def _content(file: Location) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise FeatureError(
            f"'{file}' cannot be read: {error}. Check that it is there and may be read."
        ) from error


def _parquet(file: Location, read: Callable[[io.BytesIO], Any]) -> Any:
    content = _content(file)
    if is_address(content):
        raise FeatureError(
            f"'{file}' holds the address of its content in place of it: the content was not "
            "fetched. Fetch it (git lfs pull, git annex get)."
        )
    try:
        return read(io.BytesIO(content))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FeatureError(
            f"'{file}' is no Parquet file that can be read: {first_line(error)}. Expected the "
            "columns timestamp [ms] and the features; make the file again."
        ) from error


def _first_line(content: bytes) -> list[str] | None:
    """Divide the first line of a CSV of a plain form into cells; None if its form is another."""
    line = re.split(rb"\r\n|\r|\n", content.removeprefix(b"\xef\xbb\xbf"), maxsplit=1)[0]
    mark = _mark(content)
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return None
    if mark is None or '"' in text or "\0" in text or text.startswith(("#", "sep=")):
        return None
    cells = [cell.strip() for cell in text.split(mark)]
    return cells if cells == text.split(mark) and cells[-1] else None


def _mark(content: bytes) -> str | None:
    """Return the one character that can divide the first line, or None if several can."""
    line = re.split(rb"\r\n|\r|\n", content, maxsplit=1)[0]
    found = [mark for mark in _MARKS if mark.encode() in line]
    return found[0] if len(found) == 1 else None


def _header(file: Location, names: Sequence[str]) -> _Header:
    """Find timestamps and features among the columns."""
    found = columns_of(names, [_TIME])
    if len(found) != 1:
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        count = "none is" if not found else f"{len(found)} are"
        raise FeatureError(
            f"'{file}' has the columns {shown} and {count} called 'timestamp'. Expected timestamp "
            "[ms] once, and the features; correct the header."
        )
    places = []
    for place, name in enumerate(names):
        if place == found[0] or plain(name) in _NO_FEATURES:
            continue
        # Pandas writes its index as first column without a name, and into Parquet as the last.
        if name in _INDEX_NAMES and (place == 0 or name):
            continue
        if not name:
            raise FeatureError(
                f"'{file}' has no name for column {place + 1}. Expected a name for each feature; "
                "add it to the header, or remove the column."
            )
        places.append(place)
    chosen = tuple(names[place] for place in places)
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    if twice:
        raise FeatureError(
            f"'{file}' has more than one column called '{twice[0]}'. Expected each feature once; "
            "rename or remove the others."
        )
    if not chosen:
        raise FeatureError(
            f"'{file}' has the columns {', '.join(names)}, and none is a feature. Expected "
            "timestamp [ms] and a column for each feature; make the file again."
        )
    return _Header(found[0], tuple(places), chosen)


def _refuse_short_rows(table: Table) -> None:
    width = len(table.rows[0][1])
    for line, cells in table.rows:
        if len(cells) < width:
            raise FeatureError(
                f"'{table.file}', line {line}: the row has {plural(len(cells), 'cell')}, and the "
                f"header has {width}. Expected one for each column, empty where there is no "
                "value; a file that ends so was cut off: make it again."
            )


def _refuse_large(file: Location, cells: _Cells) -> None:
    large = np.abs(cells.value) > _MOST_FLOAT32
    if not large.any():
        return
    row, column = (int(each) for each in np.argwhere(large)[0])
    raise FeatureError(
        f"'{file}', {cells.place(row)}: the value of '{cells.names[column]}' is "
        f"{cells.value[row, column]:g}. Expected a number that float32 holds, at most "
        f"{_MOST_FLOAT32:.2g}; leave the cell empty where there is no value."
    )


def _refuse_fractions(file: Location, cells: _Cells, step_ms: int) -> None:
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


def _refuse_repeats(file: Location, cells: _Cells) -> None:
    again = np.flatnonzero(np.diff(cells.time) == 0)
    if again.size:
        row = int(again[0])
        raise FeatureError(
            f"'{file}', {cells.place(row + 1)}: the timestamp {cells.time[row]:.0f} ms was already "
            f"in {cells.place(row)}. Expected each once; remove one of the two."
        )


def _refuse_off_grid(file: Location, cells: _Cells, step_ms: int) -> None:
    """Refuse starts of sequences that are no starts of segments."""
    wrong = np.flatnonzero((cells.time < 0) | (cells.time % step_ms != 0))
    if wrong.size:
        row = int(wrong[0])
        raise FeatureError(
            f"'{file}', {cells.place(row)}: the timestamp is {cells.time[row]:.0f} ms. Expected "
            f"the start of a sequence, a multiple of {step_ms} ms; make the features for the "
            "sequences of the run."
        )


def _refuse_other_steps(file: Location, cells: _Cells, step_ms: int) -> None:
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
