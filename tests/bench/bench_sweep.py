"""The sweep against GridSearchCV on the same features: wall time, CPU-seconds, and the scores.

    python tests/bench/bench_sweep.py          synthetic features, 2,000 and 8,000 rows
    python tests/bench/bench_sweep.py --run RUNfeatures of a run, cut to the same rows
    python tests/bench/bench_sweep.py --rows 2000 1000 --contenders grid sweep sweep-sklearnex

Every contender is a process of its own, timed from its start to its end with imports, Ray's start
and its end, the refit of the best pipeline and the bootstrap included. GridSearchCV works on all
cores with a predefined split, no refit and a pipeline cache. CPU-seconds are those of the process
and all its descendants, sampled from /proc.
"""

from __future__ import annotations

import argparse
import json
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


@dataclass(frozen=True)
class Measured:
    """What a contender took, and the validation CCC of each combination."""

    wall: float
    cpu: float
    scores: dict[str, float]


def synthetic(rows: tuple[int, int], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Features that saturate and repeat themselves over time as those of an LSTM do."""
    generator = np.random.default_rng(seed)
    n = sum(rows)
    walk = np.cumsum(generator.standard_normal((n, 12)), axis=0)
    latent = (walk - walk.mean(axis=0)) / walk.std(axis=0)
    mixing = 0.5 * generator.standard_normal((12, _COLUMNS))
    x = np.tanh(latent @ mixing + 0.2 * generator.standard_normal((n, _COLUMNS)))
    y = 0.5 * np.tanh(latent[:, 0] + 0.5 * latent[:, 1]) + 0.1 * generator.standard_normal(n)
    return {"x": x.astype(np.float32), "y": y.astype(np.float32), "train": np.arange(n) < rows[0]}


def of_run(folder: str, rows: tuple[int, int]) -> dict[str, np.ndarray]:
    """Rows of a run's own features, evenly thinned to so many."""
    from valence.features import concatenate, read_features
    from valence.regression import thin
    from valence.run import Run

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

    from valence.combinations import combinations, plain_pipeline
    from valence.config import SweepConfig
    from valence.metrics import concordance

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

    from pipelines.progress import Report
    from pipelines.session import ray_session
    from valence.config import Config
    from valence.run import Run

    config = Config.resolve(Config(), assignments=[f"sweep.engine={engine}"])
    with tempfile.TemporaryDirectory() as folder:
        run = Run.at(folder)
        _write_run(run, data)
        with ray_session():
            from pipelines.sweep import sweep

            sweep(run, config, overwrite=False, report=Report())
        table = pd.read_csv(Path(folder) / "sweep" / "results.csv")
    names = table["scaler"] + "-" + table["reducer"] + "-" + table["regressor"]
    return dict(zip(names, table["ccc_validation"], strict=True))


def _write_run(run: Any, data: dict[str, np.ndarray]) -> None:
    from valence.features import Features, write_features

    stage = run.stage("features")
    stage.begin({"model": "none"})
    for name, rows in (("train", data["train"]), ("validation", ~data["train"])):
        n = int(rows.sum())
        y = data["y"][rows][:, None]
        write_features(
            run.folder("features") / f"{name}.parquet",
            Features(
                recording=np.array([name] * n),
                subject=np.array([name] * n),
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
            time.sleep(0.2)
        wall = time.perf_counter() - started
        if child.returncode:
            raise SystemExit(f"{contender} ended with status {child.returncode}")
        return Measured(wall, sum(used.values()), json.loads(Path(result.name).read_text()))


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
        print(f"{'':18}{'wall s':>9}{'CPU s':>9}{'of grid':>16}{'largest difference':>22}")
        with tempfile.NamedTemporaryFile(suffix=".npz") as file:
            np.savez(file, **data)
            file.flush()
            reference: Measured | None = None
            for contender in options.contenders:
                found = measure(contender, Path(file.name), "1")
                reference = reference or found
                off = max(abs(found.scores[key] - reference.scores[key]) for key in found.scores)
                share = f"{found.wall / reference.wall:.2f} / {found.cpu / reference.cpu:.2f}"
                print(
                    f"{contender:18}{found.wall:9.1f}{found.cpu:9.1f}{share:>16}{off:22.1e}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
