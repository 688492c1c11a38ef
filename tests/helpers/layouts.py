"""Write small corpora in the layout of MuSe, file by file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from valence.storage.location import Location

AUDIO = "raw_data/audio"


def make(root: Path, files: Iterable[str]) -> Location:
    """Make empty files, and return the folder."""
    for name in files:
        write(root, name, "")
    return Location.parse(root)


def write(root: Path, name: str, text: str) -> None:
    """Write a file and the folders that it needs."""
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def labels(n: int, *, first: int = 0) -> str:
    """Return `n` rows of a label file, which begins at `first` ms."""
    rows = (f"{first + 500 * i},0.5,1\n" for i in range(n))
    return "timestamp,value,segment_id\n" + "".join(rows)
