"""What a sweep ended with, `results.csv` and `selection.json`, read back whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from valence.kept_file import KeptFile
from valence.storage import Location

RESULT_COLUMNS = (
    "scaler",
    "reducer",
    "regressor",
    "ccc_validation",
    "ccc_test",
    "mse_test",
    "mae_test",
    "seconds",
    "engine",
    "rows",
    "status",
    "reason",
)
_NUMBERS = frozenset(RESULT_COLUMNS[3:8]) | {"rows"}
_SCORES = {
    "select_on": str,
    "best": dict,
    "deep": dict,
    "paired": dict,
    "baselines": dict,
    "leaders": list,
    "remarks": list,
}
_RESULTS = "results.csv"
_SELECTION = "selection.json"


def write_results(folder: Location, table: pd.DataFrame) -> str:
    """Write `results.csv` into `RUN/sweep`; returns its SHA-256, for the stage's summary."""
    return _write(folder / _RESULTS, table.to_csv(index=False))


def write_selection(folder: Location, content: Mapping[str, Any]) -> str:
    """Write `selection.json` into `RUN/sweep`; returns its SHA-256, for the stage's summary."""
    return _write(folder / _SELECTION, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _write(file: Location, text: str) -> str:
    content = text.encode()
    file.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_results(
    folder: Location, summary: Mapping[str, Any], *, scores: bool = True
) -> pd.DataFrame:
    """Read `results.csv`, a row a combination.

    Parameters
    ----------
    folder
        `RUN/sweep`.
    summary
        What the stage's record says: `combinations`, and the file's SHA-256 as `results`.
    scores
        Whether all of `RESULT_COLUMNS` are needed.

    Raises
    ------
    DamagedError
        If the file is absent, or is not what the sweep wrote.
    """
    kept = _kept(folder, _RESULTS, "a row for each combination of the sweep")
    frame = kept.rows(RESULT_COLUMNS, numbers=_NUMBERS) if scores else kept.rows(None)
    expected = summary.get("combinations")
    if expected is not None and len(frame) != expected:
        raise kept.damaged(f"it has {len(frame)} rows, and the sweep had {expected} combinations")
    _require_digest(kept, summary.get("results"))
    if scores:
        if frame["rows"].isna().any():
            raise kept.damaged("the number of rows of a combination is missing")
        frame["rows"] = frame["rows"].astype("int64")
    return frame


def read_selection(
    folder: Location, summary: Mapping[str, Any], *, scores: bool = True
) -> dict[str, Any]:
    """Read `selection.json`.

    Parameters
    ----------
    folder
        `RUN/sweep`.
    summary
        What the stage's record says: the file's SHA-256 as `selection`.
    scores
        Whether the scores are needed, or only how the best was chosen.

    Raises
    ------
    DamagedError
        If the file is absent, or is not what the sweep wrote.
    """
    kept = _kept(folder, _SELECTION, "what the sweep chose, with its scores")
    content = kept.table(_SCORES if scores else {})
    _require_digest(kept, summary.get("selection"))
    return content


def _require_digest(kept: KeptFile, written: str | None) -> None:
    """See that a file is the one that was written; sweeps of older versions kept no digest."""
    if written is not None and hashlib.sha256(kept.read()).hexdigest() != written:
        raise kept.damaged("its digest is not the one that the sweep's stage.json gives")


def _kept(folder: Location, name: str, expected: str) -> KeptFile:
    run = folder.path.rpartition("/")[0]
    return KeptFile(
        folder / name,
        expected,
        f"Run 'valence sweep' for '{run}', which writes it again from the combinations that are "
        "there.",
    )
