"""The file of a recording in the segment store, which is written and read in row groups.

A row group holds one copy (clean or augmented) of one block of segments. The copies of a block
follow each other, so that neither writing nor reading needs memory that grows with the recording.
The file's own metadata say which settings, audio and labels it was made from, and a seal
(`valence.storage.seal`) reveals every change.

The mel of a segment is stored as one value of fixed size, with the numbers in the order of memory
(little-endian, row by row); the metadata of the column give their shape and type. A column of
tensors or lists would let other programs see the single numbers. But it takes seven times as long
to write and twelve times as long to read, since Parquet keeps a level for every number in a list.
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
# Keys in the metadata of the column `mel`.
_SHAPE, _DTYPE = "shape", "dtype"


@dataclass(frozen=True)
class Segments:
    """Consecutive segments of one copy of a recording.

    Attributes
    ----------
    recording, copy
        Id of the recording; number of the augmented copy, or 0 for the clean recording.
    timestamp
        Start of each segment in ms, int64 `[n]`, even where the label file gives segment ends.
    valence, arousal
        Labels, float32 `[n]`, NaN where unknown.
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
    """The metadata stored in a recording's file.

    Attributes
    ----------
    settings
        Fingerprint of the configuration that the stored values depend on.
    content
        Fingerprint of the audio and label files that the file was made from.
    checksum
        SHA-256 of the audio file.
    duration
        Seconds of audio.
    segments
        Number of segments in each copy.
    moments
        Moments of the stored mel of each copy, the clean recording first.
    remarks
        Oddities of the sound.
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
        """Return the number of augmented copies, the clean recording not counted."""
        return len(self.moments) - 1

    def to_json(self) -> dict[str, Any]:
        """Return JSON that `from_json` reads back."""
        content = {**self.__dict__, "moments": [moments.to_json() for moments in self.moments]}
        if not self.remarks:
            # A file without remarks keeps the bytes that versions without this key wrote.
            del content["remarks"]
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Stored:
        """Read the metadata that `to_json` returned."""
        moments = tuple(MelMoments.from_json(each) for each in content["moments"])
        remarks = tuple(content.get("remarks", ()))
        return cls(**{**content, "moments": moments, "remarks": remarks})


class RecordingWriter:
    """Writes one recording's file: the blocks, copy after copy, and in the end the metadata.

    Parameters
    ----------
    target
        Binary file, open for writing.
    recording
        Id of the recording.
    shape
        Shape of a segment's mel, `(n_mels, n_frames)`.
    dtype
        Type of the mel, `float16` or `float32`.
    """

    def __init__(self, target: Any, recording: str, *, shape: tuple[int, int], dtype: str) -> None:
        self._recording = recording
        width = math.prod(shape) * np.dtype(dtype).itemsize
        layout = {_SHAPE: json.dumps(shape), _DTYPE: dtype}
        self._schema = pa.schema(
            [
                pa.field("recording", pa.string(), nullable=False),
                pa.field("copy", pa.int16(), nullable=False),
                pa.field("segment", pa.int32(), nullable=False),
                pa.field("timestamp", pa.int64(), nullable=False),
                pa.field("valence", pa.float32(), nullable=False),
                pa.field("arousal", pa.float32(), nullable=False),
                pa.field("mel", pa.binary(width), nullable=False, metadata=layout),
            ]
        )
        # Not compressed: the best method that was found, byte-split zstd, saves a quarter of the
        # bytes but takes half as long again to write.
        self._writer = SealedWriter(
            target,
            self._schema,
            compression="none",
            use_dictionary=["recording"],
            write_statistics=False,
        )

    def write(self, block: Segments, *, first_segment: int) -> None:
        """Write a block as a row group; the copies of each block must follow each other."""
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
        """Write the metadata, close the file and return the SHA-256 of the file."""
        return self._writer.close({_METADATA: json.dumps(stored.to_json())})

    def abandon(self) -> None:
        """Close a file that will not be finished."""
        # An error here (a full disk) is the one that has already stopped the writing.
        with suppress(OSError):
            self._writer.abandon()


def read_stored(source: Any) -> Stored:
    """Read the metadata of an open file.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the file is not a recording's, or its footer is not the one that was sealed.
    """
    return _stored(open_sealed(source).metadata)


def require_undamaged(source: Any) -> None:
    """Read all of an open file, a row group at a time, to find any damage.

    Raises
    ------
    ValueError, OSError
        If any byte that the seal covers was changed.
    """
    file = open_sealed(source)
    for group in range(file.num_row_groups):
        file.read_row_group(group, use_threads=False)


def read_blocks(source: Any, recording: str, copy: int) -> Iterator[Segments]:
    """Read the row groups of one copy, in order, from an open file.

    Raises
    ------
    IndexError
        If there is no such copy.
    SealError
        If the file is not as it was sealed.
    """
    file = open_sealed(source)
    copies = _stored(file.metadata).copies
    if not 0 <= copy <= copies:
        raise IndexError(copies)
    for group in range(copy, file.num_row_groups, copies + 1):
        yield _segments(file, group, recording, copy)


def read_labels_of(source: Any, targets: Sequence[str]) -> NDArray[np.float32]:
    """Read the labels of the clean recording, `[segments, targets]`, from an open file.

    Raises
    ------
    SealError
        If the file is not as it was sealed.
    """
    table = open_sealed(source).read(columns=["copy", *targets], use_threads=False)
    clean = table["copy"].to_numpy() == 0
    return np.stack([table[target].to_numpy()[clean] for target in targets], axis=1)


def read_row_groups(source: Any, recording: str) -> Iterator[Segments]:
    """Read all row groups of an open file in order; the copies of a block follow each other."""
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
    """View the column `mel` as numbers, `[n, n_mels, n_frames]`; a single chunk is not copied."""
    layout = table.schema.field("mel").metadata
    column = table["mel"].combine_chunks()
    shape = json.loads(layout[_SHAPE.encode()])
    values = np.frombuffer(column.buffers()[1], layout[_DTYPE.encode()].decode())
    return values.reshape(-1, *shape)[column.offset : column.offset + len(column)]


def _stored(metadata: pq.FileMetaData) -> Stored:
    return Stored.from_json(json.loads(metadata.metadata[_METADATA.encode()]))
