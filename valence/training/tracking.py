"""Send the curves of a training, its settings and its report to an MLflow tracking server.

A training has one run on the server, noted in `RUN/train/mlflow.json`. Before points are sent, the
server is asked which ones it has. A training that goes on, or whose server was away, therefore
sends what is missing there, and nothing twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal

from valence.config import MlflowConfig
from valence.errors import UsageError, first_line
from valence.provenance import versions
from valence.run import Run
from valence.storage.kept_file import parse_json, read_at_most
from valence.storage.location import Location

NOTE = "mlflow.json"
Ending = Literal["FINISHED", "FAILED", "KILLED"]

# MLflow's client would try for many minutes, report its use to its makers, and print addresses.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_NOTE_BYTES = 2**16
# The server refuses more parameters at once, and longer ones.
_MOST_PARAMETERS, _MOST_CHARACTERS = 100, 500
# The settings that a training depends on; they cannot change while it goes on.
_SECTIONS = ("preprocess", "mel", "augment", "standardize", "sequence", "model", "train")


class TrackingError(Exception):
    """A tracking server that does not answer, or refuses; the training is not concerned."""


def require_mlflow(config: MlflowConfig) -> None:
    """Refuse a configuration that names a tracking server if the package for it is missing.

    Raises
    ------
    UsageError
        If `mlflow.uri` is set and the package is not installed.
    """
    if config.uri is not None and find_spec("mlflow") is None:
        raise UsageError(
            f"mlflow.uri = '{config.uri}' needs the package mlflow, which is not installed. "
            "Expected the extra 'mlflow'. In the folder that this program was installed from, "
            "run: pip install -e '.[mlflow]'. Or leave the setting out."
        )


@contextmanager
def _in_words() -> Iterator[None]:
    """Turn every error of MLflow's client and of the network into a `TrackingError`."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        raise TrackingError(first_line(error).rstrip(".")) from error


class Tracker:
    """The run of a training on a tracking server.

    Parameters
    ----------
    run
        The run that is trained.
    config
        The server and the experiment; `uri` is set.
    """

    def __init__(self, run: Run, config: MlflowConfig) -> None:
        assert config.uri is not None, "a server is named"
        self._run, self._config = run, config
        self._client: Any = None
        self._id: str | None = None
        self._status = ""
        self._sent: dict[str, set[int]] = {}

    def send(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> int:
        """Send the epochs that the server does not have, and return their number.

        Parameters
        ----------
        rows
            All epochs so far, with `seed` and `epoch`.
        names
            The values to send. Each becomes the curve `seed-SEED/NAME`, as in TensorBoard.

        Raises
        ------
        TrackingError
            If the server does not answer, or refuses.
        """
        with _in_words():
            identity = self._opened()
            new = [row for row in rows if row["epoch"] not in self._known(identity, row["seed"])]
            if new and self._status != "RUNNING":
                self._client.update_run(identity, status="RUNNING")
                self._status = "RUNNING"
            for row in new:
                self._send_row(identity, row, names)
        return len(new)

    def end(self, ending: Ending) -> None:
        """Say on the server how the training ended.

        Raises
        ------
        TrackingError
            If the server does not answer, or refuses.
        """
        with _in_words():
            self._client.set_terminated(self._opened(), ending)

    def send_report(self) -> None:
        """Send the report, its numbers and the configuration as artefacts.

        Raises
        ------
        TrackingError
            If the server does not answer, or refuses.
        """
        with _in_words():
            identity = self._opened()
            self._send_config(identity)
            for name in ("report.html", "metrics.json"):
                text = (self._run.folder("report") / name).read_text()
                self._client.log_text(identity, text, f"report/{name}")
            if not self._status:
                # The training ended before a server was named.
                self._client.set_terminated(identity, "FINISHED")

    def _send_row(self, identity: str, row: Mapping[str, Any], names: Sequence[str]) -> None:
        from mlflow.entities import Metric

        now, seed, epoch = time.time_ns() // 1_000_000, row["seed"], row["epoch"]
        metrics = [
            Metric(f"seed-{seed}/{name}", float(row[name]), now, epoch)
            for name in names
            if row.get(name) is not None
        ]
        self._client.log_batch(identity, metrics=metrics)
        self._known(identity, seed).add(epoch)

    def _known(self, identity: str, seed: int) -> set[int]:
        """Return the epochs of a seed that the server has; it is asked once."""
        key = f"seed-{seed}/epoch"
        if key not in self._sent:
            held = self._client.get_run(identity).data.metrics
            history = self._client.get_metric_history(identity, key) if key in held else []
            self._sent[key] = {int(each.step) for each in history}
        return self._sent[key]

    def _opened(self) -> str:
        """Return the id of the run on the server, which is made if it is not there."""
        if self._id is None:
            for name, value in _ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            from mlflow import MlflowClient

            self._client = MlflowClient(tracking_uri=self._config.uri)
            self._id = self._found() or self._made()
        return self._id

    @property
    def _note(self) -> Location:
        return self._run.folder("train") / NOTE

    def _found(self) -> str | None:
        """Return the id of the run that was noted, if the server still has it."""
        from mlflow.exceptions import MlflowException

        try:
            noted = parse_json(read_at_most(self._note, _NOTE_BYTES))
            where, identity = (noted["uri"], noted["experiment"]), str(noted["run"])
        except (OSError, ValueError, KeyError, TypeError):
            # It is absent, or damaged: the training gets a new run there.
            return None
        if where != (self._config.uri, self._config.experiment):
            return None
        try:
            found = self._client.get_run(identity)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        if found.info.lifecycle_stage != "active":
            return None
        self._status = str(found.info.status)
        return identity

    def _made(self) -> str:
        client, name = self._client, self._config.experiment
        experiment = client.get_experiment_by_name(name)
        number = client.create_experiment(name) if experiment is None else experiment.experiment_id
        tags = {"valence.version": versions()["valence"], "valence.run": str(self._run.root)}
        made = client.create_run(number, run_name=self._run.root.name, tags=tags)
        identity, self._status = str(made.info.run_id), ""
        note = {"uri": self._config.uri, "experiment": name, "run": identity}
        self._note.write_json(note)
        self._send_parameters(identity)
        self._send_config(identity)
        return identity

    def _send_parameters(self, identity: str) -> None:
        from mlflow.entities import Param

        config = self._run.config()
        found = [
            Param(f"{section}.{key}", str(value)[:_MOST_CHARACTERS])
            for section in _SECTIONS
            for key, value in getattr(config, section).model_dump(mode="json").items()
        ]
        for start in range(0, len(found), _MOST_PARAMETERS):
            self._client.log_batch(identity, params=found[start : start + _MOST_PARAMETERS])

    def _send_config(self, identity: str) -> None:
        self._client.log_text(identity, self._run.config_file.read_text(), "config.toml")
