"""Find the length of a FLAC file by its frames, because its header may lack it or be outdated.

The header of the last frame states the frame's first sample, and the frame ends with a checksum.
The checksum shows whether the file was cut inside a frame. The format is defined in RFC 9639.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from valence.audio.containers.behind import before_zeros, second_recording
from valence.audio.containers.layout import Layout, Part
from valence.audio.containers.mpeg import before_tags
from valence.errors import AudioError
from valence.storage.location import Location

# Bytes of one frame that are no samples: its header, those of eight channels, and its checksum.
_FRAME_MARGIN = 2**10
_MOST_FRAME = 2**22
_READ = 2**20
# Up to this many zeros at the end may belong to a frame's checksum.
_CRC_BYTES = 2
# Places at which frame numbers are compared: they reveal joined files without a full read.
_PROBES = 16
# The mark of a FLAC file, and the beginning of its STREAMINFO block with the block's length.
_BEGIN = b"fLaC\0\0\0\x22"


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc


def _crc16_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8005 if crc & 0x8000 else crc << 1) & 0xFFFF
        table.append(crc)
    return table


_CRC16 = _crc16_table()


# The one byte whose entry of the table ends with a given byte: the checksum is undone with it.
_UNDO_CRC16 = {entry & 0xFF: byte for byte, entry in enumerate(_CRC16)}


def lay_out_flac(file: BinaryIO, size: int, name: Location | Path) -> Layout:
    """Find how to decode a whole FLAC file, even if its header states no length or a short one.

    Raises
    ------
    AudioError
        If the file ends inside a frame that its header does not count, or if a second recording
        begins in the file.
    """
    file.seek(0)
    head = file.read(42)
    if len(head) < 42 or head[4] & 0x7F or not int.from_bytes(head[18:21], "big") >> 4:
        return Layout()
    # The decoder would report tags and zeros behind the sound as an error.
    stop = before_tags(file, len(head), size)
    zeros = before_zeros(file, len(head), stop)
    if stop - zeros > _CRC_BYTES:
        stop = zeros
    stated = (head[21] & 15) << 32 | int.from_bytes(head[22:26], "big")
    counted = _counted(file, stop, head)
    doubtful = counted != stated or size <= _READ or not _numbers_rise(file, stop, head)
    if doubtful and (second := _second(file, size)) is not None:
        raise second_recording(name, second)
    if counted is None and not stated:
        raise AudioError(
            f"'{name}' is truncated: no whole frame ends it, and its header gives no length. "
            "Restore it from its source."
        )
    if counted is None and (begun := _begun(file, stop, head)) > stated:
        raise AudioError(
            f"'{name}' is truncated: it ends within a frame after {begun} samples, and its header "
            f"tells of the first {stated} alone. Restore it from its source."
        )
    if counted is None or counted <= stated:
        return Layout((Part(0, stop),) if stop < size else ())
    new = bytes([head[21] & 0xF0 | counted >> 32]) + struct.pack(">I", counted & 0xFFFF_FFFF)
    remark = "its header gives no length, so it was read to its end"
    if stated:
        remark = (
            f"its header tells of {stated} of its {counted} samples, and it was read to its end"
        )
    return Layout((Part(0, stop, changes=((21, new),)),), remarks=(remark,))


def _second(file: BinaryIO, size: int) -> int | None:
    """Find where the header of a second recording begins, if files were joined."""
    at = len(_BEGIN)
    while at < size:
        file.seek(at)
        piece = file.read(_READ + len(_BEGIN) - 1)
        found = piece.find(_BEGIN)
        if found >= 0:
            return at + found
        at += _READ
    return None


def _numbers_rise(file: BinaryIO, stop: int, head: bytes) -> bool:
    """Tell whether the numbers of the frames rise from each probed place to the next.

    Files of equal length that were joined end with the number that the first header lets expect.
    """
    begin = _first_frame(file)
    file.seek(begin)
    first = file.read(4)
    # A frame begins within these bytes wherever they are taken from.
    span = 2 * _frame_span(head)
    before = 0
    for probe in range(1, _PROBES):
        file.seek(begin + (stop - begin) * probe // _PROBES)
        piece = file.read(span)
        at, found = -1, None
        while found is None:
            if (at := piece.find(first[:2], at + 1)) < 0:
                return False
            found = _frame_like(first, piece[at : at + 17])
        number = _first_sample(found, head)
        if number < before:
            return False
        before = number
    return True


def _counted(file: BinaryIO, stop: int, head: bytes) -> int | None:
    """Count samples per channel by the last frame; None if no whole frame ends the file.

    The checksum of a frame with its own checksum is 0, also with zeros behind it. It is undone
    from the end of the file on, so each byte is looked at once, wherever the frame begins.
    """
    tail = _tail(file, stop, _frame_span(head))
    crc = 0
    for at in range(len(tail) - 1, -1, -1):
        index = _UNDO_CRC16[crc & 0xFF]
        crc = (index ^ tail[at]) << 8 | (crc ^ _CRC16[index]) >> 8
        if crc == 0 and tail[at] == 0xFF:
            found = _frame(tail[at : at + 17])
            if found is not None:
                return _first_sample(found, head) + found[1]
    return None


def _begun(file: BinaryIO, stop: int, head: bytes) -> int:
    """Count samples per channel before the last frame that begins; 0 if none is found."""
    file.seek(_first_frame(file))
    first = file.read(4)
    tail = _tail(file, stop, _MOST_FRAME)
    at = len(tail)
    while len(first) == 4 and (at := tail.rfind(first[:2], 0, at)) >= 0:
        found = _frame_like(first, tail[at : at + 17])
        if found is not None:
            return _first_sample(found, head)
    return 0


def _first_frame(file: BinaryIO) -> int:
    """Find the byte behind the blocks of metadata."""
    at = 4
    while True:
        file.seek(at)
        block = file.read(4)
        if len(block) < 4:
            return at
        at += 4 + int.from_bytes(block[1:], "big")
        if block[0] & 0x80:
            return at


def _frame_span(head: bytes) -> int:
    """The most bytes of one frame: those of its bare samples, or more if the header says so."""
    samples, stated = int.from_bytes(head[10:12], "big"), int.from_bytes(head[15:18], "big")
    channels = (head[20] >> 1 & 7) + 1
    bits = ((head[20] & 1) << 4 | head[21] >> 4) + 1
    # The difference of two channels takes one bit more than each.
    bare = (samples * (channels * bits + 1) + 7) // 8
    return min(max(bare, stated) + _FRAME_MARGIN, _MOST_FRAME)


def _tail(file: BinaryIO, stop: int, n: int) -> bytes:
    start = max(0, stop - n)
    file.seek(start)
    return file.read(stop - start)


def _frame_like(first: bytes, head: bytes) -> tuple[int, int, bool] | None:
    """Parse a frame header if it has the blocking, rate and bits that all frames share."""
    if len(first) < 4 or len(head) < 4 or head[:2] != first[:2]:
        return None
    if head[2] & 15 != first[2] & 15 or head[3] & 15 != first[3] & 15:
        return None
    return _frame(head)


def _first_sample(found: tuple[int, int, bool], head: bytes) -> int:
    """Return the number of a frame's first sample; frames of fixed length count frames."""
    number, samples, variable = found
    if variable:
        return number
    largest = int.from_bytes(head[10:12], "big")
    fixed = largest == int.from_bytes(head[8:10], "big")
    return number * (largest if fixed or number else samples)


def _frame(head: bytes) -> tuple[int, int, bool] | None:
    """Read number, samples and blocking strategy of the frame that begins here, or None."""
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    sizes, rates = head[2] >> 4, head[2] & 15
    if not sizes or rates == 15:
        return None
    ones = 8 - (head[4] ^ 0xFF).bit_length()
    if ones in (1, 8):
        return None
    width = max(1, ones)
    number = head[4] & (0x7F >> ones)
    for byte in head[5 : 4 + width]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    at = 4 + width
    extra = {6: 1, 7: 2}.get(sizes, 0)
    if sizes == 1:
        samples = 192
    elif sizes <= 5:
        samples = 576 << sizes - 2
    elif sizes <= 7:
        samples = int.from_bytes(head[at : at + extra], "big") + 1
    else:
        samples = 256 << sizes - 8
    end = at + extra + {12: 1, 13: 2, 14: 2}.get(rates, 0)
    if len(head) <= end or _crc8(head[:end]) != head[end]:
        return None
    return number, samples, bool(head[1] & 1)
