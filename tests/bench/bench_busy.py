"""What Ray's workers do beside other work: sequences per second of a training, by niceness.

    python tests/bench/bench_busy.py [NICENESS ...]

A training on a small synthetic corpus with nothing beside it, then with one and with two processes
that keep a core busy, for workers at niceness 15, which is Ray's default, and 0, which is this
program's. The machine should have nothing else to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from valence.storage import Location
from valence.synthesis import write_corpus

_BUSY = (0, 1, 2)
_NICENESS = (15, 0)
_SETTINGS = ("train.epochs=3", "train.patience=3", "sequence.stride=5")


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
    settings = [part for setting in _SETTINGS for part in ("--set", setting)]
    with busy(processes):
        valence("train", str(run), "--overwrite", *settings, niceness=niceness)
    state = json.loads((run / "train" / "state.json").read_text())
    return float(state["progress"]["sequences_per_second"])


def main() -> None:
    niceness = [int(each) for each in sys.argv[1:]] or _NICENESS
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        write_corpus(Location.parse(Path(folder) / "corpus"), subjects=6, seconds=100.0, seed=1)
        valence("preprocess", str(Path(folder) / "corpus"), "--out", str(run), niceness=0)
        print("niceness  " + "  ".join(f"{processes} busy" for processes in _BUSY))
        for each in niceness:
            rates = [measure(run, niceness=each, processes=processes) for processes in _BUSY]
            print(f"{each:8}  " + "  ".join(f"{rate:6.1f}" for rate in rates), flush=True)


if __name__ == "__main__":
    main()
