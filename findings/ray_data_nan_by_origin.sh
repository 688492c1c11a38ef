#!/usr/bin/env bash
# Ray Data 2.60.0
# The mean and the sum of a column with NaN depend on where it came from: pandas skips NaN, Arrow gives no result.
# from_pandas turns NaN into null on the way in, and from_arrow keeps it.
# Who is hurt: a scaler's mean over features with gaps is a number in a test on pandas and None in a run on Arrow tables.
# Way around: replace NaN by null (or fill it) yourself before the first aggregate.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check "ray[data]==2.60.0" pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
venv/bin/python - <<'PY'
import logging
import math
import os

import pandas as pd
import pyarrow as pa
import ray

values = [1.0, math.nan, 3.0, 4.0]
logging.disable(logging.WARNING)
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
         _temp_dir=os.path.join(os.getcwd(), "ray"))
ray.data.DataContext.get_current().enable_progress_bars = False
seen = {"pandas": ray.data.from_pandas(pd.DataFrame({"valence": values})).mean("valence"),
        "arrow": ray.data.from_arrow(pa.table({"valence": values})).mean("valence")}
ray.shutdown()
print("version: ray", ray.__version__)
print("expected: one mean for the same four numbers")
print(f"seen: {seen}")
if seen["arrow"] is not None and not math.isnan(seen["arrow"]) or abs(seen["pandas"] - 8 / 3) > 1e-9:
    raise SystemExit("The behaviour is no longer as stated.")
PY
