"""Check that a Matroska or WebM file is whole by walking through its elements.

A browser that records cannot seek back, so the segment and its clusters then state no length. Each
block of sound still states one, which shows whether the file ends inside a block. The format is
defined in RFC 8794 (EBML) and RFC 9559.
"""

from __future__ import annotations

from pathlib import Path

from valence.errors import AudioError
from valence.storage.location import Location

_MAGIC = bytes.fromhex("1a45dfa3")
_SEGMENT = bytes.fromhex("18538067")
_CLUSTER = bytes.fromhex("1f43b675")


def require_whole_matroska(path: Path, name: Location | Path) -> bool:
    """Refuse a Matroska or WebM file that ends inside one of its elements.

    Returns
    -------
    Whether a segment states no length. A file that ends between two blocks is then accepted as
    whole. For files of another kind the result is False.

    Raises
    ------
    AudioError
        If an element lacks bytes.
    """
    size, at, unknown = path.stat().st_size, 0, False
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(12)
            if at == 0 and head[:4] != _MAGIC:
                return False
            width = 9 - head[0].bit_length()
            if width > 4:
                # Padding zeros or bytes of another kind follow; FFmpeg ignores them.
                return unknown
            length, begin = _length(head[width:])
            if length is None and begin == 0:
                raise _truncated(name, size, at + len(head) + 1)
            at += width + begin
            if length is not None and at + length > size:
                raise _truncated(name, size, at + length)
            if head[:width] == _SEGMENT:
                unknown |= length is None
            elif length is not None:
                at += length
            elif head[:width] != _CLUSTER:
                # Only segments and clusters may leave their length open.
                return unknown
    return unknown


def _length(head: bytes) -> tuple[int | None, int]:
    """Read a length (None if unknown) and count the bytes that state it; 0 if any is missing."""
    width = 9 - head[0].bit_length() if head else 9
    if len(head) < width:
        return None, 0
    most = (1 << 7 * width) - 1
    length = int.from_bytes(head[:width], "big") & most
    return (None if length == most else length), width


def _truncated(name: Location | Path, size: int, needed: int) -> AudioError:
    return AudioError(
        f"'{name}' is truncated: it holds {size} of the {needed} bytes that its last element tells "
        "of. Restore it from its source."
    )
