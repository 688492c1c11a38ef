"""Open the Ray session that a command works in: on a named cluster, else a local one.

Ray reads its environment when it is imported. This module therefore imports Ray only after setting
the environment, and commands import the stages, which import Ray, only inside `ray_session`.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.runtime.addresses import Cluster, cluster_address
from pipelines.runtime.stopping import undisturbed
from valence.errors import ClusterError, first_line

_ANSWER_SECONDS = 10.0
_DATA_LOGGING = Path(__file__).with_name("ray_data_logging.yaml")
_NICENESS = "RAY_worker_niceness"
_AUTH_MODES = ("token", "disabled", "k8s")
# Results carry all that a user needs to know; the dashboard has the rest.
_QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}


def _local_environment() -> dict[str, str]:
    """Return the settings for a Ray started here; the user's own settings take precedence."""
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
        # Ray's future default: torch still sees the GPUs in a task that asked for none.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # With Ray's default of 15, a worker gets a thirtieth of a core beside other programs.
        _NICENESS: "0",
        # Ray then listens only on loopback, its normal behaviour on macOS and Windows.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    if (os.environ.get("RAY_AUTH_MODE") or "token") == "token":
        # The token exists only in the environment, in no file.
        environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return environment


@contextmanager
def ray_session(address: str | None = None) -> Iterator[None]:
    """Keep a connection to Ray while the block runs.

    A session that is already open in this process is used and left open. Otherwise the block gets
    the cluster at `address`, else at the environment's `RAY_ADDRESS`, else one started here.

    Raises
    ------
    ClusterError
        If the cluster at `address` cannot be reached, a setting for Ray is invalid, or Ray does not
        start on this machine.
    """
    cluster = cluster_address(address)
    os.environ.setdefault("RAY_DATA_LOGGING_CONFIG", str(_DATA_LOGGING))
    # Tune would catch Ctrl-C itself and end as if all trials were finished.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    if not os.environ.get("RAY_ADDRESS", "").strip():
        # Ray would use an empty value as an address.
        os.environ.pop("RAY_ADDRESS", None)
    if cluster is None:
        for name, value in _local_environment().items():
            if not os.environ.get(name):
                os.environ[name] = value
    _require_settings()
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        # Ray leaves processes behind if its start is interrupted, and it installs a SIGTERM handler
        # that ends the program without a message.
        with undisturbed():
            if cluster is None:
                _start()
            else:
                _connect(cluster)
        yield
    finally:
        ray.shutdown()


def _start() -> None:
    """Start a local Ray for this process alone.

    Raises
    ------
    ClusterError
        If Ray does not start.
    """
    import ray

    try:
        # Without an address, Ray would join the cluster that was last started on this machine.
        ray.init("local", include_dashboard=False, **_QUIET)
    except Exception as error:
        # Ray raises all kinds of errors here, many of them plain `Exception`.
        raise ClusterError(
            f"No Ray came up on this machine: {_reason(error)}. "
            f"Expected it to start within a minute. {_remedy(str(error))}"
        ) from error


def _reason(error: Exception) -> str:
    """Return an error's kind and the first line of its message."""
    return f"{type(error).__name__}: {first_line(error).rstrip('.')}"


def _remedy(found: str) -> str:
    """Choose the advice for a Ray that did not start, from the text of its error."""
    folder = os.environ.get("RAY_TMPDIR") or "/tmp"
    if "AF_UNIX" in found:
        return (
            f"Its sockets lie under '{folder}' (RAY_TMPDIR, or /tmp), whose path is too long: set "
            "RAY_TMPDIR to a short one, such as /tmp."
        )
    if "object store" in found or "/dev/shm" in found:
        return (
            "Give it more shared memory (in a container: --shm-size), or set "
            "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES to a size that fits, of 80 MB at least."
        )
    if "token" in found.lower():
        return (
            "Unset RAY_AUTH_MODE, RAY_AUTH_TOKEN and RAY_AUTH_TOKEN_PATH, and a token is made for "
            "the time of the command."
        )
    if any(word in found for word in ("Errno", "directory", "Permission", "No space")):
        return (
            f"Its files lie under '{folder}' (RAY_TMPDIR, or /tmp): see to it that the folder is "
            "there, that you may write to it and that it has room, or set RAY_TMPDIR to another."
        )
    return (
        "The machine may be overloaded or out of memory: run the same command again when there is "
        f"less to do. Ray's own logs are in '{folder}/ray/session_latest/logs'."
    )


def _connect(cluster: Cluster) -> None:
    """Connect to a running cluster.

    Raises
    ------
    ClusterError
        If the cluster cannot be reached, or this program cannot work with it.
    """
    import ray
    from ray.exceptions import AuthenticationError

    _require_answer(cluster)
    _require_cluster(cluster)
    try:
        ray.init(cluster.text, include_dashboard=None, **_QUIET)
    except AuthenticationError as error:
        raise _refused(cluster) from error
    except Exception as error:
        # Ray raises all kinds of errors here, many of them plain `Exception`.
        raise ClusterError(
            f"No Ray cluster could be reached at {cluster}: {_reason(error)}. Expected the head "
            "of a running cluster. Check the address and that the head node runs ('ray status'), "
            f"or {cluster.without} to work on this machine alone."
        ) from error


def _require_settings() -> None:
    """Check the settings whose invalid values Ray itself ignores, or crashes on.

    Raises
    ------
    ClusterError
        If a setting is invalid.
    """
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode is not None and mode not in _AUTH_MODES:
        raise ClusterError(
            f"RAY_AUTH_MODE is '{mode}', which Ray takes for no authentication at all. Expected "
            f"one of {', '.join(_AUTH_MODES)}. Set it so, or unset it."
        )
    niceness = os.environ.get(_NICENESS)
    if niceness is not None and not re.fullmatch(r"-?[0-9]{1,2}", niceness):
        raise ClusterError(
            f"{_NICENESS} is '{niceness}'. Expected a whole number from -20 to 19. Set it "
            "so, or unset it, which means 0 for a Ray that is started here."
        )


def _require_answer(cluster: Cluster) -> None:
    """Try the address first, because Ray itself waits for minutes if nothing answers.

    Raises
    ------
    ClusterError
        If nothing listens at the address.
    """
    if cluster.host is None:
        # Ray itself finds the cluster of this machine for "auto".
        return
    try:
        socket.create_connection((cluster.host, cluster.port), timeout=_ANSWER_SECONDS).close()
    except (OSError, UnicodeError) as error:
        raise ClusterError(
            f"Nothing answers at {cluster} ({error}). Expected the head of a Ray cluster, such "
            "as 10.0.0.5:6379. Check the address, that 'ray status' works on that machine and that "
            f"no firewall is between, or {cluster.without} to work on this machine alone."
        ) from error


def _require_cluster(cluster: Cluster) -> None:
    """Check that the head fits this program; Ray reports such faults late, obscurely or never.

    Raises
    ------
    ClusterError
        If the address is not a head of Ray, the head rejects the token or runs another Ray or
        Python, or this machine is not a node of its cluster.
    """
    import ray
    from ray.exceptions import AuthenticationError, RpcError

    from pipelines.runtime import ray_internals

    try:
        head = ray_internals.canonicalize_bootstrap_address(cluster.text)
    except ConnectionError as error:
        raise ClusterError(
            f"No Ray cluster runs on this machine, and {cluster} asks for one. Expected one that "
            "'ray start' has started here. Start it, or name the head's address, such as "
            f"10.0.0.5:6379, or {cluster.without} to work on this machine alone."
        ) from error
    assert head is not None, "an address that names a cluster"
    try:
        client = ray_internals.GcsClient(address=head)
        metadata = ray_internals.get_cluster_metadata(client)
        nodes = {node.hex() for node in client.get_all_node_info(timeout=_ANSWER_SECONDS)}
    except AuthenticationError as error:
        raise _refused(cluster) from error
    except RpcError as error:
        raise ClusterError(
            f"What answers at {cluster} is no head of a Ray cluster ({error}). Expected its GCS, "
            "such as 10.0.0.5:6379, and not the dashboard's port: 'ray status' on the head names "
            "it."
        ) from error
    here = {"Ray": ray.__version__, "Python": platform.python_version()}
    there = {"Ray": metadata["ray_version"], "Python": metadata["python_version"]}
    if here != there:
        theirs, ours = (
            " and ".join(f"{name} {each[name]}" for name in each) for each in (there, here)
        )
        raise ClusterError(
            f"The cluster at {cluster} runs {theirs}, and this program {ours}. Expected the "
            "same on both: run it from the cluster's image, or on the cluster with 'ray job "
            "submit' (cluster/README.md)."
        )
    if not nodes & set(ray_internals.find_node_ids()):
        raise ClusterError(
            f"This machine is no node of the cluster at {cluster}, and Ray works from its nodes "
            "alone. Run the command on the head, or send it there: 'ray job submit --working-dir . "
            "-- python -m pipelines ...' (cluster/README.md)."
        )


def _refused(cluster: Cluster) -> ClusterError:
    mode = os.environ.get("RAY_AUTH_MODE", "not set")
    return ClusterError(
        f"The cluster at {cluster} does not take this program's token (RAY_AUTH_MODE is {mode}). "
        "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file that holds the token that the "
        "head was started with (by default ~/.ray/auth_token)."
    )
