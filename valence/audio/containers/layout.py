"""Choose the bytes of an audio file that its decoder reads, after the bytes were counted.

The header of a whole file can make libsndfile stop early: its length is zero, or it is the length
of the first of several streams. Such a file is decoded through a `PartFile`, which shows the same
bytes under a correct header. The file on disk is not changed.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import BinaryIO, Literal


@dataclass(frozen=True)
class Part:
    """Consecutive bytes of a file that form one stream of sound.

    Attributes
    ----------
    start, stop
        Offset of the first byte, and of the byte after the last.
    before
        Bytes that the decoder reads before the others.
    changes
        Bytes that replace those of the file: pairs of an offset in the file and new bytes, in
        ascending order.
    """

    start: int
    stop: int
    before: bytes = b""
    changes: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True)
class Layout:
    """The way in which a file is decoded.

    Attributes
    ----------
    parts
        Consecutive streams; empty if the decoder reads the file unchanged.
    frames
        Counted samples per channel, or None if the decoder's own number is right.
    if_short
        Whether the parts are used only if the decoder would stop before `frames`.
    tolerance
        Number of samples that may be missing after decoding.
    remarks
        Oddities of the file that cause no loss of sound.
    decoder
        The library that decodes it.
    """

    parts: tuple[Part, ...] = ()
    frames: int | None = None
    if_short: bool = False
    tolerance: int = 0
    remarks: tuple[str, ...] = ()
    decoder: Literal["libsndfile", "ffmpeg"] = "libsndfile"


class PartFile(io.RawIOBase):
    """A part of an open file that can be read as a file of its own.

    Parameters
    ----------
    file
        The whole file, open for reading in bytes.
    part
        The part that is visible.
    closes
        Whether closing this file closes the whole file too.
    """

    def __init__(self, file: BinaryIO, part: Part, *, closes: bool = True) -> None:
        super().__init__()
        self._file, self._part, self._closes = file, part, closes
        self._size = len(part.before) + part.stop - part.start
        self._at = 0

    def readable(self) -> bool:
        """Tell whether the file can be read: always."""
        return True

    def seekable(self) -> bool:
        """Tell whether the file can seek: always."""
        return True

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset, and return it from the beginning."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: object) -> int:
        """Fill `buffer` as far as there are bytes, and return their number."""
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        before = self._part.before
        done = 0
        if self._at < len(before):
            head = before[self._at : self._at + len(target)]
            target[: len(head)] = head
            done = len(head)
        where = self._part.start + self._at + done - len(before)
        wanted = min(len(target) - done, self._part.stop - where)
        if wanted > 0:
            self._file.seek(where)
            content = self._file.read(wanted)
            target[done : done + len(content)] = content
            for offset, new in self._part.changes:
                first, last = max(offset, where), min(offset + len(new), where + len(content))
                if first < last:
                    at = done + first - where
                    target[at : at + last - first] = new[first - offset : last - offset]
            done += len(content)
        self._at += done
        return done

    def close(self) -> None:
        """Close this file, and the whole file if `closes` is set."""
        if self._closes:
            self._file.close()
        super().close()
