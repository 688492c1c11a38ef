"""Read the numbers of one file of a feature set, CSV or Parquet, and find its columns.

The columns are `timestamp` [ms] and the features; `segment_id` and Ids of people may stand beside
them and are no features.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from valence.corpus.csv_tables import Table, columns_of, plain, read_numbers, read_table
from valence.errors import FeatureError, first_line
from valence.formatting import plural
from valence.storage.location import Location, is_address

_TIME = "timestamp"
# Columns beside the features, in the form that `plain` gives.
_NO_FEATURES = {"segmentid", "subjectid", "subjid", "recordingid", "id"}
# Columns that are no features and would be taken for some: labels, and times.
_LABELS = {"valence", "arousal", "physioarousal", "value", "label", "start", "end"}
# Names that pandas gives to an index that it wrote as a column.
_INDEX_NAMES = {"", "Unnamed: 0", "__index_level_0__"}
_MISSING = ["", "NaN", "nan", "NAN", "NA", "na", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL"]
_MARKS = (",", ";", "\t")
# A header is looked for here before the whole file is read; 10 000 names fit.
_HEAD_BYTES = 2**18


@dataclass(frozen=True)
class Cells:
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

    def chosen(self, order: NDArray[np.intp]) -> Cells:
        """Return the rows in another order."""
        return Cells(self.names, self.time[order], self.value[order], self.number[order], self.unit)


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


def read_names(file: Location) -> tuple[str, ...]:
    """Read the names of a file's features, from its header alone where its form is plain.

    Raises
    ------
    FeatureError
        As `read_cells`.
    """
    if file.suffix == ".parquet":
        return _header(file, _parquet(file, pq.read_schema).names).names
    head = _first_line(_content(file, most=_HEAD_BYTES))
    if head is not None and len(head) > 1:
        return _header(file, head).names
    return read_cells(file).names


def read_cells(file: Location) -> Cells:
    """Read the numbers of a file.

    Raises
    ------
    FeatureError
        If the file cannot be read; if a column is missing, nameless, occurs twice or holds text;
        or if a row ends early. The message names the line.
    """
    return _parquet_cells(file) if file.suffix == ".parquet" else _csv_cells(file)


def _csv_cells(file: Location) -> Cells:
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
    return Cells(header.names, time, value, lines, "line")


def _fast_cells(file: Location, content: bytes) -> Cells | None:
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
    return Cells(header.names, matrix[:, 0], matrix[:, 1:], lines, "line")


def _parquet_cells(file: Location) -> Cells:
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
    return Cells(header.names, numbers(header.time), value, rows, "row")


def _content(file: Location, *, most: int | None = None) -> bytes:
    """Read a file, or the whole lines among its first `most` bytes; all of it if there is none."""
    try:
        if most is not None:
            with file.open() as source:
                head = source.read(most)
            if end := max(head.rfind(b"\n"), head.rfind(b"\r")) + 1:
                return head[:end]
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
    labels = [name for name in chosen if plain(name) in _LABELS]
    if labels:
        raise FeatureError(
            f"'{file}' has a column '{labels[0]}' beside the features. Expected features alone: a "
            "label among them would predict itself, and a time is no feature. Remove the column, "
            "or give it a name that says which feature it is."
        )
    twice = sorted(name for name, count in Counter(chosen).items() if count > 1)
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
