"""Place a training: give each worker a share of the cluster, and choose where segments live.

Only a worker can find out how much room its device has. The worker therefore makes the choices that
depend on this room, and all other choices are made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from pipelines.runtime.console import Console
from pipelines.runtime.nodes import (
    Selector,
    await_nodes,
    cpu_selector,
    gpus_of,
    living_nodes,
    nodes_for,
    scales,
)
from pipelines.train.streaming import CPUS_PER_TASK
from valence.config import Config
from valence.errors import ClusterError, ConfigError
from valence.training.data.capacity import (
    POOLS_HELD,
    Members,
    Residency,
    device_room,
    held_bytes,
    pool_bytes,
    require_room,
    require_streamable,
)
from valence.training.data.inputs import SegmentInputs

# Where segments live, in the words that a user reads.
LIVE: dict[Residency, str] = {
    "device": "held on the device",
    "host": "held in memory",
    "stream": "streamed from the store",
}


@dataclass(frozen=True)
class Placement:
    """The resources of each worker, and where segments live.

    Attributes
    ----------
    workers, cpus, gpu
        Number of workers, CPUs of each, and whether each has a GPU.
    selector
        Nodes that workers may run on.
    residency
        Where segments live; `"auto"`: on the device if it has room for them, else `otherwise`.
    otherwise
        Where segments live if the device has no room.
    held, streamed, limit
        Bytes of all segments, most bytes that streaming holds at once, and most bytes that a
        worker may hold in memory.
    summary
        The placement in words.
    """

    workers: int
    cpus: float
    gpu: bool
    selector: Selector
    residency: Literal["auto", "device", "host", "stream"]
    otherwise: Literal["host", "stream"]
    held: int
    streamed: int
    limit: float
    summary: str

    def settle(self, device: torch.device) -> Residency:
        """Decide where the segments of a worker live that trains on `device`.

        Raises
        ------
        TrainingError
            If the chosen place has no room for the segments.
        """
        chosen: Residency
        match self.residency:
            case "auto":
                chosen = "device" if self.held <= device_room(device) else self.otherwise
            case _:
                chosen = self.residency
        if chosen == "device":
            require_room(self.held, device_room(device))
        if chosen == "stream":
            require_streamable(self.streamed, self.limit)
        return chosen


def place(inputs: SegmentInputs, config: Config, chosen: Members, console: Console) -> Placement:
    """Fit the workers onto the nodes; in a cluster that scales, wait for nodes.

    Raises
    ------
    ClusterError
        If the workers do not fit.
    ConfigError
        If a batch has no part for each worker.
    TrainingError
        If segments have to be streamed and even streaming takes more memory than there is.
    """
    asked = config.train
    groups = asked.batch_size // asked.windows_per_group
    if groups < asked.workers:
        raise ConfigError(
            f"train.batch_size = {asked.batch_size} and train.windows_per_group = "
            f"{asked.windows_per_group} make batches of {groups} groups, and each of "
            f"train.workers = {asked.workers} needs one of its own. Raise "
            "train.batch_size, or lower train.windows_per_group or train.workers."
        )
    living = living_nodes()
    use_gpu = asked.gpus == "always" or (asked.gpus == "auto" and gpus_of(living) >= asked.workers)
    selector = {} if use_gpu else cpu_selector(living, config.cluster)
    if scales(living, config.cluster):
        each_asks = {"CPU": 1.0} | ({"GPU": 1.0} if use_gpu else {})
        await_nodes(
            [each_asks] * asked.workers,
            selector,
            config.cluster,
            asked=f"train.workers = {asked.workers} asks for a {'GPU' if use_gpu else 'CPU'} each",
            console=console,
        )
    nodes = [
        node.resources
        for node in nodes_for(selector)
        if node.holds({"CPU": 1.0} | ({"GPU": 1.0} if use_gpu else {}))
    ]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    if use_gpu and sum(gpus) < asked.workers:
        raise ClusterError(
            f"train.workers = {asked.workers} with train.gpus = 'always' asks for {asked.workers} "
            f"GPUs, and the cluster has {sum(gpus)} on {len(living)} nodes. Lower train.workers, "
            "set train.gpus to 'auto', or add nodes."
        )
    each = _cpus_each(cpus, gpus if use_gpu else None, asked.workers)
    if each is None:
        raise ClusterError(
            f"train.workers = {asked.workers} asks for {asked.workers} CPUs"
            f"{', each beside a GPU' if use_gpu else ''}, and the cluster has {sum(cpus)} on "
            f"{len(nodes)} nodes. Lower train.workers or add nodes."
        )
    places = _places(cpus, gpus if use_gpu else None, each)
    held, limit = held_bytes(inputs, chosen), _host_limit(nodes, places, config)
    otherwise: Literal["host", "stream"] = "host" if held <= limit else "stream"
    residency = asked.residency
    # A CPU as the device has the memory of the host.
    if not use_gpu and residency in ("auto", "device"):
        residency = otherwise if residency == "auto" else "host"
    streamed = POOLS_HELD * pool_bytes(inputs, config, chosen)
    if residency == "stream":
        require_streamable(streamed, limit)
    lives = (
        f"{LIVE['device']} where they fit, else {LIVE[otherwise]}"
        if residency == "auto"
        else LIVE[residency]
    )
    # Leave a part of a CPU to the tasks that read while a worker trains.
    reads = residency == "stream" or (residency == "auto" and otherwise == "stream")
    given = each - 2 * CPUS_PER_TASK if reads else float(each)
    where = "a GPU" if use_gpu else f"{each} CPUs"
    workers = "1 worker" if asked.workers == 1 else f"{asked.workers} workers"
    summary = f"{workers} with {where} each; {held / 2**30:.2f} GiB of segments are {lives}"
    return Placement(
        asked.workers,
        given,
        use_gpu,
        selector,
        residency,
        otherwise,
        held,
        streamed,
        limit,
        summary,
    )


def _cpus_each(cpus: list[int], gpus: list[int] | None, workers: int) -> int | None:
    """Find the most CPUs that each of `workers` can have; no worker spans two nodes."""
    for each in range(max(cpus, default=0), 0, -1):
        if sum(_places(cpus, gpus, each)) >= workers:
            return each
    return None


def _places(cpus: list[int], gpus: list[int] | None, each: int) -> list[int]:
    """Count the workers of `each` CPUs that every node holds."""
    places = [count // each for count in cpus]
    return places if gpus is None else [min(pair) for pair in zip(places, gpus, strict=True)]


def _host_limit(
    nodes: Sequence[Mapping[str, float]], places: Sequence[int], config: Config
) -> float:
    """Compute the bytes of segments that a worker may hold on any node that Ray may choose."""
    if config.train.host_gib is not None:
        return config.train.host_gib * 2**30
    # Ray fills one node with workers before it uses the next.
    return 0.5 * min(
        node.get("memory", 0.0) / min(config.train.workers, held)
        for node, held in zip(nodes, places, strict=True)
        if held
    )
