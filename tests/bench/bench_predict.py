"""How fast recordings are predicted: CPU-seconds in this process, and wall time on Ray.

    python tests/bench/bench_predict.py RUN AUDIO... [--ray]

`RUN` is a run or a model folder. The first line leaves start-up out; `--ray` adds the wall time of
the same files through the actor pool, its start included, which is what `RAY_SECONDS` in
`pipelines/predict.py` weighs against the first.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import torch

from pipelines import predict as stage
from pipelines.progress import Report
from valence.prediction import Predictor
from valence.storage import Location
from valence.timelines import find_audio, make_tasks, predict_task


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("audio", nargs="+")
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    predictor = Predictor.load(arguments.run)
    tasks = make_tasks(find_audio(arguments.audio))
    with tempfile.TemporaryDirectory() as folder:
        out = Location.parse(folder)
        predict_task(predictor, tasks[0], out / "first")
        began, cpu = time.monotonic(), time.process_time()
        sound = sum(predict_task(predictor, task, out / "here").sound_seconds for task in tasks)
        wall, cpu = time.monotonic() - began, time.process_time() - cpu
        print(f"here: {sound:g} s of sound in {wall:.1f} s, {cpu:.1f} CPU-s: {sound / cpu:.0f}x")
        if arguments.ray:
            stage.RAY_SECONDS = 0.0
            began = time.monotonic()
            model = Location.parse(arguments.run)
            stage.predict(arguments.audio, model, out / "ray", report=Report())
            print(f"Ray: {sound:g} s of sound in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
