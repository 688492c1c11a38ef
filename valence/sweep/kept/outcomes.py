"""What came of the combinations of a sweep, one file each, so that it goes on where it stopped.

A file holds the predictions for validation and test rows and no score: those of the test rows are
scored only once all combinations are done. Beside it lies the regressor where that took long to
fit, and in a file of its own the mutual information that many select by.
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
    """What came of a combination.

    Attributes
    ----------
    status, reason
        `failed` with its reason, or `ok` with a remark or nothing.
    seconds
        Wall time of fitting and predicting, the shared transform left out.
    engine
        Packages that fitted it or were to, such as `sklearn` or `sklearn+sklearnex`.
    rows
        Training rows that the regressor was fitted on, the fewest of an ensemble's members.
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
        """A combination that gave no predictions."""
        return cls("failed", reason, seconds, engine, 0, np.empty(0), np.empty(0))


@dataclass(frozen=True)
class OutcomeStore:
    """A folder of outcomes; it can be sent to a worker."""

    root: Location

    def file(self, name: str) -> Location:
        """Where the outcome of the combination `name` lies."""
        return self.root / f"{name}.parquet"

    def write(self, name: str, outcome: TrialOutcome, *, made_of: str) -> None:
        """Keep an outcome, atomically, with the fingerprint of what made it."""
        n, m = len(outcome.validation), len(outcome.test)
        about = {
            "made_of": made_of,
            "status": outcome.status,
            "reason": outcome.reason,
            "seconds": outcome.seconds,
            "engine": outcome.engine,
            "rows": outcome.rows,
        }
        # Whatever byte changes, the combination is fitted again rather than reported otherwise.
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
        """The outcome of a combination; None if there is none of that fingerprint, or damaged."""
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
            # Whatever is wrong with it, the combination is fitted again.
            return None
        return outcome if sound and of == made_of else None

    def write_fitted(self, name: str, content: bytes, *, made_of: str) -> None:
        """Keep a regressor that took long to fit, as `serialization.dump` wrote it."""
        with self._fitted(name).writer() as target:
            target.write(_digest(content, made_of))
            target.write(content)

    def read_fitted(self, name: str, *, made_of: str) -> bytes | None:
        """What was kept of that fingerprint, or None if there is none, or it is damaged."""
        try:
            data = self._fitted(name).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            return None
        size = hashlib.sha256().digest_size
        content = data[size:]
        return content if data[:size] == _digest(content, made_of) else None

    def write_scores(self, scores: Array, *, made_of: str) -> None:
        """Keep the mutual information of the columns, `[columns]`."""
        content = {"made_of": made_of, "scores": scores.tolist()}
        self._scores.write_json({**content, "digest": fingerprint(content)})

    def read_scores(self, *, made_of: str) -> Array | None:
        """The mutual information of the columns; None if there is none, or it is damaged."""
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
        """Remove the outcomes that are failures or damaged, so that they are tried again."""
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
        """Remove what there is of all combinations but those in `keep`."""
        for file in self.root.files():
            if file.suffix in (".parquet", ".skops") and file.stem not in keep:
                file.delete()

    def _files(self) -> list[Location]:
        return [file for file in self.root.files() if file.suffix == ".parquet"]


def _outcome_digest(about: Mapping[str, Any], outcome: TrialOutcome) -> str:
    """Of all that a file says, the values of the predictions in full."""
    digest = hashlib.sha256()
    for values in (outcome.validation, outcome.test):
        digest.update(f"{len(values)} ".encode())
        digest.update(np.ascontiguousarray(values, np.float64).tobytes())
    return fingerprint({**about, "predictions": digest.hexdigest()})


def _digest(content: bytes, made_of: str) -> bytes:
    digest = hashlib.sha256(made_of.encode())
    digest.update(content)
    return digest.digest()
