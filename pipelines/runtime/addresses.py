"""Find and check the address of the Ray cluster that a command works on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from valence.errors import ClusterError

_PORTS = range(1, 65536)


@dataclass(frozen=True)
class Cluster:
    """The address of a running cluster.

    Attributes
    ----------
    text
        The address in Ray's form: `HOST:PORT`, or `auto` for the cluster on this machine.
    host, port
        Parts of the address; None and 0 for `auto`.
    source
        Where the address was set: `--address` or `RAY_ADDRESS`.
    """

    text: str
    host: str | None
    port: int
    source: str

    def __str__(self) -> str:
        return f"'{self.text}' ({self.source})"

    @property
    def without(self) -> str:
        """Say how a user works without the cluster."""
        return "leave --address out" if self.source == "--address" else "unset RAY_ADDRESS"


def cluster_address(address: str | None = None) -> Cluster | None:
    """Find the cluster that a command works on: `address`, else the environment's `RAY_ADDRESS`.

    Parameters
    ----------
    address
        Value of `--address`; an empty one counts as none.

    Returns
    -------
    None if no cluster or `local` is named: the command then starts its own Ray.

    Raises
    ------
    ClusterError
        If the value is not an address of a cluster.

    >>> cluster_address("10.0.0.5:6379")
    Cluster(text='10.0.0.5:6379', host='10.0.0.5', port=6379, source='--address')
    >>> cluster_address("local") is None
    True
    """
    argument, environment = (address or "").strip(), os.environ.get("RAY_ADDRESS", "").strip()
    # Ray itself lets "auto" mean the cluster that the environment names, if there is one.
    if environment and argument.lower() in ("", "auto"):
        text, source = environment, "RAY_ADDRESS"
    else:
        text, source = argument, "--address"
    return None if text.lower() in ("", "local") else _parse(text, source)


def _parse(text: str, source: str) -> Cluster:
    if text.lower() == "auto":
        return Cluster("auto", None, 0, source)
    scheme, found, rest = text.partition("://")
    if found:
        raise _no_address(text, source, _of_scheme(scheme.lower(), rest))
    if text.count(":") > 1 and not text.startswith("["):
        raise _no_address(text, source, "an IPv6 address stands in brackets")
    parts = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s:/@\[\]]+))(?::(.*))?", text)
    if parts is None:
        raise _no_address(text, source, "it is no host")
    host, port = parts[1] or parts[2], parts[3]
    if port is None:
        raise _no_address(text, source, "it has no port")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) not in _PORTS:
        raise _no_address(
            text, source, f"its port is '{port}', and no number from {_PORTS[0]} to {_PORTS[-1]}"
        )
    return Cluster(text, host, int(port), source)


def _of_scheme(scheme: str, rest: str) -> str:
    if scheme in ("http", "https"):
        return "it is an address of the dashboard, which takes jobs ('ray job submit')"
    if scheme == "ray":
        return "it is an address of Ray Client, in which the stages cannot work"
    return f"it begins with '{scheme}://', where '{rest}' alone may be meant"


def _no_address(text: str, source: str, why: str) -> ClusterError:
    cluster = Cluster(text, None, 0, source)
    return ClusterError(
        f"{source} is '{text}', which is no address of a Ray cluster: {why}. Expected host and "
        "port of its head, such as 10.0.0.5:6379 or [fd00::5]:6379, or 'auto' for the cluster "
        f"that runs on this machine. Set it so, or {cluster.without} to work on this machine alone."
    )
