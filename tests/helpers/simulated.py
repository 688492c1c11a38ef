"""Clusters of simulated nodes, each in a process of its own that runs a script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

# What the scripts begin with. A crash is noticed in three seconds instead of fifteen.
_PRELUDE = """
import contextlib, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import ray
from ray.cluster_utils import Cluster

SMALL = {"object_store_memory": 80 * 2**20}

def head(**arguments):
    quick = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    arguments = {"include_dashboard": False, "_system_config": quick, **SMALL, **arguments}
    return Cluster(initialize_head=True, head_node_args=arguments)

def connect(cluster):
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    cluster.wait_for_nodes()
    # What the stages import comes after Ray has read its environment.
    global Config, Location, Console, Run, preprocess
    from pipelines.preprocess.stage import preprocess
    from pipelines.runtime.console import Console
    from valence.config import Config
    from valence.run import Run
    from valence.storage.location import Location

def tell(*words):
    "Print a line in one piece: what another thread prints would come between the words."
    print(" ".join(map(str, words)) + chr(10), end="", flush=True)

def raylet_of(node):
    "The process that the node's workers are children of."
    return node.all_processes["raylet"][0].process.pid

def working(raylet, name):
    "Processes of a node that are at work on what Ray calls `name`."
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if name.encode() in (entry / "cmdline").read_bytes():
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                found += [int(entry.name)] if int(parent) == raylet else []
    return found

def wait_for(until, what, stage, seconds=60):
    "Return once `until` holds, which it must before `stage` ends."
    deadline = time.monotonic() + seconds
    while not until():
        assert not stage.done(), f"it ended before {what}: {stage.result()}"
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
"""


def simulate(code: str, *arguments: Any, timeout: float = 180) -> str:
    """Run a script; what it printed.

    Parameters
    ----------
    code
        Python that follows the prelude above.
    arguments
        Its `sys.argv[1:]`.
    timeout
        Seconds that it may take.
    """
    # A folder of its own, or another test's Ray takes this cluster for the one to connect to. A
    # short one, because the paths of sockets may have 107 characters.
    folder = tempfile.mkdtemp(prefix="vs", dir="/tmp")
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": folder}
    # Nodes say how many GPUs they simulate, none unless they are told, and Ray lets them have no
    # more than can be seen.
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    try:
        ran = subprocess.run(
            [sys.executable, "-c", _PRELUDE + code, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout
