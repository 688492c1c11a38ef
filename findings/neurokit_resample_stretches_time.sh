#!/usr/bin/env bash
# neurokit2 0.3.0
# signal_resample stretches the time axis: its default method puts the last output sample on the last input sample.
# Sample k is not the signal at k / rate; from 64 to 4 Hz the lag grows to 0.23 s, nearly one output sample.
# Who is hurt: physiology drifts against annotations sampled properly, most at the end of a recording.
# Way around: method="numpy" keeps the times, and so does np.interp at k / rate.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check neurokit2==0.3.0 numpy==2.4.6 scipy==1.17.1
venv/bin/python - <<'PY'
import importlib.metadata
import warnings

import neurokit2 as nk
import numpy as np

warnings.simplefilter("ignore")
time = np.arange(60 * 64) / 64                  # each sample holds its own time, 60 s at 64 Hz
print("version: neurokit2", importlib.metadata.version("neurokit2"))
print("expected: resampled to 4 Hz, sample k holds k / 4 seconds")
late = {}
for method in ("interpolation", "numpy"):
    y = nk.signal_resample(time, sampling_rate=64, desired_sampling_rate=4, method=method)
    late[method] = y - np.arange(y.size) / 4
    print(f"seen: {method}: {late[method][0]:.3f} s off at the start, "
          f"{late[method][y.size // 2]:.3f} in the middle, {late[method][-1]:.3f} at the end")
if late["interpolation"][-1] < 0.2 or abs(late["numpy"]).max() > 1e-6:
    raise SystemExit("The behaviour is no longer as stated.")
PY
