"""Hand out combinations, the longest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.search import Searcher

from pipelines.sweep.work import INFORMATION, SweepWork


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
        self, work: SweepWork, missing: list[str], costs: Mapping[str, float], *, most: int
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
