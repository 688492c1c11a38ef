"""The Ray session that a command works in: the cluster it is told of, else a local one.

Ray reads its environment when it is imported, so it is imported here only after that is set, and
the stages, which import Ray, only inside `ray_session`.
"""

from __future__ import annotations

import importlib
import logging
import os
import platform
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    from ray.exceptions import AuthenticationError

    if address is not None:
        _require_answer(address)
        _require_cluster(address)
    try:
        ray.init(
            # Given none, Ray would join whatever cluster was last started on this machine.
            address=address or "local",
            include_dashboard=None if address else False,
            logging_level=logging.ERROR,
            # What a user needs to know comes back as results; the rest is in the dashboard.
            log_to_driver=False,
        )
    except AuthenticationError as error:
        raise _refused(address or "this machine") from error
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


def _require_cluster(address: str) -> None:
    """Ask the head for what Ray itself would tell late, hidden in another error, or never.

    Raises
    ------
    ClusterError
        If the head speaks no Ray, does not take the token, runs another Ray or Python, or this
        machine is no node of its cluster.
    """
    import ray
    from ray._common.usage.usage_lib import get_cluster_metadata
    from ray._private.services import canonicalize_bootstrap_address, find_node_ids
    from ray.exceptions import AuthenticationError, RpcError

    raylet: Any = importlib.import_module("ray._raylet")
    if "://" in address:
        # Ray Client's, which has a server of its own.
        return
    head = canonicalize_bootstrap_address(address)
    if head is None:
        # "auto", and nothing runs here: Ray says so at once.
        return
    try:
        client = raylet.GcsClient(address=head)
        cluster = get_cluster_metadata(client)
        nodes = {node.hex() for node in client.get_all_node_info(timeout=_ANSWER_SECONDS)}
    except AuthenticationError as error:
        raise _refused(address) from error
    except RpcError as error:
        raise ClusterError(
            f"What answers at '{address}' is no head of a Ray cluster ({error}). Expected its GCS, "
            "such as 10.0.0.5:6379, and not the dashboard's port: 'ray status' on the head names "
            "it."
        ) from error
    here = {"Ray": ray.__version__, "Python": platform.python_version()}
    there = {"Ray": cluster["ray_version"], "Python": cluster["python_version"]}
    if here != there:
        told = [" and ".join(f"{name} {each[name]}" for name in each) for each in (there, here)]
        raise ClusterError(
            f"The cluster at '{address}' runs {told[0]}, and this program {told[1]}. Expected the "
            "same on both: run it from the cluster's image, or on the cluster with 'ray job "
            "submit' (cluster/README.md)."
        )
    if not nodes & set(find_node_ids()):
        raise ClusterError(
            f"This machine is no node of the cluster at '{address}', and Ray works from its nodes "
            "alone. Run the command on the head, or send it there: 'ray job submit --working-dir . "
            "-- python -m pipelines ...' (cluster/README.md)."
        )


def _refused(address: str) -> ClusterError:
    mode = os.environ.get("RAY_AUTH_MODE", "not set")
    return ClusterError(
        f"The cluster at '{address}' does not take this program's token (RAY_AUTH_MODE is {mode}). "
        "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file that holds the token that the "
        "head was started with (by default ~/.ray/auth_token)."
    )
