"""Choose the order of the combinations, the longest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.search import Searcher

from pipelines.sweep.work import INFORMATION, SweepWork


class LongestFirst(Searcher):
    """Starts the missing combinations, those expected to take longest first.

    A combination that selects by the mutual information waits for it, and an ensemble waits for its
    members. All wait while the permitted number is running.

    Parameters
    ----------
    work
        The sweep.
    missing
        Names of the combinations to run, and `INFORMATION` where it is to be computed.
    costs
        Expected seconds by name; combinations without a value come last.
    most
        Most combinations that may run at once.
    """

    def __init__(
        self, work: SweepWork, missing: list[str], costs: Mapping[str, float], *, most: int
    ) -> None:
        super().__init__(metric="training_iteration", mode="max")
        self._work, self._costs, self._most = work, costs, most
        self._waiting = list(missing)
        self._running: dict[str, str] = {}
        self._errors: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """Return the next combination; None while all that are left have to wait."""
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
        """Release the combinations that waited for this one."""
        name = self._running.pop(trial_id, None)
        if error and name is not None:
            self._errors.add(name)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the outcome store already holds all that is finished."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing, since `save` saves nothing."""

    def _needs(self, name: str) -> set[str]:
        if name == INFORMATION:
            return set()
        needs = {full for _, full in self._work.members(name)}
        return needs | {INFORMATION} if self._work.shares_information(name) else needs

    def _leave_out_bereft_ensembles(self) -> None:
        """Leave out ensembles that lack a member lost with its worker, until the next round."""
        lost = {
            name for name in self._errors if name != INFORMATION and self._work.read(name) is None
        }
        self._waiting = [name for name in self._waiting if not self._needs(name) & lost]
