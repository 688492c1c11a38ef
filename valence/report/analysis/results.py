"""Read once, from a finished run on disk, all data that its report uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd

from valence.chain import require_chain, require_own_config
from valence.config import Config
from valence.formatting import Unit, plural, unit_of
from valence.report.analysis.feature_sets import SetSweep, UnusedSetSweep, read_set_sweeps
from valence.run import Run
from valence.segments.store import SegmentStore
from valence.stage import FORMAT, StageName
from valence.storage.manifest import noted_digest
from valence.sweep.features import Features, read_features
from valence.sweep.kept.results import read_results, read_selection
from valence.sweep.kept.serialization import REGRESSOR_FILES, require_regressor
from valence.training.checkpoint import read_progress
from valence.training.history import HISTORY_FILE, read_history

SPLITS = ("train", "validation", "test", "unlabelled")
_SUFFIXES = ("_train", "_devel", "_test")


@dataclass(frozen=True)
class Evidence:
    """The files of a run, in memory.

    Attributes
    ----------
    run
        The run itself, for outputs that are read only in part (segments, the model).
    config
        Its resolved configuration.
    record
        The `[run]` table of `config.toml`.
    stages
        Content of `stage.json` of each finished stage.
    recordings
        One row per recording of the corpus, as preprocessing found it.
    features
        One row per sequence, with the deep model's predictions.
    history
        One row per epoch and seed, or None if training kept no history.
    progress
        Last progress record of the training (device, residency), or None.
    results
        One row per combination of the sweep, or None without a sweep of these features.
    selection
        The sweep's choice, or None without a sweep of these features.
    set_sweeps
        Finished sweeps of feature sets beside these features.
    unused_set_sweeps
        Sweeps of feature sets that are not shown, and why.
    """

    run: Run
    config: Config
    record: Mapping[str, Any]
    stages: Mapping[StageName, Mapping[str, Any]]
    recordings: pd.DataFrame
    features: Features
    history: pd.DataFrame | None
    progress: Mapping[str, Any] | None
    results: pd.DataFrame | None
    selection: Mapping[str, Any] | None
    set_sweeps: tuple[SetSweep, ...] = ()
    unused_set_sweeps: tuple[UnusedSetSweep, ...] = ()

    @property
    def target(self) -> str:
        """Return the first target, which all headlines are about."""
        return self.features.targets[0]

    @property
    def synthetic(self) -> bool:
        """Return whether the embedded synthesis made the recordings."""
        return bool(self.record.get("synthetic", False))

    @property
    def protocol(self) -> str:
        """Return the protocol that divided the corpus: `paper` or `partition`."""
        configured = self.config.split.protocol
        if configured != "auto":
            return configured
        suffixed = self.recordings["Id"].str.endswith(_SUFFIXES).any()
        return "paper" if suffixed else "partition"

    @property
    def subjects_known(self) -> Mapping[str, str]:
        """Return how the subjects are known (`known_by`, `remark`); both empty in an older run."""
        summary = self.stages["segments"]["summary"]
        return {"known_by": "", "remark": "", **summary.get("subjects", {})}

    @property
    def agreement(self) -> Mapping[str, Any] | None:
        """Return how well the raters of the corpus agree; None if that is not known."""
        found: Mapping[str, Any] | None = self.stages["segments"]["summary"].get("agreement")
        return found

    @property
    def unit(self) -> Unit:
        """Return the unit of intervals: subjects, or recordings if the subjects are unknown."""
        return unit_of(self.subjects_known["remark"])

    @property
    def usable(self) -> pd.DataFrame:
        """Return the recordings that preprocessing could use."""
        return self.recordings[self.recordings["status"] == "ok"]

    @property
    def rejected(self) -> pd.DataFrame:
        """Return the recordings that preprocessing set aside."""
        return self.recordings[self.recordings["status"] != "ok"]

    @property
    def select_on(self) -> str:
        """Return the split that the sweep chooses, or would choose, the best regressor on."""
        return str((self.selection or {}).get("select_on", self.config.sweep.select_on))

    @property
    def why_no_sweep(self) -> str:
        """Explain why there are no results of a sweep, and which command adds them."""
        if "sweep" in self.stages:
            if self.stages["sweep"]["made_of"].get("format") != FORMAT["sweep"]:
                return (
                    "The sweep is of another version of this program: 'valence sweep' repeats it."
                )
            return "The sweep is of other features: 'valence sweep' with --overwrite repeats it."
        return "The sweep has not been run on this run: 'valence sweep' adds it."

    def sources(self, recordings: pd.DataFrame) -> str:
        """Count the recordings in some rows of `recordings`, and their subjects, in words."""
        unit, n = self.unit, len(recordings)
        if unit.one == "recording":
            return unit.count(n)
        subjects = unit.count(recordings["subject"].nunique())
        return f"{plural(n, 'recording')} of {subjects}"

    def subjects(self, split: str) -> int:
        """Count the subjects with labelled sequences in a split."""
        return len(np.unique(self.features.of(split).subject))


def read_evidence(run: Run, *, scores: bool = True) -> Evidence:
    """Read the outputs of a run's stages.

    Parameters
    ----------
    run
        The run.
    scores
        Whether the scores of the sweep are needed. If not, only the fact that there was a sweep
        and its choice are used.

    Raises
    ------
    MissingStageError
        If the folder is not a run, or preprocessing, training or extraction is not finished. The
        sweep may be missing.
    DamagedError
        If `config.toml` is damaged or belongs to another run; or if a record, the history of the
        training or the results of the sweep are lost or damaged.
    ModelError
        If the best pipeline of the sweep is lost, damaged or belongs to another sweep.
    StaleError
        If a stage was made from other outputs than those in the run.
    """
    config = require_own_config(run)
    needed = require_chain(run, "segments", "train", "features")
    trained, extracted = needed["train"], needed["features"]
    stages = {
        name: record
        for name in get_args(StageName)
        # The report stage checks its own record.
        if name != "report"
        and (record := run.stage(name).found()) is not None
        and record["status"] == "done"
    }
    # A sweep of other features has no meaning for this model.
    made_of = stages["sweep"]["made_of"] if "sweep" in stages else {}
    swept = (
        made_of.get("features") == extracted["summary"]["digest"]
        and made_of.get("format") == FORMAT["sweep"]
    )
    sweep = run.folder("sweep")
    if swept and noted_digest(stages["sweep"], f"best/{REGRESSOR_FILES[0]}") is not None:
        require_regressor(sweep / "best", stages["sweep"])
    set_sweeps, unused = read_set_sweeps(run, extracted["summary"]["digest"])
    return Evidence(
        run=run,
        config=config,
        record=run.record(),
        stages=stages,
        recordings=SegmentStore(run.folder("segments")).recordings(),
        features=read_features(run.folder("features")),
        history=_read_history(run, trained),
        progress=read_progress(run.folder("train")),
        results=read_results(sweep, stages["sweep"], scores=scores) if swept else None,
        selection=read_selection(sweep, stages["sweep"], scores=scores) if swept else None,
        set_sweeps=set_sweeps,
        unused_set_sweeps=unused,
    )


def _read_history(run: Run, record: Mapping[str, Any]) -> pd.DataFrame | None:
    folder = run.folder("train")
    if not (folder / HISTORY_FILE).exists() and noted_digest(record, HISTORY_FILE) is None:
        return None
    return read_history(folder, record)
