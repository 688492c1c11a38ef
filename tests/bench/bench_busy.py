"""What Ray's workers do beside other work: sequences per second of a training, by niceness.

    python tests/bench/bench_busy.py [NICENESS ...]

A small model is trained on a small synthetic corpus with nothing beside it, then with one and
with two processes that keep a core busy, for workers at niceness 15, which is Ray's default, and
0, which is the default here. The machine should have nothing else to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from valence.corpus.synthetic import write_corpus
from valence.storage.location import Location

_BUSY = (0, 1, 2)
_NICENESS = (15, 0)
_SETTINGS = (
    "train.epochs=2",
    "train.patience=2",
    "sequence.stride=5",
    "model.channels=[2,4,8]",
    "model.lstm_hidden=16",
)


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep a core busy with each of some processes."""
    started = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def valence(*arguments: str, niceness: int) -> None:
    environment = {**os.environ, "RAY_worker_niceness": str(niceness)}
    command = [sys.executable, "-m", "pipelines", *arguments]
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)


def measure(run: Path, *, niceness: int, processes: int) -> float:
    """Return the sequences per second of a training's last epoch."""
    for name in ("train", "model"):
        # What is done would not be done again.
        shutil.rmtree(run / name, ignore_errors=True)
    settings = [part for setting in _SETTINGS for part in ("--set", setting)]
    with busy(processes):
        valence("train", str(run), *settings, niceness=niceness)
    state = json.loads((run / "train" / "state.json").read_text())
    return float(state["progress"]["sequences_per_second"])


def main() -> None:
    niceness = [int(each) for each in sys.argv[1:]] or _NICENESS
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        write_corpus(Location.parse(Path(folder) / "corpus"), subjects=6, seconds=60.0, seed=1)
        valence("preprocess", str(Path(folder) / "corpus"), "--out", str(run), niceness=0)
        print("niceness  " + "  ".join(f"{processes} busy" for processes in _BUSY))
        for each in niceness:
            print(f"{each:8}", end="", flush=True)
            for processes in _BUSY:
                # Each as it comes: beside other work, workers of niceness 15 take very long.
                rate = measure(run, niceness=each, processes=processes)
                print(f"  {rate:6.1f}", end="", flush=True)
            print()


if __name__ == "__main__":
    main()
