#!/usr/bin/env bash
# pandas 3.1.1
# to_timedelta(seconds, unit="s") stores microseconds if every number is whole, and nanoseconds if one is not.
# Code that takes the integers out (astype("int64")) and divides by 1e9 is then wrong by 1000 for some recordings.
# Who is hurt: annotations stamped at whole seconds land in the first thousandth of a recording, others are right.
# Way around: use .total_seconds(), or .as_unit("ns") before taking integers out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pandas==3.1.1 numpy==2.4.6
venv/bin/python - <<'PY'
import pandas as pd

print("version: pandas", pd.__version__)
print("expected: seconds give one unit, whatever their values")
seen = {}
for name, seconds in {"whole": [1.0, 2.0], "with a half": [1.0, 2.5]}.items():
    times = pd.to_timedelta(seconds, unit="s")
    seen[name] = int(times.astype("int64")[0])
    print(f"seen: {name}: {times.dtype}; 1.0 s as an integer is {seen[name]}")
if seen != {"whole": 10**6, "with a half": 10**9}:
    raise SystemExit("The behaviour is no longer as stated.")
PY
