"""Describe the work of a sweep, and estimate the memory of a trial."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from ray import ObjectRef

from valence.config import StepConfig, SweepConfig
from valence.provenance import fingerprint, versions
from valence.stage import FORMAT
from valence.sweep.fitting import working_bytes
from valence.sweep.grid import KERNEL_MACHINES, Combination, Engine, engine_of, regressor_parts
from valence.sweep.kept.outcomes import OutcomeStore, TrialOutcome
from valence.sweep.kept.serialization import dump, load
from valence.sweep.transforms import (
    Array,
    Transformed,
    shares_mutual_information,
    uses_mutual_information,
)

_PACKAGE: dict[Engine, str] = {
    "sklearn": "scikit-learn",
    "sklearnex": "scikit-learn-intelex",
    "xgboost": "xgboost",
}


def made_of_sweep(
    combination: Combination, config: SweepConfig, features: str, installed: Mapping[str, str]
) -> str:
    """Compute the fingerprint of all that a combination's predictions depend on."""
    parts = regressor_parts(combination.regressor, config.regressors)
    engines = [engine_of(part, config.engine) for part in parts]
    limited = any(part.estimator in KERNEL_MACHINES for part in parts)
    return fingerprint(
        {
            "features": features,
            "steps": [combination.scaler.model_dump(), combination.reducer.model_dump()],
            "regressors": [part.model_dump() for part in parts],
            "engines": engines,
            "svr_max_rows": config.svr_max_rows if limited else None,
            "seed": config.seed,
            "software": software({"sklearn", *engines}, installed),
        }
    )


def software(engines: set[Engine], installed: Mapping[str, str]) -> dict[str, Any]:
    """List the versions of computing packages, so that a resumed sweep never mixes two."""
    packages = {"numpy", "scipy", *(_PACKAGE[each] for each in engines)}
    return {"format": FORMAT["sweep"]} | {each: installed[each] for each in packages}


# Name of the trial that computes what all SelectKBest share; no combination has this name.
INFORMATION = "mutual information"
# Both numbers are multiples of the features' size. The first is for the transforms that a worker
# keeps, enough for the paper's twelve. The second is for everything that a worker holds at once:
# also the current transform, and the copies that a regressor makes during its fit.
CACHED = 2.5
_COPIES = 7.0
# Memory of Python with scikit-learn, XGBoost and Ray.
_PROCESS_BYTES = 600 * 2**20


@dataclass(frozen=True)
class SweepWork:
    """The inputs of all trials, sent to a worker once.

    Attributes
    ----------
    combinations
        Every combination of the sweep, by name.
    made_of
        Fingerprint of the inputs of each outcome, by name, including `INFORMATION`.
    raw
        Features of the three splits (`Transformed`), in the object store.
    target, recording
        Label and recording of each training row, in the object store.
    trial_bytes
        Memory in bytes that Ray reserves for a trial.
    """

    config: SweepConfig
    store: OutcomeStore
    combinations: Mapping[str, Combination]
    made_of: Mapping[str, str]
    raw: ObjectRef
    target: ObjectRef
    recording: ObjectRef
    trial_bytes: int

    def members(self, name: str) -> list[tuple[str, str]]:
        """List an ensemble's members by regressor and combination; none for others."""
        combination = self.combinations[name]
        if not combination.regressor.members:
            return []
        scaler, reducer = combination.scaler, combination.reducer
        return [(part.name, str(Combination(scaler, reducer, part))) for part in self._parts(name)]

    def engine(self, name: str) -> str:
        """Name the packages that fit a combination, such as `sklearn+sklearnex`."""
        return "+".join(sorted({engine_of(part, self.config.engine) for part in self._parts(name)}))

    def shares_information(self, name: str) -> bool:
        """Say whether a combination selects by the shared mutual information."""
        combination = self.combinations[name]
        return not combination.regressor.members and _shares_information(combination)

    def read(self, name: str) -> TrialOutcome | None:
        """Read the outcome of a combination, if it exists."""
        return self.store.read(name, made_of=self.made_of[name])

    def write(self, name: str, outcome: TrialOutcome) -> None:
        """Write the outcome of a combination."""
        self.store.write(name, outcome, made_of=self.made_of[name])

    def write_fitted(self, name: str, fitted: Any) -> None:
        """Write the fitted regressor of a combination that took long."""
        self.store.write_fitted(name, dump(fitted), made_of=self._fitted_of(name))

    def read_fitted(self, name: str) -> dict[str, Any]:
        """Read the fitted regressors of a combination that were kept, by name."""
        own = [(self.combinations[name].regressor.name, name)]
        kept = {
            short: self.store.read_fitted(full, made_of=self._fitted_of(full))
            for short, full in self.members(name) or own
        }
        return {short: load(content) for short, content in kept.items() if content is not None}

    def _parts(self, name: str) -> tuple[StepConfig, ...]:
        return regressor_parts(self.combinations[name].regressor, self.config.regressors)

    def _fitted_of(self, name: str) -> str:
        """Compute the fingerprint of a regressor, which needs transforms equal to the last bit."""
        installed = versions() | {"skops": version("skops"), "machine": platform.machine()}
        return fingerprint({"made_of": self.made_of[name], "installed": installed})

    def read_information(self) -> Array | None:
        """Read the mutual information of the columns, if it exists."""
        return self.store.read_scores(made_of=self.made_of[INFORMATION])

    def read_information_for(self, combination: Combination) -> Array | None:
        """Read the mutual information of the columns, if a combination selects by it."""
        return self.read_information() if _shares_information(combination) else None


def trial_bytes(raw: Transformed, config: SweepConfig) -> int:
    """Estimate the memory of a trial in bytes: features, copies, libraries and the fit."""
    size = _PROCESS_BYTES + round(_COPIES * sum(matrix.nbytes for matrix in raw.matrices))
    rows = len(raw.training)
    return size + max(working_bytes(step, rows=rows, config=config) for step in config.regressors)


def _shares_information(combination: Combination) -> bool:
    scaler, reducer = combination.scaler, combination.reducer
    return uses_mutual_information(reducer) and shares_mutual_information(scaler)
