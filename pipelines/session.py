"""The Ray session that a command works in: the cluster it is told of, else a local one.

Ray reads its environment when it is imported, so it is imported here only after that is set, and
the stages, which import Ray, only inside `ray_session`.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from valence.errors import ClusterError

_ANSWER_SECONDS = 10.0
_DATA_LOGGING = Path(__file__).with_name("ray_data_logging.yaml")


def _local_environment() -> dict[str, str]:
    """What a cluster started here wants: token authentication, the token kept in no file."""
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
        # Ray's future default: a task without GPUs does not hide them from torch.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    if os.environ.get("RAY_AUTH_MODE", "token") == "token":
        environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return environment


@contextmanager
def ray_session(address: str | None = None) -> Iterator[None]:
    """Connect to Ray for the length of the block.

    A session that is already open in this process is used and left open. Otherwise `address`, the
    environment's `RAY_ADDRESS`, or a cluster started here serves, in this order.

    Raises
    ------
    ClusterError
        If the cluster at `address` cannot be reached.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_DATA_LOGGING_CONFIG", str(_DATA_LOGGING))
    if address is None:
        for name, value in _local_environment().items():
            os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    if address is not None:
        _require_answer(address)
    try:
        ray.init(
            address=address,
            include_dashboard=None if address else False,
            logging_level=logging.ERROR,
            log_to_driver=address is not None,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"No Ray cluster could be reached at '{address or 'this machine'}': {error}. Check the "
            "address and that the head node runs ('ray status'), or leave --address out to work "
            "on this machine alone."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Ray itself waits for minutes where nobody answers.

    Raises
    ------
    ClusterError
        If nothing listens at `address`.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        # "auto" and the like, which Ray looks up on this machine.
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"Nothing answers at '{address}' ({error}). Expected the head of a Ray cluster, such "
            "as 10.0.0.5:6379. Check the address, that 'ray status' works on that machine and that "
            "no firewall is between, or leave --address out to work on this machine alone."
        ) from error


def cluster_cpus() -> float:
    """Logical CPUs of the cluster, at least 1."""
    import ray

    return max(1.0, float(ray.cluster_resources().get("CPU", 1)))


def cluster_gpus() -> float:
    """Logical GPUs of the cluster."""
    import ray

    return float(ray.cluster_resources().get("GPU", 0))
