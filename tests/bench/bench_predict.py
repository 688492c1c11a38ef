"""How fast recordings are predicted: from a cold start, steadily, and through Ray's actor pool.

    python tests/bench/bench_predict.py RUN [--cores 2] [--minutes 60] [--ray]

`RUN` is a run or a model folder. The sound is synthetic speech in files of five minutes. All times
are wall times of this process and its children, which get `--cores` cores.

- cold: `valence predict` on one file, a new process each time, until its files are written; the
  least of three.
- steady: all files by a `Predictor` that is loaded, in one thread, as the command works.
- Ray: one short file (the start), then all files. From how much sound on Ray is faster follows from
  the two: it is what `RAY_SECONDS` in `pipelines/predict.py` is set by, rounded up.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import soundfile
import torch

from pipelines import predict as stage
from pipelines.runtime.console import Console
from valence.corpus.synthetic import write_corpus
from valence.prediction.files import predict_task
from valence.prediction.inputs import find_audio, make_tasks
from valence.prediction.predictor import Predictor
from valence.storage.location import Location

_FILE_SECONDS = 300.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[: arguments.cores]
    os.sched_setaffinity(0, cores)
    print(f"{len(cores)} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = _make(folder, round(60 * arguments.minutes / _FILE_SECONDS))
        cold = min(_cold(arguments.run, files[0], folder / f"cold{n}") for n in range(3))
        print(f"cold: a file of {_FILE_SECONDS:g} s in {cold:.1f} s")
        here = _steady(arguments.run, files, Location.parse(folder / "steady"))
        print(f"steady: {here:.0f} times real time")
        if arguments.ray:
            start, there = _on_ray(arguments.run, files, folder)
            print(f"Ray: {start:.1f} s to start, then {there:.0f} times real time")
            if there > here:
                even = start / (1 / here - 1 / there)
                print(f"Ray is faster from {even / 3600:.1f} h of sound on")


def _make(folder: Path, n: int) -> list[str]:
    """`n` files, a link each to one of two voices."""
    write_corpus(Location.parse(folder / "corpus"), subjects=3, seconds=_FILE_SECONDS)
    voices = sorted((folder / "corpus" / "raw_data" / "audio").iterdir())[:2]
    (folder / "audio").mkdir()
    files = []
    for place in range(n):
        voice = voices[place % 2]
        file = folder / "audio" / f"{place:04d}{voice.suffix}"
        file.symlink_to(voice)
        files.append(str(file))
    return files


def _cold(run: str, file: str, out: Path) -> float:
    command = [sys.executable, "-m", "pipelines", "predict", file, "--model", run, "--out", out]
    began = time.monotonic()
    subprocess.run(list(map(str, command)), check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def _steady(run: str, files: Sequence[str], out: Location) -> float:
    torch.set_num_threads(1)
    predictor = Predictor.load(run)
    tasks = make_tasks(find_audio(files))
    predict_task(predictor, tasks[0], out / "first")
    began = time.monotonic()
    sound = sum(predict_task(predictor, task, out).sound_seconds for task in tasks)
    return sound / (time.monotonic() - began)


def _on_ray(run: str, files: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds of the start, and times real time after it."""
    short = folder / "short.wav"
    y, sr = soundfile.read(files[0], frames=40_000)
    soundfile.write(short, y, sr)
    os.environ.pop("RAY_ADDRESS", None)
    stage.RAY_SECONDS = 0.0
    seconds = []
    for place, some in enumerate(([short, short.with_name("again.wav")], files)):
        if not place:
            some[1].symlink_to(short)
        began = time.monotonic()
        stage.predict(
            list(map(str, some)),
            Location.parse(run),
            Location.parse(folder / f"ray{place}"),
            console=Console(),
        )
        seconds.append(time.monotonic() - began)
    start, whole = seconds
    return start, len(files) * _FILE_SECONDS / (whole - start)


if __name__ == "__main__":
    main()
