"""ARFF files, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from valence.errors import AnnotationError
from valence.importing.declaration import TableForm
from valence.importing.readers.arff import read_arff
from valence.importing.readers.columns import NamedTable
from valence.storage.location import Location

_HEAD = """% made
@RELATION 'gold standard'
@ATTRIBUTE Instance_name STRING
@attribute "frame time" numeric
@Attribute GoldStandard real
@DATA
"""


def _read(tmp_path: Path, text: str) -> NamedTable:
    (tmp_path / "1.arff").write_bytes(text.encode())
    return read_arff(Location.parse(tmp_path / "1.arff"), TableForm())


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_attributes_texts_and_missing_values(quote: str, end: str, tmp_path: Path) -> None:
    rows = f"{quote}dev, 1{quote},0.00,-0.25\n% a comment\n\n{quote}dev, 1{quote}, 0.04, ?\n"
    table = _read(tmp_path, (_HEAD + rows).replace("\n", end))
    assert table.names == ("Instance_name", "frame time", "GoldStandard")
    assert [line for line, _ in table.rows] == [7, 10]
    assert {cells[0] for _, cells in table.rows} == {"dev, 1"}
    assert table.numbers("frame time", expected="a time") == [0, 0.04]
    first, second = table.numbers("GoldStandard", expected="a number")
    assert first == -0.25
    assert math.isnan(second)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_HEAD + "a,0,0.1\na,0.04,0.2,7\n", "line 8: 'a,0.04,0.2,7' has 4 values. Expected 3"),
        (_HEAD + "a,0\n", "line 7: 'a,0' has 2 values. Expected 3"),
        (_HEAD + "{0 a, 1 0.1}\n", "is a sparse row"),
        (_HEAD, "has 3 attributes and 0 rows"),
        ("", "has 0 attributes and 0 rows"),
        ("Instance_name,frameTime\na,0\n", "line 1: 'Instance_name,frameTime' was found"),
        (_HEAD.replace("@DATA", "@DATUM"), "line 6: '@DATUM' was found"),
    ],
)
def test_what_is_no_arff_is_refused_with_its_line(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=words):
        _read(tmp_path, text)
