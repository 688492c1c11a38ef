"""Tables as programs and people write them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from valence.errors import AnnotationError, CorpusError
from valence.importing.declaration import LabelsForm, TableForm
from valence.importing.readers.columns import read_named_table
from valence.storage.location import Location


def _table(tmp_path: Path, content: bytes | str, form: TableForm | None = None):  # type: ignore[no-untyped-def]
    file = tmp_path / "1.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_named_table(Location.parse(file), form or TableForm())


@pytest.mark.parametrize(
    "content",
    [
        b"time;FM1 ;FM2 \n0;0,1;-1\n0,04;;0,5\n",
        b"time;FM1 ;FM2 ;\r\n0;0,1;-1;\r\n0,04;;0,5;\r\n",
        b"\xef\xbb\xbftime;FM1 ;FM2 \n0;0,1;-1\n\n0,04;NaN;0,5\n",
        "time;FM1 ;FM2 \n0;0,1;-1\n0,04;n/a;0,5\n".encode("utf-16"),
        b"time;FM1 ;FM2 \r0;0,1;\xe2\x88\x921\r0,04;;0,5\r",
    ],
)
def test_blanks_marks_line_ends_and_decimal_commas(content: bytes, tmp_path: Path) -> None:
    table = _table(tmp_path, content)
    assert table.names[:3] == ("time", "FM1", "FM2")
    assert table.numbers("time", expected="a time") == [0, 0.04]
    first, second = table.numbers("FM1", expected="a number")
    assert first == 0.1
    assert math.isnan(second)
    assert table.numbers("FM2", expected="a number") == [-1, 0.5]


def test_a_head_and_a_marker(tmp_path: Path) -> None:
    form = TableForm(head_rows=2, marker="%%%%%%", separator="comma")
    text = '"File","a, b.mp4"\n"Maximum Value","100"\n"Second","Rating"\n"%%%%%%","%%%%%%"\n1,2\n'
    table = _table(tmp_path, text, form)
    assert table.head["Maximum Value"] == "100"
    assert [line for line, _ in table.rows] == [5]
    with pytest.raises(AnnotationError, match="line 4: '1,2' was found after the columns Second"):
        _table(tmp_path, text.replace('"%%%%%%","%%%%%%"\n', ""), form)
    with pytest.raises(AnnotationError, match=r"has 1 lines\. Expected 2 of a head"):
        _table(tmp_path, "a,b", form)


def test_declared_names_quotes_and_missing_marks(tmp_path: Path) -> None:
    form = TableForm(columns=("name", "v"), quote="'", missing=("x", "-999"))
    table = _table(tmp_path, "'a';1\n'b';x\n'c';-999\n", form)
    assert [table.text(cells, 0) for _, cells in table.rows] == ["a", "b", "c"]
    first, *others = table.numbers("v", expected="a number")
    assert first == 1
    assert all(map(math.isnan, others))


def test_a_number_that_marks_a_missing_value_is_none_even_among_numbers(tmp_path: Path) -> None:
    form = TableForm(missing=("-999",))
    values = _table(tmp_path, "t,v\n0,-999\n1,-99\n", form).numbers("v", expected="a number")
    assert math.isnan(values[0])
    assert values[1] == -99


def test_rows_that_begin_with_a_hash_are_rows(tmp_path: Path) -> None:
    table = _table(tmp_path, "id,v\n#1,0.5\n2,0.25\n")
    assert [line for line, _ in table.rows] == [2, 3]


@pytest.mark.parametrize(
    ("text", "decimal", "words"),
    [
        ("t,v\n0,1_000\n", None, "line 2: the v is '1_000'"),
        ("t,v\n0,inf\n", None, "the v is 'inf'"),
        ("t;v\n0;1,5\n", "point", "line 2: the v is '1,5'.*decimal point, as declared"),
        ("t;v\n0;1.5\n", "comma", "line 2: the v is '1.5'.*decimal comma, as declared"),
        ("t;v\n0;1,500\n", None, "may be a decimal mark"),
        ("t,v\n0,1,5\n", None, "3 filled cells"),
        ("t,v\n", None, "holds no row"),
        ("", None, "holds no row"),
        ("\n\n", None, "holds no row"),
        ("t,u\n0,1\n", None, "none is called 'v'"),
        ("t,v,V\n0,1,2\n", None, None),
        ("t,V,V \n0,1,2\n", None, "has 2 columns called 'v'"),
    ],
)
def test_what_cannot_be_read_is_refused(
    text: str, decimal: str | None, words: str | None, tmp_path: Path
) -> None:
    if words is None:
        assert _table(tmp_path, text).numbers("v", expected="a number") == [1]
        return
    with pytest.raises(CorpusError, match=words):
        _table(tmp_path, text).numbers("v", expected="a number", decimal=decimal)


_LINES = LabelsForm(
    files=("{id}.txt",),
    reader="lines",
    begins=r"\[\d",
    line=r"\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\s+(?P<id>\S+)\s+\[(?P<v>[\d.]+)\]",
    valence="v",
)


def test_lines_that_count_must_have_the_form(tmp_path: Path) -> None:
    text = "% [V]\n\n[0.5 - 1.5]\ta\t[2.5]\nC-E2: x\n[2 - 3]\tb\t[4]\n"
    table = _table(tmp_path, text, _LINES)
    assert table.names == ("start", "end", "id", "v")
    assert [line for line, _ in table.rows] == [3, 5]
    assert table.numbers("v", expected="a number") == [2.5, 4]
    with pytest.raises(AnnotationError, match=r"line 5: '\[2 - 3\]\tb' was found"):
        _table(tmp_path, text.replace("\t[4]", ""), _LINES)
    with pytest.raises(AnnotationError, match="holds no line that begins like"):
        _table(tmp_path, "% nothing\n", _LINES)
