"""A real Ray cluster on this machine, as an owner starts one: a head that runs no work, a worker,
token authentication, a dashboard on the loopback, an object store for corpus and run."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.helpers.processes import wait_for
from valence.storage.location import Location

_RAY = Path(sys.executable).with_name("ray")
_STORE_BYTES = 80 * 2**20
ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Cluster:
    """What was started, and how to reach it."""

    folder: Path
    token: Path
    environment: dict[str, str]
    gcs: str
    dashboard: str
    metrics: list[int] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`ray start` with `arguments`, its output kept in a file."""
        port = free_port()
        self.metrics.append(port)
        common = [
            "--block",
            "--num-gpus=0",
            "--dashboard-agent-listen-port=0",
            f"--metrics-export-port={port}",
            f"--object-store-memory={_STORE_BYTES}",
            "--disable-usage-stats",
        ]
        with self._log(len(self.processes)).open("wb") as log:
            process = subprocess.Popen(
                [_RAY, "start", *arguments, *common],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def add_worker(self, *, cpus: int = 2, role: str = "cpu") -> subprocess.Popen[bytes]:
        """Start a node that works.

        It has a folder of its own, as on a machine of its own: a node that unpacks a job's files
        removes what stands there, and the job's driver on the head may be reading it.
        """
        return self.start(
            f"--address={self.gcs}",
            f"--num-cpus={cpus}",
            f"--labels=valence.role={role}",
            f"--temp-dir={self.folder}/{len(self.processes)}",
        )

    def has_started(self) -> bool:
        """Return whether the node that was added last belongs to the cluster.

        The head's ports answer before that, and its own programs are refused until then.
        """
        return b"Ray runtime started" in self._log(len(self.processes) - 1).read_bytes()

    def _log(self, number: int) -> Path:
        return self.folder / f"node-{number}.log"

    def stop(self) -> None:
        """End all nodes, the workers first."""
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def run(self, *command: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """A command in the environment of someone who has the token."""
        return subprocess.run(
            command,
            env=self.environment | {"RAY_API_SERVER_ADDRESS": self.dashboard},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def submit(self, *arguments: str, job: str, wait: bool = True) -> tuple[int, str]:
        """`ray job submit`; its exit status and what it printed."""
        uploaded = json.dumps({"excludes": ["/.git", "/tests"]})
        ran = self.run(
            str(_RAY), "job", "submit", *([] if wait else ["--no-wait"]), "--submission-id", job,
            "--working-dir", ".", "--runtime-env-json", uploaded,
            "--", "python", "-m", "pipelines", *arguments,
        )  # fmt: skip
        return ran.returncode, ran.stdout + ran.stderr

    def job(self, verb: str, name: str) -> str:
        """`ray job status|stop|logs`."""
        ran = self.run(str(_RAY), "job", verb, name)
        return ran.stdout + ran.stderr


@pytest.fixture(scope="session")
def cluster(object_store: str) -> Iterator[Cluster]:
    """A head without CPUs and one worker, which have the object store's credentials."""
    # Short, because the paths of sockets may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="vc", dir="/tmp"))
    token = folder / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RAY_") and name != "PYTHONPATH"
    }
    dashboard, gcs = free_port(), free_port()
    environment = kept | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_metrics_report_interval_ms": "1000",
        "DASHBOARD_METRIC_PORT": str(free_port()),
        "AUTOSCALER_METRIC_PORT": str(free_port()),
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "NO_COLOR": "1",
        "PATH": f"{_RAY.parent}{os.pathsep}{os.environ['PATH']}",
    }
    host = _outward_address()
    found = Cluster(folder, token, environment, f"{host}:{gcs}", f"http://127.0.0.1:{dashboard}")
    found.start(
        "--head", f"--port={gcs}", "--num-cpus=0", "--labels=valence.role=head",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={free_port()}", f"--temp-dir={folder}/ray",
    )  # fmt: skip
    wait_for(lambda: found.has_started() and _answers("127.0.0.1", dashboard), "the head")
    found.add_worker()
    wait_for(found.has_started, "the worker")
    yield found
    found.stop()
    shutil.rmtree(folder, ignore_errors=True)


def _outward_address() -> str:
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def shared(object_store: str, tiny_corpus: Location) -> Callable[[str], str]:
    """A function that gives the address of a folder in the bucket; `corpus` holds the tiny one."""

    def address(path: str) -> str:
        return f"s3://shared/{path}?endpoint_override={object_store}&scheme=http&region=us-east-1"

    here = address("corpus").replace("s3://", "s3://key:secret@")
    for file in Path(tiny_corpus.path).rglob("*"):
        if file.is_file():
            target = Location.parse(here) / file.relative_to(tiny_corpus.path).as_posix()
            target.write_bytes(file.read_bytes())
    return address
