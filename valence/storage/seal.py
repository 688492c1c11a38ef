"""Write and read Parquet files with a seal, so that a change of any bit is noticed.

Parquet's own page checksums cover the values. They cover neither the headers of the pages nor the
footer, which states the place of everything and holds the metadata of the file. A seal covers the
rest. It lies between the last value and the footer, where other readers of Parquet ignore it.

The seal holds the CRC-32 of each block of the file before it, and the SHA-256 of the CRCs and the
footer. A reader can therefore check only the part that it reads, and needs little memory.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

# Bytes that one CRC-32 of the seal covers: so few that a small column needs little reading.
_BLOCK = 2**16
_MAGIC = b"PAR1"
_MARK = b"VALSEAL1"
# Key in the metadata of the file. A file with this key but without a seal is damaged.
_SEALED = b"sealed"
# Bytes at the end of a file that are read at once; the footer of an ordinary recording fits in.
_TAIL = 2**16
# Numbers of blocks and bytes before the seal, the SHA-256 of CRCs and footer, and the mark.
_CLOSING = struct.Struct("<QQ32s8s")


class SealError(ValueError):
    """A file that has changed since it was sealed, or is no whole Parquet file."""


class SealedWriter:
    """Writes tables as row groups of a Parquet file with page checksums, and seals it.

    Parameters
    ----------
    target
        A binary file, open for writing at its beginning.
    schema
        The schema of every table.
    options
        Options of `pyarrow.parquet.ParquetWriter`.
    """

    def __init__(self, target: BinaryIO, schema: pa.Schema, **options: Any) -> None:
        self._sink = _Sink(target)
        self._writer = pq.ParquetWriter(self._sink, schema, write_page_checksum=True, **options)

    def write(self, table: pa.Table) -> None:
        """Write a table as one row group."""
        self._writer.write_table(table, row_group_size=max(1, len(table)))

    def close(self, metadata: Mapping[str, str] | None = None) -> str:
        """End the file with its `metadata` and the seal, and return its SHA-256."""
        self._writer.add_key_value_metadata({**(metadata or {}), _SEALED.decode(): "1"})
        self._sink.hold()
        self._writer.close()
        return self._sink.seal()

    def abandon(self) -> None:
        """Release a file that will not be finished."""
        self._sink.hold()
        self._writer.close()


def write_sealed(target: BinaryIO, table: pa.Table) -> str:
    """Write a table and the metadata of its schema as a sealed file; return its SHA-256."""
    writer = SealedWriter(target, table.schema)
    if len(table):
        writer.write(table)
    return writer.close()


def open_sealed(source: BinaryIO) -> pq.ParquetFile:
    """Open a Parquet file, and check every byte when it is read.

    A file without a seal comes from an older version and is opened without this check.

    Raises
    ------
    SealError
        If the footer is missing or has changed. Later reading raises it for changed blocks.
    """
    size = source.seek(0, io.SEEK_END)
    tail = _read(source, max(0, size - _TAIL), size)
    footer = _footer_bytes(tail, size)
    # The seal before the footer is a CRC-32 for each block, followed by the closing.
    closing = _end(source, tail, size, footer + _CLOSING.size)[: _CLOSING.size]
    blocks, before, digest, mark = _CLOSING.unpack(closing)
    end = _end(source, tail, size, footer)
    if mark != _MARK:
        metadata = _metadata(end)
        if _SEALED in (metadata.metadata or {}):
            raise SealError("its seal is damaged")
        return pq.ParquetFile(source, metadata=metadata)
    if blocks != -(-before // _BLOCK) or before + 4 * blocks + _CLOSING.size + footer != size:
        raise SealError("its seal is damaged")
    table = _end(source, tail, size, footer + _CLOSING.size + 4 * blocks)[: 4 * blocks]
    if _digest(table, before, end) != digest:
        raise SealError("its seal or its footer is damaged")
    checked = _CheckedFile(source, size, before, struct.unpack(f"<{blocks}I", table))
    return pq.ParquetFile(checked, metadata=_metadata(end), page_checksum_verification=True)


def read_sealed(source: BinaryIO) -> pa.Table:
    """Read the whole table of a file, and check each byte if the file is sealed.

    Raises
    ------
    SealError
        For the same reasons as `open_sealed`, or if a page cannot be decoded.
    """
    file = open_sealed(source)
    try:
        table = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise SealError(f"its content cannot be read ({error})") from error
    return table


class _Sink:
    """Passes the bytes of a Parquet writer to the target, and computes their checksums."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._size, self._crc, self._checks = 0, 0, bytearray()
        self._sha = hashlib.sha256()
        self._held: io.BytesIO | None = None
        self.closed = False

    def write(self, data: Any) -> int:
        """Write bytes, or keep them in memory after `hold` was called."""
        if self._held is not None:
            return self._held.write(data)
        view = memoryview(data)
        at = 0
        while at < len(view):
            taken = view[at : at + _BLOCK - self._size % _BLOCK]
            self._crc = zlib.crc32(taken, self._crc)
            self._size += len(taken)
            at += len(taken)
            if self._size % _BLOCK == 0:
                self._end_block()
        self._pass(view)
        return len(view)

    def _end_block(self) -> None:
        self._checks += struct.pack("<I", self._crc)
        self._crc = 0

    def _pass(self, data: Any) -> None:
        self._sha.update(data)
        self._target.write(data)

    def hold(self) -> None:
        """Keep all further bytes, which are the footer, in memory."""
        self._held = io.BytesIO()

    def seal(self) -> str:
        """Write the seal and then the footer, and return the SHA-256 of the file."""
        assert self._held is not None, "the footer is held back before it is sealed"
        held, self._held = self._held.getvalue(), None
        footer = _footer_bytes(held, len(held) + 4)
        self.write(held[: len(held) - footer])
        if self._size % _BLOCK:
            self._end_block()
        end, table = held[len(held) - footer :], bytes(self._checks)
        digest = _digest(table, self._size, end)
        closing = _CLOSING.pack(len(table) // 4, self._size, digest, _MARK)
        self._pass(table + closing + end)
        return self._sha.hexdigest()

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self._size + (0 if self._held is None else self._held.tell())

    def flush(self) -> None:
        """Do nothing, because the owner of the target flushes it."""

    def close(self) -> None:
        """Do nothing, because the owner of the target closes it."""


class _CheckedFile:
    """The part of a file before its seal; each block is checked when it is read."""

    def __init__(self, source: BinaryIO, size: int, before: int, checks: tuple[int, ...]) -> None:
        self._source, self._size, self._before, self._checks = source, size, before, checks
        self._at, self._first, self._held = 0, 0, memoryview(b"")
        self.closed = False

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset, and return it from the beginning."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._at

    def read(self, n: int = -1) -> memoryview:
        """Read up to `n` bytes.

        Raises
        ------
        SealError
            If a block that contains these bytes has changed since it was sealed.
        """
        stop = self._before if n < 0 else min(self._before, self._at + n)
        first, last = self._at // _BLOCK, -(-stop // _BLOCK)
        start, end = first * _BLOCK, min(last * _BLOCK, self._before)
        if not (self._first <= start and end <= self._first + len(self._held)):
            self._held = memoryview(_read(self._source, start, end))
            self._first = start
            for number in range(first, last):
                at = (number - first) * _BLOCK
                if zlib.crc32(self._held[at : at + _BLOCK]) != self._checks[number]:
                    raise SealError(f"its bytes from {number * _BLOCK} on are damaged")
        found = self._held[self._at - self._first : stop - self._first]
        self._at = max(self._at, stop)
        return found

    def close(self) -> None:
        """Do nothing, because the owner of the file closes it."""


def _metadata(footer: bytes) -> pq.FileMetaData:
    try:
        return pq.read_metadata(pa.BufferReader(_MAGIC + footer))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SealError(f"its footer cannot be read ({error})") from error


def _digest(table: bytes, before: int, footer: bytes) -> bytes:
    digest = hashlib.sha256(table)
    digest.update(struct.pack("<Q", before))
    digest.update(footer)
    return digest.digest()


def _footer_bytes(tail: bytes, size: int) -> int:
    """Read the size of the footer, including its length and mark, from the end of a file."""
    if size < 12 or tail[-4:] != _MAGIC:
        raise SealError("it is cut off, or no Parquet file")
    length = int(struct.unpack("<I", tail[-8:-4])[0]) + 8
    if length + 4 > size:
        raise SealError("the length of its footer is damaged")
    return length


def _end(source: BinaryIO, tail: bytes, size: int, length: int) -> bytes:
    """Return the last `length` bytes of a file with known `tail`; zeros if it is shorter."""
    if length <= len(tail):
        return tail[len(tail) - length :]
    start = size - length
    return bytes(max(0, -start)) + _read(source, max(0, start), size)


def _read(source: BinaryIO, start: int, stop: int) -> bytes:
    source.seek(start)
    found = source.read(stop - start)
    if len(found) != stop - start:
        raise SealError("it is cut off")
    return found
