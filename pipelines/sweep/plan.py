"""Plan a sweep: look at its inputs and at what stands there, and hold every refusal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from valence.chain import refuse_other_settings, require_chain
from valence.config import Config
from valence.errors import DamagedError, ModelError
from valence.provenance import fingerprint
from valence.run import Run
from valence.segments.feature_sets import FeatureSet
from valence.stage import Opening
from valence.storage.location import Location
from valence.sweep.features import read_features
from valence.sweep.grid import Combination, combinations
from valence.sweep.kept.results import read_results, read_selection
from valence.sweep.kept.serialization import require_regressor
from valence.sweep.model_selection import check_rows
from valence.sweep.set_origin import fitting_set, set_digest
from valence.sweep.transforms import Division, divide


@dataclass(frozen=True)
class SweepPlan:
    """The work of a sweep, decided before anything is changed.

    Attributes
    ----------
    run, config
        What it works on.
    opening
        What stands in the folder of the sweep.
    is_of_other_version
        Whether another version of this program made the results that stand there, of the same
        features and settings.
    grid
        The combinations.
    division
        The rows of the features by split; None where there is nothing to do.
    features
        The feature set whose functionals take the place of the deep features, or None.
    length
        Number of segments in a sequence.
    """

    run: Run
    config: Config
    opening: Opening
    is_of_other_version: bool
    grid: tuple[Combination, ...]
    division: Division | None
    features: FeatureSet | None
    length: int

    @property
    def folder(self) -> Location:
        """`RUN/sweep`, or `RUN/sweep-SET`."""
        return self.opening.stage.folder

    @property
    def title(self) -> str:
        """Return the words that lines on the terminal begin with."""
        return "sweep" if self.features is None else f"sweep of {self.features.name}"

    @property
    def input(self) -> str:
        """Return the fingerprint of the features that are swept."""
        made_of = self.opening.made_of
        if self.features is None:
            return str(made_of["features"])
        return fingerprint({key: made_of[key] for key in ("features", "set", "set_digest")})


def plan_sweep(
    run: Run, config: Config, *, overwrite: bool, features: str | None = None
) -> SweepPlan:
    """Look at what a sweep needs and at what stands there; nothing is changed.

    Parameters
    ----------
    run
        A run with features.
    config
        The sections `sweep`, `split` and `cluster` matter here.
    overwrite
        Whether results of another configuration or other features may be replaced, and whether
        combinations that failed are tried again.
    features
        Name of a feature set of the run's corpus; None for the deep features.

    Raises
    ------
    ConfigError
        If the combinations are not well defined.
    UsageError, FeatureError
        If there is no such feature set, or it cannot be used.
    MissingStageError
        If there are no features.
    SplitError
        If the features' splits do not allow an honest score.
    StaleError
        If the features were made of other segments or of another model than stand in the run, or
        other results stand there and `overwrite` is False.
    DamagedError
        If the features or the record of the results are damaged.
    """
    grid = tuple(combinations(config.sweep))
    extracted = require_chain(run, "features")["features"]
    _require_own_division(run, config)
    overlap = config.split.allow_subject_overlap
    length = extracted["made_of"].get("sequence", {}).get("length", config.sequence.length)
    chosen = None if features is None else fitting_set(run, features, length)
    made_of = {
        "features": extracted["summary"]["digest"],
        "sweep": config.sweep.model_dump(mode="json"),
        "allow_subject_overlap": overlap,
    }
    if chosen is not None:
        made_of |= {"set": chosen.name, "set_digest": set_digest(run, chosen)}
    stage = run.stage("sweep") if chosen is None else run.set_sweep(chosen.name)
    # This version cannot read results of another, so it replaces them unasked.
    older = not overwrite and stage.is_of_other_version(made_of)
    opening = stage.opened(
        made_of,
        overwrite=overwrite or older,
        wipe=False,
        lost=lambda record: _lost(stage.folder, record),
    )
    division = None
    # Features are read only where they are needed: a finished sweep may stand without them whole.
    if not opening.is_whole or (overwrite and shortcomings(opening.summary)):
        division = divide(read_features(run.folder("features")), allow_subject_overlap=overlap)
        check_rows(division, config.sweep.select_on)
    return SweepPlan(run, config, opening, older, grid, division, chosen, length)


def _require_own_division(run: Run, config: Config) -> None:
    """Refuse another rule than the run's on whether subjects may stand in two splits."""
    if not run.config_file.exists():
        # Only the features of a run were kept.
        return
    there, here = (
        {"split": {"allow_subject_overlap": each.split.allow_subject_overlap}}
        for each in (run.config(), config)
    )
    refuse_other_settings(run.stage("segments"), there, here, asks="sweep")


def _lost(folder: Location, record: Mapping[str, Any]) -> list[str]:
    """Say which output of a finished sweep is absent or damaged: one clause, or none."""
    try:
        read_results(folder, record)
        read_selection(folder, record)
        require_regressor(folder / "best", record)
    except (DamagedError, ModelError) as error:
        return [str(error).partition(". ")[0]]
    return []


def shortcomings(summary: Mapping[str, Any]) -> list[str]:
    """List what a finished sweep lacks and another try may give: `overwrite` asks for that."""
    remarks = list(summary.get("remarks", ()))
    return [f"{summary['failed']} failed", *remarks] if summary["failed"] else remarks
