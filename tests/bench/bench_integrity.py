"""What checking costs: preprocessing and its second call, beside another checkout of the product.

    python tests/bench/bench_integrity.py CORPUS --against /path/to/checkout [--rounds 5]

Both sides work on the same corpus in turn, so that other work on the machine falls on both. It
prints the medians of wall time and of CPU time of all processes, and the ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_HERE = Path(__file__).resolve().parents[2]
# Runs inside each checkout: the work of preprocessing without Ray, whose start varies more than
# the whole of what is measured.
_WORK = """
import sys, time
from valence.config import Config
try:
    from valence.corpus.muse import read_corpus
    from valence.corpus.splits import assign_splits
    from valence.segments.preprocessing import Job, process_recording
    from valence.segments.store import SegmentStore
    from valence.storage.location import Location
except ImportError:
    # A checkout of before the modules had folders.
    from valence.corpus import read_corpus
    from valence.preprocessing import Job, process_recording
    from valence.segments import SegmentStore
    from valence.splits import assign_splits
    from valence.storage import Location

corpus, out = (Location.parse(text) for text in sys.argv[1:])
config, store = Config(), SegmentStore(out)
found = read_corpus(corpus)
splits = assign_splits(found, config.split)
jobs = [Job(r, splits[r.id], int(splits[r.id] == "train")) for r in found.recordings]
wall, cpu = time.perf_counter(), time.process_time()
for job in jobs:
    process_recording(job, store, config)
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def _measure(checkout: Path, command: list[str]) -> tuple[float, float, str]:
    """Wall and CPU seconds of a command and its children in a checkout, and what it printed."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        check=True,
        capture_output=True,
        text=True,
    )
    after = os.times()
    cpu = after.children_user + after.children_system
    return (
        time.perf_counter() - began,
        cpu - before.children_user - before.children_system,
        done.stdout,
    )


def main() -> None:
    """Measure both sides and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--against", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    corpus = str(given.corpus.resolve())
    sides = {"this": _HERE, "other": given.against.resolve()}
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        stages = {side: f"{folder}/{side}" for side in sides}
        again = ["-m", "pipelines", "preprocess", corpus, "--out"]
        for side, checkout in sides.items():
            _measure(checkout, [*again, stages[side]])
        for number in range(given.rounds):
            # The order turns, so that neither side is always first.
            for side in sorted(sides, reverse=bool(number % 2)):
                out = f"{folder}/work-{side}-{number}"
                _, _, said = _measure(sides[side], ["-c", _WORK, corpus, out])
                wall, cpu = map(float, said.split())
                found.setdefault(("work", side), []).append((wall, cpu))
                taken = _measure(sides[side], [*again, stages[side]])[:2]
                found.setdefault(("nothing to do", side), []).append(taken)
    for what in ("work", "nothing to do"):
        for kind, name in enumerate(("wall", "CPU")):
            this, other = (
                statistics.median(each[kind] for each in found[what, side])
                for side in ("this", "other")
            )
            print(f"{what}, {name}: {this:.3f} s here, {other:.3f} s there, {this / other:.3f}")


if __name__ == "__main__":
    main()
