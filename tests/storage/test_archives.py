"""An archive unpacks to no more than it is."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import pytest
import torch

from valence.storage import archives
from valence.storage.archives import member_sizes


def _archive(write: Callable[[zipfile.ZipFile], object], compression: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=compression) as archive:
        write(archive)
    return buffer.getvalue()


def test_sizes_are_those_of_the_members() -> None:
    def write(archive: zipfile.ZipFile) -> None:
        archive.writestr("a", b"12345")
        archive.writestr("b/c", b"")

    assert member_sizes(_archive(write)) == {"a": 5, "b/c": 0}


def test_what_torch_saves_passes() -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(7)}, buffer)
    assert max(member_sizes(buffer.getvalue()).values()) >= 28


def test_what_unpacks_to_more_than_it_is_is_refused() -> None:
    packed = _archive(lambda archive: archive.writestr("a", bytes(50_000)), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"and unpacks to 50,000 bytes"):
        member_sizes(packed)
    short = _archive(lambda archive: archive.writestr("a", b"1"), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="holds compressed data"):
        member_sizes(short)


def test_members_that_lie_on_each_other_are_refused() -> None:
    """Two names in the directory for one content that is stored once."""

    def write(archive: zipfile.ZipFile) -> None:
        archive.writestr("a", bytes(5000))
        again = zipfile.ZipInfo("b")
        first = archive.getinfo("a")
        for name in ("header_offset", "CRC", "file_size", "compress_size"):
            setattr(again, name, getattr(first, name))
        archive.filelist.append(again)
        archive.NameToInfo["b"] = again

    with pytest.raises(ValueError, match="unpacks to 10,000 bytes"):
        member_sizes(_archive(write))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused() -> None:
    def write(archive: zipfile.ZipFile) -> None:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")

    with pytest.raises(ValueError, match="'a' twice"):
        member_sizes(_archive(write))


def test_many_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 2)

    def write(archive: zipfile.ZipFile) -> None:
        for name in "abc":
            archive.writestr(name, b"")

    with pytest.raises(ValueError, match="more than 2 members"):
        member_sizes(_archive(write))


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"nothing of the kind" * 9])
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="no ZIP archive"):
        member_sizes(content)
