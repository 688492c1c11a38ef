"""Read files that are tables: rows with line numbers, under columns with names."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from valence.corpus.csv_tables import (
    Row,
    Table,
    cell_at,
    parse_table,
    plain,
    read_numbers,
    read_text,
)
from valence.errors import AnnotationError
from valence.importing.declaration import LabelsForm, TableForm
from valence.storage.location import Location

_PLAIN_NUMBER = r"[+-]?\d+(?:\.\d*)?(?:e[+-]?\d+)?"
# A number, or a text that looks like one, with one decimal sign or none.
_ONE_SIGN = re.compile(r"[+\-\N{MINUS SIGN}]?(\d+[.,]?\d*|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)
_PLAIN_NUMBERS = re.compile(rf"{_PLAIN_NUMBER}(?:\n{_PLAIN_NUMBER})*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class NamedTable:
    """A table whose columns have names.

    Attributes
    ----------
    table
        The rows below the names.
    names
        The names of the columns.
    head
        First and second cell of each row before the names.
    form
        The form that it was read in.
    commas
        The columns whose decimal sign is a comma, as far as it is known (`with_signs`).
    """

    table: Table
    names: tuple[str, ...]
    head: Mapping[str, str]
    form: TableForm
    commas: frozenset[str] = frozenset()

    @property
    def rows(self) -> Sequence[Row]:
        """Return the rows, with their line numbers."""
        return self.table.rows

    def find(self, name: str) -> int | None:
        """Find a column by its name; None if there is none.

        Case, blanks and underscores do not matter, unless several columns differ only in them.

        Raises
        ------
        AnnotationError
            If two columns have the name.
        """
        found = [column for column, each in enumerate(self.names) if each == name]
        found = found or [c for c, each in enumerate(self.names) if plain(each) == plain(name)]
        if len(found) > 1:
            raise AnnotationError(
                f"'{self.table.file}' has {len(found)} columns called '{name}'. Expected one; "
                "rename the others."
            )
        return found[0] if found else None

    def column(self, name: str) -> int:
        """Find a column by its name.

        Raises
        ------
        AnnotationError
            If no column or several have the name.
        """
        found = self.find(name)
        if found is None:
            raise AnnotationError(
                f"'{self.table.file}' has the columns {', '.join(self.names) or '(none)'}, and "
                f"none is called '{name}'. Expected one; correct the file or the declaration."
            )
        return found

    def text(self, cells: Sequence[str], column: int) -> str:
        """Return a cell without the quotes that the form names."""
        cell = cell_at(cells, column)
        quote = self.form.quote
        return cell.strip(quote).strip() if quote else cell

    def with_signs(self, names: Sequence[str]) -> NamedTable:
        """Find the decimal sign of columns from all of their rows.

        Cells that are no numbers take no part; they are refused where they are read.

        Raises
        ------
        AnnotationError
            If a column has both signs, or commas that may stand between thousands; the message
            names the line.
        """
        commas = set()
        for name in names:
            column = self.column(name)
            texts = [(line, self.text(cells, column)) for line, cells in self.rows]
            shown = [
                (line, [text])
                for line, text in texts
                if text not in self.form.missing and _ONE_SIGN.fullmatch(text)
            ]
            if any("," in cell for _, (cell,) in shown):
                expected = "numbers with one decimal sign"
                deque(
                    read_numbers(
                        self.table, shown, 0, name, expected=expected, error=AnnotationError
                    ),
                    maxlen=0,
                )
                commas.add(name)
        return replace(self, commas=frozenset(commas))

    def numbers(
        self, name: str, *, expected: str, decimal: str | None = None, rows: Sequence[Row] = ()
    ) -> list[float]:
        """Read a column as numbers; NaN where there is no value.

        Raises
        ------
        AnnotationError
            If a cell is no number, or has another decimal sign; the message names the line.
        """
        column, missing = self.column(name), self.form.missing
        if decimal is None and name in self.commas:
            decimal = "comma"
        texts = [(line, self.text(cells, column)) for line, cells in rows or self.rows]
        is_plain = decimal != "comma" and not any(map(_PLAIN_NUMBERS.fullmatch, missing))
        if is_plain and _PLAIN_NUMBERS.fullmatch("\n".join([text for _, text in texts])):
            # Nearly all files hold nothing else, and this is many times faster.
            return self._finite(name, texts, [float(text) for _, text in texts])
        read = []
        for line, text in texts:
            cell = "" if text in missing else text
            if (decimal == "comma" and "." in cell) or (decimal == "point" and "," in cell):
                raise AnnotationError(
                    f"'{self.table.file}', line {line}: the {name} is '{cell}'. Expected numbers "
                    f"with a decimal {decimal}, as declared or in other lines; correct that line "
                    "or the declaration."
                )
            read.append((line, [cell.replace(",", ".") if decimal == "comma" else cell]))
        numbers = list(
            read_numbers(self.table, read, 0, name, expected=expected, error=AnnotationError)
        )
        return self._finite(name, texts, numbers)

    def _finite(
        self, name: str, texts: Sequence[tuple[int, str]], numbers: list[float]
    ) -> list[float]:
        """Refuse a number with more digits than a computer holds, such as 1e999."""
        for (line, text), number in zip(texts, numbers, strict=True):
            if math.isinf(number):
                raise AnnotationError(
                    f"'{self.table.file}', line {line}: the {name} is '{text}', which is too large "
                    "for a number. Expected a finite one; correct that line."
                )
        return numbers


def read_named_table(file: Location, form: TableForm) -> NamedTable:
    """Read a table in a form.

    Raises
    ------
    AnnotationError
        If the file cannot be read, is no table, or lacks what the form names.
    """
    text = read_text(file, AnnotationError)
    if isinstance(form, LabelsForm) and form.reader == "lines":
        return _read_lines(file, text, form)
    head, rest = _divide(file, text, form)
    table = parse_table(
        file,
        rest,
        delimiter=form.delimiter,
        first_line=form.head_rows + 1,
        error=AnnotationError,
    )
    # Data rows never begin with #, and an Id may.
    rows = sorted([*table.rows, *table.comments])
    names = form.columns
    if not names and rows:
        (_, first), *rows = rows
        names = tuple(_unquoted(cell, form) for cell in first)
    if form.marker is not None:
        rows = _after_marker(table, names, rows, form.marker)
    for line, cells in rows:
        if len(cells) > len(names):
            raise AnnotationError(
                f"'{file}', line {line}: '{table.text(cells)}' has {len(cells)} filled cells. "
                f"Expected at most {len(names)} ({', '.join(names)}); correct that line or the "
                "declaration."
            )
    if not rows:
        raise AnnotationError(
            f"'{file}' holds no row of values. Expected the columns {', '.join(names) or '...'} "
            "with a row for each value; restore it, or remove it."
        )
    return NamedTable(replace(table, rows=tuple(rows), comments=()), names, head, form)


def _unquoted(cell: str, form: TableForm) -> str:
    return cell.strip(form.quote).strip() if form.quote else cell


def _divide(file: Location, text: str, form: TableForm) -> tuple[dict[str, str], str]:
    """Divide a text into the cells of its head and the table after it."""
    lines = re.split(r"\r\n|\r|\n", text)
    if len(lines) <= form.head_rows:
        raise AnnotationError(
            f"'{file}' has {len(lines)} lines. Expected {form.head_rows} of a head and a table "
            "after it; restore it, or correct the declaration."
        )
    head = {}
    for line in lines[: form.head_rows]:
        cells = [cell.strip().strip('"') for cell in line.split(form.delimiter or ",")]
        head[cells[0]] = cells[1] if len(cells) > 1 else ""
    return head, "\n".join(lines[form.head_rows :])


def _after_marker(
    table: Table, names: Sequence[str], rows: Sequence[Row], marker: str
) -> list[Row]:
    """Return the rows after the row whose cells are all the marker."""
    first = rows[0][1] if rows else []
    if not first or set(first) != {marker}:
        line = rows[0][0] if rows else 0
        raise AnnotationError(
            f"'{table.file}', line {line}: '{table.text(first)}' was found after the columns "
            f"{', '.join(names)}. Expected cells with {marker}; correct the declaration if the "
            "head has another length."
        )
    return list(rows[1:])


def _read_lines(file: Location, text: str, form: LabelsForm) -> NamedTable:
    """Read the lines that begin as declared; every one of them must have the declared form."""
    assert form.begins is not None
    assert form.line is not None
    begins, whole = re.compile(form.begins), re.compile(form.line)
    names = tuple(whole.groupindex)
    rows = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        if not (begins.match(line) or begins.match(line.strip())):
            continue
        found = whole.fullmatch(line.strip())
        if found is None:
            raise AnnotationError(
                f"'{file}', line {number}: '{line.strip()}' was found. Expected the form "
                f"{form.line}; correct that line or the declaration."
            )
        rows.append((number, [(found[name] or "").strip() for name in names]))
    if not rows:
        raise AnnotationError(
            f"'{file}' holds no line that begins like {form.begins}. Expected one for each value; "
            "restore it, or correct the declaration."
        )
    return NamedTable(Table(file, tuple(rows)), names, {}, form)
