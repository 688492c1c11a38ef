"""Choose the nodes of the cluster that serve some work, and wait for nodes that are still to come.

Work on CPUs avoids nodes with GPUs as long as there are nodes without. Ray would use a GPU node as
soon as the others are busy, and would buy one for any task. The choice is therefore a hard
selector: it names a label of the nodes (`cluster.label`, set by the manifests of `cluster/`), or
the nodes themselves if they have no label.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray.autoscaler.sdk import request_resources

from pipelines.runtime.console import Console, every
from valence.config import ClusterConfig
from valence.errors import ClusterError

Selector = dict[str, str]

NODE_ID = "ray.io/node-id"
_LOOK_SECONDS = 1.0
_SAY_SECONDS = 30.0
_WATCH_SECONDS = 10.0
# CPUs that a scaling cluster is expected to reach, for work that is shared out before it grows.
_EXPECTED_CPUS = 64


@dataclass(frozen=True)
class Node:
    """A living node of the cluster.

    Attributes
    ----------
    id, host
        Name of the node in Ray and in the network.
    resources
        All logical resources, free or in use.
    labels
        Labels that Ray and the owner of the node have set.
    """

    id: str
    host: str
    resources: Mapping[str, float]
    labels: Mapping[str, str]

    def holds(self, bundle: Mapping[str, float]) -> bool:
        """Say whether the node, when idle, has the resources of `bundle`."""
        return all(self.resources.get(name, 0.0) >= amount for name, amount in bundle.items())


def living_nodes() -> list[Node]:
    """List the living nodes, sorted by Id."""
    found = [
        Node(node["NodeID"], node["NodeManagerAddress"], node["Resources"], node["Labels"])
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(found, key=lambda node: node.id)


def scales(nodes: Sequence[Node], config: ClusterConfig) -> bool:
    """Say whether nodes may still come: the head of such a cluster has the label `head`."""
    return any(node.labels.get(config.label) == "head" for node in nodes)


def cpu_selector(nodes: Sequence[Node], config: ClusterConfig) -> Selector:
    """Build the selector that keeps work on CPUs off nodes with GPUs; empty without other nodes.

    >>> def node(name: str, role: str, **resources: float) -> Node:
    ...     return Node(name, "host", resources, {"valence.role": role} if role else {})
    >>> cpu_selector([node("a", "head"), node("b", "gpu", CPU=8, GPU=1)], ClusterConfig())
    {'valence.role': 'cpu'}
    >>> cpu_selector([node("a", "", CPU=8), node("b", "", CPU=8, GPU=1)], ClusterConfig())
    {'ray.io/node-id': '!in(b)'}
    >>> cpu_selector([node("b", "", CPU=8, GPU=1)], ClusterConfig())
    {}
    """
    roles = {node.labels.get(config.label) for node in nodes}
    if roles & {"cpu", "head"}:
        return {config.label: "cpu"}
    workers = [node for node in nodes if node.resources.get("CPU", 0) > 0]
    gpu = [node.id for node in workers if node.resources.get("GPU", 0) > 0]
    if gpu and len(gpu) < len(workers):
        return {NODE_ID: f"!in({','.join(gpu)})"}
    return {}


def nodes_for(selector: Selector) -> list[Node]:
    """List the living nodes that a selector allows."""
    return [node for node in living_nodes() if _matches(node, selector)]


def cpu_nodes(config: ClusterConfig) -> tuple[Selector, list[Node]]:
    """Choose the nodes for work on CPUs: the selector, and the living nodes that it allows."""
    selector = cpu_selector(living_nodes(), config)
    return selector, nodes_for(selector)


def gpus_of(nodes: Sequence[Node]) -> int:
    """Count the whole GPUs of `nodes`."""
    return sum(int(node.resources.get("GPU", 0)) for node in nodes)


def cpus_of(nodes: Sequence[Node]) -> float:
    """Sum the logical CPUs of `nodes`; at least 1."""
    return max(1.0, sum(node.resources.get("CPU", 0.0) for node in nodes))


def cpus_to_share(config: ClusterConfig) -> float:
    """Estimate the logical CPUs among which to share work on CPUs; at least 1."""
    _, allowed = cpu_nodes(config)
    now = cpus_of(allowed)
    return max(now, _EXPECTED_CPUS) if scales(living_nodes(), config) else now


def require_cpus(
    cpus: float, config: ClusterConfig, *, asked: str, console: Console
) -> tuple[Selector, list[Node]]:
    """Wait for a node that can run tasks of `cpus` CPUs, and return all that serve work on CPUs.

    Parameters
    ----------
    cpus
        CPUs of a task.
    config
        The label of the nodes, and how long to wait.
    asked
        The reason in the words of an error message: `preprocess.cpus_per_task = 8`.
    console
        Progress output.

    Returns
    -------
    Selector and nodes, like `cpu_nodes`.

    Raises
    ------
    ClusterError
        If there is no such node, and none comes.
    """
    selector, _ = cpu_nodes(config)
    await_nodes([{"CPU": cpus}], selector, config, asked=asked, console=console)
    return cpu_nodes(config)


def await_nodes(
    bundles: Sequence[Mapping[str, float]],
    selector: Selector,
    config: ClusterConfig,
    *,
    asked: str,
    console: Console,
) -> None:
    """Wait until the living nodes hold all `bundles`; ask for nodes in a cluster that scales.

    Raises
    ------
    ClusterError
        If the nodes do not hold them: at once in a cluster that does not scale, else after
        `cluster.wait_seconds`.
    """
    began = said = time.monotonic()
    waiting = False
    try:
        while True:
            nodes = nodes_for(selector)
            if _hold(nodes, bundles):
                return
            waited = time.monotonic() - began
            if not scales(living_nodes(), config) or waited > config.wait_seconds:
                raise ClusterError(_missing(asked, nodes, selector, waited if waiting else None))
            if not waiting:
                console.say(f"waiting for nodes: {asked}; the autoscaler was asked")
                request_resources(
                    bundles=[dict(bundle) for bundle in bundles],
                    bundle_label_selectors=[selector] * len(bundles),
                )
                waiting = True
            elif time.monotonic() - said > _SAY_SECONDS:
                said = time.monotonic()
                console.say(f"waiting for nodes: {waited:.0f} s, {len(living_nodes())} are there")
            time.sleep(_LOOK_SECONDS)
    finally:
        if waiting:
            # A request stays, and keeps its nodes, until it is withdrawn.
            request_resources(bundles=[])


def _hold(nodes: Sequence[Node], bundles: Sequence[Mapping[str, float]]) -> bool:
    """Say whether `nodes` hold all `bundles` at once, the largest placed first."""
    left = [dict(node.resources) for node in nodes]
    for bundle in sorted(bundles, key=lambda each: -sum(each.values())):
        for free in left:
            if all(free.get(name, 0.0) >= amount for name, amount in bundle.items()):
                for name, amount in bundle.items():
                    free[name] -= amount
                break
        else:
            return False
    return True


def _missing(asked: str, nodes: Sequence[Node], selector: Selector, waited: float | None) -> str:
    largest = {
        name: max((node.resources.get(name, 0.0) for node in nodes), default=0.0)
        for name in ("CPU", "GPU")
    }
    where = f" with {', '.join(f'{key} {value}' for key, value in selector.items())}"
    came = "" if waited is None else f" None came in {waited:.0f} s (cluster.wait_seconds)."
    return (
        f"{asked}, and of {len(nodes)} nodes{where if selector else ''} the largest has "
        f"{largest['CPU']:g} CPUs and {largest['GPU']:g} GPUs.{came} Set it lower, or add nodes "
        "('ray status' shows what there is and what was asked for)."
    )


def _matches(node: Node, selector: Selector) -> bool:
    for key, wanted in selector.items():
        value = node.id if key == NODE_ID else node.labels.get(key)
        if wanted.startswith("!in("):
            if value in wanted[len("!in(") : -1].split(","):
                return False
        elif value != wanted:
            return False
    return True


@contextmanager
def tell_of_absence(
    selector: Selector, needs: Mapping[str, float], console: Console
) -> Iterator[None]:
    """Say, while the block runs, when no node is left that can run its tasks.

    Such a node is allowed by `selector` and holds the resources that a task `needs`. Ray waits for
    another node without a message, and uses one that joins later.
    """
    absent = False

    def look() -> None:
        nonlocal absent
        there = any(node.holds(needs) for node in nodes_for(selector))
        if there == absent:
            absent = not there
            console.say(
                "a node that may do this work has joined"
                if there
                else "no node is left that may do this work, so it waits for one to join ('ray "
                "status'); the same command goes on with what is done if this one is stopped"
            )

    with every(_WATCH_SECONDS, look):
        yield
