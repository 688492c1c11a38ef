"""What a worker gets of clusters of several shapes, and where its segments are to live."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipelines.runtime.console import Console
from pipelines.train import placement
from valence.config import Config
from valence.errors import ClusterError, ConfigError, TrainingError
from valence.segments.store import SegmentStore
from valence.storage.location import Location
from valence.training.data.capacity import Members
from valence.training.data.inputs import MelInputs

_CPU, _GPU = torch.device("cpu"), torch.device("cuda", 0)
_CHOSEN = Members(("a", "b"), ("c",), 1, ("valence",))
# Of 128 x 34 values of two bytes.
_SEGMENT = 8704
_HELD = (2 * 2 * 100 + 60) * _SEGMENT


@pytest.fixture
def store(tmp_path: Any) -> SegmentStore:
    made = SegmentStore(Location.parse(tmp_path))
    made.write_recordings(
        [{"Id": name, "segments": n} for name, n in (("a", 100), ("b", 100), ("c", 60))]
    )
    return made


def _place(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch, *assignments: str, gpus: int = 0
) -> placement.Placement:
    return _place_among([_node("a", GPU=gpus)], store, monkeypatch, *assignments)


def _node(name: str, role: str | None = None, **resources: float) -> dict[str, Any]:
    held = {"CPU": 4.0, "memory": 3.0 * _HELD, **resources}
    labels = {} if role is None else {"valence.role": role}
    return {
        "Alive": True,
        "NodeID": name,
        "NodeManagerAddress": f"10.0.0.{name}",
        "Resources": {key: float(value) for key, value in held.items() if value},
        "Labels": labels,
    }


def _place_among(
    nodes: list[dict[str, Any]],
    store: SegmentStore,
    monkeypatch: pytest.MonkeyPatch,
    *assignments: str,
) -> placement.Placement:
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    config = Config.resolve(Config(), assignments=assignments)
    return placement.place(MelInputs(store, config), config, _CHOSEN, Console())


def _limit(size: float) -> str:
    return f"train.host_gib={size / 2**30}"


def _room(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    """A GPU that leaves segments so many bytes."""
    free = round(size / 0.6) + 2
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (free, 2 * free))


def test_without_a_gpu_segments_are_in_memory_if_they_fit(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _place(store, monkeypatch)
    assert (found.held, found.limit) == (_HELD, 1.5 * _HELD)
    assert (found.cpus, found.gpu, found.residency) == (4, False, "host")
    assert found.summary == "1 worker with 4 CPUs each; 0.00 GiB of segments are held in memory"
    assert found.settle(_CPU) == "host"
    # A CPU's memory is the host's.
    found = _place(store, monkeypatch, "train.residency=device")
    assert found.residency == found.settle(_CPU) == "host"
    assert found.summary.endswith("are held in memory")


def test_without_a_gpu_segments_are_streamed_if_they_do_not_fit(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The longest recording is a pool of its own, and four pools are held.
    small = ("train.shuffle_segments=50", _limit(0.99 * _HELD))
    found = _place(store, monkeypatch, *small)
    assert found.residency == found.settle(_CPU) == "stream"
    assert found.streamed == 4 * 100 * _SEGMENT
    assert found.summary.endswith("are streamed from the store")
    assert found.cpus < 4


def test_memory_is_shared_among_the_workers_that_a_node_may_hold(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both on the first node, whose memory they share, though there is a node for each.
    uneven = [_node("a", CPU=8, memory=6 * _HELD), _node("b", CPU=1)]
    found = _place_among(uneven, store, monkeypatch, "train.workers=2")
    assert (found.cpus, found.limit) == (4, 1.5 * _HELD)
    # One on the first, or two on the second.
    uneven = [_node("a", CPU=4), _node("b", CPU=9, memory=5 * _HELD)]
    found = _place_among(uneven, store, monkeypatch, "train.workers=3")
    assert (found.cpus, found.limit) == (4, 1.25 * _HELD)
    gpus = [_node("a", CPU=8, GPU=1), _node("b", CPU=8, GPU=1)]
    found = _place_among(gpus, store, monkeypatch, "train.workers=2")
    assert (found.gpu, found.limit) == (True, 1.5 * _HELD)


def test_streaming_that_takes_more_than_there_is_is_refused(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for small in ("train.shuffle_segments=50", "train.shuffle_segments=150"):
        with pytest.raises(TrainingError, match=r"0\.00[0-9]+ GiB.*Lower train.shuffle_segments"):
            _place(store, monkeypatch, small, _limit(399 * _SEGMENT))
    with pytest.raises(TrainingError, match=r"Lower train\.shuffle_segments"):
        _place(store, monkeypatch, _limit(0.99 * _HELD), "train.residency=stream")


@pytest.mark.parametrize(
    ("limit", "otherwise", "words"),
    [(2.0, "host", "held in memory"), (0.9, "stream", "streamed from the store")],
)
def test_with_a_gpu_the_device_is_tried_first(
    store: SegmentStore,
    monkeypatch: pytest.MonkeyPatch,
    limit: float,
    otherwise: str,
    words: str,
) -> None:
    asked = ("train.shuffle_segments=50", _limit(limit * _HELD))
    found = _place(store, monkeypatch, *asked, gpus=1)
    assert (found.residency, found.otherwise, found.gpu) == ("auto", otherwise, True)
    assert found.summary.endswith(f"are held on the device where they fit, else {words}")
    _room(monkeypatch, _HELD)
    assert found.settle(_GPU) == "device"
    _room(monkeypatch, _HELD - 100)
    assert found.settle(_GPU) == otherwise


def test_a_device_without_room_is_refused_with_both_sizes(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _place(store, monkeypatch, "train.residency=device", gpus=1)
    _room(monkeypatch, _HELD)
    assert found.settle(_GPU) == "device"
    _room(monkeypatch, _HELD / 2)
    with pytest.raises(TrainingError, match=r"asks for 0\.00373 GiB.* has 0\.00186 GiB"):
        found.settle(_GPU)


def test_a_fallback_that_takes_more_than_there_is_is_refused_only_where_it_is_needed(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _place(store, monkeypatch, _limit(_SEGMENT), gpus=1)
    _room(monkeypatch, _HELD)
    assert found.settle(_GPU) == "device"
    _room(monkeypatch, 0)
    with pytest.raises(TrainingError, match=r"Lower train\.shuffle_segments"):
        found.settle(_GPU)


def test_a_batch_needs_a_run_for_each_worker(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("train.batch_size=16", "train.windows_per_group=8", "train.host_gib=1")
    assert _place(store, monkeypatch, *asked, "train.workers=2").workers == 2
    with pytest.raises(
        ConfigError, match=r"windows_per_group = 8 make batches of 2 groups.*workers = 3"
    ):
        _place(store, monkeypatch, *asked, "train.workers=3")


def test_a_gpu_is_taken_where_there_is_one_and_cpus_elsewhere_otherwise(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = [_node("a", CPU=2), _node("b", CPU=8, GPU=1), _node("c", CPU=4, memory=6 * _HELD)]
    found = _place_among(mixed, store, monkeypatch)
    assert (found.gpu, found.cpus, found.selector) == (True, 8.0, {})
    found = _place_among(mixed, store, monkeypatch, "train.gpus=never")
    assert (found.gpu, found.cpus, found.selector) == (False, 4.0, {"ray.io/node-id": "!in(b)"})
    found = _place_among(mixed, store, monkeypatch, "train.workers=2")
    assert (found.gpu, found.workers, found.cpus) == (False, 2, 2.0)
    several = [_node("a", "cpu"), _node("b", "gpu", GPU=1), _node("c", "gpu", GPU=1)]
    found = _place_among(several, store, monkeypatch, "train.workers=2")
    assert (found.gpu, found.workers) == (True, 2)
    with pytest.raises(ClusterError, match="asks for 3 GPUs, and the cluster has 2"):
        _place_among(several, store, monkeypatch, "train.workers=3", "train.gpus=always")


def test_a_cluster_that_grows_is_asked_and_waited_for(
    store: SegmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [_node("a", "head", CPU=0)]
    asked: list[Any] = []

    def request(**what: Any) -> None:
        asked.append(what)
        if what["bundles"]:
            nodes.append(_node("b", "gpu", CPU=8, GPU=1))

    monkeypatch.setattr("pipelines.runtime.nodes.request_resources", request)
    monkeypatch.setattr("pipelines.runtime.nodes._LOOK_SECONDS", 0.01)
    found = _place_among(nodes, store, monkeypatch, "train.gpus=always")
    assert (found.gpu, found.cpus) == (True, 8.0)
    assert asked == [
        {"bundles": [{"CPU": 1.0, "GPU": 1.0}], "bundle_label_selectors": [{}]},
        {"bundles": []},
    ]
    # Nothing comes for CPUs, and what is asked for is taken back.
    asked.clear()
    nodes[:] = [_node("a", "head", CPU=0)]
    monkeypatch.setattr(
        "pipelines.runtime.nodes.request_resources", lambda **what: asked.append(what)
    )
    with pytest.raises(ClusterError, match=r"asks for a CPU each, .* None came in \d+ s"):
        _place_among(nodes, store, monkeypatch, "cluster.wait_seconds=0.05")
    assert asked[0]["bundle_label_selectors"] == [{"valence.role": "cpu"}]
    assert asked[-1] == {"bundles": []}
