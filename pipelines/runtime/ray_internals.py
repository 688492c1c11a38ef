"""Gather the names that the product uses although Ray does not publish them.

A new release of Ray may move any of them. All were last seen in Ray 2.60.0. Ray Data's logging
(`ray_data_logging.yaml`) names further ones, which only Ray itself imports.
"""

from __future__ import annotations

import importlib
from typing import Any

from ray._common.usage.usage_lib import get_cluster_metadata
from ray._private.services import canonicalize_bootstrap_address, find_node_ids
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerGroupStartupTimeoutError,
)

__all__ = [
    "GcsClient",
    "WithoutInterruptHandler",
    "WorkerGroupStartupTimeoutError",
    "canonicalize_bootstrap_address",
    "error_of_worker",
    "find_node_ids",
    "get_cluster_metadata",
]

# A compiled module, for which there are no types.
GcsClient: Any = importlib.import_module("ray._raylet").GcsClient


class WithoutInterruptHandler:
    """A base for Ray's trainers that leaves Ctrl-C to the program; name it before the trainer."""

    def _register_sigint_handler(self, controller: Any) -> None:
        """Install no handler: Ray's would stay after the training, and end a stage with status 0.

        The workers end with the session, or with this process.
        """


def error_of_worker(failure: Exception) -> BaseException:
    """Return the error that a worker's own code raised, without Ray's wrapper."""
    return failure._base_exc if isinstance(failure, UserExceptionWithTraceback) else failure
