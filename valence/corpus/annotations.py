"""Label files: valence or arousal every 500 ms, joined to the segments of a recording.

A timestamp names the start of its segment where a file begins at 0, and the end of its segment
where it begins at 500, which MuSe's files do. Row i labels segment i in both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from valence.corpus.csv_tables import (
    Row,
    Table,
    cell_at,
    columns_of,
    is_missing,
    read_numbers,
    read_table,
)
from valence.errors import AnnotationError
from valence.storage.location import Location

STEP_MS = 500
"""Milliseconds between two labels."""

# Labels and audio that differ by more than this are joined, and the difference is told.
_TOLERANCE_MS = 1000
_MOST_FLOAT32 = float(np.finfo(np.float32).max)
_WHOLE = {"0", "-0", "1", "-1"}
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
# What may stand behind a comma that divides a number, or be a number of its own.
_REST = re.compile(r"[+-]?\d+(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
# A hundred thousand years: what is beyond is no time.
_MOST_MS = 2**52


@dataclass(frozen=True)
class Annotation:
    """One label file, in order of time.

    Attributes
    ----------
    timestamp
        Milliseconds, int64 `[n]`, `step_ms` apart, the first 0 or `step_ms`; `stamps` says which
        end of its segment each names.
    value
        float32 `[n]`, on the scale of [-1, 1], NaN where the file has none.
    remarks
        What was odd and has been put right.
    step_ms
        Milliseconds between two labels.
    """

    timestamp: NDArray[np.int64]
    value: NDArray[np.float32]
    remarks: tuple[str, ...] = ()
    step_ms: int = STEP_MS

    @property
    def labelled(self) -> int:
        """How many values are known."""
        return int(np.isfinite(self.value).sum())

    @property
    def stamps(self) -> Literal["start", "end"] | None:
        """Which end of its segment a timestamp names; None where there is no row."""
        if not self.timestamp.size:
            return None
        return "start" if self.timestamp[0] == 0 else "end"


def read_annotation(
    file: Location, *, step_ms: int = STEP_MS, scale: tuple[float, float] | None = None
) -> Annotation:
    """Read a label file: columns `timestamp` [ms] and `value`, found by name in any order.

    Parameters
    ----------
    file
        CSV as `read_table` reads it. Further columns (`segment_id`, `subject_id`) are ignored.
    step_ms
        Milliseconds that one label covers: the length of a segment.
    scale
        The lowest and the highest value of the labels' own scale, which go to -1 and 1; None where
        they are on that scale already.

    Returns
    -------
    The labels sorted by timestamp. Empty values and NaN become NaN; a file of a header alone gives
    an annotation without rows.

    Raises
    ------
    AnnotationError
        If the file cannot be read, a column is missing or there twice, a row has more cells than
        the header, a cell holds text, an infinite value or one that float32 cannot hold or that
        lies outside `scale`, a timestamp comes twice, two are not `step_ms` apart, or the first is
        neither 0 nor `step_ms`. The message names the line.
    """
    table, rows, columns = _read_rows(file)
    remarks = []
    if not rows:
        remarks.append(f"'{_short(file)}' has a header and no rows")
    if short := [line for line, cells in rows if len(cells) <= columns["value"]]:
        remarks.append(
            f"'{_short(file)}' has no value in {len(short)} rows that end early (the first is line "
            f"{short[0]}); they count as not labelled"
        )
    line = np.array([number for number, _ in rows], np.int64)
    timestamp = _timestamps(table, rows, columns["timestamp"], step_ms)
    value = _values(table, rows, columns["value"], scale)
    if np.any(np.diff(timestamp) < 0):
        order = np.argsort(timestamp, kind="stable")
        line, timestamp, value = line[order], timestamp[order], value[order]
        remarks.append(f"'{_short(file)}' was not in order of time and has been sorted")
    _check_times(file, line, timestamp, step_ms)
    known = value[np.isfinite(value)]
    if known.size and np.abs(known).max() > 1:
        remarks.append(
            f"'{_short(file)}' has values from {known.min():g} to {known.max():g}, outside "
            "[-1, 1]; if they are of another scale, state its ends: labels.range = [lowest, "
            "highest] in a configuration, --labels-range LOWEST HIGHEST with predict"
        )
    return Annotation(timestamp, value, tuple(remarks), step_ms)


def join_annotation(
    annotation: Annotation, n_segments: int
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Labels of the segments of a recording: row i labels segment i.

    Returns
    -------
    Labels float32 `[n_segments]`, NaN for segments beyond the last label, and the annotation's
    remarks, with one more if labels and audio differ by more than a second.

    >>> annotation = Annotation(np.array([0, 500]), np.array([0.1, 0.3], np.float32))
    >>> join_annotation(annotation, 3)[0].round(1).tolist()
    [0.10000000149011612, 0.30000001192092896, nan]
    """
    shared = min(len(annotation.value), n_segments)
    labels = np.full(n_segments, np.nan, np.float32)
    labels[:shared] = annotation.value[:shared]
    excess_ms = (len(annotation.value) - n_segments) * annotation.step_ms
    if abs(excess_ms) <= _TOLERANCE_MS:
        return labels, annotation.remarks
    compared = "longer" if excess_ms > 0 else "shorter"
    remark = (
        f"the labels are {abs(excess_ms) / 1000:g} s {compared} than the audio; the first "
        f"{shared * annotation.step_ms / 1000:g} s are joined"
    )
    return labels, (*annotation.remarks, remark)


def _read_rows(file: Location) -> tuple[Table, Sequence[Row], Mapping[str, int]]:
    table = read_table(file, AnnotationError)
    if not table.rows:
        raise AnnotationError(
            f"'{file}' is empty. Expected a CSV with the columns timestamp [ms] and value; restore "
            "it, or delete it if the recording has no labels."
        )
    (first, header), *rows = table.rows
    if table.comments and not columns_of(header, ["timestamp"]):
        # Some programs write the header as a comment: '# timestamp,value'.
        for line, cells in table.comments:
            named = [cells[0].lstrip("# "), *cells[1:]]
            if line < first and columns_of(named, ["timestamp"]):
                header, rows = named, list(table.rows)
                _refuse_long_rows(table, header, rows)
    columns = {}
    for name in ("timestamp", "value"):
        found = columns_of(header, [name])
        if not found:
            raise AnnotationError(
                f"'{file}' has the columns {', '.join(header)} and none is called '{name}'. "
                f"Expected timestamp [ms] and value, in any order; correct the header in line "
                f"{first}."
            )
        if len(found) > 1:
            raise AnnotationError(
                f"'{file}', line {first}: {len(found)} columns are called '{name}'. Expected one; "
                "rename the others."
            )
        columns[name] = found[0]
    if table.delimiter == ",":
        # A comma divides no number in a file whose values have a decimal point.
        pointed = any("." in cell_at(cells, columns["value"]) for _, cells in rows)
        _refuse_split_numbers(table, rows, columns["value"], pointed=pointed)
        # The timestamps are looked at themselves.
        if not pointed and columns["timestamp"] != columns["value"] + 1:
            _refuse_small_fractions(table, rows, columns["value"])
            _refuse_scattered_fractions(table, header, rows, columns["value"])
    for line, cells in rows:
        if len(cells) <= columns["value"] and sum(map(bool, cells)) > 1:
            raise AnnotationError(
                f"'{file}', line {line}: '{table.text(cells)}' has {len(cells)} cells, and the "
                f"header has {len(header)}. Expected one for each column, empty where there is no "
                "label; correct that line."
            )
    return table, rows, columns


def _refuse_long_rows(table: Table, header: Sequence[str], rows: Sequence[Row]) -> None:
    """Refuse rows of more cells than a header that was written as a comment."""
    for line, cells in rows:
        # A row is cut where the first one ends, which may have an empty cell at its end.
        filled = max((place for place, cell in enumerate(cells, 1) if cell), default=0)
        if filled > len(header):
            raise AnnotationError(
                f"'{table.file}', line {line}: '{table.text(cells)}' has {filled} filled cells, "
                f"and the header has {len(header)}. Expected no more than there; correct that "
                "line. If its numbers have a decimal comma, write a point."
            )


def _refuse_split_numbers(table: Table, rows: Sequence[Row], column: int, *, pointed: bool) -> None:
    """Refuse `-0,25` and `0,05` that lie in two cells because commas divide the file.

    Where the header has a further column behind the value, no row is too long for it. A zero with
    a sign, or digits that begin with 0, show that the cell behind is the rest of a number; where
    other values are `pointed`, such digits are an Id.
    """
    for line, cells in rows:
        whole, rest = cell_at(cells, column), cell_at(cells, column + 1)
        if whole not in _WHOLE or not rest.isdigit():
            continue
        if whole == "-0" or (rest[0] == "0" and len(rest) > 1 and not pointed):
            raise AnnotationError(
                f"'{table.file}', line {line}: '{table.text(cells)}' seems to hold the number "
                f"{whole},{rest} in two cells. Expected a decimal point, since commas stand "
                "between cells; write it so, or put another column behind the value."
            )


def _refuse_small_fractions(table: Table, rows: Sequence[Row], column: int) -> None:
    """Refuse `0,1963` in two cells, in whatever order the cells behind the zeros are.

    Labels in [-1, 1] with a decimal comma are a zero before the comma, or ±1 and zeros behind it.
    Whole labels beside Ids look the same only where all that have an Id are 0, and then a
    decimal point (`0.0`) settles what they are.
    """
    split = [row for row in rows if _is_split(row[1], column)]
    wholes = [cell_at(cells, column).lstrip("+-") for _, cells in split]
    rests = [cell_at(cells, column + 1) for _, cells in split]
    fractions = [bool(rest.strip("0")) for rest in rests]
    zeros = [not whole.strip("0") for whole in wholes]
    small = [
        zero or (whole == "1" and not fraction)
        for zero, whole, fraction in zip(zeros, wholes, fractions, strict=True)
    ]
    if split and all(small) and (all(zeros) or any(fractions)):
        line, cells = split[0]
        raise AnnotationError(
            f"'{table.file}', line {line}: '{table.text(cells)}' may hold the number "
            f"{cell_at(cells, column)},{cell_at(cells, column + 1)} in two cells, and all rows "
            "with a number behind the value are like it. Expected a decimal point in the values, "
            "since commas stand between cells; write 0.0 where a value is 0, or put another "
            "column behind the value."
        )


def _is_split(cells: Sequence[str], column: int) -> bool:
    """Whether a value and the cell behind it may be the two parts of one number."""
    whole, rest = cell_at(cells, column), cell_at(cells, column + 1)
    return bool(_INTEGER.fullmatch(whole) and _REST.fullmatch(rest))


def _refuse_scattered_fractions(
    table: Table, header: Sequence[str], rows: Sequence[Row], column: int
) -> None:
    """Refuse `3,25` under `value,segment_id` or `1,5` under `value,comment`: whole, then numbers.

    Ids of segments count upwards and an Id of a subject is the same in every row, so numbers that
    go up and down behind values without a fraction are the fractions; a value that has no fraction
    has no number behind it. Behind a column that is no Id's, the values must look like parts of
    numbers in [-1, 1] too: there a rating of 1 to 7 may well stand beside a number in no order.
    """
    name = cell_at(header, column + 1)
    split = [row for row in rows if _is_split(row[1], column)]
    others = [
        (cell_at(cells, column), cell_at(cells, column + 1))
        for _, cells in rows
        if not _is_split(cells, column)
    ]
    if any(rest and not is_missing(whole) for whole, rest in others):
        return
    wholes = [cell_at(cells, column) for _, cells in split]
    if not name.lower().endswith("id") and not all(whole in _WHOLE for whole in wholes):
        return
    # An Id has no exponent, and a fraction may.
    rests = [cell_at(cells, column + 1) for _, cells in split]
    numbers = [int(rest) for rest in rests if _INTEGER.fullmatch(rest)]
    if len(numbers) == len(rests) and numbers == sorted(numbers):
        return
    line, cells = split[0]
    raise AnnotationError(
        f"'{table.file}', line {line}: in '{table.text(cells)}' and the rows after it all "
        f"values are whole numbers, and the numbers behind them ({name}) are in no order, so a "
        "decimal comma seems to divide each value. Expected a decimal point; write it so, or "
        "put another column behind the value."
    )


def _timestamps(table: Table, rows: Sequence[Row], column: int, step_ms: int) -> NDArray[np.int64]:
    expected = "whole milliseconds"
    numbers = list(
        read_numbers(table, rows, column, "timestamp", expected=expected, error=AnnotationError)
    )
    for (line, cells), number in zip(rows, numbers, strict=True):
        if number.is_integer() and abs(number) < _MOST_MS:
            continue
        seconds = ""
        if all(math.isfinite(each) and abs(each) < step_ms * len(rows) for each in numbers):
            seconds = " If the file counts in seconds, multiply its timestamps by 1000."
        raise AnnotationError(
            f"'{table.file}', line {line}: the timestamp is '{cell_at(cells, column)}'. Expected "
            f"{expected}, {step_ms} apart; correct or remove that line.{seconds}"
        )
    return np.array(numbers, np.float64).astype(np.int64)


def _values(
    table: Table, rows: Sequence[Row], column: int, scale: tuple[float, float] | None
) -> NDArray[np.float32]:
    expected = "a number, or nothing where there is no label"
    numbers = list(
        read_numbers(table, rows, column, "value", expected=expected, error=AnnotationError)
    )
    low, high = scale or (-_MOST_FLOAT32, _MOST_FLOAT32)
    for (line, cells), number in zip(rows, numbers, strict=True):
        if number < low or number > high:
            wanted = f"a number of labels.range = [{low:g}, {high:g}]"
            if scale is None:
                wanted = f"a number that float32 holds, at most {_MOST_FLOAT32:.2g}"
            raise AnnotationError(
                f"'{table.file}', line {line}: the value is '{cell_at(cells, column)}'. Expected "
                f"{wanted}; correct that line{'' if scale is None else ' or the range'}."
            )
    values = np.array(numbers, np.float64)
    if scale is not None:
        values = 2 * (values - low) / (high - low) - 1
    return values.astype(np.float32)


def _check_times(
    file: Location, line: NDArray[np.int64], timestamp: NDArray[np.int64], step_ms: int
) -> None:
    if not timestamp.size:
        return
    step = np.diff(timestamp)
    if np.any(step == 0):
        first = int(np.flatnonzero(step == 0)[0])
        raise AnnotationError(
            f"'{file}', line {line[first + 1]}: the timestamp {timestamp[first]} ms was already in "
            f"line {line[first]}. Expected each once; remove one of the two."
        )
    wrong = np.flatnonzero(step != step_ms)
    if wrong.size and not _is_grid_with_gaps(step, step_ms):
        _refuse_grid(file, line, timestamp, step_ms)
    if timestamp[0] not in (0, step_ms):
        raise AnnotationError(
            f"'{file}', line {line[0]}: the first timestamp is {timestamp[0]} ms. Expected 0 or "
            f"{step_ms}, the start or the end of the first segment, since row i labels segment i; "
            + _how_to_begin(int(timestamp[0]), step_ms)
        )
    if wrong.size:
        first = int(wrong[0])
        raise AnnotationError(
            f"'{file}', line {line[first + 1]}: the timestamp is {timestamp[first + 1]} ms, after "
            f"{timestamp[first]} ms. Expected a row every {step_ms} ms ({len(wrong)} in all do not "
            "have it); add the missing rows, with empty values where there is no label."
        )


def _is_grid_with_gaps(step: NDArray[np.int64], step_ms: int) -> bool:
    """Whether rows of the right grid are missing, and not too many to call it that grid."""
    return bool(np.all(step % step_ms == 0) and 2 * np.count_nonzero(step == step_ms) >= len(step))


def _refuse_grid(
    file: Location, line: NDArray[np.int64], timestamp: NDArray[np.int64], step_ms: int
) -> None:
    """Refuse rows of another step, or of none, in words of what was found."""
    step = np.diff(timestamp)
    least, most, usual = int(step.min()), int(step.max()), int(np.median(step))
    wrong = int(np.flatnonzero(step != step_ms)[0])
    here = f"'{file}', line {line[wrong + 1]}"
    expected = f"Expected a row every {step_ms} ms"
    if least != most:
        raise AnnotationError(
            f"{here}: the timestamp is {timestamp[wrong + 1]} ms, after {timestamp[wrong]} ms; the "
            f"rows of the file are {least} to {most} ms apart, most often {usual}. {expected} "
            f"({np.count_nonzero(step != step_ms)} in all do not have it); bring the labels to "
            f"that grid, each the mean of its {step_ms} ms."
        )
    if usual < 10:
        remedy = "if the timestamps count seconds or rows, write them in milliseconds"
    elif usual < step_ms:
        count = "" if step_ms % usual else f" of {step_ms // usual} rows"
        remedy = f"write the mean{count} for each {step_ms} ms, and not every row"
    else:
        remedy = f"write a row for each {step_ms} ms, with empty values where there is no label"
    raise AnnotationError(f"{here}: the rows are {usual} ms apart. {expected}; {remedy}.")


def _how_to_begin(first: int, step_ms: int) -> str:
    if 0 < first < step_ms:
        return f"subtract {first} from every timestamp if the row labels the first segment."
    return (
        "add the rows that are missing (with empty values) or give the times from the recording's "
        "beginning."
    )


def _short(file: Location) -> str:
    return "/".join(file.path.split("/")[-2:])
