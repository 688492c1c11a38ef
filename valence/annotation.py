"""Label files: valence or arousal every 500 ms, joined to the segments of a recording."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valence.errors import AnnotationError
from valence.storage import Location
from valence.tables import Row, column_of, read_table

STEP_MS = 500
"""Milliseconds between two labels."""

_MISSING = {"", "nan", "na", "n/a", "null", "none"}
# Labels and audio that differ by more than this are joined, and the difference is told.
_TOLERANCE_MS = 1000
# A hundred thousand years: what is beyond is no time.
_MOST_MS = 2**52


@dataclass(frozen=True)
class Annotation:
    """One label file, in order of time.

    Attributes
    ----------
    timestamp
        Milliseconds, int64 `[n]`, `step_ms` apart, the first 0 or `step_ms`.
    value
        float32 `[n]`, NaN where the file has none.
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


def read_annotation(file: Location, *, step_ms: int = STEP_MS) -> Annotation:
    """Read a label file: columns `timestamp` [ms] and `value`, found by name in any order.

    Parameters
    ----------
    file
        CSV in UTF-8. Further columns (`segment_id`, `subject_id`) are not needed and ignored.
    step_ms
        Milliseconds that one label covers: the length of a segment.

    Returns
    -------
    The labels sorted by timestamp. Empty values and NaN become NaN; a file of a header alone gives
    an annotation without rows.

    Raises
    ------
    AnnotationError
        If the file cannot be read, a column is missing, a cell holds text or an infinite value,
        a timestamp comes twice, two are not `step_ms` apart, or the first is neither 0 nor
        `step_ms`. The message names the line.
    """
    rows, columns = _read_rows(file)
    line = np.empty(len(rows), np.int64)
    timestamp = np.empty(len(rows), np.int64)
    value = np.empty(len(rows), np.float32)
    for row, (number, cells) in enumerate(rows):
        line[row] = number
        timestamp[row] = _timestamp(file, number, _cell(cells, columns["timestamp"]))
        value[row] = _value(file, number, _cell(cells, columns["value"]))
    remarks = []
    if not rows:
        remarks.append(f"'{_short(file)}' has a header and no rows")
    if np.any(np.diff(timestamp) < 0):
        order = np.argsort(timestamp, kind="stable")
        line, timestamp, value = line[order], timestamp[order], value[order]
        remarks.append(f"'{_short(file)}' was not in order of time and has been sorted")
    _check_times(file, line, timestamp, step_ms)
    known = value[np.isfinite(value)]
    if known.size and np.abs(known).max() > 1:
        remarks.append(
            f"'{_short(file)}' has values from {known.min():g} to {known.max():g}, outside [-1, 1]"
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


def _read_rows(file: Location) -> tuple[list[Row], Mapping[str, int]]:
    table = read_table(file, AnnotationError)
    if not table:
        raise AnnotationError(
            f"'{file}' is empty. Expected a CSV with the columns timestamp [ms] and value; restore "
            "it, or delete it if the recording has no labels."
        )
    (_, header), *rows = table
    columns = {}
    for name in ("timestamp", "value"):
        column = column_of(header, name)
        if column is None:
            raise AnnotationError(
                f"'{file}' has the columns {', '.join(header)} and none is called '{name}'. "
                "Expected timestamp [ms] and value, in any order; correct the header in line 1."
            )
        columns[name] = column
    return rows, columns


def _cell(cells: Sequence[str], column: int) -> str:
    return cells[column] if column < len(cells) else ""


def _timestamp(file: Location, line: int, text: str) -> int:
    try:
        number = float(text)
        if number.is_integer() and abs(number) < _MOST_MS:
            return int(number)
    except ValueError:
        pass
    raise AnnotationError(
        f"'{file}', line {line}: the timestamp is '{text}'. Expected whole milliseconds; correct "
        "or remove that line."
    )


def _value(file: Location, line: int, text: str) -> float:
    if text.lower() in _MISSING:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    if math.isinf(number):
        raise AnnotationError(
            f"'{file}', line {line}: the value is '{text}'. Expected a number, or nothing where "
            "there is no label; correct that line."
        )
    return number


def _check_times(
    file: Location, line: NDArray[np.int64], timestamp: NDArray[np.int64], step_ms: int
) -> None:
    if not timestamp.size:
        return
    if timestamp[0] not in (0, step_ms):
        raise AnnotationError(
            f"'{file}', line {line[0]}: the first timestamp is {timestamp[0]} ms. Expected 0 or "
            f"{step_ms}, since row i labels segment i; add the rows that are missing (with empty "
            "values) or give the times from the recording's beginning."
        )
    step = np.diff(timestamp)
    wrong = np.flatnonzero(step != step_ms)
    if not wrong.size:
        return
    first = int(wrong[0])
    here = f"'{file}', line {line[first + 1]}"
    if step[first] == 0:
        raise AnnotationError(
            f"{here}: the timestamp {timestamp[first]} ms was already in line {line[first]}. "
            "Expected each once; remove one of the two."
        )
    raise AnnotationError(
        f"{here}: the timestamp is {timestamp[first + 1]} ms, after {timestamp[first]} ms. "
        f"Expected a row every {step_ms} ms ({len(wrong)} in all do not have it); add the missing "
        "rows, with empty values where there is no label."
    )


def _short(file: Location) -> str:
    return "/".join(file.path.split("/")[-2:])
