#!/usr/bin/env bash
# Ray Train 2.60.0
# A TorchTrainer with one worker and no datasets starts five more processes: controller,
# manager of datasets (there are none), cleaner of placement groups, watcher for preemption, synchronizer.
# Each imports Ray, for one to four CPU-seconds: more than a short training itself takes on a laptop.
# Who is hurt: tests and small trainings; ten trainings of a second each take minutes.
# Way around: RAY_TRAIN_ENABLE_PREEMPTION_WATCHER=0 spares one; the others have no setting.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check "ray[train]==2.60.0" torch==2.13.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
cat > train.py <<'PY'
import logging
import os
import sys

os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"
if len(sys.argv) > 1:
    os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = sys.argv[1]

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

logging.disable(logging.WARNING)
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
         _temp_dir=os.path.join(os.getcwd(), "ray"))


def work():
    """List the actors that are alive while this only worker trains."""

    import time

    # All processes of this Ray have one parent; they need a few seconds to begin.
    time.sleep(15)
    names = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                name = file.read().split(b"\0")[0].decode().strip()
            with open(f"/proc/{entry}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getppid() and name.startswith("ray::") and "IDLE" not in name:
            names.append(name.removeprefix("ray::").partition(".")[0])
    return sorted(set(names) - {"DashboardAgent", "RuntimeEnvAgent"})


def seen():
    run = RunConfig(storage_path=os.path.join(os.getcwd(), "results"))
    trainer = TorchTrainer(work, scaling_config=ScalingConfig(num_workers=1), run_config=run)
    return trainer.fit().return_value


print("version: ray", ray.__version__)
print("expected: a controller and the one worker")
names = seen()
print("seen:", ", ".join(names))
ray.shutdown()
wanted = {"TrainController", "RayTrainWorker", "DatasetManager", "PlacementGroupCleaner",
          "SynchronizationActor"}
watched = "PreemptionWatcher" in names
if not wanted <= set(names) or watched != (sys.argv[1:] != ["0"]):
    raise SystemExit("The behaviour is no longer as stated.")
PY
venv/bin/python train.py
echo "with RAY_TRAIN_ENABLE_PREEMPTION_WATCHER=0"
venv/bin/python train.py 0
