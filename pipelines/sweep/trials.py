"""Run the combinations of a sweep as trials of Ray Tune.

Starting an actor costs more than most combinations. Actors are therefore reused from trial to
trial and keep their transformed features, and only as many are started as pay. Long combinations go
first. Trials pass results on to other trials and later calls on disk: the mutual information, and
the members of an ensemble.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray import tune
from threadpoolctl import threadpool_limits

from pipelines.runtime.console import Console
from pipelines.runtime.nodes import Selector, nodes_for, tell_of_absence
from pipelines.sweep.monitor import SweepMonitor
from pipelines.sweep.search import LongestFirst
from pipelines.sweep.work import CACHED, INFORMATION, SweepWork
from valence.storage.location import Location
from valence.sweep.fitting import average, evaluate
from valence.sweep.kept.outcomes import TrialOutcome
from valence.sweep.mutual_information import mutual_information
from valence.sweep.transforms import Array, TransformCache, Transformed, TransformError

# Time to start a worker, mostly for imports.
_START_SECONDS = 2.5

# A regressor that took this long is kept, because its combination may turn out to be the best. A
# faster one is fitted again in the end, which costs less than keeping all.
_LONG_SECONDS = 60.0


class SweepTrial(tune.Trainable):
    """A trial of one combination: transform, fit, predict, write the predictions."""

    def setup(self, config: dict[Any, Any], work: SweepWork | None = None) -> None:
        """Load the shared inputs once; an actor runs one combination after another."""
        assert work is not None, "tune.with_parameters gives it"
        self._work = work
        self._raw: Transformed = ray.get(work.raw)
        self._y: Array = ray.get(work.target)
        self._recording: NDArray[np.str_] = ray.get(work.recording)
        self._transforms = TransformCache(
            self._raw,
            self._y,
            seed=work.config.seed,
            most_bytes=CACHED * sum(matrix.nbytes for matrix in self._raw.matrices),
        )

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Accept the next combination."""
        return True

    def step(self) -> dict[str, Any]:
        """Run the combination; a numerical failure also counts as an outcome."""
        name, work = self.config["combination"], self._work
        with threadpool_limits(limits=1):
            if name == INFORMATION:
                scores = mutual_information(self._raw.training, self._y, seed=work.config.seed)
                work.store.write_scores(scores, made_of=work.made_of[INFORMATION])
                return {"done": True}
            outcome, fitted = self._outcome(name)
            work.write(name, outcome)
            # Keep the regressor last: if that fails, the outcome is already safe.
            if fitted is not None and outcome.seconds >= _LONG_SECONDS:
                work.write_fitted(name, fitted)
        return {"done": True, "status": outcome.status}

    def _outcome(self, name: str) -> tuple[TrialOutcome, Any]:
        """Compute the outcome of a combination, and the regressor fitted for it, if any."""
        members = self._work.members(name)
        if members:
            found = [(short, self._work.read(full)) for short, full in members]
            known = [(short, outcome) for short, outcome in found if outcome is not None]
            assert len(known) == len(members), "an ensemble comes after its members"
            return average(known), None
        combination, config = self._work.combinations[name], self._work.config
        shared = self._work.read_information_for(combination)
        try:
            data = self._transforms.get(combination.scaler, combination.reducer, shared=shared)
        except TransformError as error:
            return TrialOutcome.failure(str(error), engine=self._work.engine(name)), None
        return evaluate(
            combination.regressor, data, self._y, recording=self._recording, config=config
        )


def run_trials(
    work: SweepWork,
    missing: list[str],
    costs: Mapping[str, float],
    *,
    storage: Location,
    selector: Selector,
    cpus: float,
    console: Console,
) -> dict[str, str]:
    """Run the missing combinations; return those whose worker was lost, each with the reason.

    Parameters
    ----------
    work
        The sweep.
    missing
        Names of the combinations to run.
    costs
        Expected seconds by name, ensembles left out.
    storage
        Folder for Tune's own files; every node must reach it.
    selector, cpus
        Nodes for the combinations, and the logical CPUs that they have or may reach.
    console
        Progress output.
    """
    # On an interrupt, Tune would save its state and return as if all trials were finished.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # The outcomes are the record; Tune's loggers would write three more files for every trial.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    # Tune's newer reporter prints at every verbosity.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    # For a custom searcher Tune allows one pending trial by default, and then stops actors that it
    # could reuse when several trials end together.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(math.ceil(cpus))
    # A failed trial becomes a row with its reason, without a traceback.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    storage.delete()
    most = workers_worth_starting([costs.get(name, 0.0) for name in missing], cpus)
    needs = {"CPU": 1.0, "memory": _memory(work, selector)}
    with (
        console.bar(f"sweep: {len(missing)} combinations", len(missing)) as bar,
        tell_of_absence(selector, needs, console),
    ):
        watch = SweepMonitor(work, bar)
        sharing = any(work.shares_information(name) for name in missing)
        if sharing and work.read_information() is None:
            missing, costs = [INFORMATION, *missing], {**costs, INFORMATION: math.inf}
        tune.Tuner(
            tune.with_resources(
                tune.with_parameters(SweepTrial, work=work),
                tune.PlacementGroupFactory([needs], bundle_label_selector=[selector]),
            ),
            tune_config=tune.TuneConfig(
                search_alg=LongestFirst(work, missing, costs, most=most),
                num_samples=len(missing),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=storage.path,
                storage_filesystem=storage.filesystem,
                callbacks=[watch],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
    storage.delete()
    return watch.lost


def workers_worth_starting(seconds: list[float], cpus: float) -> int:
    """Compute how many workers pay: each computes at least as long as it takes to start.

    >>> workers_worth_starting([0.1] * 60, 64)
    3
    >>> workers_worth_starting([20.0] * 60, 64)
    60
    >>> workers_worth_starting([20.0] * 60, 2)
    2
    """
    most = min(cpus, float(len(seconds)), sum(seconds) / _START_SECONDS)
    return max(1, math.ceil(most))


def _memory(work: SweepWork, selector: Selector) -> float:
    """Compute the memory that a trial asks for, at most that of the largest node.

    A trial that asks for more would wait for ever. A head without CPUs does not count.
    """
    nodes = [node for node in nodes_for(selector) if node.holds({"CPU": 1})]
    largest = max((node.resources.get("memory", 0.0) for node in nodes), default=0.0)
    return min(float(work.trial_bytes), largest)
