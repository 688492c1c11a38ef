"""Read CSV files that people wrote: rows with their line numbers, and cells as numbers.

Every table of a corpus and every label file is read by `read_table`. If a row can be understood in
two ways, the file is refused, and the message names the line.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from valence.errors import CorpusError
from valence.storage.location import Location, is_address

Row = tuple[int, list[str]]

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_MISSING = {"", "nan", "na", "n/a", "#n/a", "<na>", "null", "none"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
# A comma before three digits may be a decimal mark or a separator of thousands.
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)


@dataclass(frozen=True)
class Table:
    """The rows of a CSV file that are not blank.

    Attributes
    ----------
    file
        Where the file lies.
    rows
        Line number and cells of each row. Cells are stripped. A row has at most as many cells as
        the first row has up to its last filled cell; a row that ends early has fewer.
    comments
        The rows whose first cell begins with `#`.
    delimiter
        The character between cells.
    """

    file: Location
    rows: tuple[Row, ...]
    comments: tuple[Row, ...] = ()
    delimiter: str = ","

    def text(self, cells: Sequence[str]) -> str:
        """Join the cells of a row as in the file, for a message."""
        return self.delimiter.join(cells)


def is_missing(cell: str) -> bool:
    """Tell whether a cell says that there is no value.

    >>> is_missing(""), is_missing("NaN"), is_missing("0")
    (True, True, False)
    """
    return cell.lower() in _MISSING


def read_table(file: Location, error: type[CorpusError] = CorpusError) -> Table:
    """Read a CSV file: UTF-8, or UTF-16 with a byte order mark; comma, semicolon or tab.

    Raises
    ------
    error
        If the file cannot be read, was not fetched, is not text in one of these encodings, is not
        CSV, could be divided in two ways, or has a row with more filled cells than the first one.
    """
    return parse_table(file, read_text(file, error), error=error)


def parse_table(
    file: Location,
    text: str,
    *,
    delimiter: str | None = None,
    first_line: int = 1,
    error: type[CorpusError] = CorpusError,
) -> Table:
    """Divide the text of a CSV file into rows and cells, like `read_table`.

    Parameters
    ----------
    file
        The file that the text comes from, for messages.
    text
        The text, or the part of it that is a table.
    delimiter
        The character between cells; None if it is to be found.
    first_line
        The number of the text's first line in the file.
    error
        The type of the error to raise.

    Raises
    ------
    error
        If the text is not CSV, could be divided in two ways, or has a row with more filled cells
        than the first one.
    """
    text = "\n" * (first_line - 1) + text
    stated = None if delimiter else re.match(r"sep=(.)\r?\n?", text)
    marks = [stated[1]] if stated else [mark for mark in _DELIMITERS if mark in text]
    marks = [delimiter] if delimiter else marks
    if stated:
        # An empty line stays, so that the other lines keep their numbers.
        text = text[stated.end(1) :]
    read: dict[str, tuple[list[Row], list[Row]]] = {}
    for mark in marks or [","]:
        try:
            read[mark] = _rows(file, text, mark, error)
        except error:
            # Quotes beside another delimiter make the text invalid under this one, so this
            # delimiter is only the wrong candidate.
            if mark == marks[-1] and not read:
                raise
    fitting = [mark for mark, (rows, _) in read.items() if _divides(rows)]
    if len(fitting) > 1:
        line, cells = read[fitting[0]][0][0]
        raise error(
            f"'{file}', line {line}: '{fitting[0].join(cells)}' can be divided at each "
            f"{' and at each '.join(_DELIMITERS[mark] for mark in fitting)}. Expected one of them "
            "between cells; save the table as CSV with commas and decimal points."
        )
    # If no delimiter fits, some row is too long. The message uses the delimiter that divides the
    # first row into the most cells.
    mark = fitting[0] if fitting else max(read, key=lambda mark: _width(read[mark][0]))
    rows, comments = read[mark]
    width = _width(rows)
    for line, cells in rows:
        if (filled := _filled(cells)) > width:
            hint = " If its numbers have a decimal comma, write a point." if mark == "," else ""
            raise error(
                f"'{file}', line {line}: '{mark.join(cells)}' has {filled} filled cells, and the "
                f"first row has {width}. Expected at most {width}; correct that line.{hint}"
            )
    return Table(
        file,
        tuple((line, cells[:width]) for line, cells in rows),
        tuple((line, cells[: _filled(cells)]) for line, cells in comments),
        mark,
    )


def columns_of(header: Sequence[str], names: Sequence[str]) -> list[int]:
    """Find the columns that have one of `names`; case, spaces and underscores do not matter.

    >>> columns_of(["File name", "Id", "age"], ["id", "filename"])
    [0, 1]
    """
    return [column for column, cell in enumerate(header) if plain(cell) in names]


def plain(name: str) -> str:
    """Reduce a column's name to its letters and digits, in lower case.

    >>> plain("Split_Set ")
    'splitset'
    """
    return "".join(each for each in name.lower() if each.isalnum())


def cell_at(cells: Sequence[str], column: int) -> str:
    """Return the cell in a column, or an empty one if the row ends before it."""
    return cells[column] if column < len(cells) else ""


def read_numbers(
    table: Table,
    rows: Sequence[Row],
    column: int,
    name: str,
    *,
    expected: str,
    error: type[CorpusError] = CorpusError,
) -> Iterator[float]:
    """Read the numbers of a column; NaN where a cell says that there is no value.

    A comma is read as a decimal mark under three conditions: every cell with a comma is one number
    with a decimal comma, at least one of these commas cannot separate thousands, and no cell has a
    decimal point. Text that only Python or a spreadsheet takes for a number (`1_000`, `0x1F`,
    `TRUE`, `5 ms`, `inf`) is refused.

    Parameters
    ----------
    table, rows, column
        The cells to read.
    name
        The name of the column, for messages.
    expected
        The content that a cell may have, for messages.
    error
        The type of the error to raise.

    Raises
    ------
    error
        If a cell is not a number; the message names the line.
    """
    cells = [(line, cell_at(row, column).replace("\N{MINUS SIGN}", "-")) for line, row in rows]
    commas = [(line, cell) for line, cell in cells if "," in cell]
    decimal = bool(commas) and all(_DECIMAL_COMMA.fullmatch(cell) for _, cell in commas)
    clear = any(not _THOUSANDS.fullmatch(cell) for _, cell in commas)
    if decimal and not (clear and not any("." in cell for _, cell in cells)):
        line, cell = commas[0]
        raise error(
            f"'{table.file}', line {line}: the {name} is '{cell}', whose comma may be a decimal "
            f"mark or stand between thousands. Expected {expected}; write it with a decimal point."
        )
    for line, cell in cells:
        text = cell.replace(",", ".") if decimal else cell
        if is_missing(text):
            yield math.nan
        elif _NUMBER.fullmatch(text):
            yield float(text)
        else:
            raise error(
                f"'{table.file}', line {line}: the {name} is '{cell}'. Expected {expected}; "
                "correct that line."
            )


def read_text(file: Location, error: type[CorpusError] = CorpusError) -> str:
    """Read a text: UTF-8, or UTF-16 with a byte order mark.

    Raises
    ------
    error
        If the file cannot be read, was not fetched, or is not text in one of these encodings.
    """
    try:
        content = file.read_bytes()
    except OSError as cause:
        raise error(
            f"'{file}' cannot be read: {cause}. Check that it is there and may be read."
        ) from cause
    if is_address(content):
        raise error(
            f"'{file}' holds the address of its content in place of it: the content was not "
            "fetched. Fetch it (git lfs pull, git annex get)."
        )
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as cause:
        form = "UTF-16" if wide else "UTF-8"
        line = 1 + len(re.findall(rb"\r\n|\r|\n", content[: cause.start]))
        raise error(
            f"'{file}', line {line}, is not text in {form} (byte {cause.start}). Expected a CSV; "
            "save it as UTF-8."
        ) from cause
    if "\0" in text:
        line = 1 + len(re.findall(r"\r\n|\r|\n", text[: text.index("\0")]))
        raise error(f"'{file}', line {line}, holds a NUL. Expected a CSV; save it as UTF-8.")
    return text.lstrip("\ufeff")


def _rows(
    file: Location, text: str, mark: str, error: type[CorpusError]
) -> tuple[list[Row], list[Row]]:
    """Read the rows that are not blank; comments come separately."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    rows: list[Row] = []
    comments: list[Row] = []
    began = 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                (comments if _is_comment(stripped) else rows).append((began, stripped))
            began = reader.line_num + 1
    except csv.Error as cause:
        raise error(
            f"'{file}' is not a CSV that can be read: {cause}, in line {reader.line_num}. Expected "
            "cells between commas, and quotes in pairs; correct it."
        ) from cause
    return rows, comments


def _divides(rows: Sequence[Row]) -> bool:
    """Tell whether a delimiter divides the first row, and no row into more cells than it."""
    width = _width(rows)
    return width > 1 and all(_filled(cells) <= width for _, cells in rows)


def _width(rows: Sequence[Row]) -> int:
    """Count the cells of the first row, without empty ones at its end."""
    return _filled(rows[0][1]) if rows else 0


def _filled(cells: Sequence[str]) -> int:
    """Count the cells up to the last one that is not empty."""
    filled = len(cells)
    while filled and not cells[filled - 1]:
        filled -= 1
    return filled


def _is_comment(cells: Sequence[str]) -> bool:
    return cells[0].startswith("#") and not is_missing(cells[0])
