"""Find the length of a FLAC file by its frames, because its header may lack it or be outdated.

The header of the last frame states the frame's first sample, and the frame ends with a checksum.
The checksum shows whether the file was cut inside a frame. The format is defined in RFC 9639.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from valence.audio.containers.behind import second_recording
from valence.audio.containers.layout import Layout, Part
from valence.errors import AudioError
from valence.storage.location import Location

_LAST_FRAME_BYTES = 2**22
_READ = 2**20
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


def _crc16(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFF00) ^ _CRC16[crc >> 8 ^ byte]
    return crc


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
    if (second := _second(file, size)) is not None:
        raise second_recording(name, second)
    # The decoder would report an ID3v1 tag at the end, which some programs write, as an error.
    file.seek(max(0, size - 128))
    stop = size - 128 if size > 128 and file.read(3) == b"TAG" else size
    stated = (head[21] & 15) << 32 | int.from_bytes(head[22:26], "big")
    counted = _counted(file, stop, head)
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


def _counted(file: BinaryIO, stop: int, head: bytes) -> int | None:
    """Count samples per channel by the last frame; None if no whole frame ends the file."""
    tail = _tail(file, stop)
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        found = _frame(tail[at : at + 17])
        if found is not None and _crc16(tail[at:]) == 0:
            return _first_sample(found, head) + found[1]
    return None


def _begun(file: BinaryIO, stop: int, head: bytes) -> int:
    """Count samples per channel before the last frame that begins; 0 if none is found."""
    file.seek(4)
    while len(block := file.read(4)) == 4:
        file.seek(int.from_bytes(block[1:], "big"), os.SEEK_CUR)
        if block[0] & 0x80:
            break
    # All frames of a file share the blocking strategy, the rate and the bits per sample.
    first = file.read(4)
    tail = _tail(file, stop)
    at = len(tail)
    while len(first) == 4 and (at := tail.rfind(first[:2], 0, at)) >= 0:
        word = tail[at : at + 4].ljust(4, b"\0")
        if word[2] & 15 == first[2] & 15 and word[3] & 15 == first[3] & 15:
            found = _frame(tail[at : at + 17])
            if found is not None:
                return _first_sample(found, head)
    return 0


def _tail(file: BinaryIO, stop: int) -> bytes:
    start = max(0, stop - _LAST_FRAME_BYTES)
    file.seek(start)
    return file.read(stop - start)


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
