"""Which bytes of an audio file its decoder is given, once the bytes themselves were counted.

Some whole files have a header that makes libsndfile stop early: the length is zero, or it is that
of the first of several streams. Such a file is decoded through a `PartFile`, which shows the same
bytes under a header that tells the truth. Nothing on disk is changed.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import BinaryIO, Literal


@dataclass(frozen=True)
class Part:
    """Consecutive bytes of a file that make one stream of sound.

    Attributes
    ----------
    start, stop
        The first byte, and the one behind the last.
    before
        Bytes that the decoder is given first.
    changes
        Bytes that take the place of others, by their offset in the file; in order.
    """

    start: int
    stop: int
    before: bytes = b""
    changes: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True)
class Layout:
    """How a file is to be decoded.

    Attributes
    ----------
    parts
        Streams that follow each other; none where the file is decoded as it stands.
    frames
        Samples a channel that were counted, or None where the decoder's own number holds.
    if_short
        Whether the parts are used only where the decoder would stop before `frames`.
    tolerance
        How many samples fewer may come out.
    remarks
        What is odd about the file and costs no sound.
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
    """A part of an open file, to be read as if it were a file of its own.

    Parameters
    ----------
    file
        The whole file, open for reading in bytes.
    part
        What is seen of it.
    closes
        Whether the whole file is closed with this one.
    """

    def __init__(self, file: BinaryIO, part: Part, *, closes: bool = True) -> None:
        super().__init__()
        self._file, self._part, self._closes = file, part, closes
        self._size = len(part.before) + part.stop - part.start
        self._at = 0

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def seekable(self) -> bool:
        """Whether it can seek: always."""
        return True

    def tell(self) -> int:
        """The offset of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset, which is returned."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: object) -> int:
        """Fill `buffer` as far as there are bytes; returns how many."""
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
        """Close it, and the whole file where it is this one's."""
        if self._closes:
            self._file.close()
        super().close()
