"""Keep the outcome of each combination of a sweep in a file, so that a stopped sweep can resume.

A file holds the predictions for validation and test rows but no score, because test rows are scored
only after all combinations are done. A regressor that took long to fit is kept in a second file.
One more file has the mutual information by which many combinations select their columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from valence.provenance import fingerprint
from valence.storage.kept_file import MOST_BYTES, parse_json, read_at_most, require_table
from valence.storage.location import Location

Array = NDArray[np.float64]

_METADATA = b"valence"
_ABOUT: Mapping[str, type | tuple[type, ...]] = {
    "made_of": str,
    "status": str,
    "reason": str,
    "seconds": (int, float),
    "engine": str,
    "rows": int,
    "digest": str,
}


@dataclass(frozen=True)
class TrialOutcome:
    """The outcome of a combination.

    Attributes
    ----------
    status, reason
        `failed` with the reason, or `ok` with a remark or an empty text.
    seconds
        Wall time of fitting and predicting, without the shared transform.
    engine
        Packages that fitted the regressor or should have, such as `sklearn` or `sklearn+sklearnex`.
    rows
        Number of training rows that the regressor was fitted on; for an ensemble, the smallest
        number among its members.
    validation, test
        Predictions, float64 `[rows]`; empty for a failure.
    """

    status: Literal["ok", "failed"]
    reason: str
    seconds: float
    engine: str
    rows: int
    validation: Array
    test: Array

    @classmethod
    def failure(cls, reason: str, *, engine: str, seconds: float = 0.0) -> TrialOutcome:
        """Build the outcome of a combination that failed to give predictions."""
        return cls("failed", reason, seconds, engine, 0, np.empty(0), np.empty(0))


@dataclass(frozen=True)
class OutcomeStore:
    """A store of outcomes in a folder; the object itself can be sent to a worker."""

    root: Location

    def file(self, name: str) -> Location:
        """Return the place of the outcome of the combination `name`."""
        return self.root / f"{name}.parquet"

    def write(self, name: str, outcome: TrialOutcome, *, made_of: str) -> None:
        """Write an outcome atomically, with `made_of`, the fingerprint of its inputs."""
        n, m = len(outcome.validation), len(outcome.test)
        about = {
            "made_of": made_of,
            "status": outcome.status,
            "reason": outcome.reason,
            "seconds": outcome.seconds,
            "engine": outcome.engine,
            "rows": outcome.rows,
        }
        # With a digest of everything, a combination with any changed byte is fitted again, and
        # changed values never reach the report.
        about["digest"] = _outcome_digest(about, outcome)
        table = pa.table(
            {
                "split": pa.array(["validation"] * n + ["test"] * m, pa.string()),
                "prediction": pa.array(np.concatenate([outcome.validation, outcome.test])),
            }
        ).replace_schema_metadata({_METADATA: json.dumps(about)})
        with self.file(name).writer() as target:
            pq.write_table(table, target)

    def read(self, name: str, *, made_of: str) -> TrialOutcome | None:
        """Read an outcome; None if it is missing, damaged or has another fingerprint."""
        try:
            with self.file(name).open() as source:
                table = pq.read_table(source)
            about = parse_json(table.schema.metadata[_METADATA])
            require_table(about, _ABOUT)
            digest, of = about.pop("digest"), about.pop("made_of")
            split, prediction = (table[column].to_numpy() for column in ("split", "prediction"))
            validation = np.asarray(split == "validation")
            outcome = TrialOutcome(
                **about, validation=prediction[validation], test=prediction[~validation]
            )
            sound = digest == _outcome_digest({**about, "made_of": of}, outcome)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            # An outcome with any of these faults counts as missing, so it is fitted again.
            return None
        return outcome if sound and of == made_of else None

    def write_fitted(self, name: str, content: bytes, *, made_of: str) -> None:
        """Write a regressor that took long to fit, as the bytes of `serialization.dump`."""
        with self._fitted(name).writer() as target:
            target.write(_digest(content, made_of))
            target.write(content)

    def read_fitted(self, name: str, *, made_of: str) -> bytes | None:
        """Read a kept regressor; None if it is missing, damaged or has another fingerprint."""
        try:
            data = self._fitted(name).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            return None
        size = hashlib.sha256().digest_size
        content = data[size:]
        return content if data[:size] == _digest(content, made_of) else None

    def write_scores(self, scores: Array, *, made_of: str) -> None:
        """Write the mutual information of the columns, `[columns]`."""
        content = {"made_of": made_of, "scores": scores.tolist()}
        self._scores.write_json({**content, "digest": fingerprint(content)})

    def read_scores(self, *, made_of: str) -> Array | None:
        """Read the columns' mutual information; None if missing, damaged or of other inputs."""
        try:
            content = parse_json(read_at_most(self._scores, MOST_BYTES))
            require_table(content, {"made_of": str, "scores": list, "digest": str})
            sound = content.pop("digest") == fingerprint(content)
        except (OSError, ValueError):
            return None
        return np.asarray(content["scores"]) if sound and content["made_of"] == made_of else None

    def _fitted(self, name: str) -> Location:
        return self.root / f"{name}.skops"

    @property
    def _scores(self) -> Location:
        return self.root / "mutual_information.json"

    def forget_failures(self) -> None:
        """Remove failed and damaged outcomes, so that their combinations are tried again."""
        for file in self._files():
            try:
                with file.open() as source:
                    about = parse_json(pq.read_schema(source).metadata[_METADATA])
                require_table(about, _ABOUT)
                keep = about["status"] == "ok"
            except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
                keep = False
            if not keep:
                file.delete()

    def clear(self, *, keep: set[str]) -> None:
        """Remove the files of all combinations except those in `keep`."""
        for file in self.root.files():
            if file.suffix in (".parquet", ".skops") and file.stem not in keep:
                file.delete()

    def _files(self) -> list[Location]:
        return [file for file in self.root.files() if file.suffix == ".parquet"]


def _outcome_digest(about: Mapping[str, Any], outcome: TrialOutcome) -> str:
    """Compute the digest of all that a file contains, including every prediction."""
    digest = hashlib.sha256()
    for values in (outcome.validation, outcome.test):
        digest.update(f"{len(values)} ".encode())
        digest.update(np.ascontiguousarray(values, np.float64).tobytes())
    return fingerprint({**about, "predictions": digest.hexdigest()})


def _digest(content: bytes, made_of: str) -> bytes:
    digest = hashlib.sha256(made_of.encode())
    digest.update(content)
    return digest.digest()
