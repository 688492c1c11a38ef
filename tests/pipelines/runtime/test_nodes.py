"""Which nodes take which work: worked out by hand, by Ray's own matching, and on mixed clusters."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

from pipelines.runtime.nodes import Node, _hold, _matches, cpu_selector, scales
from tests.helpers.simulated import simulate
from valence.config import ClusterConfig
from valence.storage.location import Location

_CONFIG = ClusterConfig()
_ROLE = "valence.role"


def _node(name: str, role: str = "", /, **resources: float) -> Node:
    labels = {"ray.io/node-id": name} | ({_ROLE: role} if role else {})
    return Node(name, "10.0.0.1", resources, labels)


_HEAD = _node("head", CPU=0)


@pytest.mark.parametrize(
    ("nodes", "selector"),
    [
        # Unlabelled: the nodes themselves, and nothing where there is nothing to keep off.
        ([_HEAD, _node("a", CPU=8), _node("b", CPU=4, GPU=1)], {"ray.io/node-id": "!in(b)"}),
        (
            [_node("a", CPU=8), _node("b", CPU=4, GPU=1), _node("c", CPU=4, GPU=0.5)],
            {"ray.io/node-id": "!in(b,c)"},
        ),
        ([_HEAD, _node("a", CPU=8)], {}),
        # A head without CPUs is no node that could take the work.
        ([_HEAD, _node("b", CPU=4, GPU=1), _node("c", CPU=4, GPU=1)], {}),
        # A node that gives its GPU alone has nothing to be kept off.
        ([_node("a", CPU=8), _node("b", GPU=1)], {}),
        # Labelled: the label, also while the head waits for the nodes that will carry it.
        ([_HEAD, _node("a", "cpu", CPU=8), _node("b", "gpu", CPU=4, GPU=1)], {_ROLE: "cpu"}),
        ([_node("h", "head", CPU=0), _node("b", "gpu", CPU=4, GPU=1)], {_ROLE: "cpu"}),
        # Without a head that scales, GPU nodes are all there will be.
        ([_HEAD, _node("b", "gpu", CPU=4, GPU=1)], {}),
    ],
)
def test_work_on_cpus_keeps_off_gpu_nodes(nodes: list[Node], selector: dict[str, str]) -> None:
    for order in permutations(nodes):
        found = cpu_selector(order, _CONFIG)
        # The Ids in the selector stand in the order of the nodes.
        assert {key: set(value) for key, value in found.items()} == {
            key: set(value) for key, value in selector.items()
        }
    assert cpu_selector(nodes, _CONFIG) == selector


def test_the_label_is_the_configurations() -> None:
    nodes = [
        Node("a", "host", {"CPU": 8}, {"pool": "cpu"}),
        Node("b", "host", {"CPU": 8, "GPU": 1}, {"pool": "gpu"}),
        Node("h", "host", {}, {"pool": "head"}),
    ]
    config = ClusterConfig(label="pool")
    assert cpu_selector(nodes, config) == {"pool": "cpu"}
    assert scales(nodes, config)
    assert not scales(nodes[:2], config)
    assert not scales(nodes, _CONFIG)


def test_a_node_holds_what_it_has() -> None:
    node = _node("a", CPU=4, GPU=1)
    assert node.holds({})
    assert node.holds({"CPU": 4, "GPU": 1})
    assert not node.holds({"CPU": 4.5})
    assert not node.holds({"CPU": 1, "TPU": 1})


@pytest.mark.parametrize(
    ("nodes", "bundles", "fit"),
    [
        ([{"CPU": 4}], [{"CPU": 1}] * 4, True),
        ([{"CPU": 4}], [{"CPU": 1}] * 5, False),
        # Seven CPUs in all, and none of the nodes has four.
        ([{"CPU": 3}, {"CPU": 3}, {"CPU": 1}], [{"CPU": 4}], False),
        # Placed in the order given, the small ones would take the place of the large one.
        ([{"CPU": 4}, {"CPU": 2}], [{"CPU": 1}, {"CPU": 1}, {"CPU": 4}], True),
        ([{"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 1}], [{"CPU": 4, "GPU": 1}] * 2, True),
        ([{"CPU": 8, "GPU": 1}, {"CPU": 8}], [{"CPU": 4, "GPU": 1}] * 2, False),
        ([], [{"CPU": 1}], False),
        ([], [], True),
    ],
)
def test_bundles_are_packed_on_nodes(
    nodes: list[dict[str, float]], bundles: list[dict[str, float]], fit: bool
) -> None:
    assert _hold([_node(str(i), **each) for i, each in enumerate(nodes)], bundles) is fit


def test_matching_is_rays_own() -> None:
    from ray._raylet import node_labels_match_selector

    nodes = [_node("a"), _node("b", "cpu"), _node("c", "gpu"), _node("d", "head")]
    selectors = [
        {},
        {_ROLE: "cpu"},
        {_ROLE: "gpu"},
        {"ray.io/node-id": "!in(c)"},
        {"ray.io/node-id": "!in(a,c)"},
        {_ROLE: "cpu", "ray.io/node-id": "!in(b)"},
        {"zone": "cpu"},
    ]
    output = [
        (_matches(node, selector), node_labels_match_selector(dict(node.labels), selector))
        for node in nodes
        for selector in selectors
    ]
    assert all(ours == rays for ours, rays in output)
    assert {ours for ours, _ in output} == {True, False}


_MIXED = """
corpus, folder, labelled = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "labelled"

def role(name):
    return {"labels": {"valence.role": name}} if labelled else {}

cluster = head(num_cpus=0)
cpu = cluster.add_node(num_cpus=1, **role("cpu"), **SMALL)
gpu = cluster.add_node(num_cpus=2, num_gpus=1, **role("gpu"), **SMALL)
connect(cluster)
raylets = {"cpu": raylet_of(cpu), "gpu": raylet_of(gpu)}

def run(name):
    done, seen = threading.Event(), set()
    def watch():
        while not done.wait(0.02):
            for role, raylet in raylets.items():
                if working(raylet, "ray::MapBatches"):
                    seen.add(role)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        summary = preprocess(
            Location.parse(corpus), Run.at(str(folder / name)), Config(), overwrite=False,
            console=Console(),
        )
    finally:
        done.set()
        thread.join()
    tell("ran", name, summary["recordings"], summary["rejected"], *sorted(seen))

run("both")
cluster.remove_node(cpu, allow_graceful=False)
# Not waited for: that it is lost shows while the nodes are asked what they see.
run("left")
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.parametrize("nodes", ["unlabelled", "labelled"])
def test_a_gpu_node_works_on_recordings_only_where_it_is_all_there_is(
    tiny_corpus: Location, tmp_path: Path, nodes: str
) -> None:
    output = simulate(_MIXED, tiny_corpus, tmp_path, nodes)
    # Ray prints what a crashed node logged last, too.
    ran = [line for line in output.splitlines() if line.startswith("ran ")]
    assert ran == ["ran both 6 0 cpu", "ran left 6 0 gpu"]


_SCALES = """
corpus, folder = sys.argv[1:]
cluster = head(num_cpus=0, labels={"valence.role": "head"})
cluster.add_node(num_cpus=2, num_gpus=1, labels={"valence.role": "gpu"}, **SMALL)
connect(cluster)
from valence.errors import ClusterError

waiting = threading.Event()

class Speaking(Console):
    def say(self, text):
        tell(text)
        if text.startswith("waiting for nodes"):
            waiting.set()

def run(wait_seconds):
    config = Config.resolve(Config(), assignments=[f"cluster.wait_seconds={wait_seconds}"])
    try:
        preprocess(
            Location.parse(corpus), Run.at(folder), config, overwrite=False, console=Speaking()
        )
    except ClusterError as error:
        tell("refused:", error)

run(2)
waiting.clear()
with ThreadPoolExecutor() as pool:
    stage = pool.submit(run, 120)
    wait_for(waiting.is_set, "it waited", stage)
    cluster.add_node(num_cpus=1, labels={"valence.role": "cpu"}, **SMALL)
    stage.result()
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.ray
@pytest.mark.cluster
def test_where_nodes_may_come_it_waits_for_one_without_gpus(
    tiny_corpus: Location, tmp_path: Path
) -> None:
    output = simulate(_SCALES, tiny_corpus, tmp_path)
    before, _, after = output.partition("refused: ")
    asked = "waiting for nodes: preprocess.cpus_per_task = 1; the autoscaler was asked"
    assert asked in before
    assert after.startswith(
        "preprocess.cpus_per_task = 1, and of 0 nodes with valence.role cpu the largest has 0 CPUs "
        "and 0 GPUs. None came in "
    )
    assert asked in after
    assert "6 recordings made, 0 skipped, 0 rejected" in after
    assert "refused" not in after


_BLIND = """
import subprocess
seen, hidden, name = map(Path, sys.argv[1:])
cluster = head(num_cpus=0)
cluster.add_node(num_cpus=1, **SMALL)
connect(cluster)
# Its own mounts, as on another machine: it finds an empty folder where the others find `hidden`.
node = subprocess.Popen([
    "unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', hidden,
    Path(sys.executable).with_name("ray"), "start", "--block", f"--address={cluster.gcs_address}",
    "--num-cpus=1", f"--object-store-memory={80 * 2**20}", "--dashboard-agent-listen-port=0",
], stdout=sys.stderr)
deadline = time.monotonic() + 60
while len([each for each in ray.nodes() if each["Alive"]]) < 3:
    assert time.monotonic() < deadline and node.poll() is None
    time.sleep(0.2)
from pipelines.runtime.shared_storage import require_shared
from valence.errors import ClusterError

def ask(folder, *known):
    began = time.monotonic()
    try:
        require_shared(Location.parse(folder), known=[Location.parse(each) for each in known])
        print("shared")
    except ClusterError as error:
        print(round(time.monotonic() - began), error)

try:
    ask(seen, seen / name)
    ask(hidden)
    ask(seen, seen / name, hidden / name)
finally:
    node.terminate()
    node.wait()
    ray.shutdown()
    cluster.shutdown()
"""


def _may_mount() -> bool:
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.skipif(not _may_mount(), reason="this user may not mount anything")
def test_a_folder_that_one_node_does_not_see_is_refused(tmp_path: Path) -> None:
    seen, hidden = tmp_path / "seen", tmp_path / "hidden"
    for folder in (seen, hidden):
        folder.mkdir()
        (folder / "one.wav").write_bytes(b"RIFF")
    shared, *refused = simulate(_BLIND, seen, hidden, "one.wav").splitlines()
    assert shared == "shared"
    for output, place in zip(refused, (hidden, hidden / "one.wav"), strict=True):
        seconds, _, text = output.partition(" ")
        assert int(seconds) < 60
        assert text.startswith(f"'{place}' is visible on this machine but not on 1 of 3 nodes (")
        assert "FileNotFoundError" in text
        assert "s3://bucket/folder" in text
    # Nothing is left behind.
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == ["one.wav"] * 2
