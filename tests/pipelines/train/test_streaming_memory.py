"""A corpus larger than the memory limit trains with memory that does not grow with it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from pipelines.runtime.console import Console
from pipelines.train.placement import place
from tests.pipelines.conftest import ON_RAY
from valence.audio.standardization import MelMoments, Standardizer
from valence.config import Config
from valence.provenance import fingerprint
from valence.segments.store import Segments, SegmentStore, Stored
from valence.storage.location import Location
from valence.training.data.capacity import Members, members
from valence.training.data.inputs import MelInputs

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    *ON_RAY,
]

_SEGMENTS = 600
_MIB = 2**20
_LIMIT_MIB = 48
_CONFIG = Config.resolve(
    Config(),
    assignments=[
        "model.channels=[1, 1, 1]",
        "model.lstm_hidden=2",
        "sequence.length=4",
        "sequence.stride=60",
        "augment.copies=0",
        "train.epochs=1",
        "train.batch_size=20",
        "train.shuffle_segments=1200",
        f"train.host_gib={_LIMIT_MIB / 1024}",
    ],
)


def _store(folder: Path, recordings: int) -> SegmentStore:
    """Recordings of five minutes, 5 MiB each, and one to validate on."""
    store = SegmentStore(Location.parse(folder))
    rng = np.random.default_rng(0)
    mel = rng.normal(-30, 20, (_SEGMENTS, 128, 34)).astype(np.float16)
    label = rng.normal(size=_SEGMENTS).astype(np.float32)
    times = np.arange(_SEGMENTS, dtype=np.int64) * 500
    moments = MelMoments.from_mel(mel[:10])
    rows = []
    for number in range(recordings + 1):
        name = f"{number:03d}"
        with store.writer(name, shape=(128, 34), dtype="float16") as writer:
            writer.write(Segments(name, 0, times, label, label, mel), first_segment=0)
            writer.finish(Stored("test", "test", "", 300.0, _SEGMENTS, (moments,)))
        split = "train" if number < recordings else "validation"
        rows.append({"Id": name, "subject": name, "split": split, "segments": _SEGMENTS})
    made_of = fingerprint({"settings": "test", "content": "test"})
    same = {"labelled": _SEGMENTS, "status": "ok", "fingerprint": made_of}
    store.write_recordings([row | same for row in rows])
    return store


@ray.remote(max_calls=1)
def _train(store: SegmentStore, chosen: Members, residency: str) -> tuple[int, int]:
    """Windows seen in an epoch, and how far the memory of this process has grown, in bytes."""
    from pipelines.train.streaming import StreamingSource
    from valence.training.data.batches import Source
    from valence.training.data.in_memory import ResidentSource
    from valence.training.loop import TrainingSpec, fit

    def held() -> int:
        """Bytes of this process alone: what it has seen of the object store is Ray's."""
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("RssAnon:")[2].split()[0])

    before = held()
    seen, over = [before], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            seen.append(held())

    watcher = threading.Thread(target=watch)
    watcher.start()
    device = torch.device("cpu")
    standardizer = Standardizer("global", np.array([-30], np.float32), np.array([20], np.float32))
    task = TrainingSpec(_CONFIG, {}, standardizer, device)
    inputs = MelInputs(store, _CONFIG)
    source: Source
    if residency == "stream":
        source = StreamingSource(inputs, _CONFIG, chosen, device=device)
    else:
        source = ResidentSource(inputs, _CONFIG, chosen, device=device, residency="host")
    windows = sum(len(batch.target) for batch in source.batches(0, 1))
    fit(task, source, state=None, save=lambda state, output: None)
    over.set()
    watcher.join()
    return windows, max(seen) - before


def _grown(folder: Path, recordings: int, residency: str) -> float:
    store = _store(folder / f"{recordings}", recordings)
    chosen = members(store, _CONFIG)
    placement = place(MelInputs(store, _CONFIG), _CONFIG, chosen, Console())
    assert placement.residency == "stream"
    assert placement.streamed < placement.limit == _LIMIT_MIB * _MIB < placement.held
    # An environment of its own gives it a new process: one that has worked before has been larger.
    alone = {"env_vars": {"ALONE": f"{recordings}-{residency}"}}
    windows, grown = ray.get(_train.options(runtime_env=alone).remote(store, chosen, residency))
    # A random phase reaches 9 or 10 of the windows of each.
    assert 9 * recordings <= windows <= 10 * recordings
    return grown / _MIB


def test_memory_does_not_grow_with_a_corpus_that_is_streamed(tmp_path: Path) -> None:
    small, large = (_grown(tmp_path, recordings, "stream") for recordings in (10, 30))
    # 100 MiB more of segments; what Ray itself takes varies by some.
    assert large < small + 45


def test_memory_grows_with_a_corpus_that_is_held(tmp_path: Path) -> None:
    """What the test above would see if nothing were streamed."""
    assert _grown(tmp_path, 30, "host") > 120
