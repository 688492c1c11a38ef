"""Turn the times of samples into the spans of time that the samples describe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from valence.corpus.csv_tables import Row
from valence.errors import AnnotationError
from valence.formatting import plural
from valence.importing.declaration import PER_SECOND, LabelsForm, Stamps
from valence.importing.readers.columns import NamedTable

Spans = tuple[NDArray[np.float64], NDArray[np.float64]]

# A time is written with few digits: a step of 0.0167 s for 60 Hz is right within 2 %.
_TOLERANCE = 0.02
# This share of steps is alike where samples are regular and some bins were missed.
_REGULAR_SHARE = 0.9
# An irregular sample describes the time up to the next one, but not a pause in between.
_LONGEST_STEPS = 2.0
_EXPECTED = "a time"


def read_spans(
    table: NamedTable, form: LabelsForm, rows: Sequence[Row]
) -> tuple[NDArray[np.intp], Spans, tuple[str, ...]]:
    """Read the span of each row, in seconds from the begin of the recording or its file.

    Returns
    -------
    The order of the rows in time, the begins and ends of their spans in that order, and remarks.

    Raises
    ------
    AnnotationError
        If a time is missing or no number; if rows are not a declared step apart, or stand twice in
        a regular course; or if an end does not come after its begin. The message names the line.
    """
    as_they_are: NDArray[np.intp] = np.arange(len(rows))
    if form.is_per_recording:
        start: NDArray[np.float64] = np.zeros(len(rows))
        end: NDArray[np.float64] = np.full(len(rows), np.inf)
        return as_they_are, (start, end), ()
    if form.start and form.end:
        return _read_stated(table, form, rows)
    if form.time is None:
        only = _only_step(table, form)
        point = as_they_are.astype(np.float64) * only - form.delay
        return as_they_are, (point, point + only), ()
    time = _times(table, form, form.time, rows)
    if missing := np.flatnonzero(np.isnan(time)).tolist():
        raise _no_time(table, rows[missing[0]], form.time)
    order = np.argsort(time, kind="stable")
    remarks: tuple[str, ...] = ()
    if np.any(np.diff(order) < 0):
        remarks = (f"'{table.table.file.name}' was not in order of time and has been sorted",)
    ordered = [rows[place] for place in order]
    time = time[order]
    step = _step(table, form, ordered, time)
    remarks += _about_times(table, ordered, time)
    start, end = _irregular(time, form.stamps) if step is None else _regular(time, step, form)
    if form.stamps == "end":
        # A first bin that ends soon after the begin was cut there; it does not begin before it.
        start = np.where(end > 0, np.maximum(start, 0), start)
    return order, (start - form.delay, end - form.delay), remarks


def require_ends(table: NamedTable, form: LabelsForm, rows: Sequence[Row]) -> None:
    """Refuse times that are declared as ends of bins, and begin at 0 in regular steps.

    Raises
    ------
    AnnotationError
        If the first bin would end at 0: it would be lost, and each value moved by one bin.
    """
    if form.time is None or form.stamps != "end":
        return
    time = np.sort(_times(table, form, form.time, rows))
    step = _step(table, form, rows, time)
    if step is not None and abs(time[0]) <= _TOLERANCE * step:
        raise AnnotationError(
            f"'{table.table.file}' has 0 as its first time, and its times are declared as the ends "
            f"of bins of {step:g} s. Expected a first end after 0; correct the file, or declare "
            "that times are begins (--declare labels.stamps=start)."
        )


def _times(
    table: NamedTable, form: LabelsForm, name: str, rows: Sequence[Row]
) -> NDArray[np.float64]:
    numbers = table.numbers(name, expected=_EXPECTED, decimal=form.decimal, rows=rows)
    return np.array(numbers) / PER_SECOND[form.unit]


def _read_stated(
    table: NamedTable, form: LabelsForm, rows: Sequence[Row]
) -> tuple[NDArray[np.intp], Spans, tuple[str, ...]]:
    """Read spans whose begins and ends stand in columns; an empty end is the recording's."""
    assert form.start
    assert form.end
    start = _times(table, form, form.start, rows)
    end = _times(table, form, form.end, rows)
    for row, begin, finish in zip(rows, start, end, strict=True):
        if np.isnan(begin):
            raise _no_time(table, row, form.start)
        if finish <= begin:
            raise AnnotationError(
                f"'{table.table.file}', line {row[0]}: the span ends at {finish:g} s and begins at "
                f"{begin:g} s. Expected an end after the begin; correct that line."
            )
    order = np.argsort(start, kind="stable")
    remarks = _about_begins(table, [rows[place] for place in order], start[order])
    end = np.where(np.isnan(end), np.inf, end)
    return order, (start[order] - form.delay, end[order] - form.delay), remarks


def _about_times(
    table: NamedTable, rows: Sequence[Row], time: NDArray[np.float64]
) -> tuple[str, ...]:
    """Remark on ascending times that are accepted, and are not as they should be."""
    twice = np.flatnonzero(np.diff(time) == 0)
    remarks = _about_begins(table, rows, time)
    if twice.size:
        remarks += (
            f"'{table.table.file.name}' has {plural(twice.size, 'time')} that "
            f"{'stands' if twice.size == 1 else 'stand'} twice ({time[twice[0]]:g} s in line "
            f"{rows[twice[0] + 1][0]} first); all values count",
        )
    return remarks


def _about_begins(
    table: NamedTable, rows: Sequence[Row], time: NDArray[np.float64]
) -> tuple[str, ...]:
    """Remark on times before the begin of the recording, where no segment is."""
    if not np.any(time < 0):
        return ()
    before = int(np.count_nonzero(time < 0))
    return (
        f"'{table.table.file.name}' has {plural(before, 'time')} before the begin ({time[0]:g} s "
        f"in line {rows[0][0]} first), where no segment is",
    )


def _no_time(table: NamedTable, row: Row, name: str) -> AnnotationError:
    return AnnotationError(
        f"'{table.table.file}', line {row[0]}: '{table.table.text(row[1])}' has no {name}. "
        f"Expected {_EXPECTED} in each row; correct or remove that line."
    )


def _only_step(table: NamedTable, form: LabelsForm) -> float:
    if len(form.step) != 1:
        raise AnnotationError(
            f"'{table.table.file}' has no times, and the declaration names {len(form.step)} steps. "
            "Expected one step; name the column with the time, or the step that is meant."
        )
    return form.step[0]


def _step(
    table: NamedTable, form: LabelsForm, rows: Sequence[Row], time: NDArray[np.float64]
) -> float | None:
    """Find the regular step between rows in seconds; None if rows are irregular."""
    if len(time) < 2:
        return form.step[0] if form.step else None
    steps = np.diff(time)
    usual = float(np.median(steps))
    if form.step:
        step = min(form.step, key=lambda each: abs(each - usual))
        if abs(usual - step) > _TOLERANCE * step:
            raise _wrong_step(table, form, usual)
        _require_grid(table, rows, time, step)
        return step
    alike = np.abs(steps - usual) <= _TOLERANCE * usual
    if usual <= 0 or np.mean(alike) < _REGULAR_SHARE:
        return None
    _require_distinct(table, rows, time, usual)
    # Without a declared step, an early sample shows that the times are not bins of one length.
    return None if np.any(steps < usual / 2) else usual


def _wrong_step(table: NamedTable, form: LabelsForm, usual: float) -> AnnotationError:
    declared = " or ".join(f"{step:g}" for step in form.step)
    hint = ""
    for unit, each in PER_SECOND.items():
        factor = each / PER_SECOND[form.unit]
        if factor != 1 and any(
            abs(usual - factor * step) <= _TOLERANCE * factor * step for step in form.step
        ):
            hint = f" The times seem to count {unit}: declare it (--declare labels.unit={unit})."
    return AnnotationError(
        f"'{table.table.file}' has rows {usual:g} s apart, if times are in {form.unit}. Expected "
        f"{declared} s, as declared; correct the file or the declaration.{hint}"
    )


def _require_grid(
    table: NamedTable, rows: Sequence[Row], time: NDArray[np.float64], step: float
) -> None:
    """Refuse times that stand twice, and those off the grid of steps."""
    steps = np.diff(time)
    off = np.abs(steps / step - np.round(steps / step)) > 0.25
    _require_none(table, rows, time, step, (steps < step / 2) | off)


def _require_distinct(
    table: NamedTable, rows: Sequence[Row], time: NDArray[np.float64], step: float
) -> None:
    """Refuse times that stand twice."""
    _require_none(table, rows, time, step, np.diff(time) <= 0)


def _require_none(
    table: NamedTable,
    rows: Sequence[Row],
    time: NDArray[np.float64],
    step: float,
    wrong: NDArray[np.bool_],
) -> None:
    """Refuse the first time, after the one before it, that is wrong."""
    if np.any(wrong):
        place = int(np.flatnonzero(wrong)[0]) + 1
        raise AnnotationError(
            f"'{table.table.file}', line {rows[place][0]}: the time is {time[place]:g} s, after "
            f"{time[place - 1]:g} s in line {rows[place - 1][0]}. Expected rows {step:g} s apart, "
            "or a whole number of steps where rows are missing; correct that line."
        )


def _regular(time: NDArray[np.float64], step: float, form: LabelsForm) -> Spans:
    lead = {"start": 0.0, "middle": step / 2, "end": step}[form.stamps]
    return time - lead, time - lead + step


def _irregular(time: NDArray[np.float64], stamps: Stamps) -> Spans:
    """Let spans fill the time between samples, without longer pauses.

    A time that names the begin of its span lasts to the next time; one that names its end lasts
    from the time before; a middle has half of both. Before the first and after the last sample
    stands the usual step.
    """
    if len(time) < 2:
        return time, time.copy()
    steps = np.diff(time)
    usual = float(np.median(steps))
    steps = np.minimum(steps, _LONGEST_STEPS * usual)
    before, after = np.insert(steps, 0, usual), np.append(steps, usual)
    match stamps:
        case "start":
            return time, time + after
        case "middle":
            return time - before / 2, time + after / 2
        case "end":
            return time - before, time.copy()
