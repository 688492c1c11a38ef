#!/usr/bin/env bash
# audpsychometric 0.1.1
# With one missing rating, rater_agreement returns one value fewer than there are raters, without a warning.
# The comment in its source says that it drops the item (row) that misses a rating; it drops the rater (column).
# Who is hurt: values that are matched with raters by position speak of the wrong people from the gap on.
# Way around: drop rows with NaN before the call, or correlate each rater over the rows that it has.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check audpsychometric==0.1.1 numpy==1.26.4 pandas==2.3.3 scipy==1.12.0
venv/bin/python - <<'PY'
import importlib.metadata

import audpsychometric
import numpy as np

# Rows are items, columns are raters; the last rater is the one who does not follow the others.
ratings = np.array([[1, 1, 1, 3], [2, 2, 2, 1], [3, 3, 4, 3], [4, 4, 4, 1], [5, 5, 5, 2.0]])
full = audpsychometric.rater_agreement(ratings)
ratings[2, 0] = np.nan
gap = audpsychometric.rater_agreement(ratings)
print("version: audpsychometric", importlib.metadata.version("audpsychometric"))
print("expected: four values for four raters, over the four items that all have rated")
print(f"seen: {full.round(2)} without a gap, {gap.round(2)} with one missing rating of the first rater")
if not (len(full) == 4 and len(gap) == 3):
    raise SystemExit("The behaviour is no longer as stated.")
PY
