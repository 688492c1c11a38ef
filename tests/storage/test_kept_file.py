"""A file that is read back is what it should be, or is refused by name with what mends it."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from valence.errors import DamagedError
from valence.storage.kept_file import KeptFile, TooLargeError, parse_json, read_at_most
from valence.storage.location import Location


@pytest.fixture
def kept(tmp_path: Path) -> KeptFile:
    file = Location.parse(tmp_path / "file")
    return KeptFile(file, "a table", "Run 'valence sweep' again.", most=1000)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (bytes(40), "it is empty"),
        (b'{"a": 1, ', "no JSON from line 1 on"),
        (b'{"a": "\xff"}', "no text in UTF-8"),
        (b'{"a": NaN}', "it holds NaN"),
        (b'{"a": 1, "a": 2}', "names 'a' twice"),
        (b"[1]", "a list where an object was expected"),
        (b"{}", "'a' is missing"),
        (b'{"a": "1"}', "'a' is a text"),
        (b'{"a": true}', "'a' is a truth value"),
        (b'{"a": null}', "'a' is null"),
        (b"[" * 900, "nested too deeply|no JSON"),
        (b" " * 1001, "it has 1,001 bytes, and 1,000 are the most"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_json_that_is_something_else_is_refused(kept: KeptFile, content: bytes, says: str) -> None:
    kept.file.write_bytes(content)
    with pytest.raises(DamagedError, match=says) as caught:
        kept.table({"a": int})
    message = str(caught.value)
    assert message.startswith(f"'{kept.file}' is damaged: ")
    assert message.endswith(". Expected a table. Run 'valence sweep' again.")


def test_json_comes_back(kept: KeptFile) -> None:
    kept.file.write_bytes(b'\xef\xbb\xbf{"a": 1, "b": [2.5]}')
    assert kept.table({"a": (int, float), "b": list}) == {"a": 1, "b": [2.5]}


def test_depth_is_bounded_by_words() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(b"[" * 200_000)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "it is empty"),
        ("n,x\n", None),
        ("n,x\na,1\n", None),
        ("n,x\na,1", "ends in the middle of line 2"),
        ("n,x\na\n", "line 2 has 1 of 2 cells"),
        ("n,x\na,1,2\n", "line 2 has 3 of 2 cells"),
        ("x,n\n1,a\n", "its header is 'x,n'"),
        ("n,x\na,one\n", "'one' stands where a number of 'x' was expected"),
        ("n,x\na,inf\n", "'inf' stands where"),
        ('n,x\n"a,1\n', "unexpected end of data"),
        ("\n" * 3, "its header is ''"),
    ],
)
def test_csv_that_is_something_else_is_refused(
    kept: KeptFile, content: str, says: str | None
) -> None:
    kept.file.write_text(content)
    if says is None:
        assert list(kept.rows(["n", "x"], numbers=["x"]).columns) == ["n", "x"]
        return
    with pytest.raises(DamagedError, match=says):
        kept.rows(["n", "x"], numbers=["x"])


def test_csv_comes_back(kept: KeptFile) -> None:
    kept.file.write_text('n,x\n"a, b",-1.5\nnone,\n')
    frame = kept.rows(["n", "x"], numbers=["x"])
    assert frame["n"].tolist() == ["a, b", "none"]
    assert frame["x"][0] == -1.5
    assert math.isnan(frame["x"][1])


def test_what_is_no_file_is_refused_at_once(kept: KeptFile, tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="it is missing"):
        kept.read()
    (tmp_path / "file").mkdir()
    with pytest.raises(DamagedError) as caught:
        kept.read()
    assert str(caught.value) == (
        f"'{kept.file}' is a folder. Expected a table. Move that folder away first. Run 'valence "
        "sweep' again."
    )
    (tmp_path / "file").rmdir()
    os.mkfifo(tmp_path / "file")
    with pytest.raises(DamagedError, match="no regular file"):
        kept.read()


def test_a_device_that_never_ends_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "zeros").symlink_to("/dev/zero")
    with pytest.raises((OSError, TooLargeError)):
        read_at_most(Location.parse(tmp_path / "zeros"), 1000)
