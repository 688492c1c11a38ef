#!/usr/bin/env bash
# soxr 1.1.0
# Resampling int16 adds dither noise: digital silence comes out as a mix of -1, 0 and 1.
# Floats stay exact; the documentation of soxr.resample names no dither, and no option turns it off.
# Who is hurt: tests for exact silence (dropouts, padding, muted channels) stop finding any after resampling.
# Way around: convert to float32 before resampling and round back afterwards.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check soxr==1.1.0 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
import soxr

silence = np.zeros(44100, dtype=np.int16)
seen = soxr.resample(silence, 44100, 16000)
as_float = soxr.resample(silence.astype(np.float32), 44100, 16000)
print("version: soxr", soxr.__version__)
print(f"expected: silence stays silence; in float32 the values are {np.unique(as_float)}")
values, counts = np.unique(seen, return_counts=True)
print("seen: in int16", dict(zip(values.tolist(), counts.tolist())))
if not (as_float == 0).all() or (seen == 0).all():
    raise SystemExit("The behaviour is no longer as stated.")
PY
