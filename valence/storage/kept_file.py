"""Files that a command wrote and another reads back: of bounded size, of the expected shape, whole.

What is no such file is refused in one paragraph that names it and the command that makes it again.
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

from valence.errors import DamagedError, ValenceError
from valence.storage.location import Location

# A line about each of 100,000 recordings takes a tenth of it. Read as JSON it may become 300 MiB.
MOST_BYTES = 16 * 2**20


class TooLargeError(ValueError):
    """A file of more bytes than its content can have."""


def read_at_most(file: Location, most: int) -> bytes:
    """Read a whole file that has at most `most` bytes, whatever its size is said to be.

    Raises
    ------
    OSError
        If it is absent, is no regular file, or cannot be read.
    TooLargeError
        If it is larger; nothing more than `most` bytes is read then.
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


def unreadable(error: OSError) -> tuple[str, str]:
    """Say why a file cannot be read, and what has to be done before it can be made again.

    Returns
    -------
    What follows the file's name, and a sentence with a space behind it, or `""`.

    >>> unreadable(IsADirectoryError("it is a folder"))
    ('is a folder', 'Move that folder away first. ')
    >>> unreadable(FileNotFoundError("it is missing"))
    ('cannot be read: it is missing', '')
    """
    if isinstance(error, IsADirectoryError):
        return "is a folder", "Move that folder away first. "
    return f"cannot be read: {error}", ""


def parse_json(content: bytes) -> Any:
    """Parse JSON as the product writes it: UTF-8, without NaN, each name once.

    Raises
    ------
    ValueError
        If it is anything else. The message completes "the file is damaged: ...".

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
    """A file that a command wrote, read back.

    Attributes
    ----------
    file
        Where it lies.
    expected
        What it should be, such as "the history of a training"; it completes "Expected ...".
    remedy
        What makes it again: one or more sentences.
    most
        The bytes that it may have.
    error
        The type of the errors.
    """

    file: Location
    expected: str
    remedy: str
    most: int = MOST_BYTES
    error: type[ValenceError] = DamagedError

    def damaged(self, why: str) -> ValenceError:
        """Return the error of a file that is not what it should be.

        Parameters
        ----------
        why
            What was found; it completes "the file is damaged: ...".
        """
        return self.error(
            f"'{self.file}' is damaged: {why}. Expected {self.expected}. {self.remedy}"
        )

    def read(self) -> bytes:
        """Read the whole content.

        Raises
        ------
        ValenceError
            If it is absent, no regular file, or larger than it may be.
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
        """Refuse the file if it is not the one whose digest its stage noted.

        Parameters
        ----------
        sha256
            The digest; None where an older version noted none.

        Raises
        ------
        ValenceError
            If the content is another.
        """
        if sha256 is not None and hashlib.sha256(self.read()).hexdigest() != sha256:
            raise self.damaged("its digest is not the one that its stage.json gives")

    def table(self, needs: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
        """Read a JSON object.

        Parameters
        ----------
        needs
            Names that it has to hold, with the types of their values.

        Raises
        ------
        ValenceError
            If it is anything else.
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
            The names in its header, in order; None takes any.
        numbers
            The columns that hold numbers; an empty cell is NaN, and infinity is refused.

        Raises
        ------
        ValenceError
            If the header, the number of cells of a row, or a number is something else.
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
    """See that `content` is a JSON object that holds values of these types by these names.

    Raises
    ------
    ValueError
        If it is not. The message completes "the file is damaged: ...".

    >>> require_table({"seconds": 2.5}, {"seconds": (int, float)})
    """
    if not isinstance(content, dict):
        raise ValueError(f"it holds {_kind(content)} where an object was expected")
    for name, kinds in needs.items():
        if name not in content:
            raise ValueError(f"'{name}' is missing in it")
        value = content[name]
        accepted = kinds if isinstance(kinds, tuple) else (kinds,)
        # In Python a bool is an int, and in JSON it is none.
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
