"""Nodes with addresses of their own, each in a network namespace, one of which is cut off."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cluster.conftest import ROOT
from tests.helpers.processes import wait_for
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.corpus.splits import assign_splits
from valence.segments.preprocessing import Job, process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.faults]

_RAY = Path(sys.executable).with_name("ray")
_STORE_BYTES = 80 * 2**20
# Enough to do for each recording that the node is cut off at work.
_COPIES = 40


def _ip(*arguments: str, check: bool = True) -> str:
    ran = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert ran.returncode == 0 or not check, ran.stderr
    return ran.stdout


def _may_make_namespaces() -> bool:
    name = f"vt{os.getpid()}"
    try:
        ran = subprocess.run(["ip", "netns", "add", name], capture_output=True)
    except OSError:
        return False
    _ip("netns", "del", name, check=False)
    return ran.returncode == 0


@dataclass
class Network:
    """A bridge of this machine with nodes at 10.77.0.1 and so on."""

    folder: Path
    bridge: str = f"vb{os.getpid()}"
    nodes: list[str] = field(default_factory=list)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def address(self, node: str) -> str:
        """Of a node in the network."""
        return f"10.77.0.{self.nodes.index(node) + 1}"

    def link(self, node: str) -> str:
        """The end of the node's cable that lies in the bridge."""
        return f"v{node}"

    def add(self) -> str:
        """A namespace, and a cable from it to the bridge."""
        node = f"{self.bridge}-{len(self.nodes) + 1}"
        self.nodes.append(node)
        _ip("netns", "add", node)
        _ip("link", "add", self.link(node), "type", "veth", "peer", "name", "eth0", "netns", node)
        _ip("link", "set", self.link(node), "master", self.bridge, "up")
        _ip("-n", node, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", node, "link", "set", device, "up")
        _ip("-n", node, "route", "add", "default", "via", "10.77.0.254")
        return node

    def run(self, node: str, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a command in a node; its output goes to a file."""
        environment = {name: os.environ[name] for name in os.environ if name[:4] != "RAY_"} | {
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            # That the cable is cut shows in seconds instead of a minute.
            "RAY_health_check_initial_delay_ms": "1000",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "3",
            # And to those who wait for a worker's answer, in place of seven minutes.
            "RAY_grpc_client_keepalive_time_ms": "10000",
            "RAY_grpc_client_keepalive_timeout_ms": "5000",
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
        }
        with self.log(len(self.started)).open("wb") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", node, *command],
                env=environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def start(self, *arguments: str) -> str:
        """A node of the cluster in a new namespace."""
        node = self.add()
        self.run(
            node, _RAY, "start", "--block", f"--node-ip-address={self.address(node)}",
            f"--temp-dir={self.folder}/{node}", f"--object-store-memory={_STORE_BYTES}",
            "--num-gpus=0", "--include-log-monitor=false", "--disable-usage-stats", *arguments,
        )  # fmt: skip
        return node

    def log(self, number: int) -> Path:
        """What the command of this number printed."""
        return self.folder / f"{number}.log"

    def processes(self, node: str) -> list[int]:
        """All that runs in a node."""
        return [int(pid) for pid in _ip("netns", "pids", node, check=False).split()]

    def working(self, node: str) -> list[int]:
        """Its processes that are at work on recordings."""
        found = []
        for pid in self.processes(node):
            with suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::MapBatches"):
                    found.append(pid)
        return found

    def close(self) -> None:
        """End what runs in the nodes, and take them away."""
        for node in self.nodes:
            for _ in range(3):
                for pid in self.processes(node):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            _ip("netns", "del", node, check=False)
            _ip("link", "del", self.link(node), check=False)
        _ip("link", "del", self.bridge, check=False)
        for process in self.started:
            process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def network() -> Iterator[Network]:
    if not _may_make_namespaces():
        pytest.skip("this user may not make network namespaces")
    # Short, because the paths of sockets may have 107 characters.
    network = Network(Path(tempfile.mkdtemp(prefix="vn", dir="/tmp")))
    try:
        _ip("link", "add", network.bridge, "type", "bridge")
        _ip("addr", "add", "10.77.0.254/24", "dev", network.bridge)
        _ip("link", "set", network.bridge, "up")
        yield network
    finally:
        network.close()


def test_a_node_that_is_cut_off_costs_nothing(
    network: Network, tiny_corpus: Location, tmp_path: Path
) -> None:
    head = network.start("--head", "--port=6379", "--num-cpus=1", "--include-dashboard=false")
    cluster = f"{network.address(head)}:6379"
    wait_for(lambda: "ray start" in network.log(0).read_text(), "the head", seconds=60)
    _, cut = (network.start(f"--address={cluster}", "--num-cpus=1") for _ in range(2))
    wait_for(
        lambda: all("Ray runtime started" in network.log(n).read_text() for n in (1, 2)),
        "the nodes",
        seconds=90,
    )
    command = network.run(
        head, sys.executable, "-m", "pipelines", "preprocess", tiny_corpus.path,
        "--out", str(tmp_path / "run"), "--address", cluster, "--set", f"augment.copies={_COPIES}",
    )  # fmt: skip
    wait_for(
        lambda: bool(network.working(cut)) or command.poll() is not None, "its work", seconds=90
    )
    at_work = network.working(cut)
    _ip("link", "set", network.link(cut), "down")
    output = network.log(3)
    assert at_work, output.read_text()
    wait_for(lambda: command.poll() is not None, "the end", seconds=120)
    assert command.returncode == 0, output.read_text()
    # Nobody told the node, which went on for itself.
    assert network.processes(cut)
    assert "6 recordings made, 0 skipped, 0 rejected" in output.read_text()

    store = SegmentStore(Location.parse(tmp_path / "run/segments"))
    frame = store.recordings()
    assert (frame["status"] == "ok").all()
    config = Config.resolve(Config(), assignments=[f"augment.copies={_COPIES}"])
    alone = SegmentStore(Location.parse(tmp_path / "alone"))
    found = read_corpus(tiny_corpus)
    splits = assign_splits(found, config.split)
    assert frame["Id"].tolist() == sorted(splits)
    for recording in found.recordings:
        split = splits[recording.id]
        process_recording(Job(recording, split, _COPIES if split == "train" else 0), alone, config)
        expected = alone.file(recording.id).read_bytes()
        assert store.file(recording.id).read_bytes() == expected, recording.id
