"""Tables that say something of every recording: their columns by name, else by what they hold.

`metadata/partition.csv` and `metadata/subjects.csv` come from many hands: with or without a header,
with an index that pandas wrote, with file names in place of Ids, with columns that nobody asked
for. A column is taken only if it is the only one that can be meant.
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

# As a program counts: without zeros in front.
_WHOLE = re.compile(r"0|[1-9]\d*", re.ASCII)


class Ids:
    """The Ids of a corpus, as a table may write them.

    Parameters
    ----------
    names
        The recordings that have audio; no two differ only in their Unicode form.
    """

    def __init__(self, names: Collection[str]) -> None:
        self.names = names
        self._known = {normal(name): name for name in names}

    def find(self, text: str) -> str | None:
        """The Id that a cell means, or None: as it stands, else without folder and ending."""
        text = normal(text)
        return self._known.get(text, self._known.get(bare(text)))


@dataclass(frozen=True)
class Column:
    """What is sought beside the Ids.

    Attributes
    ----------
    title
        What to call it, for messages.
    names
        Names that it may have, as `tables.plain` writes them.
    values
        All that its cells may hold, in lower case; empty where that is anything.
    other
        Names of columns that hold neither it nor Ids, whatever stands in them.
    """

    title: str
    names: tuple[str, ...]
    values: Collection[str] = ()
    other: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pairs:
    """What a table says of recordings.

    Attributes
    ----------
    rows
        Line, Id and value of each row; the Id is that of a recording where one is meant.
    changed
        Cells that mean an Id and are written otherwise, in the order of their lines.
    """

    rows: tuple[tuple[int, str, str], ...] = ()
    changed: tuple[str, ...] = ()


def read_pairs(file: Location, ids: Ids, sought: Column) -> Pairs:
    """Read a table that may be absent (then it has no rows).

    Raises
    ------
    CorpusError
        If the file is there and cannot be read, holds no row, or it is not plain which columns are
        meant, or a row lacks one of the two.
    """
    if not file.is_named():
        return Pairs()
    table = read_table(file)
    # An Id may begin with the mark of a comment.
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
    """The header, or None where the first row is a recording's, and the rows below it."""
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
        # Recordings without audio: the caller says so.
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
    """The columns that hold Ids in half of the rows or more, whatever they are called.

    Whole numbers may be Ids, and may as well count the rows, in order or not, or be an age or a
    group. They are Ids only where no other column can be.
    """
    taken = columns_of(header or [], [*sought.names, *sought.other])
    width = max((len(cells) for _, cells in rows), default=0)
    found = [c for c in range(width) if c not in taken and 2 * _share(rows, c, ids) >= 1]
    if header is None and width == 2 and not sought.values:
        # One of the two is the value, and a recording has one value.
        return [c for c in found if _is_function(rows, c, 1 - c)] or found
    counting = [c for c in found if _holds_whole_numbers(rows, c)]
    if len(found) > len(counting):
        return [c for c in found if c not in counting]
    others = [c for c in range(width) if c not in taken and not _holds_only(rows, c, sought.values)]
    if not counting or counting == others:
        return counting
    if columns_of(header or [], ID_NAMES):
        # What is called so names recordings, if others than those of the corpus.
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
            # Whatever the groups are called, they are the same groups.
            agree = len(pairs) == len({one for one, _ in pairs}) == len({two for _, two in pairs})
        if not agree:
            raise CorpusError(
                f"'{table.file}' may give the {sought.title} in {_title(header, first)} or in "
                f"{_title(header, other)}, and they differ. Expected one such column; rename or "
                "remove the other."
            )
    return first


def _share(rows: Sequence[Row], column: int, ids: Ids) -> float:
    """Share of the rows whose cell means an Id, in [0, 1]."""
    found = sum(ids.find(cell_at(cells, column)) is not None for _, cells in rows)
    return found / len(rows) if rows else 0.0


def _holds_whole_numbers(rows: Sequence[Row], column: int) -> bool:
    return all(_WHOLE.fullmatch(cell_at(cells, column)) for _, cells in rows)


def _is_function(rows: Sequence[Row], key: int, value: int) -> bool:
    """Whether a column gives one value to each cell of another."""
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
