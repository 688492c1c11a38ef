"""The segment store: mel spectrograms and labels of every segment, Parquet, one file a recording.

A file is written and read in row groups of bounded size, one copy (clean, or augmented) of one
block of segments each, so that neither needs memory that grows with the recording. What made it
stands in its own metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from valence.errors import MissingStageError
from valence.run import fingerprint
from valence.standardization import Moments, Scope, Standardizer, fit
from valence.storage import Location

# Segments of one copy in a row group: 10 MB of mel in float16 at the defaults.
BLOCK_SEGMENTS = 1200

_METADATA = "valence"
_RECORDINGS = "recordings.parquet"
_STANDARDIZATION = "standardization.json"
_SCHEMA = pa.schema(
    [
        ("Id", pa.string()),
        ("subject", pa.string()),
        ("split", pa.string()),
        ("duration", pa.float64()),
        ("segments", pa.int64()),
        ("labelled", pa.int64()),
        ("copies", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("remarks", pa.list_(pa.string())),
        ("checksum", pa.string()),
        ("fingerprint", pa.string()),
    ]
)
RECORDING_COLUMNS = tuple(_SCHEMA.names)


@dataclass(frozen=True)
class Segments:
    """Consecutive segments of one copy of a recording.

    Attributes
    ----------
    recording, copy
        Id, and 0 for the clean recording or the number of the augmented copy.
    timestamp
        Start of each segment in ms, int64 `[n]`.
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
        Moments of the mel of each copy as stored, the clean recording first.
    """

    settings: str
    content: str
    checksum: str
    duration: float
    segments: int
    moments: tuple[Moments, ...]

    @property
    def copies(self) -> int:
        """Augmented copies beside the clean recording."""
        return len(self.moments) - 1

    def to_json(self) -> dict[str, Any]:
        """JSON that `from_json` reads back."""
        return {**self.__dict__, "moments": [moments.to_json() for moments in self.moments]}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Stored:
        """What `to_json` wrote."""
        moments = tuple(Moments.from_json(each) for each in content["moments"])
        return cls(**{**content, "moments": moments})


class RecordingWriter:
    """Takes the blocks of one recording, copy after copy, and in the end what the file is."""

    def __init__(self, target: Any, recording: str, mel_type: Any) -> None:
        self._recording = recording
        self._schema = pa.schema(
            [
                pa.field("recording", pa.string(), nullable=False),
                pa.field("copy", pa.int16(), nullable=False),
                pa.field("segment", pa.int32(), nullable=False),
                pa.field("timestamp", pa.int64(), nullable=False),
                pa.field("valence", pa.float32(), nullable=False),
                pa.field("arousal", pa.float32(), nullable=False),
                pa.field("mel", mel_type, nullable=False),
            ]
        )
        # Splitting the bytes of the values lets the cheapest compression take a quarter away.
        self._writer = pq.ParquetWriter(
            target,
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=["recording"],
            use_byte_stream_split=["mel.list.element"],
            write_statistics=False,
        )

    def write(self, block: Segments, *, first_segment: int) -> None:
        """Write a block as a row group; the copies of a block follow each other."""
        n = len(block)
        arrays = [
            pa.array([self._recording] * n, pa.string()),
            pa.array(np.full(n, block.copy, np.int16)),
            pa.array(np.arange(first_segment, first_segment + n, dtype=np.int32)),
            pa.array(block.timestamp),
            pa.array(block.valence),
            pa.array(block.arousal),
            pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(block.mel)),
        ]
        self._writer.write_table(pa.table(arrays, schema=self._schema), row_group_size=n)

    def finish(self, stored: Stored) -> None:
        """Close the file with what it says of itself."""
        self._writer.add_key_value_metadata({_METADATA: json.dumps(stored.to_json())})
        self._writer.close()

    def abandon(self) -> None:
        """Let go of a file that will not be finished."""
        # What cannot be written here (a full disk) is what has ended the writing already.
        with suppress(OSError):
            self._writer.close()


@dataclass(frozen=True)
class SegmentStore:
    """The folder `RUN/segments`.

    Parameters
    ----------
    root
        The folder.
    """

    root: Location

    def file(self, recording: str) -> Location:
        """Where the segments of a recording lie."""
        return self.root / f"{recording}.parquet"

    def is_reserved(self, recording: str) -> bool:
        """Whether the file of a recording of this Id would be one of the store's own."""
        return self.file(recording).name == _RECORDINGS

    def recordings(self) -> pd.DataFrame:
        """All recordings, sorted by Id, rejected ones too.

        Columns: `Id, subject, split, duration` [s]`, segments` (of each copy), `labelled` (segments
        whose targets are all known), `copies` (augmented), `status` (`ok` or `rejected`), `reason`,
        `remarks` (list), `checksum` (of the audio), `fingerprint` (of what made the file).

        Raises
        ------
        MissingStageError
            If preprocessing has not been finished.
        """
        with self._open(_RECORDINGS) as file:
            frame: pd.DataFrame = pq.read_table(file).to_pandas()
        return frame

    def write_recordings(self, rows: list[dict[str, Any]]) -> None:
        """Write the table of `recordings`, sorted by Id."""
        ordered = sorted(rows, key=lambda row: str(row["Id"]))
        with (self.root / _RECORDINGS).writer() as target:
            pq.write_table(pa.Table.from_pylist(ordered, schema=_SCHEMA), target)

    def standardizer(self, scope: Scope | None = None) -> Standardizer:
        """The standardisation fitted on the stored segments of the training recordings.

        Parameters
        ----------
        scope
            Over what; by default the scope that preprocessing was configured with.

        Raises
        ------
        MissingStageError
            If preprocessing has not been finished.
        """
        content = self._standardization()
        if scope is None or scope == content["scope"]:
            return Standardizer.from_json(content)
        return fit(Moments.from_json(content["moments"]), scope)

    def moments(self) -> Moments:
        """The moments of the stored segments of the training recordings, band by band.

        Raises
        ------
        MissingStageError
            If preprocessing has not been finished.
        """
        return Moments.from_json(self._standardization()["moments"])

    def write_standardizer(self, moments: Moments, scope: Scope) -> None:
        """Write the standardisation, with the moments that any scope can be fitted from."""
        content = fit(moments, scope).to_json() | {"moments": moments.to_json()}
        (self.root / _STANDARDIZATION).write_json(content)

    def digest(self) -> str:
        """Fingerprint of all that later stages read of the store, standardisation aside.

        Raises
        ------
        MissingStageError
            If preprocessing has not been finished.
        """
        frame = self.recordings()
        columns = ["Id", "subject", "split", "copies", "status", "fingerprint"]
        return fingerprint({"recordings": frame[columns].to_numpy().tolist()})

    def stored(self, recording: str) -> Stored | None:
        """What the file of a recording says of itself, or None if there is none that is whole."""
        file = self.file(recording)
        if not file.exists():
            return None
        try:
            with file.open() as source:
                metadata = pq.read_metadata(source).metadata
                return Stored.from_json(json.loads(metadata[_METADATA.encode()]))
        except (pa.ArrowInvalid, KeyError, TypeError, ValueError):
            return None

    @contextmanager
    def writer(
        self, recording: str, *, shape: tuple[int, int], dtype: str
    ) -> Iterator[RecordingWriter]:
        """Write a recording; its file appears, whole, if the block ends without an error.

        Parameters
        ----------
        recording
            Its Id.
        shape
            `(n_mels, n_frames)`.
        dtype
            `float16` or `float32`.
        """
        value = {"float16": pa.float16(), "float32": pa.float32()}[dtype]
        with self.file(recording).writer() as target:
            writer = RecordingWriter(target, recording, pa.fixed_shape_tensor(value, shape))
            try:
                yield writer
            except BaseException:
                writer.abandon()
                raise

    def blocks(self, recording: str, copy: int = 0) -> Iterator[Segments]:
        """The segments of a copy in order, a block at a time.

        Raises
        ------
        MissingStageError
            If the recording is not in the store, or has no such copy.
        """
        with self._open(f"{recording}.parquet") as source:
            file = pq.ParquetFile(source)
            stored = Stored.from_json(json.loads(file.metadata.metadata[_METADATA.encode()]))
            if not 0 <= copy <= stored.copies:
                raise MissingStageError(
                    f"'{self.file(recording)}' holds {stored.copies} augmented copies of "
                    f"'{recording}', and copy {copy} was asked for. Set augment.copies and run "
                    "'valence preprocess' again."
                )
            for group in range(copy, file.num_row_groups, stored.copies + 1):
                table = file.read_row_group(group, use_threads=False)
                yield Segments(
                    recording,
                    copy,
                    table["timestamp"].to_numpy(),
                    table["valence"].to_numpy(),
                    table["arousal"].to_numpy(),
                    table["mel"].combine_chunks().to_numpy_ndarray(),
                )

    def read(self, recording: str, copy: int = 0) -> Segments:
        """All segments of a copy of a recording.

        Raises
        ------
        MissingStageError
            If the recording is not in the store, or has no such copy.
        """
        parts = list(self.blocks(recording, copy))
        return Segments(
            recording,
            copy,
            np.concatenate([part.timestamp for part in parts]),
            np.concatenate([part.valence for part in parts]),
            np.concatenate([part.arousal for part in parts]),
            np.concatenate([part.mel for part in parts]),
        )

    def _standardization(self) -> dict[str, Any]:
        with self._open(_STANDARDIZATION) as file:
            content: dict[str, Any] = json.loads(file.read())
        return content

    def _open(self, name: str) -> Any:
        try:
            return (self.root / name).open()
        except FileNotFoundError as error:
            raise MissingStageError(
                f"'{self.root}' holds no {name}. Run 'valence preprocess' on this run first."
            ) from error
