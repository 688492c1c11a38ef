"""The feature store: 512 deep features of every sequence, in one Parquet file a recording."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from valence.errors import DamagedError, MissingStageError, first_line
from valence.formatting import plural
from valence.stage import Stage
from valence.storage.location import Location
from valence.storage.seal import SealError, read_sealed, write_sealed

_MADE_OF = "made_of"


@dataclass(frozen=True)
class Features:
    """Sequences, one a row, ordered by recording and start.

    Attributes
    ----------
    recording, subject, split
        Recording, subject and split of each sequence, strings `[rows]`; the split is train,
        validation, test or unlabelled.
    start
        First segment of the sequence in its recording, int32 `[rows]`.
    target
        Labels of the sequences, one column for each of `targets`, float32 `[rows, targets]`, NaN
        where unknown.
    feature
        Deep features, float32 `[rows, features]`.
    prediction
        The deep model's own output, float32 `[rows, targets]`.
    targets
        Names of the columns of `target` and `prediction`.
    """

    recording: NDArray[np.str_]
    subject: NDArray[np.str_]
    split: NDArray[np.str_]
    start: NDArray[np.int32]
    target: NDArray[np.float32]
    feature: NDArray[np.float32]
    prediction: NDArray[np.float32]
    targets: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.start)

    def rows(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Features:
        """Choose rows by a mask or by indices."""
        return Features(
            self.recording[which],
            self.subject[which],
            self.split[which],
            self.start[which],
            self.target[which],
            self.feature[which],
            self.prediction[which],
            self.targets,
        )

    def of(self, split: str, *, labelled: bool = True) -> Features:
        """Choose the rows of a split; with `labelled`, only those whose targets are all known."""
        mask = self.split == split
        if labelled:
            mask &= np.isfinite(self.target).all(axis=1)
        return self.rows(mask)


def write_features(
    file: Location,
    features: Features,
    *,
    others: Mapping[str, NDArray[np.float32]] | None = None,
    made_of: str = "",
) -> str:
    """Write the sequences of one recording, atomically and sealed; return the file's SHA-256.

    The column `prediction` belongs to the first target; a further target `t` has `prediction_t`.
    The columns `valence` and `arousal` are always written.

    Parameters
    ----------
    file
        File to write.
    features
        Sequences of the recording.
    others
        Known labels, `[rows]`, of emotions that are not targets of the model.
    made_of
        Fingerprint of the inputs that the features were made from, for the file's metadata.
    """
    columns: dict[str, pa.Array] = {
        "recording": pa.array(features.recording.tolist(), pa.string()),
        "subject": pa.array(features.subject.tolist(), pa.string()),
        "split": pa.array(features.split.tolist(), pa.string()),
        "start": pa.array(features.start),
    }
    labels = dict(others or {})
    labels |= {name: features.target[:, k] for k, name in enumerate(features.targets)}
    unknown = np.full(len(features), np.nan, np.float32)
    for name in ("valence", "arousal"):
        columns[name] = pa.array(np.ascontiguousarray(labels.get(name, unknown)))
    width = features.feature.shape[1]
    flat = pa.array(np.ascontiguousarray(features.feature).reshape(-1))
    columns["feature"] = pa.FixedSizeListArray.from_arrays(flat, width)
    for column, name in enumerate(features.targets):
        label = "prediction" if column == 0 else f"prediction_{name}"
        columns[label] = pa.array(np.ascontiguousarray(features.prediction[:, column]))
    about = {"targets": ",".join(features.targets), _MADE_OF: made_of}
    table = pa.table(columns).replace_schema_metadata(about)
    with file.writer() as target:
        return write_sealed(target, table)


def made_of(file: Location) -> str | None:
    """Read the fingerprint of the inputs that a file of features was made from.

    The whole file is read and checked. The result is None if the file is missing or damaged, has no
    fingerprint, or holds another recording.
    """
    try:
        with file.open() as source:
            table = read_sealed(source)
        _require_own(table, file)
        found = (table.schema.metadata or {}).get(_MADE_OF.encode())
    except (FileNotFoundError, SealError, KeyError):
        return None
    return None if found is None else str(found.decode())


def read_features(folder: Location) -> Features:
    """Read all sequences in `folder`, ordered by recording and start.

    The manifest of a finished stage lists its files, and a file that is not listed is not read.

    Raises
    ------
    MissingStageError
        If there are no sequences.
    DamagedError
        If a file is missing or damaged.
    """
    stage = Stage("features", folder)
    noted = stage.noted()
    if not noted:
        # An older version, or another program, made these files and listed no names.
        noted = {file.name: "" for file in folder.files() if file.suffix == ".parquet"}
        _require_all(stage, len(noted))
    parts = []
    for name, sha256 in sorted(noted.items(), key=lambda each: each[0].removesuffix(".parquet")):
        parts.append(_read_file(stage, name, sha256))
    if not parts:
        raise MissingStageError(
            f"'{folder}' holds no features. Run 'valence extract' on this run first."
        )
    return concatenate(parts)


def concatenate(parts: Iterable[Features]) -> Features:
    """Join the rows of several `Features`, one after the other."""
    chosen = list(parts)
    return Features(
        recording=np.concatenate([part.recording for part in chosen]),
        subject=np.concatenate([part.subject for part in chosen]),
        split=np.concatenate([part.split for part in chosen]),
        start=np.concatenate([part.start for part in chosen]),
        target=np.concatenate([part.target for part in chosen]),
        feature=np.concatenate([part.feature for part in chosen]),
        prediction=np.concatenate([part.prediction for part in chosen]),
        targets=chosen[0].targets,
    )


def _read_file(stage: Stage, name: str, sha256: str) -> Features:
    file = stage.folder / name
    try:
        content = file.read_bytes()
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise SealError("its digest is not the one that was noted")
        table = read_sealed(io.BytesIO(content))
        _require_own(table, file)
        return _parse(table)
    except FileNotFoundError as error:
        raise stage.lost(file) from error
    except (IsADirectoryError, SealError, KeyError, ValueError) as error:
        raise stage.damaged(file, first_line(error)) from error


def _require_own(table: pa.Table, file: Location) -> None:
    """Refuse a file that holds rows of another recording than its name says."""
    others = set(table["recording"].to_pylist()) - {file.name.removesuffix(".parquet")}
    if others:
        raise SealError(f"it holds the sequences of '{min(others)}'")


def _require_all(stage: Stage, files: int) -> None:
    """Refuse a folder of an older version, which noted no names, if a file is missing or extra."""
    record = stage.record()
    made = None if record is None else record["summary"].get("recordings")
    if record is not None and record["status"] == "done" and made not in (None, files):
        raise DamagedError(
            f"'{stage.folder}' holds {plural(files, 'file')}, and {plural(made, 'recording')} "
            f"were extracted. Expected a file for each. Run '{stage.command()}' to make again "
            "those that are missing."
        )


def _parse(table: pa.Table) -> Features:
    targets = tuple(table.schema.metadata[b"targets"].decode().split(","))
    feature = table["feature"].combine_chunks()
    width = feature.type.list_size
    labels = ["prediction" if i == 0 else f"prediction_{t}" for i, t in enumerate(targets)]

    def matrix(names: Iterable[str]) -> NDArray[np.float32]:
        return np.stack([table[name].to_numpy() for name in names], axis=1)

    return Features(
        recording=np.array(table["recording"].to_pylist(), dtype=np.str_),
        subject=np.array(table["subject"].to_pylist(), dtype=np.str_),
        split=np.array(table["split"].to_pylist(), dtype=np.str_),
        start=table["start"].to_numpy(),
        target=matrix(targets),
        feature=feature.flatten().to_numpy().reshape(-1, width),
        prediction=matrix(labels),
        targets=targets,
    )
