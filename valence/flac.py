"""The length of a FLAC file whose header leaves it open, as a program writes it to a pipe.

The header of its last frame states where the frame begins, and the frame ends with a checksum of
its own: a file that was cut within a frame is known by it. The layout is that of RFC 9639.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from valence.errors import AudioError
from valence.storage import Location

_LAST_FRAME_BYTES = 2**22


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


def count_flac(file: BinaryIO, size: int, name: Location | Path) -> int:
    """Count the samples a channel of a FLAC file by its last frame.

    Raises
    ------
    AudioError
        If no whole frame ends the file.
    """
    file.seek(0)
    head = file.read(42)
    largest = int.from_bytes(head[10:12], "big")
    fixed = largest == int.from_bytes(head[8:10], "big")
    file.seek(max(0, size - 128))
    if size > 128 and file.read(3) == b"TAG":
        size -= 128
    start = max(0, size - _LAST_FRAME_BYTES)
    file.seek(start)
    tail = file.read(size - start)
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        found = _frame(tail[at : at + 17])
        if found is None:
            continue
        number, samples, variable = found
        if _crc16(tail[at:]) == 0:
            if variable:
                return number + samples
            return number * (largest if fixed or number else samples) + samples
    raise AudioError(
        f"'{name}' is truncated: no whole frame ends it, and its header gives no length. Restore "
        "it from its source."
    )


def _frame(head: bytes) -> tuple[int, int, bool] | None:
    """The number, samples and blocking of the frame that begins here, or None if none does."""
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
