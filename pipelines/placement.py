"""Where a training runs: what each worker gets of the cluster, and where segments are to live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import ray

from pipelines.streaming import CPUS_PER_TASK
from valence.config import Config
from valence.errors import ClusterError
from valence.residency import Members, held_bytes
from valence.segments import SegmentStore


@dataclass(frozen=True)
class Placement:
    """What each worker gets, and where segments are to live."""

    workers: int
    cpus: float
    gpu: bool
    residency: Literal["auto", "device", "host", "stream"]
    told: str


def place(store: SegmentStore, config: Config, chosen: Members) -> Placement:
    """Fit the workers onto the nodes that are there, at once or not at all.

    Raises
    ------
    ClusterError
        If they do not fit.
    """
    asked = config.train
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    use_gpu = asked.gpus == "always" or (asked.gpus == "auto" and sum(gpus) >= asked.workers)
    if use_gpu and sum(gpus) < asked.workers:
        raise ClusterError(
            f"train.workers = {asked.workers} with train.gpus = 'always' asks for {asked.workers} "
            f"GPUs, and the cluster has {sum(gpus)} on {len(nodes)} nodes. Lower train.workers, "
            "set train.gpus to 'auto', or add nodes."
        )
    each = _cpus_each(cpus, gpus if use_gpu else None, asked.workers)
    if each is None:
        raise ClusterError(
            f"train.workers = {asked.workers} asks for {asked.workers} CPUs"
            f"{', each beside a GPU' if use_gpu else ''}, and the cluster has {sum(cpus)} on "
            f"{len(nodes)} nodes. Lower train.workers or add nodes."
        )
    size = held_bytes(store, config, chosen)
    residency = asked.residency
    limit = _host_limit(nodes, config)
    if residency == "auto" and size > limit:
        residency = "stream"
    share = f"{size / 2**30:.2f} GiB of segments"
    told = {
        "stream": f"{share} are streamed from the store",
        "host": f"{share} are held in memory",
        "device": f"{share} are held on the device",
        "auto": f"{share} are held in memory, on the device where they fit",
    }[residency]
    # Reading needs a part of a CPU while a worker trains.
    given = each - 2 * CPUS_PER_TASK if residency == "stream" else float(each)
    where = "a GPU" if use_gpu else f"{each} CPUs"
    workers = "1 worker" if asked.workers == 1 else f"{asked.workers} workers"
    return Placement(
        asked.workers, given, use_gpu, residency, f"{workers} with {where} each; {told}"
    )


def _cpus_each(cpus: list[int], gpus: list[int] | None, workers: int) -> int | None:
    """Most CPUs that each of `workers` can have, one node holding a worker whole."""
    for each in range(max(cpus, default=0), 0, -1):
        places = [count // each for count in cpus]
        if gpus is not None:
            places = [min(pair) for pair in zip(places, gpus, strict=True)]
        if sum(places) >= workers:
            return each
    return None


def _host_limit(nodes: list[dict[str, float]], config: Config) -> float:
    if config.train.host_gib is not None:
        return config.train.host_gib * 2**30
    memory = min(node.get("memory", 0.0) for node in nodes)
    together = -(-config.train.workers // len(nodes))
    return 0.5 * memory / together
