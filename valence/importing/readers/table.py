"""Read traces from tables: a column for each target or rater, or a row for each recording."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valence.config import Target
from valence.corpus.csv_tables import Row, is_missing
from valence.errors import AnnotationError, ConfigError, CorpusError
from valence.formatting import MOST_NAMES
from valence.importing.declaration import LabelsForm
from valence.importing.readers.arff import read_arff
from valence.importing.readers.columns import NamedTable, read_named_table
from valence.importing.readers.identity import recording_id
from valence.importing.readers.spans import read_spans, require_ends
from valence.importing.readers.trace import Trace
from valence.importing.sources.patterns import fill, names_in
from valence.storage.location import Location

_TARGETS: tuple[Target, ...] = ("valence", "arousal")
# A number that was written with few digits may leave its scale by rounding.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class _Series:
    """A column with values, and what it holds."""

    target: Target
    rater: str | None
    column: str


def read_table_traces(
    file: Location, fields: Mapping[str, str], form: LabelsForm, aside: list[str]
) -> Iterator[Trace]:
    """Read the traces of a table.

    Parameters
    ----------
    file
        The table.
    fields
        The named parts of its path.
    form
        Its form.
    aside
        Gets a message for each row of a recording that cannot be used, if a row is a recording; and
        for each recording whose rows differ, where one is expected.

    Raises
    ------
    CorpusError
        If the file cannot be read as declared; the message names the line.
    """
    table = read_arff(file, form) if form.reader == "arff" else read_named_table(file, form)
    series = _series(table, fields, form)
    groups = _groups(table, fields, form, aside)
    if form.decimal is None and len(groups) > 1:
        # The rows of one recording may not show whether their commas are decimal signs.
        names = [form.time, form.start, form.end, *(each.column for each in series)]
        table = table.with_signs([name for name in names if name])
    for (recording, rater), rows in groups.items():
        try:
            once, repeated = _once(table, form, recording, rows)
            order, (start, end), remarks = read_spans(table, form, once)
            require_ends(table, form, once)
            ordered = [once[place] for place in order]
            for each in series:
                value, scale = _values(table, form, each, ordered)
                name = each.rater if each.rater is not None else rater
                gold = name is None or name in form.gold
                yield Trace(
                    id=recording,
                    target=each.target,
                    rater=None if gold else name,
                    start=start,
                    end=end,
                    value=value,
                    scale=scale,
                    file=file,
                    remarks=repeated + remarks,
                    unit=form.unit,
                )
        except AnnotationError as error:
            if not form.is_per_recording:
                raise
            aside.append(str(error))


def ids_in(file: Location, fields: Mapping[str, str], form: LabelsForm) -> dict[str, str]:
    """List the Ids in a file, from its path or from its columns, each with its place.

    Raises
    ------
    CorpusError
        If the file cannot be read as declared.
    """
    if all(name in fields for name in names_in(form.id)):
        return {recording_id(fill(form.id, fields), file): f"'{file}'"}
    table = read_arff(file, form) if form.reader == "arff" else read_named_table(file, form)
    groups = _groups(table, fields, form, [])
    return {name: f"'{file}', line {rows[0][0]}" for (name, _), rows in groups.items()}


def header_fits(file: Location, fields: Mapping[str, str], form: LabelsForm) -> bool:
    """Tell whether a file has the columns, the head and the marks of a form."""
    try:
        table = read_arff(file, form) if form.reader == "arff" else read_named_table(file, form)
        series = _series(table, fields, form)
        wanted = [form.time, form.start, form.end, form.rater, *(each.column for each in series)]
        wanted += [name for name in names_in(form.id) if name not in fields]
        if not all(table.find(name) is not None for name in wanted if name):
            return False
        if form.time:
            # The step tells forms apart whose columns have the same names.
            read_spans(table, form, table.rows)
        return all(_scale(table, form, each.target) is not None for each in series)
    except (CorpusError, ConfigError):
        return False


def _series(table: NamedTable, fields: Mapping[str, str], form: LabelsForm) -> list[_Series]:
    """List the columns with values."""
    if form.value is None and form.raters is None:
        named = {"valence": form.valence, "arousal": form.arousal}
        return [
            _Series(target, None, name)
            for target in _TARGETS
            if (name := named[target]) is not None
        ]
    target = target_of(fields, form)
    assert target is not None, "only files of a target are read"
    if form.value is not None:
        return [_Series(target, fields.get("rater"), form.value)]
    assert form.raters is not None
    pattern = re.compile(form.raters)
    found = [(name, match) for name in table.names if (match := pattern.fullmatch(name))]
    if not found:
        raise AnnotationError(
            f"'{table.table.file}' has the columns {', '.join(table.names)}, and none is "
            f"called like a rater ({form.raters}). Expected a column for each rater; correct the "
            "file or the declaration."
        )
    return [
        _Series(target, match[1] if pattern.groups else match[0], name) for name, match in found
    ]


def target_of(fields: Mapping[str, str], form: LabelsForm) -> Target | None:
    """Find the target that a file's path names; None if it names another quantity."""
    word = fields.get("target", "").casefold()
    return next((form.targets[each] for each in form.targets if each.casefold() == word), None)


def _groups(
    table: NamedTable, fields: Mapping[str, str], form: LabelsForm, aside: list[str]
) -> dict[tuple[str, str | None], list[Row]]:
    """Divide the rows by recording and rater."""
    wanted = [name for name in names_in(form.id) if name not in fields]
    columns = {name: table.column(name) for name in wanted}
    rater = None if form.rater is None else table.column(form.rater)
    path_rater = fields.get("rater")
    groups: dict[tuple[str, str | None], list[Row]] = {}
    whole = recording_id(fill(form.id, fields), table.table.file) if not columns else ""
    one_each = form.is_per_recording
    if not columns and rater is None and not one_each:
        return {(whole, path_rater): list(table.rows)}
    for line, cells in table.rows:
        recording = whole
        if columns:
            own = {name: table.text(cells, column) for name, column in columns.items()}
            try:
                recording = _row_id(table, (line, cells), form.id, {**fields, **own})
            except AnnotationError as error:
                if not one_each:
                    raise
                aside.append(str(error))
                continue
        name = path_rater if rater is None else table.text(cells, rater) or None
        groups.setdefault((recording, name), []).append((line, cells))
    return groups


def _once(
    table: NamedTable, form: LabelsForm, recording: str, rows: Sequence[Row]
) -> tuple[Sequence[Row], tuple[str, ...]]:
    """Take one of several equal rows where a row is a recording, with a remark.

    Raises
    ------
    AnnotationError
        If the rows differ.
    """
    if not form.is_per_recording or len(rows) == 1:
        return rows, ()
    lines = ", ".join(str(line) for line, _ in rows[:MOST_NAMES])
    lines += ", ..." if len(rows) > MOST_NAMES else ""
    width = range(len(table.names))
    if len({tuple(table.text(cells, column) for column in width) for _, cells in rows}) > 1:
        raise AnnotationError(
            f"'{table.table.file}', line {rows[1][0]}: '{recording}' was already in line "
            f"{rows[0][0]}, and the rows differ (lines {lines}). Expected each recording once; "
            "remove all but one, or declare the column with the rater."
        )
    remark = f"stands in the lines {lines} of '{table.table.file.name}' with equal rows"
    return rows[:1], (f"{remark}, and one is kept",)


def _row_id(table: NamedTable, row: Row, template: str, fields: Mapping[str, str]) -> str:
    """Return the Id that a row gives."""
    line, cells = row
    shown = fill(template, fields)
    if shown is None:
        raise AnnotationError(
            f"'{table.table.file}', line {line}: '{table.table.text(cells)}' has no "
            f"{' or '.join(names_in(template))}. Expected one in each row; correct or remove that "
            "line."
        )
    return recording_id(shown, table.table.file, line)


def _values(
    table: NamedTable, form: LabelsForm, series: _Series, rows: Sequence[Row]
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Read the values of a column, and the scale that they lie on."""
    scale = _scale(table, form, series.target)
    if scale is None:
        raise AnnotationError(
            f"'{table.table.file}' does not state the scale {form.scale} in its head. Expected it "
            "there; state the scale yourself (--declare 'labels.scale=[LOW,HIGH]')."
        )
    low, high = scale
    numbers = table.numbers(
        series.column,
        expected=f"a number from {low:g} to {high:g}, or nothing where there is no label",
        decimal=form.decimal,
        rows=rows,
    )
    values = np.array(numbers, np.float64)
    slack = _ROUNDING * (high - low)
    outside = np.flatnonzero((values < low - slack) | (values > high + slack))
    if outside.size:
        line, cells = rows[outside[0]]
        raise AnnotationError(
            f"'{table.table.file}', line {line}: the value of {series.column} is "
            f"{values[outside[0]]:g}, in '{table.table.text(cells)}'. Expected a number from "
            f"{low:g} to {high:g}; correct that line, or state the scale (--declare "
            "'labels.scale=[LOW,HIGH]')."
        )
    return np.clip(values, low, high), scale


def _scale(table: NamedTable, form: LabelsForm, target: Target) -> tuple[float, float] | None:
    """Find the scale of a target; None if the head of the file does not state it."""
    scale = form.scale
    if isinstance(scale, Mapping):
        return scale.get(target, (-1.0, 1.0))
    if isinstance(scale, str):
        high = _head_number(table, scale)
        return None if high is None or high <= 0 else (-high, high)
    if isinstance(scale[0], str):
        ends = [_head_number(table, str(name)) for name in scale]
        if ends[0] is None or ends[1] is None or ends[0] >= ends[1]:
            return None
        return ends[0], ends[1]
    return float(scale[0]), float(scale[1])


def _head_number(table: NamedTable, name: str) -> float | None:
    """Read a number of the head, where a cell that begins with `name` stands before it."""
    for title, text in table.head.items():
        if title.casefold().startswith(name.casefold()):
            try:
                return None if is_missing(text) else float(text)
            except ValueError:
                return None
    return None
