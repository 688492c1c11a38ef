"""Where a training runs: what each worker gets of the cluster, and where segments are to live.

What a device has room for is known only where it is. A choice that hangs on it is therefore made by
the worker, and all that can be settled without is settled here.
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
from valence.segments.store import SegmentStore
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

# Where segments live, as a user is told.
LIVE: dict[Residency, str] = {
    "device": "held on the device",
    "host": "held in memory",
    "stream": "streamed from the store",
}


@dataclass(frozen=True)
class Placement:
    """What each worker gets, and where segments are to live.

    Attributes
    ----------
    workers, cpus, gpu
        Number of workers, CPUs of each, and whether each has a GPU.
    selector
        Which nodes they may be on.
    residency
        Where segments live; `"auto"`: on the device if it has room for them, else as `otherwise`.
    otherwise
        Where they live if the device has no room.
    held, streamed, limit
        Bytes of all segments, most of those that streaming holds at once, and the most that a
        worker may hold in memory.
    told
        All this in words.
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
    told: str

    def settle(self, device: torch.device) -> Residency:
        """Where the segments live of a worker that trains on `device`.

        Raises
        ------
        TrainingError
            If they are to live where there is no room for them.
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


def place(store: SegmentStore, config: Config, chosen: Members, console: Console) -> Placement:
    """Fit the workers onto the nodes that are there; where nodes may come, wait for them.

    Raises
    ------
    ClusterError
        If they do not fit.
    ConfigError
        If a batch has no part for each worker.
    TrainingError
        If segments are to be streamed and even that takes more memory than there is.
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
    held, limit = held_bytes(store, config, chosen), _host_limit(nodes, places, config)
    otherwise: Literal["host", "stream"] = "host" if held <= limit else "stream"
    residency = asked.residency
    # The memory of the device that a CPU is, is the host's.
    if not use_gpu and residency in ("auto", "device"):
        residency = otherwise if residency == "auto" else "host"
    streamed = POOLS_HELD * pool_bytes(store, config, chosen)
    if residency == "stream":
        require_streamable(streamed, limit)
    lives = (
        f"{LIVE['device']} where they fit, else {LIVE[otherwise]}"
        if residency == "auto"
        else LIVE[residency]
    )
    # Reading needs a part of a CPU while a worker trains.
    reads = residency == "stream" or (residency == "auto" and otherwise == "stream")
    given = each - 2 * CPUS_PER_TASK if reads else float(each)
    where = "a GPU" if use_gpu else f"{each} CPUs"
    workers = "1 worker" if asked.workers == 1 else f"{asked.workers} workers"
    told = f"{workers} with {where} each; {held / 2**30:.2f} GiB of segments are {lives}"
    return Placement(
        asked.workers, given, use_gpu, selector, residency, otherwise, held, streamed, limit, told
    )


def _cpus_each(cpus: list[int], gpus: list[int] | None, workers: int) -> int | None:
    """Most CPUs that each of `workers` can have, one node holding a worker whole."""
    for each in range(max(cpus, default=0), 0, -1):
        if sum(_places(cpus, gpus, each)) >= workers:
            return each
    return None


def _places(cpus: list[int], gpus: list[int] | None, each: int) -> list[int]:
    """How many workers of `each` CPUs every node holds."""
    places = [count // each for count in cpus]
    return places if gpus is None else [min(pair) for pair in zip(places, gpus, strict=True)]


def _host_limit(
    nodes: Sequence[Mapping[str, float]], places: Sequence[int], config: Config
) -> float:
    """Bytes of segments that a worker may hold, on whichever node Ray puts it."""
    if config.train.host_gib is not None:
        return config.train.host_gib * 2**30
    # Ray fills a node before it takes the next.
    return 0.5 * min(
        node.get("memory", 0.0) / min(config.train.workers, held)
        for node, held in zip(nodes, places, strict=True)
        if held
    )
