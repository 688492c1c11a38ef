"""The history of a training, `history.csv`, read back whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from valence.kept_file import KeptFile
from valence.storage import Location
from valence.training import HISTORY_COLUMNS, history_csv

HISTORY_FILE = "history.csv"


def history_digest(history: Iterable[dict[str, Any]]) -> str:
    """Compute the SHA-256 of `history.csv`, for the stage's summary."""
    return hashlib.sha256(history_csv(history).encode()).hexdigest()


def read_history(folder: Location, summary: Mapping[str, Any]) -> pd.DataFrame:
    """Read the history of a finished training.

    Parameters
    ----------
    folder
        `RUN/train`.
    summary
        What the stage's record says: `epochs`, and the file's SHA-256 as `history`.

    Raises
    ------
    DamagedError
        If the file is absent, or is not what the training wrote.
    """
    run = folder.path.rpartition("/")[0]
    kept = KeptFile(
        folder / HISTORY_FILE,
        "a row for each epoch of the training",
        f"Run 'valence train' for '{run}', which writes it again from the training's state.",
    )
    frame = kept.rows(HISTORY_COLUMNS, numbers=HISTORY_COLUMNS)
    expected = summary.get("epochs")
    if expected is not None and len(frame) != expected:
        raise kept.damaged(f"it has {len(frame)} rows, and the training had {expected} epochs")
    written = summary.get("history")
    if written is not None and hashlib.sha256(kept.read()).hexdigest() != written:
        raise kept.damaged("its digest is not the one that the training's stage.json gives")
    try:
        return frame.astype({"seed": "int64", "epoch": "int64"})
    except ValueError as error:
        raise kept.damaged("the seed or the epoch of a row is missing") from error
