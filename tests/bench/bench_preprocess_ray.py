# ruff: noqa: E402  (the environment is read when Ray and NumPy are imported)
"""The stage through Ray on the whole machine, against the same functions in plain processes.

    python tests/bench/bench_preprocess_ray.py [--recordings 48] [--copies 1] [--repeats 3]

Both sides read the same corpus and write a store of their own; imports and the first call of every
worker lie outside the timings, and the sides take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
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
from valence.corpus.splits import assign_splits
from valence.run import Run
from valence.segments.preprocessing import Job, process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location

SR, SECONDS = 16_000, 300


def write_corpus(folder: Path, recordings: int) -> None:
    """Five-minute recordings in the MuSe layout, all with the same sound."""
    for name in ("raw_data/audio", "label_segments/valence", "metadata"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    t = np.arange(SECONDS * SR) / SR
    phase = 2 * np.pi * np.cumsum(140 + 40 * np.sin(0.8 * t)) / SR
    y = sum(np.sin(k * phase) / k for k in range(1, 15)) * (0.1 + np.abs(np.sin(2 * t)))
    y = 0.1 * y + 0.002 * rng.standard_normal(len(t))
    first = folder / "raw_data/audio/000.wav"
    soundfile.write(first, y, SR)
    labels = "".join(f"{500 * i},0.{i % 10}\n" for i in range(2 * SECONDS))
    rows = ["Id,Proposal"]
    for number in range(recordings):
        name = f"{number:03d}"
        if number:
            os.link(first, first.with_stem(name))
        (folder / f"label_segments/valence/{name}.csv").write_text(f"timestamp,value\n{labels}")
        rows.append(f"{name},{'devel' if number == 0 else 'train'}")
    (folder / "metadata/partition.csv").write_text("\n".join(rows) + "\n")


def _one(job: Job, store: SegmentStore, config: Config) -> str:
    return process_recording(job, store, config).status


def in_plain_processes(
    pool: ProcessPoolExecutor, corpus: Location, run: Path, config: Config
) -> float:
    """Seconds that a pool of processes takes for the corpus."""
    store = SegmentStore(Location.parse(run / "segments"))
    began = time.monotonic()
    found = read_corpus(corpus)
    splits = assign_splits(found, config.split)
    jobs = [
        Job(
            recording,
            splits[recording.id],
            config.augment.copies if splits[recording.id] == "train" else 0,
        )
        for recording in found.recordings
    ]
    done = [pool.submit(_one, job, store, config) for job in jobs]
    assert all(each.result() == "ok" for each in done)
    return time.monotonic() - began


def through_ray(corpus: Location, run: Path, config: Config) -> float:
    """Seconds that the stage takes for the corpus, its bookkeeping included."""
    from pipelines.preprocess.stage import preprocess

    quiet = Console(RichConsole(file=io.StringIO(), force_terminal=True))
    began = time.monotonic()
    summary = preprocess(corpus, Run.at(str(run)), config, overwrite=False, console=quiet)
    assert summary["rejected"] == summary["skipped"] == 0
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recordings", type=int, default=48)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    config = Config.resolve(Config(), assignments=[f"augment.copies={arguments.copies}"])
    import ray

    cpus = len(os.sched_getaffinity(0))
    ray.init(
        "local", num_cpus=cpus, include_dashboard=False, logging_level="ERROR", log_to_driver=False
    )
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(cpus, mp_context=get_context("spawn")) as pool,
    ):
        folder = Path(name)
        write_corpus(folder / "corpus", arguments.recordings)
        write_corpus(folder / "warm", 4 * cpus)
        corpus, warm = Location.parse(folder / "corpus"), Location.parse(folder / "warm")
        in_plain_processes(pool, warm, folder / "a", config)
        through_ray(warm, folder / "b", config)
        hours = arguments.recordings * SECONDS / 3600
        shares = []
        for _ in range(arguments.repeats):
            for side in ("plain", "ray"):
                shutil.rmtree(folder / side, ignore_errors=True)
            plain = in_plain_processes(pool, corpus, folder / "plain", config)
            own = through_ray(corpus, folder / "ray", config)
            shares.append(plain / own)
            print(
                f"{arguments.recordings} recordings of 5 min on {cpus} CPUs: plain processes "
                f"{3600 * hours / plain:.0f}, through Ray {3600 * hours / own:.0f} audio-hours per "
                f"hour ({plain:.1f} s and {own:.1f} s), share {plain / own:.1%}",
                flush=True,
            )
        print(f"share of plain processes: median {statistics.median(shares):.1%}")
    ray.shutdown()


if __name__ == "__main__":
    main()
