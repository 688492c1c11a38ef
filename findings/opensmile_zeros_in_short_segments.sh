#!/usr/bin/env bash
# opensmile 2.6.0 (openSMILE, eGeMAPSv02)
# A segment of 50 ms gives NaN and a warning, but one of 60 ms gives dozens of exact zeros, and no warning.
# A zero stands for "could not be computed" in features where 0 is also a true and extreme value (slopes, jitter).
# Who is hurt: short turns and laughs look like perfectly steady voices, and imputation by NaN never sees them.
# Way around: set a least duration (1 s or more), and treat an exact 0 in such features like a missing value.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check opensmile==2.6.0 numpy==2.4.6
venv/bin/python - <<'PY'
import warnings

import numpy as np
import opensmile

sr = 16000
t = np.arange(sr) / sr
rng = np.random.default_rng(0)
f0 = 150 + 20 * np.sin(2 * np.pi * 5 * t)
phase = 2 * np.pi * np.cumsum(f0) / sr
y = sum(np.sin(k * phase) / k for k in range(1, 30)) * (0.6 + 0.4 * np.sin(2 * np.pi * 7 * t))
y = (0.1 * y + 0.002 * rng.standard_normal(sr)).astype(np.float32)
smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
print("version: opensmile", opensmile.__version__)
print("expected: NaN and a warning wherever a segment is too short for a feature")
seen = {}
for ms in (50, 60, 1000):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        row = smile.process_signal(y[:sr * ms // 1000], sr).iloc[0]
    short = sum("too short" in str(w.message) for w in caught)
    seen[ms] = int(row.isna().sum()), int((row == 0).sum()), short
    print(f"seen: {ms} ms: {seen[ms][0]} NaN, {seen[ms][1]} exact zeros of {row.size}, warnings: {short}")
if not (seen[50][0] == 88 and seen[60][0] == 0 and seen[60][1] >= 30 and seen[60][2] == 0):
    raise SystemExit("The behaviour is no longer as stated.")
PY
