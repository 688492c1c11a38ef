"""The combinations of a sweep as trials of Ray Tune: what a trial does, and which comes next.

Actors are reused from trial to trial, since to start one costs more than most combinations. Long
combinations go first, a combination waits for its transform, and an ensemble for its members.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import ObjectRef, tune
from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.search import Searcher
from threadpoolctl import threadpool_limits

from pipelines.progress import Bar, Report
from pipelines.session import cluster_cpus
from valence.combinations import Combination, regressor_parts
from valence.config import SweepConfig
from valence.outcomes import Outcome, OutcomeStore
from valence.regression import average, evaluate
from valence.storage import Location

TransformKey = tuple[str, str]

_PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class Work:
    """All that a trial needs, sent once.

    Attributes
    ----------
    combinations
        Every combination of the sweep by its name.
    made_of
        Fingerprint of what makes each outcome, by name.
    target
        Training labels, in the object store.
    transforms
        Features behind each (scaler, reducer), in the object store.
    """

    config: SweepConfig
    store: OutcomeStore
    combinations: Mapping[str, Combination]
    made_of: Mapping[str, str]
    target: ObjectRef
    transforms: Mapping[TransformKey, ObjectRef] = field(default_factory=dict)

    def members(self, name: str) -> list[tuple[str, str]]:
        """Names of an ensemble's members, as regressors and as combinations; else none."""
        combination = self.combinations[name]
        if not combination.regressor.members:
            return []
        parts = regressor_parts(combination.regressor, self.config.regressors)
        scaler, reducer = combination.scaler, combination.reducer
        return [(part.name, str(Combination(scaler, reducer, part))) for part in parts]

    def transform_key(self, name: str) -> TransformKey:
        """The scaler and reducer of a combination."""
        combination = self.combinations[name]
        return combination.scaler.name, combination.reducer.name

    def read(self, name: str) -> Outcome | None:
        """The outcome of a combination, if it is there."""
        return self.store.read(name, made_of=self.made_of[name])

    def write(self, name: str, outcome: Outcome) -> None:
        """Keep the outcome of a combination."""
        self.store.write(name, outcome, made_of=self.made_of[name])


class SweepTrial(tune.Trainable):
    """One combination: fit on the shared transform, predict, write the predictions."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """One CPU: it computes on one thread."""
        return tune.PlacementGroupFactory([{"CPU": 1}])

    def setup(self, config: dict[Any, Any], work: Work | None = None) -> None:
        """Keep what is sent once; an actor serves one combination after the other."""
        assert work is not None, "tune.with_parameters gives it"
        self._work = work

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next combination."""
        return True

    def step(self) -> dict[str, Any]:
        """Run the combination; a numerical failure is an outcome too."""
        name = self.config["combination"]
        with threadpool_limits(limits=1):
            outcome = self._outcome(name)
        self._work.write(name, outcome)
        return {"status": outcome.status, "seconds": outcome.seconds, "done": True}

    def _outcome(self, name: str) -> Outcome:
        members = self._work.members(name)
        if members:
            found = [(short, self._work.read(full)) for short, full in members]
            known = [(short, outcome) for short, outcome in found if outcome is not None]
            assert len(known) == len(members), "an ensemble comes after its members"
            return average(known)
        try:
            data = ray.get(self._work.transforms[self._work.transform_key(name)])
        except RayTaskError as error:
            return Outcome.failure(f"its transform failed: {_in_words(error)}")
        y = ray.get(self._work.target)
        step = self._work.combinations[name].regressor
        return evaluate(step, data, y, config=self._work.config)


class LongestFirst(Searcher):
    """Hands out the combinations that are missing, those expected to take longest first.

    Parameters
    ----------
    work
        The sweep.
    missing
        Names of the combinations to run.
    costs
        Expected cost of the regressors behind each transform, by name, in the object store.
    """

    def __init__(
        self,
        work: Work,
        missing: list[str],
        costs: Mapping[TransformKey, ObjectRef[dict[str, float]]],
    ) -> None:
        super().__init__(metric="seconds", mode="min")
        self._work = work
        self._waiting = list(missing)
        self._costs = dict(costs)
        self._known: dict[TransformKey, dict[str, float]] = {}
        self._running: dict[str, str] = {}
        self._errors: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """The next combination; None while all that are left wait for something."""
        if not self._waiting:
            return Searcher.FINISHED
        self._look_for_transforms()
        self._leave_out_bereft_ensembles()
        unfinished = {*self._waiting, *self._running.values()}
        ready = [name for name in self._waiting if self._is_ready(name, unfinished)]
        if not ready:
            return None if self._waiting else Searcher.FINISHED
        name = max(ready, key=self._cost)
        self._waiting.remove(name)
        self._running[trial_id] = name
        return {"combination": name}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Let go the ensembles that waited for this one."""
        name = self._running.pop(trial_id, None)
        if error and name is not None:
            self._errors.add(name)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what is done stands in the outcome store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""

    def _look_for_transforms(self) -> None:
        waiting = list(self._costs.values())
        if not waiting:
            return
        done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        for key in [key for key, ref in self._costs.items() if ref in done]:
            try:
                known: dict[str, float] = ray.get(self._costs.pop(key))
            except RayTaskError:
                # Its trials find the reason when they ask for the features.
                known = {}
            self._known[key] = known

    def _leave_out_bereft_ensembles(self) -> None:
        """An ensemble whose member was lost with its worker waits for the next round."""
        lost = {name for name in self._errors if self._work.read(name) is None}
        self._waiting = [
            name
            for name in self._waiting
            if not any(full in lost for _, full in self._work.members(name))
        ]

    def _is_ready(self, name: str, unfinished: set[str]) -> bool:
        members = self._work.members(name)
        if members:
            return not any(full in unfinished for _, full in members)
        return self._work.transform_key(name) in self._known

    def _cost(self, name: str) -> float:
        known = self._known.get(self._work.transform_key(name), {})
        return known.get(self._work.combinations[name].regressor.name, 0.0)


@dataclass
class Watch(Callback):
    """Shows what is running and for how long, and keeps the reasons of trials that died."""

    work: Work
    bar: Bar
    lost: dict[str, str] = field(default_factory=dict)
    _started: dict[str, float] = field(default_factory=dict)
    _shown: float = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps its callbacks in a file, and a terminal does not fit in one."""
        return {}

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Start its clock."""
        self._started[trial.config["combination"]] = time.monotonic()

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Count it."""
        self._started.pop(trial.config["combination"], None)
        self.bar.advance(1, self._running())

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A failure that the trial could not write itself: an end by the clock, or a death."""
        name = trial.config["combination"]
        seconds = time.monotonic() - self._started.pop(name, time.monotonic())
        limit = self.work.config.trial_seconds
        error = trial.get_pickled_error()
        if isinstance(error, RayTaskError):
            self.work.write(name, Outcome.failure(_in_words(error), seconds=seconds))
        elif limit is not None and seconds >= limit:
            reason = f"stopped after {limit:g} s (sweep.trial_seconds)"
            self.work.write(name, Outcome.failure(reason, seconds=seconds))
        else:
            self.lost[name] = _in_words(error)
            return
        self.bar.advance(1, self._running())

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """End what has run too long; show what is running, about once a second."""
        limit = self.work.config.trial_seconds
        if limit is not None:
            self._end_after(limit, trials)
        if time.monotonic() - self._shown >= _PROGRESS_SECONDS:
            self._shown = time.monotonic()
            self.bar.advance(0, self._running())

    def _end_after(self, limit: float, trials: list[Trial]) -> None:
        for trial in trials:
            since = self._started.get(trial.config["combination"])
            actor = trial.temporary_state.ray_actor
            if since is not None and actor is not None and time.monotonic() - since >= limit:
                # The process ends: a solver in compiled code would hear of nothing less.
                ray.kill(actor)

    def _running(self) -> str:
        now = time.monotonic()
        longest = sorted(self._started.items(), key=lambda item: item[1])
        return ", ".join(f"{name} {now - since:.0f} s" for name, since in longest[:4])


def run_trials(
    work: Work,
    missing: list[str],
    costs: Mapping[TransformKey, ObjectRef[dict[str, float]]],
    *,
    storage: Location,
    report: Report,
) -> dict[str, str]:
    """Run the missing combinations; returns those whose worker was lost, with the reason.

    Parameters
    ----------
    work
        The sweep.
    missing
        Names of the combinations to run.
    costs
        Expected cost of the regressors behind each transform, in the object store.
    storage
        Folder for Tune's own files, which every node can reach.
    report
        Where progress is shown.
    """
    # Tune would take an interrupt for a wish to save what it has and return as if it were done.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # The outcomes are the record: its loggers would write three more for every trial.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    # Its newer reporter prints at every verbosity.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    # With one pending, as it has for a searcher of one's own, it ends actors that end together.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(math.ceil(cluster_cpus()))
    # A trial that fails is a row with its reason, and no traceback.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with report.bar(f"sweep: {len(missing)} combinations", len(missing)) as bar:
        watch = Watch(work, bar)
        tune.Tuner(
            tune.with_parameters(SweepTrial, work=work),
            tune_config=tune.TuneConfig(
                search_alg=LongestFirst(work, missing, costs),
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


def _in_words(error: BaseException | None) -> str:
    if isinstance(error, RayActorError):
        return "its worker died, perhaps for want of memory"
    if isinstance(error, RayTaskError):
        error = error.cause
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"
