"""Mirror a running training to a tracking server, from a thread that the training never waits for.

A server that does not answer, or refuses, costs one line on the terminal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.runtime.console import Console
from valence.config import MlflowConfig
from valence.errors import UsageError
from valence.formatting import plural
from valence.run import Run
from valence.training.tracking import Ending, Tracker, TrackingError, require_mlflow

# After a failure the server is left in peace for so long.
_PAUSE_SECONDS = 60.0
# At the end of a training so long is waited for what is not yet sent.
_LAST_SECONDS = 60.0


class Mirror:
    """Sends epochs to the server that the configuration names; without one, does nothing.

    Parameters
    ----------
    run
        The run that is trained.
    config
        The section `mlflow` of the configuration.
    names
        The values of an epoch to send.
    console
        Where a failure is said, once.
    """

    def __init__(
        self, run: Run, config: MlflowConfig, names: Sequence[str], console: Console
    ) -> None:
        self._config, self._names, self._console = config, names, console
        self._tracker = None if config.uri is None else Tracker(run, config)
        self._rows: Sequence[Mapping[str, Any]] = ()
        self._news = threading.Event()
        self._ending: Ending | None = None
        self._failed_at: float | None = None
        self._said = False
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        if self._tracker is not None:
            self._thread.start()

    def show(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take all epochs so far; those that the server lacks are sent soon."""
        self._rows = tuple(rows)
        self._news.set()

    def close(self, ending: Ending) -> None:
        """Send what is left, say how the training ended, and wait for it a while."""
        self._ending = ending
        self._news.set()
        if self._tracker is not None:
            self._thread.join(_LAST_SECONDS)
            if self._thread.is_alive():
                self._say("it has not answered yet")

    def _work(self) -> None:
        ending: Ending | None = None
        while ending is None:
            self._news.wait()
            self._news.clear()
            ending = self._ending
            failed = self._failed_at
            rested = failed is None or time.monotonic() - failed > _PAUSE_SECONDS
            if rested or ending is not None:
                self._send(ending)

    def _send(self, ending: Ending | None) -> None:
        assert self._tracker is not None, "the thread runs for a server"
        try:
            self._tracker.send(self._rows, self._names)
            if ending is not None:
                self._tracker.end(ending)
            self._failed_at = None
        except TrackingError as error:
            self._failed_at = time.monotonic()
            self._say(str(error))

    def _say(self, why: str) -> None:
        if not self._said:
            self._said = True
            self._console.say(
                f"train: the tracking server '{self._config.uri}' was not reached: {why}. The "
                "training goes on without it; 'valence train' again sends what is missing there"
            )


def send_finished(
    run: Run,
    config: MlflowConfig,
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    console: Console,
) -> None:
    """Send the epochs of a finished training that the server lacks, if one is named."""
    if config.uri is None:
        return
    tracker = Tracker(run, config)
    try:
        if sent := tracker.send(rows, names):
            console.say(f"train: {plural(sent, 'epoch')} sent to '{config.uri}'")
        tracker.end("FINISHED")
    except TrackingError as error:
        console.say(f"train: the tracking server '{config.uri}' was not reached: {error}")


def send_report(run: Run, config: MlflowConfig, console: Console) -> None:
    """Send the report of a run to the server that its configuration names, if it names one."""
    if config.uri is None:
        return
    try:
        # The report may be written elsewhere than the training ran.
        require_mlflow(config)
        Tracker(run, config).send_report()
    except (TrackingError, UsageError) as error:
        console.say(
            f"report: it was not sent to the tracking server '{config.uri}': {error}. 'valence "
            "report' again sends it"
        )
    else:
        console.say(f"report: sent to the tracking server '{config.uri}'")
