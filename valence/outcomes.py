"""What came of the combinations of a sweep, one file each, so that it goes on where it stopped.

A file holds the predictions for validation and test rows and no score: those of the test rows are
scored only once all combinations are done. Beside it lies the regressor where that took long to
fit, and in a file of its own the mutual information that many select by.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from valence.storage import Location

Array = NDArray[np.float64]

_METADATA = b"valence"


@dataclass(frozen=True)
class Outcome:
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
    def failure(cls, reason: str, *, engine: str, seconds: float = 0.0) -> Outcome:
        """A combination that gave no predictions."""
        return cls("failed", reason, seconds, engine, 0, np.empty(0), np.empty(0))


@dataclass(frozen=True)
class OutcomeStore:
    """A folder of outcomes; it can be sent to a worker."""

    root: Location

    def file(self, name: str) -> Location:
        """Where the outcome of the combination `name` lies."""
        return self.root / f"{name}.parquet"

    def write(self, name: str, outcome: Outcome, *, made_of: str) -> None:
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
        table = pa.table(
            {
                "split": pa.array(["validation"] * n + ["test"] * m, pa.string()),
                "prediction": pa.array(np.concatenate([outcome.validation, outcome.test])),
            }
        ).replace_schema_metadata({_METADATA: json.dumps(about)})
        with self.file(name).writer() as target:
            pq.write_table(table, target)

    def read(self, name: str, *, made_of: str) -> Outcome | None:
        """The outcome of a combination, or None if there is none of that fingerprint."""
        try:
            with self.file(name).open() as source:
                table = pq.read_table(source)
        except FileNotFoundError:
            return None
        about = json.loads(table.schema.metadata[_METADATA])
        if about.pop("made_of") != made_of:
            return None
        validation = np.asarray(table["split"].to_numpy() == "validation")
        prediction = table["prediction"].to_numpy()
        return Outcome(**about, validation=prediction[validation], test=prediction[~validation])

    def write_fitted(self, name: str, content: bytes, *, made_of: str) -> None:
        """Keep a regressor that took long to fit, as `valence.regressor.dump` wrote it."""
        with self._fitted(name).writer() as target:
            target.write(_digest(content, made_of))
            target.write(content)

    def read_fitted(self, name: str, *, made_of: str) -> bytes | None:
        """What was kept of that fingerprint, or None if there is none, or it is damaged."""
        file = self._fitted(name)
        if not file.exists():
            return None
        data = file.read_bytes()
        size = hashlib.sha256().digest_size
        content = data[size:]
        return content if data[:size] == _digest(content, made_of) else None

    def write_scores(self, scores: Array, *, made_of: str) -> None:
        """Keep the mutual information of the columns, `[columns]`."""
        self._scores.write_json({"made_of": made_of, "scores": scores.tolist()})

    def read_scores(self, *, made_of: str) -> Array | None:
        """The mutual information of the columns, or None if there is none of that fingerprint."""
        if not self._scores.exists():
            return None
        content = self._scores.read_json()
        return np.asarray(content["scores"]) if content["made_of"] == made_of else None

    def _fitted(self, name: str) -> Location:
        return self.root / f"{name}.skops"

    @property
    def _scores(self) -> Location:
        return self.root / "mutual_information.json"

    def forget_failures(self) -> None:
        """Remove the outcomes that are failures, so that they are tried again."""
        for file in self._files():
            with file.open() as source:
                about = json.loads(pq.read_schema(source).metadata[_METADATA])
            if about["status"] == "failed":
                file.delete()

    def clear(self, *, keep: set[str]) -> None:
        """Remove what there is of all combinations but those in `keep`."""
        for file in self.root.files():
            if file.suffix in (".parquet", ".skops") and file.stem not in keep:
                file.delete()

    def _files(self) -> list[Location]:
        return [file for file in self.root.files() if file.suffix == ".parquet"]


def _digest(content: bytes, made_of: str) -> bytes:
    digest = hashlib.sha256(made_of.encode())
    digest.update(content)
    return digest.digest()
