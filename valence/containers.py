"""What the container of an audio file says of the bytes of sound in it, held against its size.

libsndfile takes what is left of a file for all of it, and a length of zero for no sound. Here each
container's own count is read, and a file that holds less is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from valence.errors import AudioError
from valence.layout import Layout, Part
from valence.mpeg import find_mpeg, lay_out_mpeg
from valence.ogg import lay_out_ogg
from valence.storage import Location

# Writers that cannot seek back leave a size of 0 or near 2 or 4 GiB: it says nothing. SoX leaves
# 0x7F00_0000 bytes of sound in AIFF.
_UNKNOWN_SIZE = 0x7F00_0000
_UNKNOWN_LONG = 0x7FFF_FFFF_0000_0000
_MPEG_IN_WAV = (0x50, 0x55)
_MPEG_SUFFIXES = (".mp3", ".mp2")
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
_MEDIA = (b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11", b"#!AMR", b"ADIF")
_TO_ITS_END = "its header gives no length, so it was read to its end"


def lay_out(file: BinaryIO, size: int, name: Location | Path) -> Layout:
    """Find how a file is to be decoded whole, or refuse it.

    Parameters
    ----------
    file
        Open at its beginning.
    size
        Its bytes.
    name
        What messages call it.

    Raises
    ------
    AudioError
        If bytes of sound that the container states are missing, or it is damaged.
    """
    start = file.read(16)
    magic, kind = start[:4], start[8:12]
    if magic in (b"RIFF", b"RIFX", b"RF64", b"BW64") and kind == b"WAVE":
        return _wave(file, size, name, magic)
    if start == _W64_RIFF:
        return _w64(file, size, name)
    if magic == b"FORM" and kind in (b"AIFF", b"AIFC"):
        return _aiff(file, size, name)
    if magic in (b".snd", b"dns."):
        return _au(start, size, name)
    if magic == b"caff":
        return _caf(file, size, name)
    if magic == b"OggS":
        return lay_out_ogg(file, size, name)
    if start[4:8] == b"ftyp" or start.startswith(_MEDIA) or _is_adts(file, size):
        return Layout(decoder="ffmpeg")
    if (first := find_mpeg(file, 0, size)) is not None:
        return lay_out_mpeg(file, first, size, name)
    if magic == b"fLaC":
        return _flac(file, size)
    if Path(str(name)).suffix.lower() in _MPEG_SUFFIXES:
        return _mpeg_cut_at_its_beginning(file, size, name)
    return Layout()


def _mpeg_cut_at_its_beginning(file: BinaryIO, size: int, name: Location | Path) -> Layout:
    """Lay out a stream that was recorded from its middle: it begins within a frame."""
    first = find_mpeg(file, 0, size, within=True)
    if first is None:
        return Layout()
    remark = f"its first {first} bytes are no whole frame, and were passed over"
    return replace(lay_out_mpeg(file, first, size, name), remarks=(remark,))


def truncated(
    name: Location | Path, found: float, expected: float, *, unit: str = "s"
) -> AudioError:
    """The error of a file that holds less than it should."""
    return AudioError(
        f"'{name}' is truncated: it holds {found:g} of the {expected:g} {unit} that its header "
        "tells of. Restore it from its source."
    )


def _chunks(file: BinaryIO, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """The name, offset of the content and length of each chunk of a RIFF or IFF file."""
    position = 12
    file.seek(position)
    while len(chunk := file.read(8)) == 8:
        length = struct.unpack(order + "I", chunk[4:])[0]
        yield chunk[:4], position + 8, length
        position += 8 + length + length % 2
        if position >= size:
            return
        file.seek(position)


def _wave(file: BinaryIO, size: int, name: Location | Path, magic: bytes) -> Layout:
    order = ">" if magic == b"RIFX" else "<"
    long_length, codec = None, 0
    for chunk, at, length in _chunks(file, size, order):
        if chunk == b"ds64":
            long_length = struct.unpack("<Q", file.read(24)[8:16].ljust(8, b"\0"))[0]
        elif chunk == b"fmt ":
            codec = struct.unpack(order + "H", file.read(2).ljust(2, b"\0"))[0]
        elif chunk == b"data":
            if length == 0xFFFF_FFFF and long_length is not None:
                length = long_length
                unknown = not 0 < length < _UNKNOWN_LONG
            else:
                unknown = length == 0 or (length >= _UNKNOWN_SIZE and at + length > size)
            if not unknown and at + length > size:
                raise truncated(name, size - at, length, unit="bytes of sound")
            if length == 0 and (at >= size or _only_chunks(file, at, size, order)):
                return Layout()
            stop = size if unknown else at + length
            remarks = (_TO_ITS_END,) if unknown else ()
            if codec in _MPEG_IN_WAV and (first := find_mpeg(file, at, stop)) is not None:
                inner = lay_out_mpeg(file, first, stop, name)
                parts = inner.parts or (Part(first, stop),)
                return Layout(parts, inner.frames, tolerance=inner.tolerance, remarks=remarks)
            if not unknown:
                return Layout()
            told = struct.pack(order + "I", min(stop - at, 0xFFFF_FFFF))
            changes: tuple[tuple[int, bytes], ...] = ((at - 4, told),)
            if magic in (b"RF64", b"BW64"):
                # Without the ds64 chunk's zero the plain header holds, to the end of the file.
                changes = ((0, b"RIFF"), *changes)
            return Layout((Part(0, size, changes=changes),), remarks=remarks)
    return Layout()


def _only_chunks(file: BinaryIO, at: int, size: int, order: str) -> bool:
    """Whether chunks with names of letters fill the rest of the file: then there is no sound."""
    while at < size:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or not (head[:4].isascii() and head[:4].decode("ascii").isprintable()):
            return False
        length = struct.unpack(order + "I", head[4:])[0]
        at += 8 + length + length % 2
    return at in (size, size + 1)


def _w64(file: BinaryIO, size: int, name: Location | Path) -> Layout:
    position = 40
    while position < size:
        file.seek(position)
        head = file.read(24)
        if len(head) < 24:
            break
        length = struct.unpack("<Q", head[16:])[0]
        if head[:16] == _W64_DATA:
            if not 24 < length < _UNKNOWN_LONG:
                return _unknown(position + 16, struct.pack("<Q", size - position), size)
            if position + length > size:
                raise truncated(name, size - position - 24, length - 24, unit="bytes of sound")
            return Layout()
        if length < 24:
            break
        position += (length + 7) // 8 * 8
    return Layout()


def _aiff(file: BinaryIO, size: int, name: Location | Path) -> Layout:
    frames_at = None
    frame_bytes = frames = 0
    for chunk, at, length in _chunks(file, size, ">"):
        if chunk == b"COMM":
            channels, frames, bits = struct.unpack(">HIH", file.read(8).ljust(8, b"\0"))
            frames_at, frame_bytes = at + 2, channels * ((bits + 7) // 8)
        elif chunk == b"SSND":
            if (length == 0 or length >= _UNKNOWN_SIZE) and size > at + 8:
                told = struct.pack(">I", min(size - at, 0xFFFF_FFFF))
                changes: list[tuple[int, bytes]] = [(at - 4, told)]
                if frames_at is not None and frame_bytes:
                    counted = struct.pack(">I", (size - at - 8) // frame_bytes)
                    changes.insert(0, (frames_at, counted))
                part = Part(0, size, changes=tuple(changes))
                return Layout((part,), remarks=(_TO_ITS_END,))
            if at + length > size:
                raise truncated(name, max(0, size - at - 8), length - 8, unit="bytes of sound")
            return Layout()
    if frames:
        raise truncated(name, 0, frames, unit="samples")
    return Layout()


def _au(start: bytes, size: int, name: Location | Path) -> Layout:
    order = ">" if start[:4] == b".snd" else "<"
    if len(start) < 12:
        return Layout()
    at, length = struct.unpack(order + "II", start[4:12])
    if length >= _UNKNOWN_SIZE and at + length > size:
        return Layout(remarks=(_TO_ITS_END,))
    if length == 0 and size > at:
        return _unknown(8, struct.pack(order + "I", min(size - at, 0xFFFF_FFFF)), size)
    if at + length > size:
        raise truncated(name, max(0, size - at), length, unit="bytes of sound")
    return Layout()


def _caf(file: BinaryIO, size: int, name: Location | Path) -> Layout:
    position = 8
    while position < size:
        file.seek(position)
        head = file.read(12)
        if len(head) < 12:
            break
        length = struct.unpack(">q", head[4:])[0]
        if head[:4] == b"data":
            # Four bytes of it count edits.
            if length < 4 and size > position + 16:
                return _unknown(position + 4, struct.pack(">q", size - position - 12), size)
            if position + 12 + length > size:
                found = max(0, size - position - 16)
                raise truncated(name, found, length - 4, unit="bytes of sound")
            return Layout()
        if length < 0:
            break
        position += 12 + length
    return Layout()


def _flac(file: BinaryIO, size: int) -> Layout:
    """A FLAC file; the tag that some programs put behind it would be an error to its decoder."""
    file.seek(max(0, size - 128))
    if size > 128 and file.read(3) == b"TAG":
        return Layout((Part(0, size - 128),))
    return Layout()


def _unknown(at: int, length: bytes, size: int) -> Layout:
    """A file to be read to its end, under a header that states the length."""
    return Layout((Part(0, size, changes=((at, length),)),), remarks=(_TO_ITS_END,))


def _is_adts(file: BinaryIO, size: int) -> bool:
    """Whether it is bare AAC: frames whose layer is 0, each with its length."""
    file.seek(0)
    head = file.read(8192)
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return False
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    following = head[length : length + 2]
    return length >= 7 and (
        length == size or (following[:1] == b"\xff" and following[1] & 0xF6 == 0xF0)
    )
