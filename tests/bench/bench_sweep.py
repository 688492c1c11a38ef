"""The sweep against GridSearchCV on the same features: wall time, CPU-seconds, and the scores.

    python tests/bench/bench_sweep.py          synthetic features, 2,000 and 8,000 rows
    python tests/bench/bench_sweep.py --run RUN        features of a run, cut to the same rows
    python tests/bench/bench_sweep.py --rows 2000 1000 --contenders grid sweep sweep-sklearnex

Every contender is a process of its own, timed from its start to its end with imports, Ray's start
and its end, the refit of the best pipeline and the intervals included. The baseline of functionals
is left out: it is made of segments, and here there are features alone. GridSearchCV works on all
cores with a predefined split, no refit and a pipeline cache. CPU-seconds are those of the process
and all its descendants, read from /proc ten times a second: Ray's raylet does not wait for its
workers, so no parent is told what they used. What a process does after it was last seen is lost;
`unseen` says how much that can be at most, and counts against the sweep in the verdict.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_ROOT = Path(__file__).resolve().parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")
_CONTENDERS = ("grid", "sweep", "sweep-sklearnex")
_COLUMNS = 512
_COMBINATIONS = 60
_SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Measured:
    """What a contender took in seconds, and the validation CCC of each combination."""

    wall: float
    cpu: float
    unseen: float
    scores: dict[str, float]

    def off(self, reference: Measured, *, xgboost: bool) -> float:
        """Largest difference of a score, among XGBoost's combinations or all others."""
        return max(
            abs(score - reference.scores[name])
            for name, score in self.scores.items()
            if name.endswith("-xgboost") == xgboost
        )


def synthetic(rows: tuple[int, int], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Features that saturate and repeat themselves over time as those of an LSTM do.

    Labels are as noisy as people's are: an SVR keeps most rows, and one combination takes many
    times as long as its neighbours.
    """
    generator = np.random.default_rng(seed)
    n = sum(rows)
    walk = np.cumsum(generator.standard_normal((n, 4)), axis=0)
    latent = (walk - walk.mean(axis=0)) / walk.std(axis=0)
    mixing = 0.3 * generator.standard_normal((4, _COLUMNS))
    x = np.tanh(latent @ mixing + 0.2 * generator.standard_normal((n, _COLUMNS)))
    y = 0.5 * np.tanh(latent[:, 0] + 0.5 * latent[:, 1]) + 0.3 * generator.standard_normal(n)
    return {"x": x.astype(np.float32), "y": y.astype(np.float32), "train": np.arange(n) < rows[0]}


def of_run(folder: str, rows: tuple[int, int]) -> dict[str, np.ndarray]:
    """Rows of a run's own features, evenly thinned to so many."""
    from valence.run import Run
    from valence.sweep.features import concatenate, read_features
    from valence.sweep.fitting import thin

    features = read_features(Run.at(folder).folder("features"))
    parts = [features.of(split) for split in ("train", "validation")]
    chosen = [part.rows(thin(len(part), most)) for part, most in zip(parts, rows, strict=True)]
    both = concatenate(chosen)
    return {"x": both.feature, "y": both.target[:, 0], "train": both.split == "train"}


def contend_grid(data: dict[str, np.ndarray]) -> dict[str, float]:
    """GridSearchCV over the sixty plain pipelines."""
    from sklearn.metrics import make_scorer
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.pipeline import Pipeline

    from valence.config import SweepConfig
    from valence.metrics import concordance
    from valence.sweep.grid import combinations, plain_pipeline

    config = SweepConfig()
    grid = combinations(config)
    candidates = [
        {name: [step] for name, step in plain_pipeline(each, config).steps} for each in grid
    ]
    with tempfile.TemporaryDirectory() as cache:
        search = GridSearchCV(
            Pipeline([(name, "passthrough") for name in candidates[0]], memory=cache),
            candidates,
            scoring=make_scorer(concordance),
            cv=PredefinedSplit(np.where(data["train"], -1, 0)),
            n_jobs=-1,
            refit=False,
        ).fit(data["x"].astype(np.float64), data["y"].astype(np.float64))
    scores = search.cv_results_["mean_test_score"]
    return {str(each): float(score) for each, score in zip(grid, scores, strict=True)}


def contend_sweep(data: dict[str, np.ndarray], *, engine: str) -> dict[str, float]:
    """The product's own stage, from features on disk to the best pipeline on disk."""
    import pandas as pd

    from pipelines.runtime.console import Console
    from pipelines.runtime.session import ray_session
    from valence.config import Config
    from valence.run import Run

    config = Config.resolve(Config(), assignments=[f"sweep.engine={engine}"])
    with tempfile.TemporaryDirectory() as folder:
        run = Run.at(folder)
        _write_run(run, data)
        with ray_session():
            from pipelines.sweep.stage import sweep

            sweep(run, config, overwrite=False, console=Console())
        table = pd.read_csv(Path(folder) / "sweep" / "results.csv")
    names = table["scaler"] + "-" + table["reducer"] + "-" + table["regressor"]
    return dict(zip(names, table["ccc_validation"], strict=True))


def _write_run(run: Any, data: dict[str, np.ndarray]) -> None:
    from valence.sweep.features import Features, write_features

    stage = run.stage("features")
    stage.begin({"model": "none"})
    for name, rows in (("train", data["train"]), ("validation", ~data["train"])):
        n = int(rows.sum())
        y = data["y"][rows][:, None]
        # Eight, so that there are intervals.
        subject = np.array([f"{name}{k}" for k in np.arange(n) * 8 // n])
        write_features(
            run.folder("features") / f"{name}.parquet",
            Features(
                recording=subject,
                subject=subject,
                split=np.array([name] * n),
                start=np.arange(n, dtype=np.int32),
                target=y,
                feature=data["x"][rows],
                prediction=y,
                targets=("valence",),
            ),
        )
    stage.finish({"digest": "benchmark", "seconds": 0.0})


def measure(contender: str, data: Path, threads: str) -> Measured:
    """Run a contender in a process of its own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        command = [sys.executable, __file__, "--contend", contender, str(data), result.name]
        # One thread a process, as Ray and joblib set it too: cores are shared by processes.
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(_ROOT)}
        started = time.perf_counter()
        child = subprocess.Popen(command, cwd=_ROOT, env=environment, stderr=subprocess.DEVNULL)
        used: dict[tuple[int, str], float] = {}
        family = {child.pid}
        while child.poll() is None:
            _sample(family, used)
            time.sleep(_SAMPLE_SECONDS)
        wall = time.perf_counter() - started
        if child.returncode:
            raise SystemExit(f"{contender} ended with status {child.returncode}")
        scores = json.loads(Path(result.name).read_text())
        broken = [name for name, score in scores.items() if not math.isfinite(score)]
        if broken or len(scores) != _COMBINATIONS:
            # What was not done cost nothing.
            raise SystemExit(f"{contender} has {len(scores)} scores, without {broken or 'others'}")
        return Measured(wall, sum(used.values()), _SAMPLE_SECONDS * len(used), scores)


def _sample(family: set[int], used: dict[tuple[int, str], float]) -> None:
    """Note the CPU-seconds so far of every descendant; those that have ended keep theirs."""
    stats = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            stats[int(entry.name)] = fields
    grown = True
    while grown:
        found = {pid for pid, fields in stats.items() if int(fields[1]) in family}
        grown = not found <= family
        family |= found
    for pid in family & stats.keys():
        fields = stats[pid]
        used[pid, fields[19]] = (int(fields[11]) + int(fields[12])) / _TICKS


def main() -> None:
    """Measure what was asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs=2, type=int, action="append", metavar=("TRAIN", "VALID"))
    parser.add_argument("--run", help="take the features of this run")
    parser.add_argument("--contenders", nargs="+", choices=_CONTENDERS, default=_CONTENDERS)
    parser.add_argument("--contend", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contend:
        contender, data_file, result = options.contend
        with np.load(data_file) as archive:
            data = dict(archive)
        if contender == "grid":
            scores = contend_grid(data)
        else:
            engine = "sklearnex" if contender.endswith("sklearnex") else "sklearn"
            scores = contend_sweep(data, engine=engine)
        Path(result).write_text(json.dumps(scores))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at start")
    for rows in options.rows or [(2000, 1000), (8000, 3000)]:
        data = of_run(options.run, rows) if options.run else synthetic(tuple(rows))
        n = int(data["train"].sum())
        print(f"\n{n} training and {len(data['train']) - n} validation rows")
        print(f"{'':18}{'wall s':>8}{'CPU s':>8}{'unseen':>8}{'of the first':>16}", end="")
        print(f"{'difference':>13}{'of XGBoost':>13}")
        found: dict[str, Measured] = {}
        with tempfile.NamedTemporaryFile(suffix=".npz") as file:
            np.savez(file, **data)
            file.flush()
            for contender in options.contenders:
                found[contender] = one = measure(contender, Path(file.name), "1")
                first = found[options.contenders[0]]
                share = f"{one.wall / first.wall:.2f} / {one.cpu / first.cpu:.2f}"
                print(f"{contender:18}{one.wall:8.1f}{one.cpu:8.1f}{one.unseen:8.1f}", end="")
                print(f"{share:>16}{one.off(first, xgboost=False):13.1e}", end="")
                print(f"{one.off(first, xgboost=True):13.1e}", flush=True)
        if "grid" in found:
            _judge(found, few=n <= 2000)


def _judge(found: dict[str, Measured], *, few: bool) -> None:
    """Say of each target whether it is met."""
    grid = found["grid"]
    for name, one in found.items():
        plain = name == "sweep"
        targets = {
            "scores within 1e-9": plain and one.off(grid, xgboost=False) <= 1e-9,
            "scores of XGBoost within 1e-6": one.off(grid, xgboost=True) <= 1e-6,
            "at most half of the CPU-seconds": plain and one.cpu + one.unseen <= grid.cpu / 2,
            "at most a quarter of the wall time": one.wall <= grid.wall / 4,
            "no slower": one.wall <= grid.wall,
        }
        applies = {
            "scores within 1e-9": plain,
            "at most half of the CPU-seconds": plain,
            "at most a quarter of the wall time": name == "sweep-sklearnex" and not few,
            "no slower": few,
        }
        for target, met in targets.items():
            if name != "grid" and applies.get(target, True):
                print(f"{name}: {target}: {'yes' if met else 'NO'}")


if __name__ == "__main__":
    main()
