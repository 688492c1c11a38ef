#!/usr/bin/env bash
# scipy 1.17.1
# loadarff reads as many values of a row as there are attributes, and drops the rest without a word.
# A row with a decimal comma ("0,5") has one value too many, so 0.5 is read as 0.0; a row that is too short is an error.
# Who is hurt: gold standards that a spreadsheet saved with decimal commas become whole numbers.
# Way around: count the values of each row, or read with liac-arff, which refuses such a row.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cat > gold.arff <<'ARFF'
@RELATION gold
@ATTRIBUTE time NUMERIC
@ATTRIBUTE valence NUMERIC
@DATA
1,0,5
2,0,7
ARFF
venv/bin/python - <<'PY'
import scipy
from scipy.io import arff

print("version: scipy", scipy.__version__)
print("expected: an error, since the rows have 3 values and there are 2 attributes")
data, _ = arff.loadarff("gold.arff")
seen = [tuple(float(value) for value in row) for row in data]
print(f"seen: {seen}")
if seen != [(1.0, 0.0), (2.0, 0.0)]:
    raise SystemExit("The behaviour is no longer as stated.")
PY
