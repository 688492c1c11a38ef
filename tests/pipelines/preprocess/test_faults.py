"""Preprocessing while processes and nodes die: made, not mocked."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.noise import write_noise_corpus
from tests.helpers.processes import command, descendants, kill_with_descendants, wait_for
from tests.helpers.simulated import simulate
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.corpus.splits import assign_splits
from valence.run import Run
from valence.segments.preprocessing import Job, process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
    pytest.mark.ray,
    pytest.mark.faults,
    pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning"),
]

_RECORDINGS, _SECONDS, _SR = 10, 60, 16_000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten recordings of a minute: each takes long enough to be caught at work."""
    folder = tmp_path_factory.mktemp("corpus")
    seconds = {str(number): _SECONDS for number in range(_RECORDINGS)}
    write_noise_corpus(folder, seconds, sr=_SR, devel="3")
    return folder


@pytest.fixture(scope="module")
def expected(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What undisturbed work makes of it, without Ray."""
    return _made_alone(corpus, tmp_path_factory.mktemp("expected"), Config())


def _made_alone(corpus: Path, folder: Path, config: Config) -> dict[str, bytes]:
    """What one process makes of each recording as a whole."""
    store = SegmentStore(Location.parse(folder))
    found = read_corpus(Location.parse(corpus))
    splits = assign_splits(found, config.split)
    content = {}
    for recording in found.recordings:
        split = splits[recording.id]
        process_recording(Job(recording, split, int(split == "train")), store, config)
        content[recording.id] = store.file(recording.id).read_bytes()
    return content


def _stored(run: Path) -> dict[str, bytes]:
    files = sorted((run / "segments").glob("*.parquet"))
    return {file.stem: file.read_bytes() for file in files if file.stem != "recordings"}


def _worker_at_work(run: Path, file: str) -> int | None:
    """The process that has a file of the segments of `run` open and half written."""
    pattern = rf"{run}/segments/{file}\.parquet\..*partial"
    # There is none to look for, most of the time.
    folder = Path(f"{run}/segments/{file}").parent
    if not any(re.fullmatch(pattern, str(path)) for path in folder.glob(".*partial")):
        return None
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            path = str(descriptor.readlink())
        except OSError:
            continue
        if re.fullmatch(pattern, path):
            return int(descriptor.parts[2])
    return None


@contextmanager
def _killing(run: Path, file: str = r"\.\d", *, most: int) -> Iterator[list[int]]:
    """Kill workers as they write files of that name, `most` of them at most."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while len(killed) < most and not over.wait(0.01):
            worker = _worker_at_work(run, file)
            if worker is not None and worker not in killed:
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def _preprocess(corpus: Path, run: Path, console: Any, *settings: str) -> dict[str, Any]:
    """The stage, on the Ray of the session."""
    from pipelines.preprocess.stage import preprocess

    config = Config.resolve(Config(), assignments=settings)
    return preprocess(
        Location.parse(corpus), Run.at(str(run)), config, overwrite=False, console=console
    )


def _start(corpus: Path, run: Path, *settings: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "pipelines", "preprocess", str(corpus), "--out", str(run)]
    return subprocess.Popen(
        [*program, *(f"--set={setting}" for setting in settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )


def test_a_killed_worker_costs_nothing(
    ray_local: None, corpus: Path, expected: dict[str, bytes], console: Any, tmp_path: Path
) -> None:
    with _killing(tmp_path, most=2) as killed:
        _preprocess(corpus, tmp_path, console)
    assert len(killed) == 2
    # What a killed worker had finished before counts as made, once.
    assert f"{_RECORDINGS} recordings made, 0 skipped, 0 rejected" in "\n".join(console.lines)
    assert _stored(tmp_path) == expected
    frame = SegmentStore(Location.parse(tmp_path / "segments")).recordings()
    assert frame["Id"].tolist() == sorted(expected)
    assert (frame["status"] == "ok").all()


def test_a_recording_that_kills_every_worker_is_set_aside(
    ray_local: None,
    corpus: Path,
    expected: dict[str, bytes],
    console: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each try takes a new worker's start.
    monkeypatch.setattr("pipelines.preprocess.tasks._RETRIES", 1)
    with _killing(tmp_path, r"\.7", most=99) as killed:
        _preprocess(corpus, tmp_path, console)
    assert len(killed) > 2
    assert "rejected 7: The process that worked on" in "\n".join(console.lines)
    assert _stored(tmp_path) == {name: expected[name] for name in expected if name != "7"}
    frame = SegmentStore(Location.parse(tmp_path / "segments")).recordings().set_index("Id")
    assert frame.loc["7", "status"] == "rejected"
    # Left alone, it is made.
    console.lines.clear()
    _preprocess(corpus, tmp_path, console)
    assert f"1 recordings made, {_RECORDINGS - 1} skipped, 0 rejected" in "\n".join(console.lines)
    assert _stored(tmp_path) == expected


@pytest.mark.cluster
def test_after_a_killed_driver_only_what_is_missing_is_made(
    corpus: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    driver = _start(corpus, tmp_path)
    segments = tmp_path / "segments"
    wait_for(lambda: len(list(segments.glob("[0-9].parquet"))) >= 3, "three recordings")
    # Between two tasks a worker is idle.
    names = ("ray::MapBatches", "ray::IDLE")
    workers = [
        pid for pid in descendants(driver.pid) if any(name in command(pid) for name in names)
    ]
    assert workers
    driver.kill()
    driver.communicate()
    # Its workers notice that they are alone, and end.
    wait_for(lambda: not any(map(command, workers)), "the end of the workers")
    finished = set(_stored(tmp_path))
    inodes = {name: (tmp_path / f"segments/{name}.parquet").stat().st_ino for name in finished}
    assert 3 <= len(finished) < _RECORDINGS
    again = _start(corpus, tmp_path)
    _, output = again.communicate(timeout=120)
    assert again.returncode == 0, output
    made = _RECORDINGS - len(finished)
    assert f"{made} recordings made, {len(finished)} skipped, 0 rejected" in output
    assert _stored(tmp_path) == expected
    for name, inode in inodes.items():
        assert (tmp_path / f"segments/{name}.parquet").stat().st_ino == inode
    assert not list((tmp_path / "segments").glob(".*.partial"))


_TWO_NODES = """
corpus, run = sys.argv[1:]
cluster = head(num_cpus=1)
lost = cluster.add_node(num_cpus=2, **SMALL)
connect(cluster)
segments = Path(run) / "segments"

def two_at_work():
    # The head has one CPU, so one of two recordings is on the node that will be lost.
    return len(list(segments.glob(".[0-9].parquet.*partial"))) >= 2

with ThreadPoolExecutor() as pool:
    stage = pool.submit(
        preprocess,
        Location.parse(corpus),
        Run.at(run),
        Config(),
        overwrite=False,
        console=Console(),
    )
    wait_for(two_at_work, "two recordings were at work", stage)
    cluster.remove_node(lost, allow_graceful=False)
    tell("node lost with", len(list(segments.glob("[0-9].parquet"))), "done")
    summary = stage.result()
tell("recordings", summary["recordings"], "rejected", summary["rejected"])
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.cluster
def test_a_lost_node_costs_nothing(
    corpus: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    output = simulate(_TWO_NODES, corpus, tmp_path)
    done = re.search(r"node lost with (\d+) done", output)
    assert done is not None, output
    assert int(done[1]) < _RECORDINGS - 1
    assert f"recordings {_RECORDINGS} rejected 0" in output
    assert _stored(tmp_path) == expected


# Five hours at a rate that is soon worked through: three parts, and work for two CPUs.
_LONG_SECONDS, _LONG_SR = 5 * 3600, 1000
_LONG = [
    f"preprocess.sr={_LONG_SR}",
    "mel.n_fft=64",
    "mel.hop_length=16",
    "mel.n_mels=8",
    "augment.probability=0",
]


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings of a minute, and a long one."""
    folder = tmp_path_factory.mktemp("long")
    seconds = {"0": _SECONDS, "3": _SECONDS, "long": _LONG_SECONDS}
    write_noise_corpus(folder, seconds, sr=_LONG_SR, devel="3")
    return folder


@pytest.fixture(scope="module")
def expected_long(long_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process makes of it, uncut."""
    config = Config.resolve(Config(), assignments=_LONG)
    return _made_alone(long_corpus, tmp_path_factory.mktemp("expected_long"), config)


def _parts(run: Path) -> list[Path]:
    return sorted((run / "segments/parts/long").glob("[0-9]*.parquet"))


def test_a_worker_killed_in_a_part_costs_nothing(
    ray_local: None,
    long_corpus: Path,
    expected_long: dict[str, bytes],
    console: Any,
    tmp_path: Path,
) -> None:
    with _killing(tmp_path, r"parts/long/\.\d+-\w+", most=1) as killed:
        _preprocess(long_corpus, tmp_path, console, *_LONG)
    assert killed
    assert "3 recordings made, 0 skipped, 0 rejected" in "\n".join(console.lines)
    assert _stored(tmp_path) == expected_long
    assert not (tmp_path / "segments/parts").exists()


@pytest.mark.cluster
def test_after_a_killed_driver_the_parts_that_stand_are_kept(
    long_corpus: Path, expected_long: dict[str, bytes], tmp_path: Path
) -> None:
    driver = _start(long_corpus, tmp_path, *_LONG)
    wait_for(lambda: _parts(tmp_path), "a part")
    kill_with_descendants(driver)
    kept = len(_parts(tmp_path))
    assert 1 <= kept < 3
    assert "long" not in _stored(tmp_path)
    again = _start(long_corpus, tmp_path, *_LONG)
    _, output = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert "1 recordings made, 2 skipped, 0 rejected" in output
    hours = re.search(r"([\d.]+) h of audio in", output)
    assert hours is not None
    # Two parts of 1.67 h and 1.67 h, or one of them, were there.
    assert float(hours[1]) == pytest.approx(5 - kept * 5 / 3, abs=0.02)
    assert _stored(tmp_path) == expected_long
    assert not (tmp_path / "segments/parts").exists()
