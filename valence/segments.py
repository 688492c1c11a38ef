"""The segment store: mel spectrograms and labels of every segment, Parquet, one file a recording.

Beside the recordings' files lie a table of all recordings, rejected ones too, and what standardises
the mel of those that are trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from valence.errors import MissingStageError
from valence.filenames import MOST_BYTES
from valence.run import fingerprint
from valence.segment_file import (
    BLOCK_SEGMENTS,
    RecordingWriter,
    Segments,
    Stored,
    read_blocks,
    read_row_groups,
    read_stored,
)
from valence.standardization import Moments, Scope, Standardizer, fit
from valence.storage import Location

__all__ = [
    "BLOCK_SEGMENTS",
    "RECORDING_COLUMNS",
    "SegmentPart",
    "SegmentStore",
    "Segments",
    "Stored",
]

_RECORDINGS = "recordings.parquet"
_STANDARDIZATION = "standardization.json"
_PARTS = "parts"
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

    def sizes(self) -> dict[str, int]:
        """Bytes of the file of each recording that has one, by Id; one request, however many."""
        return {
            entry.name.removesuffix(".parquet"): entry.size
            for entry in self.root.entries_of_files()
            if entry.name.endswith(".parquet")
            and not entry.name.startswith(".")
            and entry.name != _RECORDINGS
        }

    @staticmethod
    def why_not(recording: str) -> str | None:
        """Why no file of the store can be named for a recording of this Id, or None if one can."""
        name = f"{recording}.parquet"
        if name == _RECORDINGS:
            return f"has the Id '{recording}', the name of a file of the store itself"
        size = len(name.encode())
        if size > MOST_BYTES:
            return (
                f"has an Id of {len(recording.encode())} bytes, and a run names files for it that "
                f"end in '.parquet'; a file name has at most {MOST_BYTES} bytes"
            )
        return None

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
        return _stored(self.file(recording))

    def part(self, recording: str, first: int, stop: int | None) -> SegmentPart:
        """The segments of a recording from `first` to `stop`, until its file is put together."""
        end = "end" if stop is None else f"{stop:08d}"
        return SegmentPart(self.root / _PARTS / recording / f"{first:08d}-{end}.parquet", recording)

    def remove_parts(self, recording: str | None = None) -> None:
        """Remove the parts of a recording, or of all."""
        parts = self.root / _PARTS
        (parts if recording is None else parts / recording).delete()

    def remove_partial_files(self) -> None:
        """Remove what interrupted writers left."""
        self.root.remove_partial_files()
        parts = self.root / _PARTS
        if parts.local is not None and parts.local.is_dir():
            for folder in parts.local.iterdir():
                (parts / folder.name).remove_partial_files()

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
        with _writer(self.file(recording), recording, shape, dtype) as writer:
            yield writer

    def blocks(self, recording: str, copy: int = 0) -> Iterator[Segments]:
        """The segments of a copy in order, a block at a time.

        Raises
        ------
        MissingStageError
            If the recording is not in the store, or has no such copy.
        """
        with self._open(f"{recording}.parquet") as source:
            try:
                yield from read_blocks(source, recording, copy)
            except IndexError as error:
                raise MissingStageError(
                    f"'{self.file(recording)}' holds {error} augmented copies of '{recording}', "
                    f"and copy {copy} was asked for. Set augment.copies and run 'valence "
                    "preprocess' again."
                ) from error

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


@dataclass(frozen=True)
class SegmentPart:
    """The file of a part of a recording: itself written, and read, like that of a whole one.

    Parameters
    ----------
    location
        Where it lies.
    recording
        Id.
    """

    location: Location
    recording: str

    def stored(self) -> Stored | None:
        """What it says of itself, or None if it is absent or not whole."""
        return _stored(self.location)

    @contextmanager
    def writer(self, *, shape: tuple[int, int], dtype: str) -> Iterator[RecordingWriter]:
        """Write it, as `SegmentStore.writer` writes a recording."""
        with _writer(self.location, self.recording, shape, dtype) as writer:
            yield writer

    def row_groups(self) -> Iterator[Segments]:
        """All that it holds, in order, the copies of a block after each other."""
        with self.location.open() as source:
            yield from read_row_groups(source, self.recording)


def _stored(file: Location) -> Stored | None:
    if not file.exists():
        return None
    try:
        with file.open() as source:
            return read_stored(source)
    except (KeyError, TypeError, ValueError):
        return None


@contextmanager
def _writer(
    file: Location, recording: str, shape: tuple[int, int], dtype: str
) -> Iterator[RecordingWriter]:
    with file.writer() as target:
        writer = RecordingWriter(target, recording, shape=shape, dtype=dtype)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise
