"""Read tables with a row for each recording; find their columns by name or by content.

Many people write `metadata/partition.csv` and `metadata/subjects.csv`: with or without a header,
with an index that pandas wrote, with file names in place of Ids, with additional columns. A column
is used only if no other column can be meant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from valence.corpus.csv_tables import Row, Table, cell_at, columns_of, read_table
from valence.errors import CorpusError
from valence.storage.filenames import bare, normal
from valence.storage.location import Location

ID_NAMES = (
    *("id", "ids", "recording", "recordingid", "file", "fileid", "filename", "filepath", "path"),
    *("name", "audio", "audiofile", "wav", "wavfile", "clip", "clipid"),
)

# A program that counts rows writes no leading zeros.
_WHOLE = re.compile(r"0|[1-9]\d*", re.ASCII)


class Ids:
    """Finds the Ids of a corpus in the spelling of a table.

    Parameters
    ----------
    names
        The Ids of the recordings that have audio. No two of them differ only in Unicode form.
    """

    def __init__(self, names: Collection[str]) -> None:
        self.names = names
        self._known = {normal(name): name for name in names}

    def find(self, text: str) -> str | None:
        """Find the Id that a cell means, also with a folder or an ending; None if there is none."""
        text = normal(text)
        return self._known.get(text, self._known.get(bare(text)))


@dataclass(frozen=True)
class Column:
    """The column that is sought beside the Ids.

    Attributes
    ----------
    title
        The name of the column in messages.
    names
        Names that the column may have, in the form that `csv_tables.plain` gives.
    values
        All values that its cells may have, in lower case; empty if any text is allowed.
    other
        Names of columns that hold neither these values nor Ids, whatever their content.
    """

    title: str
    names: tuple[str, ...]
    values: Collection[str] = ()
    other: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pairs:
    """The Ids of a table and the value of each.

    Attributes
    ----------
    rows
        Line, Id and value of each row. If the cell means a recording, the Id is the recording's.
    changed
        Cells that mean an Id but are written in another way, in the order of their lines.
    """

    rows: tuple[tuple[int, str, str], ...] = ()
    changed: tuple[str, ...] = ()


def read_pairs(file: Location, ids: Ids, sought: Column) -> Pairs:
    """Read the Ids and the sought column of a table; an absent file gives no rows.

    Raises
    ------
    CorpusError
        If the file exists and cannot be read or holds no row, if it is unclear which columns are
        meant, or if a row lacks one of the two cells.
    """
    if not file.is_named():
        return Pairs()
    table = read_table(file)
    # An Id may begin with #, the mark of a comment.
    meant = [row for row in table.comments if any(ids.find(cell) for cell in row[1])]
    all_rows = sorted([*table.rows, *meant])
    header, rows = _divide(all_rows, ids, sought) if all_rows else (None, [])
    if not rows:
        raise CorpusError(
            f"'{file}' {'holds no row' if header is None else 'has a header and no row'}. Expected "
            f"the columns Id,{sought.title} with a row for each recording; restore its content, or "
            "remove the file."
        )
    key = _id_column(table, header, rows, ids, sought)
    value = _value_column(table, header, rows, key, sought)
    pairs, changed = [], []
    for line, cells in rows:
        name, text = cell_at(cells, key), cell_at(cells, value)
        if not name or len(cells) <= value:
            raise CorpusError(
                f"'{file}', line {line}: '{table.text(cells)}' was found. Expected the columns "
                f"Id,{sought.title}, separated by a comma; correct that line."
            )
        known = ids.find(name)
        if known is not None and normal(known) != normal(name):
            changed.append(name)
        pairs.append((line, normal(name) if known is None else known, text))
    return Pairs(tuple(pairs), tuple(changed))


def _divide(
    rows: Sequence[Row], ids: Ids, sought: Column
) -> tuple[list[str] | None, Sequence[Row]]:
    """Return the header and the rows after it; None and all rows if there is no header."""
    cells = rows[0][1]
    holds_value = any(cell.lower() in sought.values for cell in cells)
    holds_id = any(ids.find(cell) for cell in cells)
    named = columns_of(cells, [*ID_NAMES, *sought.names])
    if (holds_id and (holds_value or not sought.values)) or (holds_value and not named):
        return None, rows
    return cells, rows[1:]


def _id_column(
    table: Table, header: list[str] | None, rows: Sequence[Row], ids: Ids, sought: Column
) -> int:
    named = columns_of(header or [], ID_NAMES)
    candidates = [column for column in named if _share(rows, column, ids) > 0]
    if not candidates:
        candidates = _by_content(table, header, rows, ids, sought)
    if not candidates and len(named) == 1:
        # The Ids may all be those of recordings without audio, which the caller reports.
        candidates = named
    if not candidates:
        raise CorpusError(
            f"'{table.file}' {_titles(header, rows)}, and none holds Ids of the recordings. "
            f"Expected the columns Id,{sought.title}; name them so in its first line."
        )
    first, *others = candidates
    for other in others:
        if any(
            ids.find(cell_at(cells, first)) != ids.find(cell_at(cells, other)) for _, cells in rows
        ):
            raise CorpusError(
                f"'{table.file}' has the Ids of recordings in {_title(header, first)} and other "
                f"ones in {_title(header, other)}. Expected one such column; call it Id, and "
                "rename or remove the other."
            )
    return first


def _by_content(
    table: Table, header: list[str] | None, rows: Sequence[Row], ids: Ids, sought: Column
) -> list[int]:
    """Find the columns that hold Ids in at least half of the rows, whatever their names.

    Whole numbers may be Ids, but they may also be an index of the rows (in order or not), an age or
    a group. They are taken for Ids only if no other column can hold the Ids.
    """
    taken = columns_of(header or [], [*sought.names, *sought.other])
    width = max((len(cells) for _, cells in rows), default=0)
    found = [c for c in range(width) if c not in taken and 2 * _share(rows, c, ids) >= 1]
    if header is None and width == 2 and not sought.values:
        # One of the two columns is the value, and each Id has only one value.
        return [c for c in found if _is_function(rows, c, 1 - c)] or found
    counting = [c for c in found if _holds_whole_numbers(rows, c)]
    if len(found) > len(counting):
        return [c for c in found if c not in counting]
    others = [c for c in range(width) if c not in taken and not _holds_only(rows, c, sought.values)]
    if not counting or counting == others:
        return counting
    if columns_of(header or [], ID_NAMES):
        # A column with such a name holds Ids, even if they are not those of this corpus.
        return []
    raise CorpusError(
        f"'{table.file}' {_titles(header, rows)}. The whole numbers in "
        f"{_title(header, counting[0])} may be Ids of recordings, or count the rows or something "
        f"else. Expected the columns Id,{sought.title}; name them so in its first line."
    )


def _value_column(
    table: Table, header: list[str] | None, rows: Sequence[Row], key: int, sought: Column
) -> int:
    candidates = [c for c in columns_of(header or [], sought.names) if c != key]
    if len(candidates) > 1 and sought.values:
        fitting = [c for c in candidates if _holds_only(rows, c, sought.values)]
        candidates = fitting or candidates
    if not candidates:
        width = max((len(cells) for _, cells in rows), default=len(header or []))
        others = [c for c in range(width) if c != key]
        if sought.values:
            candidates = [c for c in others if _holds_only(rows, c, sought.values)]
        elif header is None and len(others) == 1:
            candidates = others
    if not candidates:
        only = f" or holds only {', '.join(sorted(sought.values))}" if sought.values else ""
        raise CorpusError(
            f"'{table.file}' {_titles(header, rows)}, and none is called {sought.title}{only}. "
            f"Expected the columns Id,{sought.title}; name them so in its first line."
        )
    first, *others = candidates
    for other in others:
        pairs = {(cell_at(cells, first), cell_at(cells, other)) for _, cells in rows}
        if sought.values:
            agree = all(one.lower() == two.lower() for one, two in pairs)
        else:
            # The two columns may name the groups differently; the groups must be the same.
            agree = len(pairs) == len({one for one, _ in pairs}) == len({two for _, two in pairs})
        if not agree:
            raise CorpusError(
                f"'{table.file}' may give the {sought.title} in {_title(header, first)} or in "
                f"{_title(header, other)}, and they differ. Expected one such column; rename or "
                "remove the other."
            )
    return first


def _share(rows: Sequence[Row], column: int, ids: Ids) -> float:
    """Compute the share of rows whose cell means an Id, in [0, 1]."""
    found = sum(ids.find(cell_at(cells, column)) is not None for _, cells in rows)
    return found / len(rows) if rows else 0.0


def _holds_whole_numbers(rows: Sequence[Row], column: int) -> bool:
    return all(_WHOLE.fullmatch(cell_at(cells, column)) for _, cells in rows)


def _is_function(rows: Sequence[Row], key: int, value: int) -> bool:
    """Tell whether each distinct cell of the column `key` has only one value."""
    pairs = {(cell_at(cells, key), cell_at(cells, value)) for _, cells in rows}
    return len(pairs) == len({name for name, _ in pairs})


def _holds_only(rows: Sequence[Row], column: int, values: Collection[str]) -> bool:
    held = [cell_at(cells, column).lower() for _, cells in rows]
    return bool(held) and all(cell in values for cell in held)


def _titles(header: list[str] | None, rows: Sequence[Row]) -> str:
    if header is None:
        return f"begins with the row {', '.join(rows[0][1])} and has no header"
    return f"has the columns {', '.join(cell or '(unnamed)' for cell in header)}"


def _title(header: list[str] | None, column: int) -> str:
    name = cell_at(header or [], column)
    return f"the column '{name}'" if name else f"column {column + 1}"
