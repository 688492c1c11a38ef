#!/usr/bin/env bash
# audmetric 1.4.2
# The mean absolute error of ratings kept as unsigned integers wraps round where a prediction is too high.
# An error of -1 counts as 255; scikit-learn gives 1 for the same two arrays.
# Who is hurt: self-assessment scales (1 to 9) stored as uint8, usual in compact tables, get absurd errors.
# Way around: convert both arrays to float before the call.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check audmetric==1.4.2 numpy==2.4.6
venv/bin/python - <<'PY'
import importlib.metadata

import audmetric
import numpy as np

truth, prediction = np.array([[3, 5, 7, 9], [4, 6, 8, 9]], dtype=np.uint8)
seen = audmetric.mean_absolute_error(truth, prediction)
right = audmetric.mean_absolute_error(truth.astype(float), prediction.astype(float))
print("version: audmetric", importlib.metadata.version("audmetric"))
print(f"expected: mean absolute error {right}, as with floats")
print(f"seen: mean absolute error {seen}")
if right != 0.75 or seen < 100:
    raise SystemExit("The behaviour is no longer as stated.")
PY
