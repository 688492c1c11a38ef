"""The file of a recording in the segment store: what is in it, written and read in row groups.

A row group is one copy (clean, or augmented) of one block of segments, the copies of a block after
each other, so that neither writing nor reading needs memory that grows with the recording. What
made the file stands in its own metadata, and a seal (`valence.storage.seal`) shows every change.

The mel of a segment is one value of fixed size, its numbers as they lie in memory (little-endian,
row by row); their shape and type stand in the metadata of the column. A column of tensors or lists
would let other programs see the numbers as such, and costs seven times as much to write and twelve
times as much to read, since Parquet has a level for every number in a list.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from valence.audio.standardization import MelMoments
from valence.storage.seal import SealedWriter, open_sealed

# Segments of one copy in a row group: 10 MB of mel in float16 at the defaults.
BLOCK_SEGMENTS = 1200

_METADATA = "valence"
# Of the column of the mel.
_SHAPE, _DTYPE = "shape", "dtype"


@dataclass(frozen=True)
class Segments:
    """Consecutive segments of one copy of a recording.

    Attributes
    ----------
    recording, copy
        Id, and 0 for the clean recording or the number of the augmented copy.
    timestamp
        Start of each segment in ms, int64 `[n]`, whatever end its label file names.
    valence, arousal
        float32 `[n]`, NaN where not known.
    mel
        Log-mel in dB as stored, float16 or float32 `[n, n_mels, n_frames]`.
    """

    recording: str
    copy: int
    timestamp: NDArray[np.int64]
    valence: NDArray[np.float32]
    arousal: NDArray[np.float32]
    mel: NDArray[np.float16] | NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.timestamp)


@dataclass(frozen=True)
class Stored:
    """What the file of a recording says of itself.

    Attributes
    ----------
    settings
        Fingerprint of the configuration that its values depend on.
    content
        Fingerprint of the audio and label files that it was made from.
    checksum
        SHA-256 of the audio file.
    duration
        Seconds of audio.
    segments
        Segments of each copy.
    moments
        MelMoments of the mel of each copy as stored, the clean recording first.
    remarks
        What was odd about the sound.
    """

    settings: str
    content: str
    checksum: str
    duration: float
    segments: int
    moments: tuple[MelMoments, ...]
    remarks: tuple[str, ...] = ()

    @property
    def copies(self) -> int:
        """Augmented copies beside the clean recording."""
        return len(self.moments) - 1

    def to_json(self) -> dict[str, Any]:
        """JSON that `from_json` reads back."""
        content = {**self.__dict__, "moments": [moments.to_json() for moments in self.moments]}
        if not self.remarks:
            # Files of sound that nothing is odd about stay the bytes that they were.
            del content["remarks"]
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Stored:
        """What `to_json` wrote."""
        moments = tuple(MelMoments.from_json(each) for each in content["moments"])
        remarks = tuple(content.get("remarks", ()))
        return cls(**{**content, "moments": moments, "remarks": remarks})


class RecordingWriter:
    """Takes the blocks of one recording, copy after copy, and in the end what the file is.

    Parameters
    ----------
    target
        Open for writing, in bytes.
    recording
        Its Id.
    shape
        `(n_mels, n_frames)`.
    dtype
        `float16` or `float32`.
    """

    def __init__(self, target: Any, recording: str, *, shape: tuple[int, int], dtype: str) -> None:
        self._recording = recording
        width = math.prod(shape) * np.dtype(dtype).itemsize
        told = {_SHAPE: json.dumps(shape), _DTYPE: dtype}
        self._schema = pa.schema(
            [
                pa.field("recording", pa.string(), nullable=False),
                pa.field("copy", pa.int16(), nullable=False),
                pa.field("segment", pa.int32(), nullable=False),
                pa.field("timestamp", pa.int64(), nullable=False),
                pa.field("valence", pa.float32(), nullable=False),
                pa.field("arousal", pa.float32(), nullable=False),
                pa.field("mel", pa.binary(width), nullable=False, metadata=told),
            ]
        )
        # Not compressed: the best that was found, byte-split zstd, saves a quarter of the bytes and
        # costs half as much again to write.
        self._writer = SealedWriter(
            target,
            self._schema,
            compression="none",
            use_dictionary=["recording"],
            write_statistics=False,
        )

    def write(self, block: Segments, *, first_segment: int) -> None:
        """Write a block as a row group; the copies of a block follow each other."""
        n = len(block)
        mel = pa.py_buffer(np.ascontiguousarray(block.mel))
        arrays = [
            pa.array([self._recording] * n, pa.string()),
            pa.array(np.full(n, block.copy, np.int16)),
            pa.array(np.arange(first_segment, first_segment + n, dtype=np.int32)),
            pa.array(block.timestamp),
            pa.array(block.valence),
            pa.array(block.arousal),
            pa.FixedSizeBinaryArray.from_buffers(self._schema.field("mel").type, n, [None, mel]),
        ]
        self._writer.write(pa.table(arrays, schema=self._schema))

    def finish(self, stored: Stored) -> str:
        """Close the file with what it says of itself; returns the SHA-256 of the file."""
        return self._writer.close({_METADATA: json.dumps(stored.to_json())})

    def abandon(self) -> None:
        """Let go of a file that will not be finished."""
        # What cannot be written here (a full disk) is what has ended the writing already.
        with suppress(OSError):
            self._writer.abandon()


def read_stored(source: Any) -> Stored:
    """What an open file says of itself.

    Raises
    ------
    ValueError, KeyError, TypeError
        If it is not the file of a recording, or its footer is not the one that was sealed.
    """
    return _stored(open_sealed(source).metadata)


def require_undamaged(source: Any) -> None:
    """Read an open file whole, a row group at a time.

    Raises
    ------
    ValueError, OSError
        If any byte of it was changed, as far as it is sealed.
    """
    file = open_sealed(source)
    for group in range(file.num_row_groups):
        file.read_row_group(group, use_threads=False)


def read_blocks(source: Any, recording: str, copy: int) -> Iterator[Segments]:
    """The row groups of one copy, in order, from an open file.

    Raises
    ------
    IndexError
        If there is no such copy.
    SealError
        If what is read is not what was sealed.
    """
    file = open_sealed(source)
    copies = _stored(file.metadata).copies
    if not 0 <= copy <= copies:
        raise IndexError(copies)
    for group in range(copy, file.num_row_groups, copies + 1):
        yield _segments(file, group, recording, copy)


def read_labels_of(source: Any, targets: Sequence[str]) -> NDArray[np.float32]:
    """The labels of the clean recording, `[segments, targets]`, from an open file.

    Raises
    ------
    SealError
        If what is read is not what was sealed.
    """
    table = open_sealed(source).read(columns=["copy", *targets], use_threads=False)
    clean = table["copy"].to_numpy() == 0
    return np.stack([table[target].to_numpy()[clean] for target in targets], axis=1)


def read_row_groups(source: Any, recording: str) -> Iterator[Segments]:
    """All row groups in order, the copies of a block after each other, from an open file."""
    file = open_sealed(source)
    copies = _stored(file.metadata).copies
    for group in range(file.num_row_groups):
        yield _segments(file, group, recording, group % (copies + 1))


def _segments(file: pq.ParquetFile, group: int, recording: str, copy: int) -> Segments:
    table = file.read_row_group(group, use_threads=False)
    return Segments(
        recording,
        copy,
        table["timestamp"].to_numpy(),
        table["valence"].to_numpy(),
        table["arousal"].to_numpy(),
        _mel(table),
    )


def _mel(table: pa.Table) -> NDArray[Any]:
    """The column `mel` as numbers, `[n, n_mels, n_frames]`; nothing is copied from one chunk."""
    told = table.schema.field("mel").metadata
    column = table["mel"].combine_chunks()
    shape = json.loads(told[_SHAPE.encode()])
    values = np.frombuffer(column.buffers()[1], told[_DTYPE.encode()].decode())
    return values.reshape(-1, *shape)[column.offset : column.offset + len(column)]


def _stored(metadata: pq.FileMetaData) -> Stored:
    return Stored.from_json(json.loads(metadata.metadata[_METADATA.encode()]))
