"""Gather the names that the product uses although Ray does not publish them.

A new release of Ray may move any of them. All were last seen in Ray 2.60.0. Ray Data's logging
(`ray_data_logging.yaml`) names further ones, which only Ray itself imports.
"""

from __future__ import annotations

import importlib
from typing import Any

from ray._common.usage.usage_lib import get_cluster_metadata
from ray._private.services import canonicalize_bootstrap_address, find_node_ids
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerGroupStartupTimeoutError,
)

__all__ = [
    "GcsClient",
    "LeanTrainer",
    "WorkerGroupStartupTimeoutError",
    "canonicalize_bootstrap_address",
    "error_of_worker",
    "find_node_ids",
    "get_cluster_metadata",
]

# A compiled module, for which there are no types.
GcsClient: Any = importlib.import_module("ray._raylet").GcsClient


class LeanTrainer:
    """A base for Ray's trainers, without what this program does itself or never needs.

    Name it before the trainer. It leaves Ctrl-C to the program, and starts two processes fewer for
    each training: one would hand out Ray datasets, of which a training here has none; the other
    would free the workers' resources if the controller died, which the end of the session does.
    """

    _NEEDLESS = (DatasetsCallback, PlacementGroupCleanerCallback)

    def _create_default_callbacks(self) -> list[Any]:
        """Return Ray's own callbacks without the needless ones."""
        callbacks: list[Any] = super()._create_default_callbacks()  # type: ignore[misc]
        return [each for each in callbacks if not isinstance(each, self._NEEDLESS)]

    def _register_sigint_handler(self, controller: Any) -> None:
        """Install no handler: Ray's would stay after the training, and end a stage with status 0.

        The workers end with the session, or with this process.
        """


def error_of_worker(failure: Exception) -> BaseException:
    """Return the error that a worker's own code raised, without Ray's wrapper."""
    return failure._base_exc if isinstance(failure, UserExceptionWithTraceback) else failure
