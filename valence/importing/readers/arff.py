"""Read ARFF files (Weka's tables): attributes with names, then rows with commas.

The form is described in Weka's manual. A small reader of the product's own is used because scipy's
refuses texts and drops surplus values (a decimal comma becomes 0), and liac-arff would be one more
dependency for a header of four lines. Only dense rows are read.
"""

from __future__ import annotations

import csv
import re

from valence.corpus.csv_tables import Table, read_text
from valence.errors import AnnotationError
from valence.importing.declaration import TableForm
from valence.importing.readers.columns import NamedTable
from valence.storage.location import Location

_ATTRIBUTE = re.compile(r"@attribute\s+('[^']*'|\"[^\"]*\"|\S+)\s+(\S.*)", re.IGNORECASE)
_DATA = re.compile(r"@data\s*", re.IGNORECASE)
_RELATION = re.compile(r"@relation\b.*", re.IGNORECASE)
_MISSING = "?"


def read_arff(file: Location, form: TableForm) -> NamedTable:
    """Read an ARFF file as a table; `?` is an empty cell.

    Raises
    ------
    AnnotationError
        If the file cannot be read, lacks `@data` or attributes, or has a row with more or fewer
        cells than attributes; the message names the line.
    """
    names: list[str] = []
    rows = []
    in_data = False
    for number, whole in enumerate(re.split(r"\r\n|\r|\n", read_text(file, AnnotationError)), 1):
        line = whole.strip()
        if not line or line.startswith("%"):
            continue
        if in_data:
            rows.append((number, _cells(file, number, line, len(names))))
        elif found := _ATTRIBUTE.fullmatch(line):
            names.append(found[1].strip("'\""))
        elif _DATA.fullmatch(line):
            in_data = True
        elif not _RELATION.fullmatch(line):
            raise AnnotationError(
                f"'{file}', line {number}: '{line}' was found. Expected @relation, @attribute or "
                "@data, as in an ARFF file; correct that line."
            )
    if not names or not rows:
        raise AnnotationError(
            f"'{file}' has {len(names)} attributes and {len(rows)} rows after @data. Expected "
            "some of both, as in an ARFF file; restore it, or remove it."
        )
    return NamedTable(Table(file, tuple(rows)), tuple(names), {}, form)


def _cells(file: Location, number: int, line: str, width: int) -> list[str]:
    if line.startswith("{"):
        raise AnnotationError(
            f"'{file}', line {number}: '{line}' is a sparse row. Expected a value for each "
            "attribute; save the file with dense rows."
        )
    mark = "'" if "'" in line and '"' not in line else '"'
    (read,) = csv.reader([line], quotechar=mark, skipinitialspace=True, escapechar="\\")
    cells = [cell.strip() for cell in read]
    if len(cells) != width:
        raise AnnotationError(
            f"'{file}', line {number}: '{line}' has {len(cells)} values. Expected {width}, one for "
            "each attribute; correct that line."
        )
    return ["" if cell == _MISSING else cell for cell in cells]
