"""Read the history of a training, `history.csv`, if the file is complete and undamaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from valence.stage import Stage
from valence.storage.kept_file import KeptFile
from valence.storage.location import Location
from valence.storage.manifest import noted_digest
from valence.training.loop import HISTORY_COLUMNS

HISTORY_FILE = "history.csv"


def read_history(folder: Location, record: Mapping[str, Any]) -> pd.DataFrame:
    """Read the history of a finished training.

    Parameters
    ----------
    folder
        `RUN/train`.
    record
        Record of the stage, with the number of epochs and the file's digest.

    Raises
    ------
    DamagedError
        If the file is absent, or is not what the training wrote.
    """
    kept = KeptFile(
        folder / HISTORY_FILE,
        "a row for each epoch of the training",
        f"Run '{Stage('train', folder).command()}', which writes it again from the training's "
        "state.",
    )
    frame = kept.rows(HISTORY_COLUMNS, numbers=HISTORY_COLUMNS)
    expected = record.get("summary", {}).get("epochs")
    if expected is not None and len(frame) != expected:
        raise kept.damaged(f"it has {len(frame)} rows, and the training had {expected} epochs")
    kept.require(noted_digest(record, HISTORY_FILE))
    try:
        return frame.astype({"seed": "int64", "epoch": "int64"})
    except ValueError as error:
        raise kept.damaged("the seed or the epoch of a row is missing") from error
