"""Show the progress of a sweep, and put its failures into words."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Callback
from ray.tune.experiment import Trial

from pipelines.runtime.console import Bar
from pipelines.runtime.prometheus import stage_metrics
from pipelines.sweep.work import INFORMATION, SweepWork
from valence.errors import first_line
from valence.sweep.kept.outcomes import TrialOutcome

PROGRESS_SECONDS = 1.0
# Only so many running trials are named, to fit on a line.
_SHOWN = 4
# Errors of the machine, not of a combination: it lacks memory, disk, a network or a package.
_NOT_OF_ITS_OWN = (MemoryError, OSError, ImportError)


@dataclass
class SweepMonitor(Callback):
    """Shows the running trials and their times, and keeps the reasons of dead workers."""

    work: SweepWork
    bar: Bar
    lost: dict[str, str] = field(default_factory=dict)
    _started: dict[str, float] = field(default_factory=dict)
    _shown: float = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Return no state: Tune saves its callbacks in a file, and a terminal cannot be saved."""
        return {}

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Start the clock of a trial."""
        self._started[trial.config["combination"]] = time.monotonic()

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Count a finished trial."""
        name = trial.config["combination"]
        self._started.pop(name, None)
        if name == INFORMATION:
            self.bar.advance(0, self._running())
        else:
            self._count(trial.last_result["status"])

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Record a failure that the trial could not write itself: a time limit or a dead worker."""
        name = trial.config["combination"]
        seconds = time.monotonic() - self._started.pop(name, time.monotonic())
        limit = self.work.config.trial_seconds
        error = _error_of(trial)
        if name == INFORMATION:
            # The waiting trials compute the information themselves, or report its fault.
            return
        ended = self.work.read(name)
        if ended is not None:
            # The trial wrote its outcome before its worker died.
            self._count(ended.status)
            return
        if isinstance(error, RayTaskError) and not isinstance(error.cause, _NOT_OF_ITS_OWN):
            reason = in_words(error)
        elif not isinstance(error, RayTaskError) and limit is not None and seconds >= limit:
            reason = f"stopped after {limit:g} s (sweep.trial_seconds)"
        else:
            self.lost[name] = in_words(error)
            return
        failure = TrialOutcome.failure(reason, engine=self.work.engine(name), seconds=seconds)
        self.work.write(name, failure)
        self._count(failure.status)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """End trials that run too long; show the running trials about once a second."""
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
                # Kill the process: a solver in compiled code notices nothing gentler.
                ray.kill(actor)

    def _count(self, status: str) -> None:
        stage_metrics().count_combination(status)
        self.bar.advance(1, self._running())

    def _running(self) -> str:
        now = time.monotonic()
        longest = sorted(self._started.items(), key=lambda item: item[1])
        running = [f"{name} {now - since:.0f} s" for name, since in longest[:_SHOWN]]
        if len(longest) > _SHOWN:
            running.append(f"{len(longest) - _SHOWN} more")
        return ", ".join(running)


def _error_of(trial: Trial) -> BaseException | None:
    """Return the error that ended a trial, if Tune knows it.

    Tune's own `get_pickled_error` reads the storage, where the file arrives only later.
    """
    file = trial.pickled_error_file
    if file is None:
        return None
    error: BaseException = cloudpickle.loads(Path(file).read_bytes())
    return error


def in_words(error: BaseException | None) -> str:
    """Say in one line why a trial or task failed."""
    if error is None or isinstance(error, RayActorError):
        return "its worker died, perhaps for want of memory"
    if isinstance(error, RayTaskError):
        error = error.cause
    return f"{type(error).__name__}: {first_line(error)}"
