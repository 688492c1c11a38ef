"""Read the header of a database in audformat, and its tables from CSV or Parquet.

The form is described in audformat's documentation (audeering/audformat, docs/data-header.rst and
docs/data-tables.rst).
"""

from __future__ import annotations

import io
import math
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import yaml
from pyarrow import parquet

from valence.corpus.csv_tables import is_missing
from valence.errors import AnnotationError
from valence.importing.declaration import TableForm
from valence.importing.readers.columns import read_named_table
from valence.storage.location import Location

_TIME = re.compile(r"(?:(\d+) days? )?(\d+):(\d\d):(\d\d(?:\.\d+)?)", re.ASCII)


@dataclass(frozen=True)
class Row:
    """A row of a table: the file, the span in seconds, and the cells as texts or numbers."""

    place: str
    file: str
    start: float
    end: float
    cells: Mapping[str, Any]


def read_header(file: Location) -> Mapping[str, Any]:
    """Read `db.yaml`, with `schemes`, `splits`, `tables` and their `columns`, empty if absent.

    Raises
    ------
    AnnotationError
        If the file cannot be read, or one of these has another shape than audformat gives it.
    """
    try:
        header = yaml.safe_load(file.read_text())
        if not isinstance(header, dict):
            raise ValueError("it holds no keys")
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as cause:
        raise AnnotationError(
            f"'{file}' cannot be read as a header of audformat: {cause}. Expected YAML with "
            "schemes and tables; restore the file."
        ) from cause
    tables = _section(file, "tables", header.get("tables"))
    for name, about in tables.items():
        columns = _section(file, f"tables.{name}.columns", about.get("columns"))
        tables[name] = {**about, "columns": columns}
        _require_words(file, f"tables.{name}", about, ("type", "split_id"))
        for column, values in columns.items():
            _require_words(
                file, f"tables.{name}.columns.{column}", values, ("scheme_id", "rater_id")
            )
    sections = {name: _section(file, name, header.get(name)) for name in ("schemes", "splits")}
    for name, about in sections["splits"].items():
        _require_words(file, f"splits.{name}", about, ("type",))
    return {**header, **sections, "tables": tables}


def _section(file: Location, name: str, found: Any) -> dict[str, dict[str, Any]]:
    """Read a section of keys with keys below them; a section or key may be empty.

    Raises
    ------
    AnnotationError
        If the section has another form.
    """
    if found is None:
        return {}
    wrong = [] if isinstance(found, dict) else [(name, found)]
    wrong = wrong or [
        (f"{name}.{key}", about)
        for key, about in found.items()
        if not (about is None or isinstance(about, dict))
    ]
    if wrong:
        where, what = wrong[0]
        raise AnnotationError(
            f"'{file}': {where} is {reprlib.repr(what)}. Expected names with what is said of each "
            "below them, as audformat writes them; correct the header."
        )
    return {str(key): about or {} for key, about in found.items()}


def _require_words(
    file: Location, where: str, about: Mapping[str, Any], names: Sequence[str]
) -> None:
    """Refuse lists and keys where a single word stands in audformat."""
    for name in names:
        if isinstance(about.get(name), dict | list | set):
            raise AnnotationError(
                f"'{file}': {where}.{name} is {reprlib.repr(about[name])}. Expected one word; "
                "correct the header."
            )


def read_rows(file: Location, header: Mapping[str, Any], table: str) -> tuple[Row, ...]:
    """Read a table from its CSV or Parquet file; both must say the same."""
    plain = file.parent / f"{file.stem}.{table}.csv"
    packed = file.parent / f"{file.stem}.{table}.parquet"
    present = [each for each in (plain, packed) if each.is_named()]
    if not present:
        raise AnnotationError(
            f"'{file}' names the table {table}, and neither '{plain.name}' nor '{packed.name}' is "
            "beside it. Expected one; restore it, or save the database again as CSV."
        )
    segmented = header["tables"][table].get("type") == "segmented"
    read = [_read(each, segmented, _version(each)) for each in present]
    _require_spans(read[0])
    if len(read) == 2 and _content(read[0]) != _content(read[1]):
        raise AnnotationError(
            f"'{plain}' and '{packed.name}' hold different rows, so one of them was changed. "
            "Expected the same in both; remove the one that is out of date."
        )
    return read[0]


def _require_spans(rows: tuple[Row, ...]) -> None:
    """Refuse a span that ends before or where it begins; an empty end is that of the file."""
    for row in rows:
        if row.end <= row.start:
            raise AnnotationError(
                f"{row.place}: the span ends at {row.end:g} s and begins at {row.start:g} s. "
                "Expected an end after the begin; correct that row."
            )


def _content(rows: tuple[Row, ...]) -> list[tuple[str, float, float, tuple[tuple[str, str], ...]]]:
    """Reduce rows to what must be equal in two files of a table."""

    def cell(value: Any) -> str:
        if value is None or is_missing(str(value)):
            return ""
        try:
            return repr(round(float(value), 9))
        except ValueError:
            return str(value)

    return [
        (
            row.file,
            round(row.start, 6),
            round(row.end, 6),
            tuple(sorted((name, cell(value)) for name, value in row.cells.items())),
        )
        for row in rows
    ]


@lru_cache(maxsize=16)
def _read(file: Location, segmented: bool, info: str) -> tuple[Row, ...]:
    """Read a table once; `info`, its size and time, tells a changed file from the one before."""
    return tuple(
        _read_csv(file, segmented) if file.suffix == ".csv" else _read_parquet(file, segmented)
    )


def _read_csv(file: Location, segmented: bool) -> Iterator[Row]:
    table = read_named_table(file, TableForm(separator="comma"))
    where = table.column("file")
    ends = [table.column(name) for name in ("start", "end")] if segmented else []
    for line, cells in table.rows:
        place = f"'{file}', line {line}"
        start, end = (
            (_seconds(place, table.text(cells, column)) for column in ends or ())
            if ends
            else (0.0, math.inf)
        )
        yield Row(
            place,
            table.text(cells, where),
            0.0 if math.isnan(start) else start,
            math.inf if math.isnan(end) else end,
            {
                name: table.text(cells, column)
                for column, name in enumerate(table.names)
                if name not in ("file", "start", "end")
            },
        )


def _seconds(place: str, text: str) -> float:
    """Read a time as pandas writes it, such as `0 days 00:00:01.500000`."""
    if is_missing(text) or text == "NaT":
        return math.nan
    found = _TIME.fullmatch(text)
    if found is None:
        raise AnnotationError(
            f"{place}: the time is '{text}'. Expected the form '0 days 00:00:01.500000'; correct "
            "that line."
        )
    days, hours, minutes, seconds = (float(each or 0) for each in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _read_parquet(file: Location, segmented: bool) -> Iterator[Row]:
    try:
        table = parquet.read_table(io.BytesIO(file.read_bytes()))
    except (OSError, ValueError) as cause:
        raise AnnotationError(
            f"'{file}' cannot be read as Parquet: {cause}. Expected a table of audformat; restore "
            "it, or save the database again as CSV."
        ) from cause
    wanted = ["file", *(["start", "end"] if segmented else [])]
    if lacking := [name for name in wanted if name not in table.column_names]:
        raise AnnotationError(
            f"'{file}' has no column {lacking[0]}. Expected {', '.join(wanted)} in a table of this "
            "type; restore it."
        )
    spans = [_durations(file, table[name], name) for name in wanted[1:]]
    others = [name for name in table.column_names if name not in ("file", "start", "end")]
    cells = [table[name].to_pylist() for name in others]
    for number, path in enumerate(table["file"].to_pylist()):
        start, end = (span[number] for span in spans) if segmented else (0.0, math.inf)
        yield Row(
            f"'{file}', row {number + 1}",
            path,
            0.0 if math.isnan(start) else start,
            math.inf if math.isnan(end) else end,
            {name: column[number] for name, column in zip(others, cells, strict=True)},
        )


def _durations(file: Location, column: pa.ChunkedArray, name: str) -> list[float]:
    """Read durations in seconds, whatever their unit; NaN where there is none."""
    if not pa.types.is_duration(column.type):
        raise AnnotationError(
            f"'{file}' has the column {name} as {column.type}. Expected durations; save the "
            "database again as CSV."
        )
    # The unit follows the version of pandas that wrote the file.
    counts = column.cast(pa.duration("ns")).cast(pa.int64()).to_pylist()
    return [math.nan if each is None else each / 1e9 for each in counts]


def _version(file: Location) -> str:
    info = file.info()
    return f"{info.size} {info.mtime_ns}"
