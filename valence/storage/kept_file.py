"""Read files that another command wrote, and check their size, their form and that they are whole.

The message of a refused file is one paragraph, which names the file and the command that makes it
again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pyarrow import fs

from valence.errors import DamagedError, StaleError, ValenceError
from valence.storage.location import Location

# One line for each of 100,000 recordings takes a tenth of this size. JSON of this size may take
# 300 MiB of memory when parsed.
MOST_BYTES = 16 * 2**20


class TooLargeError(ValueError):
    """A file that is larger than its content can be."""


def read_at_most(file: Location, most: int) -> bytes:
    """Read a whole file of at most `most` bytes, even if its stated size is wrong.

    Raises
    ------
    OSError
        If the file is absent, is no regular file, or cannot be read.
    TooLargeError
        If the file is larger. At most one byte more than `most` is read.
    """
    info = file.info()
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError("it is missing")
    if info.type == fs.FileType.Directory:
        raise IsADirectoryError("it is a folder")
    if info.type != fs.FileType.File:
        raise OSError("it is no regular file")
    if info.size is not None and info.size > most:
        raise TooLargeError(f"it has {info.size:,} bytes, and {most:,} are the most")
    with file.open() as source:
        content: bytes = source.read(most + 1)
    if len(content) > most:
        raise TooLargeError(f"it has more than {most:,} bytes, which are the most")
    return content


def require_free(file: Location, content: bytes, *, overwrite: bool) -> None:
    """Refuse to replace a file for other programs that holds something else than `content`.

    Raises
    ------
    StaleError
        If the file exists, holds something else, and `overwrite` is False.
    """
    if overwrite or not file.is_named():
        return
    if file.info().size == len(content) and file.read_bytes() == content:
        return
    raise StaleError(
        f"'{file}' exists, and holds something else than what is to be written there. Expected a "
        "new file. Add --overwrite to replace it, or choose another name."
    )


def unreadable(error: OSError) -> tuple[str, str]:
    """Say why a file cannot be read, and what must be done before the file can be made again.

    Returns
    -------
    Words that follow the file's name in a message; and a sentence with a space after it, or `""`.

    >>> unreadable(IsADirectoryError("it is a folder"))
    ('is a folder', 'Move that folder away first. ')
    >>> unreadable(FileNotFoundError("it is missing"))
    ('cannot be read: it is missing', '')
    """
    if isinstance(error, IsADirectoryError):
        return "is a folder", "Move that folder away first. "
    return f"cannot be read: {error}", ""


def parse_json(content: bytes) -> Any:
    """Parse JSON in the form that the product writes: UTF-8, no NaN, each name only once.

    Raises
    ------
    ValueError
        If the content has another form. The message completes "the file is damaged: ...".

    >>> parse_json(b'{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    if not content.strip(b" \t\r\n\0"):
        raise ValueError("it is empty")
    try:
        return json.loads(
            content.decode("utf-8-sig"), parse_constant=_refuse, object_pairs_hook=_each_once
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no text in UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON from line {error.lineno} on ({error.msg})") from error


def _refuse(constant: str) -> Any:
    raise ValueError(f"it holds {constant}, which is no number")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names '{twice}' twice")
    return found


@dataclass(frozen=True)
class KeptFile:
    """A file that a command wrote and another command reads.

    Attributes
    ----------
    file
        Where the file lies.
    expected
        The expected content, such as "the history of a training"; completes "Expected ...".
    remedy
        One or more sentences that say how to make the file again.
    most
        The largest size in bytes that the file may have.
    error
        The type of error to raise.
    """

    file: Location
    expected: str
    remedy: str
    most: int = MOST_BYTES
    error: type[ValenceError] = DamagedError

    def damaged(self, why: str) -> ValenceError:
        """Return the error for a damaged file.

        Parameters
        ----------
        why
            Words for the damage; they complete "the file is damaged: ...".
        """
        return self.error(
            f"'{self.file}' is damaged: {why}. Expected {self.expected}. {self.remedy}"
        )

    def read(self) -> bytes:
        """Read the whole content.

        Raises
        ------
        ValenceError
            If the file is absent, is no regular file, or is too large.
        """
        try:
            return read_at_most(self.file, self.most)
        except TooLargeError as error:
            raise self.damaged(str(error)) from error
        except OSError as error:
            found, first = unreadable(error)
            raise self.error(
                f"'{self.file}' {found}. Expected {self.expected}. {first}{self.remedy}"
            ) from error

    def require(self, sha256: str | None) -> None:
        """Refuse the file if its digest is not the one that its stage noted.

        Parameters
        ----------
        sha256
            The noted digest; None if an older version noted no digest.

        Raises
        ------
        ValenceError
            If the content has another digest.
        """
        if sha256 is not None and hashlib.sha256(self.read()).hexdigest() != sha256:
            raise self.damaged("its digest is not the one that its stage.json gives")

    def table(self, needs: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
        """Read a JSON object.

        Parameters
        ----------
        needs
            Names that the object must have, with the types of their values.

        Raises
        ------
        ValenceError
            If the content is no such object.
        """
        try:
            content = parse_json(self.read())
            require_table(content, needs)
        except ValueError as error:
            raise self.damaged(str(error)) from error
        assert isinstance(content, dict)
        return content

    def rows(self, columns: Iterable[str] | None, *, numbers: Iterable[str] = ()) -> pd.DataFrame:
        """Read a CSV file with a header.

        Parameters
        ----------
        columns
            The expected names in the header, in order; None accepts any.
        numbers
            The columns that hold numbers. An empty cell is NaN, and infinity is refused.

        Raises
        ------
        ValenceError
            If the header is another, a row has too few or too many cells, or a number is invalid.
        """
        try:
            text = self.read().decode()
            found = list(csv.reader(io.StringIO(text, newline=""), strict=True))
            expected = list(columns) if columns is not None else found[0] if found else []
            return _frame(found, expected, frozenset(numbers), complete=text.endswith("\n"))
        except UnicodeDecodeError as error:
            raise self.damaged(f"it is no text in UTF-8 (byte {error.start})") from error
        except (ValueError, csv.Error) as error:
            raise self.damaged(str(error)) from error


def require_table(content: Any, needs: Mapping[str, type | tuple[type, ...]]) -> None:
    """Refuse content that is no JSON object with these names and types of values.

    Raises
    ------
    ValueError
        If a name is missing or has another type. The message completes "the file is damaged: ...".

    >>> require_table({"seconds": 2.5}, {"seconds": (int, float)})
    """
    if not isinstance(content, dict):
        raise ValueError(f"it holds {_kind(content)} where an object was expected")
    for name, kinds in needs.items():
        if name not in content:
            raise ValueError(f"'{name}' is missing in it")
        value = content[name]
        accepted = kinds if isinstance(kinds, tuple) else (kinds,)
        # A bool is an int in Python, but no number in JSON.
        if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
            raise ValueError(f"'{name}' is {_kind(value)} in it")


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a truth value"}
    if value is None:
        return "null"
    return kinds.get(type(value), "a number")


def _frame(
    rows: list[list[str]], columns: list[str], numbers: frozenset[str], *, complete: bool
) -> pd.DataFrame:
    if not rows:
        raise ValueError("it is empty")
    if rows[0] != columns:
        raise ValueError(f"its header is '{','.join(rows[0])[:100]}'")
    if not complete:
        raise ValueError(f"it ends in the middle of line {len(rows)}")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(columns):
            raise ValueError(f"line {number} has {len(row)} of {len(columns)} cells")
    cells = {name: [row[place] for row in rows[1:]] for place, name in enumerate(columns)}
    return pd.DataFrame(
        {
            name: [_number(cell, name) for cell in values] if name in numbers else values
            for name, values in cells.items()
        },
        columns=columns,
    )


def _number(cell: str, column: str) -> float:
    if cell in ("", "nan", "NaN"):
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise ValueError(f"'{cell[:40]}' stands where a number of '{column}' was expected")
    return value
