"""Peak memory of preprocessing: 30 minutes of audio against 3 hours, in many files and in one.

    python tests/bench/bench_preprocess_memory.py

For each corpus a fresh local Ray; printed are the largest peak resident size of a worker, the
driver's, and the most that the object store held at any time.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import soundfile

SR = 16_000


def write_corpus(folder: Path, recordings: int, minutes: float) -> None:
    """Noise in the MuSe layout; the first recording is for validation."""
    for name in ("raw_data/audio", "label_segments/valence", "metadata"):
        (folder / name).mkdir(parents=True)
    minute = np.random.default_rng(0).normal(0, 0.1, 60 * SR).astype(np.float32)
    rows = ["Id,Proposal"]
    labels = "".join(f"{500 * i},0.{i % 10}\n" for i in range(int(120 * minutes)))
    for number in range(recordings + 1):
        with soundfile.SoundFile(folder / f"raw_data/audio/{number}.wav", "w", SR, 1) as sound:
            for _ in range(int(minutes) if number else 1):
                sound.write(minute)
        (folder / f"label_segments/valence/{number}.csv").write_text(f"timestamp,value\n{labels}")
        rows.append(f"{number},{'train' if number else 'devel'}")
    (folder / "metadata/partition.csv").write_text("\n".join(rows) + "\n")


def _peak_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def _workers_peaks() -> list[float]:
    """Peaks of the Ray workers below this process; those of other sessions are not ours."""
    parents, workers = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            pid = int(folder.name)
            parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_bytes().startswith((b"ray::MapBatches", b"ray::IDLE")):
                workers.append((pid, _peak_mib(pid)))
        except (OSError, ProcessLookupError):
            continue

    def is_ours(pid: int) -> bool:
        while pid > 1 and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return [peak for pid, peak in workers if is_ours(pid)]


def measure(corpus: Path, run: Path) -> None:
    """Preprocess in this process's own Ray and print the peaks in MiB."""
    import ray
    from rich.console import Console as RichConsole

    from pipelines.preprocess.stage import preprocess
    from pipelines.runtime.console import Console
    from valence.config import Config
    from valence.run import Run
    from valence.storage.location import Location

    ray.init(
        "local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False
    )
    total = ray.cluster_resources()["object_store_memory"]
    held, peaks, stop = [0.0], [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            held.append(total - ray.available_resources().get("object_store_memory", total))
            peaks.extend(_workers_peaks())

    watcher = threading.Thread(target=watch)
    watcher.start()
    quiet = Console(RichConsole(file=io.StringIO(), force_terminal=True))
    config = Config.resolve(Config(), assignments=["preprocess.max_rejected_share=1"])
    preprocess(Location.parse(corpus), Run.at(str(run)), config, overwrite=False, console=quiet)
    stop.set()
    watcher.join()
    print(f"{max(peaks):.0f} {_peak_mib(os.getpid()):.0f} {max(held) / 2**20:.2f}")
    ray.shutdown()


def main() -> None:
    if len(sys.argv) == 3:
        measure(Path(sys.argv[1]), Path(sys.argv[2]))
        return
    print(f"{'MiB at the peak':<22}{'worker':>8}{'driver':>8}{'object store':>14}")
    for recordings, minutes in ((6, 5), (36, 5), (1, 30), (1, 180)):
        with tempfile.TemporaryDirectory() as name:
            write_corpus(Path(name) / "corpus", recordings, minutes)
            ran = subprocess.run(
                [sys.executable, __file__, f"{name}/corpus", f"{name}/run"],
                capture_output=True,
                text=True,
                check=True,
            )
            worker, driver, store = ran.stdout.split()
            size = f"{recordings} x {minutes} min"
            print(f"{size:<22}{worker:>8}{driver:>8}{store:>14}", flush=True)


if __name__ == "__main__":
    main()
