"""Read the results of a sweep, `results.csv` and `selection.json`, if complete and undamaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from valence.stage import Stage
from valence.storage.kept_file import KeptFile
from valence.storage.location import Location
from valence.storage.manifest import noted_digest

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
RESULTS_FILE = "results.csv"
SELECTION_FILE = "selection.json"


def read_results(
    folder: Location, record: Mapping[str, Any], *, scores: bool = True
) -> pd.DataFrame:
    """Read `results.csv`, which has one row for each combination.

    Parameters
    ----------
    folder
        `RUN/sweep`.
    record
        Record of the stage, with the number of combinations and the file's digest.
    scores
        Whether all of `RESULT_COLUMNS` are needed.

    Raises
    ------
    DamagedError
        If the file is absent, or is not what the sweep wrote.
    """
    kept = _kept(folder, RESULTS_FILE, "a row for each combination of the sweep")
    frame = kept.rows(RESULT_COLUMNS, numbers=_NUMBERS) if scores else kept.rows(None)
    expected = record.get("summary", {}).get("combinations")
    if expected is not None and len(frame) != expected:
        raise kept.damaged(f"it has {len(frame)} rows, and the sweep had {expected} combinations")
    kept.require(noted_digest(record, RESULTS_FILE))
    if scores:
        if frame["rows"].isna().any():
            raise kept.damaged("the number of rows of a combination is missing")
        frame["rows"] = frame["rows"].astype("int64")
    return frame


def read_selection(
    folder: Location, record: Mapping[str, Any], *, scores: bool = True
) -> dict[str, Any]:
    """Read `selection.json`.

    Parameters
    ----------
    folder
        `RUN/sweep`.
    record
        Record of the stage, with the file's digest.
    scores
        Whether the scores are needed, or only the choice of the best.

    Raises
    ------
    DamagedError
        If the file is absent, or is not what the sweep wrote.
    """
    kept = _kept(folder, SELECTION_FILE, "what the sweep chose, with its scores")
    content = kept.table(_SCORES if scores else {})
    kept.require(noted_digest(record, SELECTION_FILE))
    return content


def _kept(folder: Location, name: str, expected: str) -> KeptFile:
    return KeptFile(
        folder / name,
        expected,
        f"Run '{Stage('sweep', folder).command()}', which writes it again from the combinations "
        "that are there.",
    )
