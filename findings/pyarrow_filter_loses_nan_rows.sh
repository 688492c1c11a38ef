#!/usr/bin/env bash
# pyarrow 26.0.1
# A filter on a Parquet file loses NaN rows where all other values of their row group are equal: is_nan finds none.
# Statistics leave NaN out, so such a group counts as constant; the answer hangs on how rows were grouped on writing.
# Who is hurt: a search for missing ratings, or "valence != 0.3", skips frames of flat annotations and says nothing.
# Way around: read the column unfiltered and filter in memory, or write missing values as nulls.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyarrow==26.0.1
venv/bin/python - <<'PY'
import math

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

valence = [0.3, math.nan, 0.3, 0.5]
table = pa.table({"frame": [0, 1, 2, 3], "valence": valence})
print("version: pyarrow", pa.__version__)
print("expected: frame 1 for is_nan, frames 1 and 3 for != 0.3, whatever the row groups")
filters = {"is_nan": pc.is_nan(pc.field("valence")), "!= 0.3": pc.field("valence") != 0.3}
seen = {}
for size in (4, 2):
    pq.write_table(table, "x.parquet", row_group_size=size)
    for name, condition in filters.items():
        seen[name, size] = pq.read_table("x.parquet", filters=condition)["frame"].to_pylist()
        print(f"seen: {name}, row groups of {size}: frames {seen[name, size]}")
for name, condition in filters.items():
    print(f"seen: {name}, in memory: frames {table.filter(condition)['frame'].to_pylist()}")
if seen != {("is_nan", 4): [1], ("is_nan", 2): [], ("!= 0.3", 4): [1, 3], ("!= 0.3", 2): [3]}:
    raise SystemExit("The behaviour is no longer as stated.")
PY
