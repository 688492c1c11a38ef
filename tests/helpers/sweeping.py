"""Sweeps of made-up features: what their tests share."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.runtime.console import Console
from valence.config import Config
from valence.run import Run
from valence.sweep.features import Features, write_features


def run_with(features: Features, folder: Path) -> Run:
    """A run that has features and nothing else."""
    run = Run.at(str(folder))
    stage = run.stage("features")
    stage.begin({"model": "a model"})
    for name in np.unique(features.recording):
        rows = features.rows(features.recording == name)
        write_features(run.folder("features") / f"{name}.parquet", rows)
    stage.finish({"digest": "of these features", "seconds": 0.0})
    return run


def sweep_config(*assignments: str) -> Config:
    """The default with few draws, and what is assigned, as `--set` takes it."""
    return Config.resolve(Config(), assignments=["sweep.bootstrap=50", *assignments])


def run_sweep(run: Run, config: Config, **options: Any) -> dict[str, Any]:
    """The stage, quietly unless a console is given; its summary."""
    from pipelines.sweep.stage import sweep

    return sweep(run, config, **{"overwrite": False, "console": Console(), **options})


def results_of(run: Run) -> pd.DataFrame:
    """The table of `results.csv`."""
    with (run.folder("sweep") / "results.csv").open() as file:
        return pd.read_csv(io.BytesIO(file.read()))
