"""The elements of a Matroska or WebM file, gone through to see whether it is whole.

A browser that records cannot go back: the segment, and the clusters in it, have no length then. The
blocks of sound still have one each, and a file that ends within one of them is known by it. The
layout is that of RFC 8794 (EBML) and RFC 9559.
"""

from __future__ import annotations

from pathlib import Path

from valence.errors import AudioError
from valence.storage.location import Location

_MAGIC = bytes.fromhex("1a45dfa3")
_SEGMENT = bytes.fromhex("18538067")
_CLUSTER = bytes.fromhex("1f43b675")


def require_whole_matroska(path: Path, name: Location | Path) -> bool:
    """Refuse a Matroska or WebM file that ends within one of its elements.

    Returns
    -------
    Whether a segment gives no length: then a file that ends between two blocks passes for whole.
    Also False for files of another kind.

    Raises
    ------
    AudioError
        If bytes are missing.
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
                # Zeros that fill up, or bytes of another kind: FFmpeg passes over them.
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
                # No other element may leave its length open.
                return unknown
    return unknown


def _length(head: bytes) -> tuple[int | None, int]:
    """A length, None if it is unknown, and the bytes that state it; 0 if some are not there."""
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
