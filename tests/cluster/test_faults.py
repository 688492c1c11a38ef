"""Six nodes, some of which crash and others of which join: the result is one node's."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cluster.simulated import simulate
from valence.config import Config
from valence.corpus import read_corpus
from valence.preprocessing import Job, process_recording
from valence.segments import SegmentStore
from valence.splits import assign_splits
from valence.storage import Location

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
    pytest.mark.ray,
    pytest.mark.faults,
]

_RECORDINGS, _SECONDS, _SR = 18, 60, 16_000
# Enough to do for each recording that all nodes are met at work.
_COPIES = 8

_PREPROCESS = """
corpus, run, copies = sys.argv[1:]
cluster = head(num_cpus=1)
first, second, *_ = [cluster.add_node(num_cpus=1, **SMALL) for _ in range(5)]
connect(cluster)
assert len(ray.nodes()) == 6
config = Config.resolve(Config(), assignments=[f"augment.copies={copies}"])
segments = Path(run) / "segments"

def done():
    return len([file for file in segments.glob("*.parquet") if file.stem.isdecimal()])

def at_work(node):
    return lambda: done() and working(raylet_of(node), "ray::MapBatches")

with ThreadPoolExecutor() as pool:
    stage = pool.submit(
        preprocess, Location.parse(corpus), Run.at(run), config, overwrite=False, report=Report()
    )
    wait_for(at_work(first), "the first node was at work", stage)
    cluster.remove_node(first, allow_graceful=False)
    print("told: first lost with", done(), flush=True)
    joined = cluster.add_node(num_cpus=1, **SMALL)
    wait_for(at_work(joined), "the new node was at work", stage)
    print("told: joined with", done(), flush=True)
    wait_for(at_work(second), "the second node was at work", stage)
    cluster.remove_node(second, allow_graceful=False)
    print("told: second lost with", done(), flush=True)
    summary = stage.result()
for key in ("recordings", "processed", "skipped", "rejected"):
    print("told:", key, summary[key], flush=True)
ray.shutdown()
cluster.shutdown()
"""


def _told(output: str) -> dict[str, int]:
    """What a script told, by name; Ray prints what a crashed node logged last, too."""
    lines = [line.removeprefix("told: ") for line in output.splitlines() if "told: " in line]
    return {name: int(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for name in ("raw_data/audio", "label_segments/valence", "metadata"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["Id,Proposal"]
    for number in range(_RECORDINGS):
        y = rng.normal(0, 0.1, _SECONDS * _SR).astype(np.float32)
        soundfile.write(folder / f"raw_data/audio/{number}.wav", y, _SR)
        labels = "".join(f"{500 * i},0.{i % 10}\n" for i in range(2 * _SECONDS))
        (folder / f"label_segments/valence/{number}.csv").write_text(f"timestamp,value\n{labels}")
        rows.append(f"{number},{'devel' if number == 3 else 'train'}")
    (folder / "metadata/partition.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_preprocessing_on_nodes_that_come_and_go(corpus: Path, tmp_path: Path) -> None:
    told = _told(simulate(_PREPROCESS, corpus, tmp_path / "run", _COPIES))
    assert told["first lost with"] <= told["second lost with"] < _RECORDINGS
    assert told["recordings"] == told["processed"] == _RECORDINGS
    assert told["skipped"] == told["rejected"] == 0
    store = SegmentStore(Location.parse(tmp_path / "run/segments"))
    frame = store.recordings()
    assert frame["Id"].tolist() == sorted(str(number) for number in range(_RECORDINGS))
    assert (frame["status"] == "ok").all()
    # One process, without Ray, makes the same bytes.
    config = Config.resolve(Config(), assignments=[f"augment.copies={_COPIES}"])
    alone = SegmentStore(Location.parse(tmp_path / "alone"))
    found = read_corpus(Location.parse(corpus))
    splits = assign_splits(found, config.split)
    for recording in found.recordings:
        split = splits[recording.id]
        process_recording(Job(recording, split, _COPIES if split == "train" else 0), alone, config)
        expected = alone.file(recording.id).read_bytes()
        assert store.file(recording.id).read_bytes() == expected, recording.id
