#!/usr/bin/env bash
# Ray Data 2.60.0
# train_test_split with shuffle and a seed gives another test set when the same rows lie in another number of blocks.
# The number of blocks follows files and processor cores, so a seed fixes the split on one machine only.
# Who is hurt: test speakers of a laptop run are training speakers on the cluster, under the same seed.
# Way around: derive each row's part from its own key (a hash of the speaker), and never from a shuffle.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check "ray[data]==2.60.0" pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
venv/bin/python - <<'PY'
import logging
import os

import ray

logging.disable(logging.WARNING)
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
         _temp_dir=os.path.join(os.getcwd(), "ray"))
ray.data.DataContext.get_current().enable_progress_bars = False

def test_rows(blocks):
    rows = ray.data.range(12, override_num_blocks=blocks)
    _, test = rows.train_test_split(0.25, shuffle=True, seed=1)
    return sorted(row["id"] for row in test.take_all())

seen = {"one block": test_rows(1), "one block again": test_rows(1), "two blocks": test_rows(2)}
ray.shutdown()
print("version: ray", ray.__version__)
print("expected: one seed, one test set of the same twelve rows")
for name, rows in seen.items():
    print(f"seen: {name}: test rows {rows}")
if seen["one block"] != seen["one block again"] or seen["one block"] == seen["two blocks"]:
    raise SystemExit("The behaviour is no longer as stated.")
PY
