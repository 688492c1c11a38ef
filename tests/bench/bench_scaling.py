# ruff: noqa: E402  (the environment is read when Ray and NumPy are imported)
"""What preprocessing costs beside the work itself, as nodes and recordings grow in number.

    python tests/bench/bench_scaling.py                      1, 2, 4 and 8 simulated nodes
    python tests/bench/bench_scaling.py --recordings 10000   one node, many tiny recordings

All nodes are processes of this machine with one logical CPU each, so that more of them bring no
speed here beyond its cores: what grows is what coordination costs. A recording is a second of
sound, whose own work in a plain process is measured first and taken off. Printed are the wall time,
the overhead a recording, the driver's peak memory, and what a call costs that finds all done.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import soundfile
from rich.console import Console as RichConsole

from pipelines.runtime.console import Console
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.run import Run
from valence.segments.preprocessing import Job, process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location

SR = 16_000
SETTINGS = ["sequence.length=1", "augment.copies=0"]


def write_corpus(folder: Path, recordings: int) -> None:
    """Recordings of a second, all with the same sound, labelled, of as many subjects."""
    for name in ("raw_data/audio", "label_segments/valence", "metadata"):
        (folder / name).mkdir(parents=True)
    first = folder / "raw_data/audio/00000.wav"
    soundfile.write(first, np.random.default_rng(0).normal(0, 0.1, SR), SR)
    rows = ["Id,Proposal"]
    for number in range(recordings):
        name = f"{number:05d}"
        if number:
            os.link(first, first.with_stem(name))
        (folder / f"label_segments/valence/{name}.csv").write_text("timestamp,value\n0,0\n500,1\n")
        rows.append(f"{name},{'devel' if number == 0 else 'train'}")
    (folder / "metadata/partition.csv").write_text("\n".join(rows) + "\n")


def own_work(corpus: Location, folder: Path, most: int = 100) -> float:
    """Seconds that a recording takes in this process."""
    config = Config.resolve(Config(), assignments=SETTINGS)
    store = SegmentStore(Location.parse(folder))
    jobs = [Job(each, "train", 0) for each in read_corpus(corpus).recordings[: most + 1]]
    process_recording(jobs[0], store, config)
    began = time.perf_counter()
    for job in jobs[1:]:
        process_recording(job, store, config)
    return (time.perf_counter() - began) / len(jobs[1:])


def measure(corpus: str, target: str, nodes: int) -> None:
    """Preprocess on so many nodes and print seconds, seconds of a second call, and MiB."""
    import ray
    from ray.cluster_utils import Cluster

    store = 80 * 2**20
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": store}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(nodes):
        cluster.add_node(num_cpus=1, object_store_memory=store)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    cluster.wait_for_nodes()
    from pipelines.preprocess.stage import preprocess

    # Every node's first worker starts before the clock does.
    warm = ray.remote(num_cpus=1)(_warm_up).options(scheduling_strategy="SPREAD")
    ray.get([warm.remote() for _ in range(nodes)])
    config = Config.resolve(Config(), assignments=SETTINGS)
    quiet = Console(RichConsole(file=io.StringIO(), force_terminal=True))
    seconds = []
    for _ in range(2):
        began = time.monotonic()
        preprocess(Location.parse(corpus), Run.at(target), config, overwrite=False, console=quiet)
        seconds.append(time.monotonic() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{seconds[0]:.3f} {seconds[1]:.3f} {peak:.0f}")
    ray.shutdown()
    cluster.shutdown()


def _warm_up() -> None:
    import valence.segments.preprocessing  # noqa: F401

    time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recordings", type=int, help="one node alone, with so many recordings")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--fixed", type=int, default=400, help="recordings of the fixed corpus")
    parser.add_argument(
        "--each", type=int, default=200, help="recordings a node of the growing one"
    )
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        corpus, target, nodes = given.measure
        measure(corpus, target, int(nodes))
        return
    cores = len(os.sched_getaffinity(0))
    cases = [("fixed", n, given.fixed) for n in given.nodes]
    cases += [("growing", n, given.each * n) for n in given.nodes]
    if given.recordings:
        cases = [("many", 1, given.recordings)]
    print(f"{cores} cores; recordings of 1 s")
    print(
        f"{'corpus':<9}{'nodes':>6}{'recordings':>12}{'wall s':>9}{'own work':>10}"
        f"{'overhead':>10}{'driver':>9}{'again s':>9}{'table':>9}"
    )
    for label, nodes, recordings in cases:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_corpus(folder / "corpus", recordings)
            own = own_work(Location.parse(folder / "corpus"), folder / "own")
            ran = subprocess.run(
                [
                    sys.executable,
                    __file__,
                    "--measure",
                    f"{name}/corpus",
                    f"{name}/run",
                    str(nodes),
                ],
                capture_output=True,
                text=True,
                check=True,
            )
            wall, again, peak = (float(part) for part in ran.stdout.split())
            # As many recordings at a time as there are nodes, or cores where those are fewer.
            overhead = wall * min(nodes, cores) / recordings - own
            table = (folder / "run/segments/recordings.parquet").stat().st_size
            print(
                f"{label:<9}{nodes:>6}{recordings:>12}{wall:>9.1f}{1000 * own:>8.1f} ms"
                f"{1000 * overhead:>7.1f} ms{peak:>5.0f} MiB{again:>9.1f}{table / 1024:>5.0f} KiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
