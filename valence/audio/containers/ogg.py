"""Check the pages of an Ogg file, and find its consecutive streams.

libsndfile 1.2.2 decodes only the first stream of a chained file, and skips damaged pages without a
warning. The format of pages is defined in RFC 3533.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from valence.audio.containers.layout import Layout, Part
from valence.errors import AudioError
from valence.storage.location import Location

_HEADER = 27
_FIRST, _LAST = 2, 4
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass
class _Stream:
    """A logical stream while pages are read: its start, its next page number, its end."""

    start: int
    next_page: int
    ended: bool = False


def page_checksum(page: bytes) -> int:
    """Compute the CRC of an Ogg page whose own CRC field is zero.

    The CRC has the polynomial of zlib's with the bits in reversed order, a start value of zero and
    no final inversion (RFC 3533, section 6).
    """
    reflected = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED), "big")


def lay_out_ogg(file: BinaryIO, size: int, name: Location | Path) -> Layout:
    """Check all pages of an Ogg file, and find its consecutive streams.

    Raises
    ------
    AudioError
        If a page is damaged or missing, or a stream has no end.
    """
    where, current, starts, mixed = 0, None, [0], False
    streams: dict[int, _Stream] = {}
    beginning = True
    file.seek(0)
    while where < size:
        header = file.read(_HEADER)
        if header[:4] != b"OggS":
            if streams and all(stream.ended for stream in streams.values()):
                break  # Tags of other programs after the last stream are no sound.
            raise _damaged(name, where, "no page begins there")
        if len(header) < _HEADER:
            raise _endless(name)
        table = file.read(header[26])
        body = file.read(sum(table))
        if len(table) < header[26] or len(body) < sum(table):
            raise _endless(name)
        flags, _, serial, number, crc = struct.unpack("<xxxxxBqIII", header[:26])
        if page_checksum(header[:22] + bytes(4) + header[26:] + table + body) != crc:
            raise _damaged(name, where, "a page does not match its checksum")
        if flags & _FIRST:
            if current is not None and not beginning:
                if not all(stream.ended for stream in streams.values()):
                    raise _endless(name)
                streams = {}
                starts.append(where)
            elif current is not None:
                mixed = True
            beginning, current = True, serial
            streams[serial] = _Stream(where, number)
        else:
            beginning = False
        stream = streams.get(serial)
        if stream is None or number != stream.next_page:
            raise _damaged(name, where, "a page before it is missing")
        stream.next_page = (number + 1) & 0xFFFFFFFF
        stream.ended = bool(flags & _LAST)
        where += _HEADER + len(table) + len(body)
    if not all(stream.ended for stream in streams.values()):
        raise _endless(name)
    if mixed:
        return Layout(decoder="ffmpeg")
    if len(starts) == 1 and where == size:
        return Layout()
    stops = [*starts[1:], where]
    return Layout(tuple(Part(a, b) for a, b in zip(starts, stops, strict=True)))


def _endless(name: Location | Path) -> AudioError:
    return AudioError(
        f"'{name}' is truncated: its Ogg stream has no end. Restore it from its source."
    )


def _damaged(name: Location | Path, where: int, why: str) -> AudioError:
    return AudioError(
        f"'{name}' is damaged at byte {where} of its Ogg stream: {why}. Expected whole pages, one "
        "after the other; restore it from its source."
    )
