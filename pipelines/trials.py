"""The combinations of a sweep as trials of Ray Tune: what a trial does, and which comes next.

Actors are reused from trial to trial, since to start one costs more than most combinations: no
more are started than pay, and they keep what they have transformed. Long combinations go first.
What one trial makes for others, the mutual information and the members of an ensemble, they find
on disk, where a later call finds it.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray import ObjectRef, cloudpickle, tune
from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.search import Searcher
from threadpoolctl import threadpool_limits

from pipelines.metrics import stage_metrics
from pipelines.nodes import Selector, nodes_for, tell_of_absence
from pipelines.progress import Bar, Report
from valence.combinations import Combination, engine_of, regressor_parts
from valence.config import StepConfig, SweepConfig, versions
from valence.errors import first_line
from valence.information import mutual_information
from valence.outcomes import Outcome, OutcomeStore
from valence.regression import average, evaluate, working_bytes
from valence.regressor import dump, load
from valence.run import fingerprint
from valence.storage import Location
from valence.transforms import (
    Array,
    TransformCache,
    Transformed,
    TransformError,
    shares_mutual_information,
    uses_mutual_information,
)

# The trial that computes what the trials behind SelectKBest share; no combination has this name.
INFORMATION = "mutual information"

PROGRESS_SECONDS = 1.0

# So many of those that are running are named, which fits on a line.
_SHOWN = 4

# What it takes to start a worker, imports above all.
_START_SECONDS = 2.5

# A regressor that took this long is kept, because it may turn out to be that of the best. One that
# took less is fitted again in the end: that costs less than to keep all.
_LONG_SECONDS = 60.0

# In sizes of the features: transforms that a worker keeps, enough for the paper's twelve; and all
# that it holds at once, with the transform and the copies that a regressor makes as it is fitted.
_CACHED = 2.5
_COPIES = 7.0
# Python with scikit-learn, XGBoost and Ray.
_PROCESS_BYTES = 600 * 2**20

# What the machine lacks, and no combination is to blame for: memory, disk, a network, a package.
_NOT_OF_ITS_OWN = (MemoryError, OSError, ImportError)


@dataclass(frozen=True)
class Work:
    """All that a trial needs, sent once.

    Attributes
    ----------
    combinations
        Every combination of the sweep by its name.
    made_of
        Fingerprint of what makes each outcome, by name, `INFORMATION` among them.
    raw
        Features of the three splits (`Transformed`), in the object store.
    target, recording
        Label and recording of each training row, in the object store.
    trial_bytes
        Memory that a trial is given.
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
        """Names of an ensemble's members, as regressors and as combinations; else none."""
        combination = self.combinations[name]
        if not combination.regressor.members:
            return []
        scaler, reducer = combination.scaler, combination.reducer
        return [(part.name, str(Combination(scaler, reducer, part))) for part in self._parts(name)]

    def engine(self, name: str) -> str:
        """Packages that fit a combination, such as `sklearn+sklearnex`."""
        return "+".join(sorted({engine_of(part, self.config.engine) for part in self._parts(name)}))

    def shares_information(self, name: str) -> bool:
        """Whether a combination selects by the mutual information that others select by."""
        combination = self.combinations[name]
        return not combination.regressor.members and _shares_information(combination)

    def read(self, name: str) -> Outcome | None:
        """The outcome of a combination, if it is there."""
        return self.store.read(name, made_of=self.made_of[name])

    def write(self, name: str, outcome: Outcome) -> None:
        """Keep the outcome of a combination."""
        self.store.write(name, outcome, made_of=self.made_of[name])

    def write_fitted(self, name: str, fitted: Any) -> None:
        """Keep the regressor of a combination that took long."""
        self.store.write_fitted(name, dump(fitted), made_of=self._fitted_of(name))

    def read_fitted(self, name: str) -> dict[str, Any]:
        """The regressors of a combination that were kept, by their names."""
        own = [(self.combinations[name].regressor.name, name)]
        kept = {
            short: self.store.read_fitted(full, made_of=self._fitted_of(full))
            for short, full in self.members(name) or own
        }
        return {short: load(content) for short, content in kept.items() if content is not None}

    def _parts(self, name: str) -> tuple[StepConfig, ...]:
        return regressor_parts(self.combinations[name].regressor, self.config.regressors)

    def _fitted_of(self, name: str) -> str:
        """Fingerprint of a regressor: it goes with transforms that are the same to the last bit."""
        installed = versions() | {"skops": version("skops"), "machine": platform.machine()}
        return fingerprint({"made_of": self.made_of[name], "installed": installed})

    def read_information(self) -> Array | None:
        """The mutual information of the columns, if it is there."""
        return self.store.read_scores(made_of=self.made_of[INFORMATION])

    def read_information_for(self, combination: Combination) -> Array | None:
        """The mutual information of the columns, if a combination selects by it."""
        return self.read_information() if _shares_information(combination) else None


class SweepTrial(tune.Trainable):
    """One combination: transform, fit, predict, write the predictions."""

    def setup(self, config: dict[Any, Any], work: Work | None = None) -> None:
        """Keep what is sent once; an actor serves one combination after the other."""
        assert work is not None, "tune.with_parameters gives it"
        self._work = work
        self._raw: Transformed = ray.get(work.raw)
        self._y: Array = ray.get(work.target)
        self._recording: NDArray[np.str_] = ray.get(work.recording)
        self._transforms = TransformCache(
            self._raw,
            self._y,
            seed=work.config.seed,
            most_bytes=_CACHED * sum(matrix.nbytes for matrix in self._raw.matrices),
        )

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next combination."""
        return True

    def step(self) -> dict[str, Any]:
        """Run the combination; a numerical failure is an outcome too."""
        name, work = self.config["combination"], self._work
        with threadpool_limits(limits=1):
            if name == INFORMATION:
                scores = mutual_information(self._raw.training, self._y, seed=work.config.seed)
                work.store.write_scores(scores, made_of=work.made_of[INFORMATION])
                return {"done": True}
            outcome, fitted = self._outcome(name)
            work.write(name, outcome)
            # Afterwards: what cannot be kept costs no outcome.
            if fitted is not None and outcome.seconds >= _LONG_SECONDS:
                work.write_fitted(name, fitted)
        return {"done": True, "status": outcome.status}

    def _outcome(self, name: str) -> tuple[Outcome, Any]:
        """Of a combination, with the regressor that was fitted for it, if one was."""
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
            return Outcome.failure(str(error), engine=self._work.engine(name)), None
        return evaluate(
            combination.regressor, data, self._y, recording=self._recording, config=config
        )


class LongestFirst(Searcher):
    """Hands out the combinations that are missing, those expected to take longest first.

    A combination waits for the mutual information if it selects by it, an ensemble for its
    members, and all where as many are running as may.

    Parameters
    ----------
    work
        The sweep.
    missing
        Names of the combinations to run, and `INFORMATION` where it is to be computed.
    costs
        Expected seconds by name; those without come last.
    most
        How many may run at once.
    """

    def __init__(
        self, work: Work, missing: list[str], costs: Mapping[str, float], *, most: int
    ) -> None:
        super().__init__(metric="training_iteration", mode="max")
        self._work, self._costs, self._most = work, costs, most
        self._waiting = list(missing)
        self._running: dict[str, str] = {}
        self._errors: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """The next combination; None while all that are left wait for something."""
        self._leave_out_bereft_ensembles()
        if not self._waiting:
            return Searcher.FINISHED
        if len(self._running) >= self._most:
            return None
        unfinished = {*self._waiting, *self._running.values()}
        ready = [name for name in self._waiting if not self._needs(name) & unfinished]
        if not ready:
            return None
        name = max(ready, key=lambda name: self._costs.get(name, 0.0))
        self._waiting.remove(name)
        self._running[trial_id] = name
        return {"combination": name}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Let go those that waited for this one."""
        name = self._running.pop(trial_id, None)
        if error and name is not None:
            self._errors.add(name)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what is done stands in the outcome store."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""

    def _needs(self, name: str) -> set[str]:
        if name == INFORMATION:
            return set()
        needs = {full for _, full in self._work.members(name)}
        return needs | {INFORMATION} if self._work.shares_information(name) else needs

    def _leave_out_bereft_ensembles(self) -> None:
        """An ensemble whose member was lost with its worker waits for the next round."""
        lost = {
            name for name in self._errors if name != INFORMATION and self._work.read(name) is None
        }
        self._waiting = [name for name in self._waiting if not self._needs(name) & lost]


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
        name = trial.config["combination"]
        self._started.pop(name, None)
        if name == INFORMATION:
            self.bar.advance(0, self._running())
        else:
            self._count(trial.last_result["status"])

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A failure that the trial could not write itself: an end by the clock, or a death."""
        name = trial.config["combination"]
        seconds = time.monotonic() - self._started.pop(name, time.monotonic())
        limit = self.work.config.trial_seconds
        error = _error_of(trial)
        if name == INFORMATION:
            # Those behind it compute it themselves, or find out what is wrong with it.
            return
        ended = self.work.read(name)
        if ended is not None:
            # Before its worker did.
            self._count(ended.status)
            return
        if isinstance(error, RayTaskError) and not isinstance(error.cause, _NOT_OF_ITS_OWN):
            reason = in_words(error)
        elif not isinstance(error, RayTaskError) and limit is not None and seconds >= limit:
            reason = f"stopped after {limit:g} s (sweep.trial_seconds)"
        else:
            self.lost[name] = in_words(error)
            return
        failure = Outcome.failure(reason, engine=self.work.engine(name), seconds=seconds)
        self.work.write(name, failure)
        self._count(failure.status)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """End what has run too long; show what is running, about once a second."""
        limit = self.work.config.trial_seconds
        if limit is not None:
            self._end_after(limit, trials)
        if time.monotonic() - self._shown >= PROGRESS_SECONDS:
            self._shown = time.monotonic()
            self.bar.advance(0, self._running())

    def _end_after(self, limit: float, trials: list[Trial]) -> None:
        for trial in trials:
            name, actor = trial.config["combination"], trial.temporary_state.ray_actor
            since = self._started.get(name) if name != INFORMATION else None
            if since is not None and actor is not None and time.monotonic() - since >= limit:
                # The process ends: a solver in compiled code would hear of nothing less.
                ray.kill(actor)

    def _count(self, status: str) -> None:
        stage_metrics().count_combination(status)
        self.bar.advance(1, self._running())

    def _running(self) -> str:
        now = time.monotonic()
        longest = sorted(self._started.items(), key=lambda item: item[1])
        told = [f"{name} {now - since:.0f} s" for name, since in longest[:_SHOWN]]
        if len(longest) > _SHOWN:
            told.append(f"{len(longest) - _SHOWN} more")
        return ", ".join(told)


def run_trials(
    work: Work,
    missing: list[str],
    costs: Mapping[str, float],
    *,
    storage: Location,
    selector: Selector,
    cpus: float,
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
        Expected seconds by name, ensembles left out.
    storage
        Folder for Tune's own files, which every node can reach.
    selector, cpus
        The nodes that combinations run on, and the logical CPUs that they have or may come to.
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
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(math.ceil(cpus))
    # A trial that fails is a row with its reason, and no traceback.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    storage.delete()
    most = workers_worth_starting([costs.get(name, 0.0) for name in missing], cpus)
    needs = {"CPU": 1.0, "memory": _memory(work, selector)}
    with (
        report.bar(f"sweep: {len(missing)} combinations", len(missing)) as bar,
        tell_of_absence(selector, needs, report),
    ):
        watch = Watch(work, bar)
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
    """How many workers to share the work between: each computes for as long as it takes to start.

    >>> workers_worth_starting([0.1] * 60, 64)
    3
    >>> workers_worth_starting([20.0] * 60, 64)
    60
    >>> workers_worth_starting([20.0] * 60, 2)
    2
    """
    most = min(cpus, float(len(seconds)), sum(seconds) / _START_SECONDS)
    return max(1, math.ceil(most))


def trial_bytes(raw: Transformed, config: SweepConfig) -> int:
    """Memory that a trial is given, in bytes: what it keeps, copies and loads."""
    size = _PROCESS_BYTES + round(_COPIES * sum(matrix.nbytes for matrix in raw.matrices))
    rows = len(raw.training)
    return size + max(working_bytes(step, rows=rows, config=config) for step in config.regressors)


def _memory(work: Work, selector: Selector) -> float:
    """What a trial asks of a node; never more than the largest has, or it would wait for ever.

    A head that computes nothing is none of them.
    """
    nodes = [node for node in nodes_for(selector) if node.holds({"CPU": 1})]
    largest = max((node.resources.get("memory", 0.0) for node in nodes), default=0.0)
    return min(float(work.trial_bytes), largest)


def _shares_information(combination: Combination) -> bool:
    scaler, reducer = combination.scaler, combination.reducer
    return uses_mutual_information(reducer) and shares_mutual_information(scaler)


def _error_of(trial: Trial) -> BaseException | None:
    """What ended a trial, if Tune was told.

    Its own `get_pickled_error` looks in the storage, where the file comes later.
    """
    file = trial.pickled_error_file
    if file is None:
        return None
    error: BaseException = cloudpickle.loads(Path(file).read_bytes())
    return error


def in_words(error: BaseException | None) -> str:
    """Why a trial or task failed, in one line."""
    if error is None or isinstance(error, RayActorError):
        return "its worker died, perhaps for want of memory"
    if isinstance(error, RayTaskError):
        error = error.cause
    return f"{type(error).__name__}: {first_line(error)}"
