"""The CSV files of a corpus: rows with the line they stand in, columns by name."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence

from valence.errors import CorpusError
from valence.storage import Location

Row = tuple[int, list[str]]


def read_table(file: Location, error: type[CorpusError] = CorpusError) -> list[Row]:
    """Rows that are not blank, each with its line number; cells are stripped.

    Raises
    ------
    error
        If the file cannot be read, is not text in UTF-8 or not CSV.
    """
    try:
        reader = csv.reader(io.StringIO(file.read_text(), newline=""), strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except UnicodeDecodeError as cause:
        raise error(
            f"'{file}' is not text in UTF-8 (byte {cause.start}). Expected a CSV; save it as UTF-8."
        ) from cause
    except csv.Error as cause:
        raise error(f"'{file}' is not a CSV that can be read: {cause}. Correct it.") from cause
    except OSError as cause:
        raise error(
            f"'{file}' cannot be read: {cause}. Check that it is there and may be read."
        ) from cause
    return [(line, cells) for line, cells in rows if any(cells)]


def column_of(header: Sequence[str], name: str) -> int | None:
    """Index of the first column called `name`, whatever its case.

    >>> column_of(["Timestamp", "value"], "timestamp")
    0
    """
    known = [cell.lower() for cell in header]
    return known.index(name) if name in known else None


def read_pairs(
    file: Location, key: str, value: str, *, values: Collection[str] = ()
) -> list[tuple[int, str, str]]:
    """Line, key and value of every row of a table that may be absent (then there is none).

    The columns are found by the names `key` and `value`; where one is missing, the first and the
    last column are taken. A first row that ends in one of `values` is no header.

    Raises
    ------
    CorpusError
        If the file cannot be read or a row has one column only.
    """
    if not file.exists():
        return []
    table = read_table(file)
    if not table:
        return []
    header = table[0][1]
    first, last = column_of(header, key), column_of(header, value)
    if first is None or last is None:
        first, last = 0, len(header) - 1
    rows = table if header[-1].lower() in values else table[1:]
    pairs = []
    for line, cells in rows:
        if first == last or len(cells) <= max(first, last):
            raise CorpusError(
                f"'{file}', line {line}: '{','.join(cells)}' was found. Expected the columns "
                f"{key.capitalize()},{value.capitalize()}, separated by a comma; correct that line."
            )
        pairs.append((line, cells[first], cells[last]))
    return pairs
