"""Compute the scores of each training seed, and how much the seeds differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

# Scores whose mean and standard deviation over the seeds are reported.
SCORES = ("validation_ccc", "validation_mse", "validation_mae")


@dataclass(frozen=True)
class Seeds:
    """The best epoch of each seed, with mean and spread of the scores over all seeds.

    Attributes
    ----------
    best
        One row per seed: `seed`, `epochs`, `epoch` (the best), `SCORES`, `seconds` (of all epochs).
    mean, sd
        Mean and standard deviation (ddof 1) of `SCORES` over the seeds; `sd` is None for one seed.
    """

    best: tuple[dict[str, Any], ...]
    mean: dict[str, float]
    sd: dict[str, float] | None

    def to_json(self) -> dict[str, Any]:
        """Return the content for `metrics.json`."""
        return {"seeds": list(self.best), "mean": self.mean, "sd": self.sd}


def by_seed(history: pd.DataFrame) -> Seeds:
    """Find the best epoch of each seed in a `history.csv` with at least one row."""
    best = []
    for seed in history["seed"].unique():
        own = history[history["seed"] == seed]
        row = own.iloc[int(own["validation_ccc"].to_numpy().argmax())]
        best.append(
            {
                "seed": int(seed),
                "epochs": len(own),
                "epoch": int(row["epoch"]),
                **{name: float(row[name]) for name in SCORES},
                "seconds": float(own["seconds"].sum()),
            }
        )
    columns = {name: np.array([row[name] for row in best]) for name in SCORES}
    return Seeds(
        best=tuple(best),
        mean={name: float(values.mean()) for name, values in columns.items()},
        sd={name: float(values.std(ddof=1)) for name, values in columns.items()}
        if len(best) > 1
        else None,
    )
