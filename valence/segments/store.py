"""The segment store: mel spectrograms and labels of every segment, one Parquet file a recording.

The store also holds a table of all recordings, rejected ones included, and the standardisation that
was fitted on the mel of the training recordings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs

from valence.audio.standardization import MelMoments, Scope, Standardizer, fit
from valence.errors import DamagedError, MissingStageError, ModelError, first_line
from valence.provenance import fingerprint
from valence.segments.parquet import (
    BLOCK_SEGMENTS,
    RecordingWriter,
    Segments,
    Stored,
    read_blocks,
    read_labels_of,
    read_row_groups,
    read_stored,
    require_undamaged,
)
from valence.stage import Stage
from valence.storage.filenames import MOST_BYTES
from valence.storage.kept_file import KeptFile
from valence.storage.location import Location
from valence.storage.manifest import digest_of
from valence.storage.seal import SealError, read_sealed, write_sealed

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
    """The segment store in the folder `RUN/segments`.

    Parameters
    ----------
    root
        Folder of the store.
    """

    root: Location

    def file(self, recording: str) -> Location:
        """Return the place of a recording's file."""
        return self.root / f"{recording}.parquet"

    def tables(self) -> tuple[Location, Location]:
        """Return the places of the table of recordings and of the standardisation."""
        return self.root / _RECORDINGS, self.root / _STANDARDIZATION

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each recording's file, by Id, with a single request."""
        return {
            name.removesuffix(".parquet"): entry.size
            for name, entry in self.root.listing().items()
            if name.endswith(".parquet") and not name.startswith(".") and name != _RECORDINGS
        }

    @staticmethod
    def why_not(recording: str) -> str | None:
        """Explain why a recording's Id cannot name a file of the store; None if it can."""
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
        """Read the table of all recordings, sorted by Id, rejected ones included.

        Columns: `Id, subject, split, duration` [s]`, segments` (in each copy), `labelled` (segments
        whose targets are all known), `copies` (augmented), `status` (`ok` or `rejected`), `reason`,
        `remarks` (list), `checksum` (of the audio), `fingerprint` (of the settings, audio and
        labels that the file was made from).

        Raises
        ------
        MissingStageError
            If preprocessing has not been finished.
        DamagedError
            If the table cannot be read, or is not the one that the finished stage noted.
        """
        frame = self._recordings()
        self._require_noted(_RECORDINGS)
        return frame

    def _recordings(self) -> pd.DataFrame:
        """Read the current table, which a stage that is still running may have replaced."""
        with self._open(_RECORDINGS) as file:
            try:
                table = read_sealed(file)
                # A table with other columns or another order was not written by this program.
                if not table.schema.equals(_SCHEMA):
                    raise ValueError(f"its columns are {', '.join(table.schema.names)}")
                frame: pd.DataFrame = table.to_pandas()
            except (pa.ArrowException, OSError, ValueError) as error:
                raise self._kept(_RECORDINGS).damaged(first_line(error)) from error
        return frame

    def write_recordings(self, rows: list[dict[str, Any]]) -> None:
        """Write the table that `recordings` reads, sorted by Id."""
        ordered = sorted(rows, key=lambda row: str(row["Id"]))
        with (self.root / _RECORDINGS).writer() as target:
            write_sealed(target, pa.Table.from_pylist(ordered, schema=_SCHEMA))

    def standardizer(self, scope: Scope | None = None) -> Standardizer:
        """Return the standardisation fitted on the stored segments of the training recordings.

        Parameters
        ----------
        scope
            Scope of the statistics; by default the one that preprocessing was configured with.

        Raises
        ------
        MissingStageError
            If preprocessing has not been finished.
        """
        content = self._standardization()
        if scope is None or scope == content["scope"]:
            try:
                return Standardizer.from_json(content)
            except ModelError as error:
                raise self._kept(_STANDARDIZATION).damaged(str(error)) from error
        return fit(self.moments(), scope)

    def moments(self) -> MelMoments:
        """Return the moments of the training recordings' stored segments, band by band.

        Raises
        ------
        MissingStageError
            If preprocessing has not been finished.
        """
        try:
            return MelMoments.from_json(self._standardization()["moments"])
        except (KeyError, TypeError, ValueError) as error:
            why = f"its moments cannot be used ({error!r})"
            raise self._kept(_STANDARDIZATION).damaged(why) from error

    def write_standardizer(self, moments: MelMoments, scope: Scope) -> None:
        """Write the standardisation, and the moments, from which any scope can be fitted."""
        content = fit(moments, scope).to_json() | {"moments": moments.to_json()}
        (self.root / _STANDARDIZATION).write_json({**content, "digest": fingerprint(content)})

    def digest(self) -> str:
        """Compute the fingerprint of all that later stages read, except the standardisation.

        Raises
        ------
        MissingStageError
            If preprocessing has not been finished.
        DamagedError
            If the table of recordings cannot be read.
        """
        frame = self._recordings()
        columns = ["Id", "subject", "split", "copies", "status", "fingerprint"]
        return fingerprint({"recordings": frame[columns].to_numpy().tolist()})

    def stored(self, recording: str) -> Stored | None:
        """Read the metadata of a recording's file; None if the file is missing or damaged."""
        return _stored(self.file(recording))

    def checked(self, recording: str) -> str | None:
        """Read all of a recording's file and return its SHA-256; None if missing or damaged."""
        file = self.file(recording)
        try:
            with file.open() as source:
                require_undamaged(source)
        except (FileNotFoundError, ValueError, pa.ArrowException):
            return None
        return digest_of(file)

    def part(self, recording: str, first: int, stop: int | None) -> SegmentPart:
        """Return the file that holds segments `first` to `stop` until all parts are joined."""
        end = "end" if stop is None else f"{stop:08d}"
        return SegmentPart(self.root / _PARTS / recording / f"{first:08d}-{end}.parquet", recording)

    def remove_parts(self, recording: str | None = None) -> None:
        """Remove the parts of a recording, or of all recordings."""
        parts = self.root / _PARTS
        (parts if recording is None else parts / recording).delete()

    def remove_partial_files(self) -> None:
        """Remove the unfinished files that interrupted writers left."""
        self.root.remove_partial_files()
        parts = self.root / _PARTS
        if parts.local is not None and parts.local.is_dir():
            for folder in parts.local.iterdir():
                (parts / folder.name).remove_partial_files()

    @contextmanager
    def writer(
        self, recording: str, *, shape: tuple[int, int], dtype: str
    ) -> Iterator[RecordingWriter]:
        """Open a writer; the complete file appears once the `with` block ends without an error.

        Parameters
        ----------
        recording
            Id of the recording.
        shape
            Shape of a segment's mel, `(n_mels, n_frames)`.
        dtype
            Type of the mel, `float16` or `float32`.
        """
        with _writer(self.file(recording), recording, shape, dtype) as writer:
            yield writer

    def blocks(self, recording: str, copy: int = 0) -> Iterator[Segments]:
        """Read the segments of a copy in order, a block at a time.

        Raises
        ------
        MissingStageError
            If the recording is not in the store, or has no such copy.
        DamagedError
            If the file is damaged, or was made from other audio, labels or settings than the table
            of recordings says. The file is renamed, so that preprocessing makes it again.
        """
        with self._checked(recording) as source:
            try:
                yield from read_blocks(source, recording, copy)
            except IndexError as error:
                raise MissingStageError(
                    f"'{self.file(recording)}' holds {error} augmented copies of '{recording}', "
                    f"and copy {copy} was asked for. Set augment.copies and run 'valence "
                    "preprocess' again."
                ) from error

    def labels(self, recording: str, targets: Sequence[str]) -> NDArray[np.float32]:
        """Read the labels of the clean recording, `[segments, targets]`, without the mel.

        Raises
        ------
        MissingStageError
            If the recording is not in the store.
        DamagedError
            In the cases that `blocks` names.
        """
        with self._checked(recording) as source:
            return read_labels_of(source, targets)

    def read(self, recording: str, copy: int = 0) -> Segments:
        """Read all segments of a copy of a recording.

        Raises
        ------
        MissingStageError
            If the recording is not in the store, or has no such copy.
        DamagedError
            In the cases that `blocks` names.
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

    @contextmanager
    def _checked(self, recording: str) -> Iterator[BinaryIO]:
        """Open a recording's file, and raise `DamagedError` for any fault found while reading."""
        file, stage = self.file(recording), Stage("segments", self.root)
        with self._open_recording(file) as source:
            try:
                self._require_own(recording, read_stored(source))
                yield source
            except (SealError, pa.ArrowException, KeyError, ValueError) as error:
                raise stage.damaged(file, first_line(error)) from error

    def _open_recording(self, file: Location) -> Any:
        try:
            return self._open(file.name)
        except DamagedError as error:
            raise Stage("segments", self.root).damaged(file, "it is a folder") from error
        except MissingStageError as error:
            # Without the table, preprocessing has not finished, and no file has been lost.
            if not (self.root / _RECORDINGS).exists():
                raise
            raise Stage("segments", self.root).lost(file) from error

    def _require_own(self, recording: str, stored: Stored) -> None:
        """Refuse a file that was made from something else than the table of recordings says."""
        table = self.root / _RECORDINGS
        info = table.info()
        if info.type == fs.FileType.NotFound:
            # Preprocessing is still running, so there is no fingerprint to compare with.
            return
        known = _fingerprints(self, info.mtime_ns or 0, info.size or 0)
        made_of = fingerprint({"settings": stored.settings, "content": stored.content})
        if known.get(recording, made_of) != made_of:
            raise SealError("it was made of other audio, labels or settings")

    def _standardization(self) -> dict[str, Any]:
        self._open(_STANDARDIZATION).close()
        kept = self._kept(_STANDARDIZATION)
        content = kept.table({"scope": str, "mean": list, "std": list, "moments": dict})
        # Older versions wrote no digest.
        digest = content.pop("digest", None)
        if digest is not None and digest != fingerprint(content):
            raise kept.damaged("its digest is not the one that it gives")
        self._require_noted(_STANDARDIZATION)
        return content

    def _require_noted(self, name: str) -> None:
        """Refuse a file that is whole but is not the one that the finished stage noted."""
        noted = Stage("segments", self.root).noted().get(name)
        if noted is not None and digest_of(self.root / name) != noted:
            raise self._kept(name).damaged("its digest is not the one that its stage.json gives")

    def _kept(self, name: str) -> KeptFile:
        """Describe one of the store's own files, with the command that makes it again."""
        remedy = (
            f"Run '{Stage('segments', self.root).command()}', which makes it again from the "
            "segments that are there."
        )
        return KeptFile(self.root / name, "what 'valence preprocess' wrote", remedy)

    def _open(self, name: str) -> Any:
        try:
            return (self.root / name).open()
        except FileNotFoundError as error:
            raise MissingStageError(
                f"'{self.root}' holds no {name}. Run 'valence preprocess' on this run first."
            ) from error
        except OSError as error:
            if (self.root / name).is_folder():
                raise self._kept(name).damaged("it is a folder") from error
            raise


@lru_cache(maxsize=4)
def _fingerprints(store: SegmentStore, mtime_ns: int, size: int) -> dict[str, str]:
    """Return the fingerprint of each stored recording by Id; a changed table is read again."""
    frame = store.recordings()
    usable = frame[frame["status"] == "ok"]
    return dict(zip(usable["Id"], usable["fingerprint"], strict=True))


@dataclass(frozen=True)
class SegmentPart:
    """The file of a part of a recording, in the same format as a whole recording's file.

    Parameters
    ----------
    location
        Place of the file.
    recording
        Id of the recording.
    """

    location: Location
    recording: str

    def stored(self) -> Stored | None:
        """Read the metadata of the part's file; None if the file is missing or damaged."""
        return _stored(self.location)

    @contextmanager
    def writer(self, *, shape: tuple[int, int], dtype: str) -> Iterator[RecordingWriter]:
        """Open a writer for the part, like the one of `SegmentStore.writer` for a recording."""
        with _writer(self.location, self.recording, shape, dtype) as writer:
            yield writer

    def row_groups(self) -> Iterator[Segments]:
        """Read all row groups of the part in order; the copies of a block follow each other.

        Raises
        ------
        FileNotFoundError
            If the part is missing or damaged. A damaged part is removed, so that it is made again
            when it is next needed.
        """
        with self.location.open() as source:
            try:
                yield from read_row_groups(source, self.recording)
            except SealError as error:
                self.location.delete()
                raise FileNotFoundError(f"'{self.location}' was damaged: {error}") from error


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
