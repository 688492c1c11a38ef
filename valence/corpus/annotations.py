"""Read label files (valence or arousal every 500 ms), and join them to a recording's segments.

In a file that begins at 0, a timestamp is the start of its segment. In a file that begins at 500,
such as MuSe's, a timestamp is the end of its segment. Row i labels segment i in both cases.
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

# Labels and audio that differ in length by more than this are joined with a remark.
_TOLERANCE_MS = 1000
_MOST_FLOAT32 = float(np.finfo(np.float32).max)
_WHOLE = {"0", "-0", "1", "-1"}
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
# The digits after a decimal comma; the same text can also be a number of its own.
_REST = re.compile(r"[+-]?\d+(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
# About 140,000 years: a larger timestamp is an error. Smaller ones are exact in float64.
_MOST_MS = 2**52


@dataclass(frozen=True)
class Annotation:
    """The labels of one file, in order of time.

    Attributes
    ----------
    timestamp
        Milliseconds, int64 `[n]`, `step_ms` apart; the first is 0 or `step_ms`. `stamps` says
        whether a timestamp is the start or the end of its segment.
    value
        float32 `[n]`, on the scale of [-1, 1]; NaN where the file has no value.
    remarks
        Oddities of the file that reading has corrected or accepted.
    step_ms
        Milliseconds between two labels.
    """

    timestamp: NDArray[np.int64]
    value: NDArray[np.float32]
    remarks: tuple[str, ...] = ()
    step_ms: int = STEP_MS

    @property
    def labelled(self) -> int:
        """Count the known values."""
        return int(np.isfinite(self.value).sum())

    @property
    def stamps(self) -> Literal["start", "end"] | None:
        """Tell which end of its segment a timestamp names; None if there is no row."""
        if not self.timestamp.size:
            return None
        return "start" if self.timestamp[0] == 0 else "end"


def read_annotation(
    file: Location, *, step_ms: int = STEP_MS, scale: tuple[float, float] | None = None
) -> Annotation:
    """Read the columns `timestamp` [ms] and `value` of a label file, in any order.

    Parameters
    ----------
    file
        A CSV file that `read_table` can read. Other columns (`segment_id`, `subject_id`) are
        ignored.
    step_ms
        Milliseconds that one label covers: the length of a segment.
    scale
        The lowest and the highest value of the labels' own scale, which are mapped to -1 and 1;
        None if the labels are already on the scale of [-1, 1].

    Returns
    -------
    The labels sorted by timestamp. Empty values and NaN become NaN; a file that holds only a header
    gives an annotation without rows.

    Raises
    ------
    AnnotationError
        If the file cannot be read; if a column is missing or occurs twice; if a row has more cells
        than the header; if a value is text, infinite, too large for float32 or outside `scale`; if
        a timestamp occurs twice; if two timestamps are not `step_ms` apart; or if the first one is
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
    """Join labels to the segments of a recording: row i labels segment i.

    Returns
    -------
    Labels, float32 `[n_segments]`, NaN for segments after the last label; and the annotation's
    remarks, with one more if labels and audio differ in length by more than a second.

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
        # In a file whose values have a decimal point, a comma never divides a number.
        pointed = any("." in cell_at(cells, columns["value"]) for _, cells in rows)
        _refuse_split_numbers(table, rows, columns["value"], pointed=pointed)
        # Timestamps right after the value are no fractions, and are checked by themselves.
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
    """Refuse rows that have more cells than a header that was written as a comment."""
    for line, cells in rows:
        # `read_table` cut the rows to the width of the first one, which can exceed the header's;
        # empty cells at the end of a row do no harm.
        filled = max((place for place, cell in enumerate(cells, 1) if cell), default=0)
        if filled > len(header):
            raise AnnotationError(
                f"'{table.file}', line {line}: '{table.text(cells)}' has {filled} filled cells, "
                f"and the header has {len(header)}. Expected at most {len(header)}; correct that "
                "line. If its numbers have a decimal comma, write a point."
            )


def _refuse_split_numbers(table: Table, rows: Sequence[Row], column: int, *, pointed: bool) -> None:
    """Refuse `-0,25` and `0,05` that lie in two cells because commas divide the file.

    If the header has another column after the value, such a row has no cell too many. Two signs
    show that the next cell is the fraction of the value: the value is `-0`, or the digits in the
    next cell begin with 0. If other values are `pointed` (have a decimal point), such digits are an
    Id.
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
    """Refuse `0,1963` in two cells, whether or not the second cells are in ascending order.

    A label in [-1, 1] with a decimal comma has a zero before the comma, or ±1 before it and zeros
    after it. Whole labels beside Ids look the same only if every label that has an Id is 0. The
    user can then write a decimal point (`0.0`) to show that the labels are whole.
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
    """Tell whether a value and the cell after it may be the two parts of one number."""
    whole, rest = cell_at(cells, column), cell_at(cells, column + 1)
    return bool(_INTEGER.fullmatch(whole) and _REST.fullmatch(rest))


def _refuse_scattered_fractions(
    table: Table, header: Sequence[str], rows: Sequence[Row], column: int
) -> None:
    """Refuse `3,25` under `value,segment_id` or `1,5` under `value,comment`: divided numbers.

    The Ids of segments ascend, and the Id of a subject is the same in every row. Numbers that go up
    and down after whole values are therefore the fractions of these values. A row that has a value
    of another form beside a filled cell speaks against it. If the next column is not named as an
    Id, the values must also look like parts of numbers in [-1, 1], because a rating of 1 to 7 may
    well stand beside unordered numbers.
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
    # An Id has no exponent, but a fraction may have one.
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
            f"{timestamp[first]} ms. Expected a row every {step_ms} ms ({len(wrong)} steps in all "
            "differ); add the missing rows, with empty values where there is no label."
        )


def _is_grid_with_gaps(step: NDArray[np.int64], step_ms: int) -> bool:
    """Tell whether rows lie on the right grid, and at least half of them one step apart."""
    return bool(np.all(step % step_ms == 0) and 2 * np.count_nonzero(step == step_ms) >= len(step))


def _refuse_grid(
    file: Location, line: NDArray[np.int64], timestamp: NDArray[np.int64], step_ms: int
) -> None:
    """Refuse rows that have another step or no regular step, and describe what was found."""
    step = np.diff(timestamp)
    least, most, usual = int(step.min()), int(step.max()), int(np.median(step))
    wrong = int(np.flatnonzero(step != step_ms)[0])
    here = f"'{file}', line {line[wrong + 1]}"
    expected = f"Expected a row every {step_ms} ms"
    if least != most:
        raise AnnotationError(
            f"{here}: the timestamp is {timestamp[wrong + 1]} ms, after {timestamp[wrong]} ms; the "
            f"rows of the file are {least} to {most} ms apart, most often {usual}. {expected} "
            f"({np.count_nonzero(step != step_ms)} steps in all differ); bring the labels to "
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
