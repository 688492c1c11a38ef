"""How fast ONNX Runtime hears and predicts, beside `Predictor`, in one run.

    python tests/bench/bench_onnx.py RUN [AUDIO] [--cores 2] [--minutes 10] [--times 5]

`RUN` is a run or a model folder. `AUDIO` is a recording to repeat up to `--minutes`; by default
synthetic speech. Both get the same float32 samples at the model's rate, in memory, and as many
threads as there are cores. They take turns, and the least time of each counts: on a busy machine it
is the one that the other processes disturbed least. CPU time is that of all threads.

Printed are the size of the file, the time to export and to open it, the times real time of both,
and the largest difference between their values.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from valence.audio.decoding import read_audio
from valence.corpus.synthetic import write_corpus
from valence.model.onnx.export import export_onnx
from valence.prediction.predictor import Predictor
from valence.storage.location import Location


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("audio", nargs="?")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[: arguments.cores]
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
    print(
        f"{len(cores)} cores, load {os.getloadavg()[0]:.1f}, "
        f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    )
    predictor = Predictor.load(arguments.run, device="cpu")
    sr = predictor.config.preprocess.sr
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        y = _sound(arguments.audio, folder, sr=sr, seconds=60 * arguments.minutes)
        session = _opened(predictor, folder / "model.onnx", threads=len(cores))
    given = {"audio": y[None]}
    _compare(
        {
            "Predictor": lambda: predictor(y, sr=sr).values,
            "ONNX": lambda: session.run(["timeline"], given)[0][0],
        },
        seconds=len(y) / sr,
        times=arguments.times,
    )


def _sound(audio: str | None, folder: Path, *, sr: int, seconds: float) -> np.ndarray:
    """Samples of so many seconds, float32."""
    if audio is None:
        write_corpus(Location.parse(folder / "corpus"), subjects=3, seconds=60.0)
        audio = str(min((folder / "corpus" / "raw_data" / "audio").iterdir()))
    y = read_audio(Location.parse(audio), sr=sr)
    n = round(seconds * sr)
    return np.tile(y, -(-n // len(y)))[:n]


def _opened(predictor: Predictor, file: Path, *, threads: int) -> onnxruntime.InferenceSession:
    began = time.monotonic()
    export_onnx(Location.parse(file), predictor.model, predictor.description, takes="samples")
    exported = time.monotonic()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options)
    print(
        f"model.onnx: {file.stat().st_size / 1e6:.2f} MB, exported in {exported - began:.2f} s, "
        f"opened in {time.monotonic() - exported:.2f} s"
    )
    return session


def _compare(ways: dict[str, Callable[[], np.ndarray]], *, seconds: float, times: int) -> None:
    """Let the ways take turns, after one turn to warm up, and print their times."""
    values = {name: way() for name, way in ways.items()}
    wall = dict.fromkeys(ways, np.inf)
    cpu = dict.fromkeys(ways, np.inf)
    for _ in range(times):
        for name, way in ways.items():
            began, used = time.monotonic(), time.process_time()
            way()
            wall[name] = min(wall[name], time.monotonic() - began)
            cpu[name] = min(cpu[name], time.process_time() - used)
    for name in ways:
        print(
            f"{name}: {seconds:g} s in {wall[name]:.2f} s ({seconds / wall[name]:.0f} times real "
            f"time), {cpu[name]:.2f} s of CPU"
        )
    first, second = values.values()
    print(f"largest difference: {np.abs(first - second).max():.1e}")


if __name__ == "__main__":
    main()
