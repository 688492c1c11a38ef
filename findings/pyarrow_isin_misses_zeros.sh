#!/usr/bin/env bash
# pyarrow 26.0.1
# The filter "in [0.0]" finds no row of a Parquet row group whose values are all zero; "= 0.0" finds every one.
# Statistics hold the least value as -0.0, and the set look-up does not take -0.0 for 0.0.
# Who is hurt: neutral or silent stretches (all 0.0) vanish from a selection by values, and only where they are long.
# Way around: use "=" joined by "or" for floats, or filter in memory.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyarrow==26.0.1
venv/bin/python - <<'PY'
import pyarrow as pa
import pyarrow.parquet as pq

print("version: pyarrow", pa.__version__)
print("expected: frames 0 and 1, by either filter, whatever the row groups")
table = pa.table({"frame": [0, 1, 2, 3], "valence": [0.0, 0.0, 0.5, 0.7]})
seen = {}
for size in (4, 2):
    pq.write_table(table, "x.parquet", row_group_size=size)
    for name, condition in {"in [0.0]": ("valence", "in", [0.0]),
                            "= 0.0": ("valence", "=", 0.0)}.items():
        rows = pq.read_table("x.parquet", filters=[condition])["frame"].to_pylist()
        seen[name, size] = rows
        print(f"seen: {name}, row groups of {size}: frames {rows}")
if seen != {("in [0.0]", 4): [0, 1], ("= 0.0", 4): [0, 1],
            ("in [0.0]", 2): [], ("= 0.0", 2): [0, 1]}:
    raise SystemExit("The behaviour is no longer as stated.")
PY
