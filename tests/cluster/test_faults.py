"""Six nodes, some of which crash and others of which join: the result is one node's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers.noise import write_noise_corpus
from tests.helpers.simulated import simulate
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.corpus.splits import assign_splits
from valence.run import Run
from valence.segments.preprocessing import Job, process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location
from valence.sweep.features import Features, write_features

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
    pytest.mark.ray,
    pytest.mark.cluster,
    pytest.mark.faults,
]

_RECORDINGS, _SECONDS, _SR = 32, 60, 16_000
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
        preprocess,
        Location.parse(corpus),
        Run.at(run),
        config,
        overwrite=False,
        console=Console(),
    )
    wait_for(at_work(first), "the first node was at work", stage)
    cluster.remove_node(first, allow_graceful=False)
    tell("told: first lost with", done())
    joined = cluster.add_node(num_cpus=1, **SMALL)
    wait_for(at_work(joined), "the new node was at work", stage)
    tell("told: joined with", done())
    wait_for(at_work(second), "the second node was at work", stage)
    cluster.remove_node(second, allow_graceful=False)
    tell("told: second lost with", done())
    summary = stage.result()
for key in ("recordings", "processed", "skipped", "rejected"):
    tell("told:", key, summary[key])
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
    seconds = {str(number): _SECONDS for number in range(_RECORDINGS)}
    write_noise_corpus(folder, seconds, sr=_SR, devel="3")
    return folder


def test_preprocessing_on_nodes_that_come_and_go(corpus: Path, tmp_path: Path) -> None:
    output = _told(simulate(_PREPROCESS, corpus, tmp_path / "run", _COPIES))
    assert output["first lost with"] <= output["second lost with"] < _RECORDINGS
    assert output["recordings"] == output["processed"] == _RECORDINGS
    assert output["skipped"] == output["rejected"] == 0
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


_LAST_NODE = """
corpus, run, copies = sys.argv[1:]
# A head that does no work, a node with a GPU, which is not for this work, and one without.
cluster = head(num_cpus=0)
cluster.add_node(num_cpus=1, num_gpus=1, **SMALL)
last = cluster.add_node(num_cpus=1, **SMALL)
connect(cluster)
config = Config.resolve(Config(), assignments=[f"augment.copies={copies}"])
segments = Path(run) / "segments"
said = []

class Heard(Console):
    def say(self, text):
        said.append(text)

def done():
    return len([file for file in segments.glob("*.parquet") if file.stem.isdecimal()])

with ThreadPoolExecutor() as pool:
    stage = pool.submit(
        preprocess, Location.parse(corpus), Run.at(run), config, overwrite=False, console=Heard()
    )
    at_work = lambda: done() and working(raylet_of(last), "ray::MapBatches")
    wait_for(at_work, "the node was at work", stage)
    cluster.remove_node(last, allow_graceful=False)
    tell("told: lost with", done())
    waits = lambda: any("no node is left" in text for text in said)
    wait_for(waits, "it said that it waits", stage)
    cluster.add_node(num_cpus=1, **SMALL)
    summary = stage.result()
for key in ("recordings", "processed", "rejected"):
    tell("told:", key, summary[key])
ray.shutdown()
cluster.shutdown()
"""


def test_the_last_node_for_work_on_cpus_is_waited_for(corpus: Path, tmp_path: Path) -> None:
    output = _told(simulate(_LAST_NODE, corpus, tmp_path / "run", 1))
    assert output["lost with"] < _RECORDINGS
    assert output["recordings"] == output["processed"] == _RECORDINGS
    assert output["rejected"] == 0


# Sixty combinations, twelve of which take long enough for nodes to be lost with them.
_GRID = (
    'sweep.regressors=["linear", "ridge", "svr", {name="slow", estimator="XGBRegressor", '
    'parameters={n_estimators=4000}}, "ensemble"]',
    "sweep.bootstrap=20",
)

_SWEEP = """
alone, among, *grid = sys.argv[1:]
# Its head does no work, so that whatever does can be lost.
cluster = head(num_cpus=0)
cluster.add_node(num_cpus=1, **SMALL)
connect(cluster)
from pipelines.sweep.stage import sweep

config = Config.resolve(Config(), assignments=grid)

def run(folder):
    return sweep(Run.at(folder), config, overwrite=False, console=Console())

tell("told: alone", run(alone)["combinations"])
for _ in range(5):
    cluster.add_node(num_cpus=1, **SMALL)
cluster.wait_for_nodes()
store = Path(among) / "sweep/combinations"

def done():
    return len(list(store.glob("*.parquet")))

def at_work():
    "Nodes that have a trial at work."
    nodes = list(cluster.worker_nodes)
    return [node for node in nodes if done() and working(raylet_of(node), ".train")]

with ThreadPoolExecutor() as pool:
    stage = pool.submit(run, among)
    for number in ("first", "second"):
        wait_for(at_work, "a node was at work", stage)
        lost = (at_work() or list(cluster.worker_nodes))[0]
        cluster.remove_node(lost, allow_graceful=False)
        tell("told:", number, "lost with", done())
    for _ in range(2):
        cluster.add_node(num_cpus=1, **SMALL)
    summary = stage.result()
for key in ("combinations", "failed"):
    tell("told:", key, summary[key])
ray.shutdown()
cluster.shutdown()
"""


def test_a_sweep_on_nodes_that_come_and_go(
    make_features: Callable[..., Features], tmp_path: Path
) -> None:
    features = make_features()
    for name in ("alone", "among"):
        run = Run.at(str(tmp_path / name))
        stage = run.stage("features")
        stage.begin({"model": "a model"})
        for recording in np.unique(features.recording):
            rows = features.rows(features.recording == recording)
            write_features(run.folder("features") / f"{recording}.parquet", rows)
        stage.finish({"digest": "of these features", "seconds": 0.0})
    output = _told(simulate(_SWEEP, tmp_path / "alone", tmp_path / "among", *_GRID))
    assert output["alone"] == output["combinations"] == 60
    assert output["failed"] == 0
    assert output["first lost with"] <= output["second lost with"] < 60
    alone, among = (
        pd.read_csv(tmp_path / name / "sweep/results.csv").drop(columns="seconds")
        for name in ("alone", "among")
    )
    assert len(among.groupby(["scaler", "reducer", "regressor"])) == len(among) == 60
    pd.testing.assert_frame_equal(among, alone, check_exact=True)
