"""Run scripts in separate processes, each with its own cluster of simulated nodes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

# Code that precedes each script. Its settings detect a crash in three seconds, not fifteen.
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
    # Import the stages only here, because Ray must read its environment before their imports.
    global Config, Location, Console, Run, preprocess
    from pipelines.preprocess.stage import preprocess
    from pipelines.runtime.console import Console
    from valence.config import Config
    from valence.run import Run
    from valence.storage.location import Location

def tell(*words):
    "Print a line in one write, so that no output of another thread comes between its words."
    print(" ".join(map(str, words)) + chr(10), end="", flush=True)

def raylet_of(node):
    "Return the id of the node's raylet, the parent process of its workers."
    return node.all_processes["raylet"][0].process.pid

def working(raylet, name):
    "List the processes of a node that work on the task or actor `name`."
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if name.encode() in (entry / "cmdline").read_bytes():
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                found += [int(entry.name)] if int(parent) == raylet else []
    return found

def wait_for(until, what, stage, seconds=60):
    "Wait until `until` holds; fail if `stage` ends first."
    deadline = time.monotonic() + seconds
    while not until():
        assert not stage.done(), f"it ended before {what}: {stage.result()}"
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
"""


def simulate(code: str, *arguments: Any, timeout: float = 180) -> str:
    """Run a script, and return its output.

    Parameters
    ----------
    code
        Python code that follows the prelude above.
    arguments
        The script's `sys.argv[1:]`.
    timeout
        Seconds that the script may take.
    """
    # Ray gets a separate folder, or another test's Ray would connect to this cluster. Its path is
    # short, because the path of a socket may have only 107 characters.
    folder = tempfile.mkdtemp(prefix="vs", dir="/tmp")
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": folder}
    # A node simulates the number of GPUs that its script requests. Ray allows no more than the
    # visible ones, so this variable must not hide any.
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
