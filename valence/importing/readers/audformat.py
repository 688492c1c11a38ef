"""Read databases in audformat: a header `db.yaml`, and tables as CSV or Parquet beside it.

The form is described in audformat's documentation (audeering/audformat, docs/data-header.rst and
docs/data-tables.rst). A reader of the product's own is used because audformat's reads the Parquet
file although a CSV beside it was edited, and then overwrites the edit.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from valence.config import Target
from valence.corpus.csv_tables import is_missing
from valence.corpus.muse import Partition
from valence.errors import AnnotationError, CorpusError
from valence.importing.declaration import LabelsForm
from valence.importing.readers.audformat_tables import Row, read_header, read_rows
from valence.importing.readers.identity import recording_id
from valence.importing.readers.table import target_of
from valence.importing.readers.trace import Trace
from valence.storage.filenames import bare, normal
from valence.storage.location import Location

_PARTITIONS: dict[str, Partition] = {"train": "train", "dev": "devel", "test": "test"}
_SPEAKER = ("speaker", "subject", "speaker_id", "subject_id")
_SLACK = 1e-4
# No scale reaches further, and its length can be computed.
_MOST = 1e9


@dataclass(frozen=True)
class Facts:
    """What a database says of its files beside labels.

    Attributes
    ----------
    audio
        The path of each recording's file below the database, by Id.
    subjects
        The speaker of each recording that has one.
    partition
        The partition of each recording that has one.
    """

    audio: Mapping[str, str]
    subjects: Mapping[str, str]
    partition: Mapping[str, Partition]


def read_audformat_traces(file: Location, form: LabelsForm) -> Iterator[Trace]:
    """Read the traces of a database.

    Parameters
    ----------
    file
        The header, `db.yaml`.
    form
        `tables` names the tables to read; `targets` names the columns or schemes; `scale`, if it is
        set, stands in place of the schemes' minimum and maximum.

    Raises
    ------
    CorpusError
        If the header or a table cannot be read, a CSV and a Parquet file of a table differ, no
        column has a target's name, a scheme states no scale, or a value leaves it.
    """
    header = read_header(file)
    ids = _ids(file, header)
    found = False
    for table, columns in _tables(header, form):
        chosen = {
            name: target
            for name, about in columns.items()
            if (target := _target(form, name, about)) is not None
        }
        if not chosen:
            continue
        found = True
        rows = read_rows(file, header, table)
        _require_columns(rows, table, chosen)
        for name, target in chosen.items():
            rater = columns[name].get("rater_id")
            rater = None if rater is None else str(rater)
            yield from _traces(file, header, form, rows, ids, name, columns[name], target, rater)
    if not found:
        raise AnnotationError(
            f"'{file}' has no table with a column or a scheme called "
            f"{' or '.join(form.targets)}. Expected one; name it in a declaration (labels.targets)."
        )


def read_facts(file: Location) -> Facts:
    """Read what a database says of its files beside labels.

    Raises
    ------
    CorpusError
        If the header or a table cannot be read, or a file has two speakers or partitions.
    """
    header = read_header(file)
    ids = _ids(file, header)
    subjects: dict[str, str] = {}
    partition: dict[str, Partition] = {}
    splits = header["splits"]
    for table, about in header["tables"].items():
        columns = about["columns"]
        named = [
            name
            for name, column in columns.items()
            if name in _SPEAKER or column.get("scheme_id") in _SPEAKER
        ]
        split = splits.get(str(about.get("split_id")), {}).get("type")
        if not named and split not in _PARTITIONS:
            continue
        for row in read_rows(file, header, table):
            recording = ids[row.file]
            if split in _PARTITIONS:
                _put(partition, recording, _PARTITIONS[split], row.place, "partition")
            for name in named[:1]:
                if not is_missing(str(row.cells.get(name) or "")):
                    _put(subjects, recording, str(row.cells[name]), row.place, "speaker")
    return Facts({recording: path for path, recording in ids.items()}, subjects, partition)


def _put(known: dict[str, Any], recording: str, value: str, place: str, what: str) -> None:
    if known.setdefault(recording, value) != value:
        raise CorpusError(
            f"{place}: '{recording}' has the {what} '{value}', and '{known[recording]}' before. "
            "Expected one for each file; correct one of the two."
        )


def is_audformat(file: Location) -> bool:
    """Tell whether a file is the header of a database with tables."""
    try:
        return bool(read_header(file).get("tables"))
    except AnnotationError:
        return False


def _tables(
    header: Mapping[str, Any], form: LabelsForm
) -> Iterator[tuple[str, Mapping[str, Mapping[str, Any]]]]:
    for name, about in header["tables"].items():
        if not form.tables or name in form.tables:
            yield name, about["columns"]


def _target(form: LabelsForm, name: str, about: Mapping[str, Any]) -> Target | None:
    """Find the target of a column by its name, else by its scheme."""
    return target_of({"target": name}, form) or target_of(
        {"target": str(about.get("scheme_id", ""))}, form
    )


def _ids(file: Location, header: Mapping[str, Any]) -> dict[str, str]:
    """Make the Id of each file: its bare name, or its path where bare names are not distinct."""
    paths = sorted(
        {row.file for table in header["tables"] for row in read_rows(file, header, table)}
    )
    names = {path: bare(normal(path)) for path in paths}
    if len(set(names.values())) < len(names):
        names = {path: normal(path).replace("/", "_") for path in paths}
    return {path: recording_id(name, file) for path, name in names.items()}


def _require_columns(rows: tuple[Row, ...], table: str, names: Iterable[str]) -> None:
    """Refuse a table that lacks a column which the header gives it."""
    for row in rows[:1]:
        if lacking := [name for name in names if name not in row.cells]:
            raise AnnotationError(
                f"{row.place}: the table {table} has the columns {', '.join(row.cells) or '(none)'}"
                f", and none is called '{lacking[0]}'. Expected it, because the header names it; "
                "correct one of the two."
            )


def _traces(
    file: Location,
    header: Mapping[str, Any],
    form: LabelsForm,
    rows: tuple[Row, ...],
    ids: Mapping[str, str],
    name: str,
    column: Mapping[str, Any],
    target: Target,
    rater: str | None,
) -> Iterator[Trace]:
    """Read a column of a table, a trace for each file."""
    low, high = _scale(file, header, form, target, column)
    by_file: dict[str, list[Row]] = {}
    for row in rows:
        by_file.setdefault(row.file, []).append(row)
    for path, of_file in by_file.items():
        ordered = sorted(of_file, key=lambda row: row.start)
        yield Trace(
            id=ids[path],
            target=target,
            rater=None if rater is None or rater in form.gold else rater,
            start=np.array([row.start for row in ordered]) - form.delay,
            end=np.array([row.end for row in ordered]) - form.delay,
            value=np.array([_value(row, name, low, high) for row in ordered]),
            scale=(low, high),
            file=file,
        )


def _scale(
    file: Location,
    header: Mapping[str, Any],
    form: LabelsForm,
    target: Target,
    column: Mapping[str, Any],
) -> tuple[float, float]:
    if "scale" in form.model_fields_set:
        scale = form.scale
        ends = scale.get(target, (-1.0, 1.0)) if isinstance(scale, Mapping) else scale
        if not isinstance(ends[0], str):
            return float(ends[0]), float(ends[1])
    scheme = header["schemes"].get(str(column.get("scheme_id")), {})
    low, high = scheme.get("minimum"), scheme.get("maximum")
    if not (_is_number(low) and _is_number(high) and low < high):
        raise AnnotationError(
            f"'{file}': the scheme of {target} states the minimum {reprlib.repr(low)} and "
            f"the maximum {reprlib.repr(high)}. Expected two numbers that ascend; add them, or "
            "state the scale (--declare 'labels.scale=[LOW,HIGH]')."
        )
    return float(low), float(high)


def _is_number(found: Any) -> bool:
    """Tell whether a header states a number that a scale can end at."""
    plain = isinstance(found, int | float) and not isinstance(found, bool)
    return plain and abs(found) <= _MOST


def _value(row: Row, name: str, low: float, high: float) -> float:
    cell = row.cells.get(name)
    if cell is None or is_missing(str(cell)):
        return math.nan
    try:
        number = float(cell)
    except ValueError:
        number = math.inf
    slack = _SLACK * (high - low)
    if not low - slack <= number <= high + slack:
        raise AnnotationError(
            f"{row.place}: {name} is '{cell}'. Expected a number from {low:g} to {high:g}, as its "
            "scheme states; correct that row or the scheme."
        )
    return min(max(number, low), high)
