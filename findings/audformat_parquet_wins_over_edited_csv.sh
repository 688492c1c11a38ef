#!/usr/bin/env bash
# audformat 1.4.3
# A table that lies beside its CSV as Parquet is loaded from Parquet, even where the CSV was edited later.
# Saving the loaded database as CSV then overwrites the edit with the old values, with no warning.
# Who is hurt: corrections made by hand in the readable file never reach a model, and then they are lost.
# Way around: delete db.*.parquet before loading an edited CSV, or keep one storage format a folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check audformat==1.4.3 pandas==3.1.1 pyarrow==26.0.1
venv/bin/python - <<'PY'
import os
import time
from pathlib import Path

import audformat

db = audformat.Database("corpus")
db.schemes["valence"] = audformat.Scheme("float")
db["segments"] = audformat.Table(audformat.filewise_index(["a.wav", "b.wav"]))
db["segments"]["valence"] = audformat.Column(scheme_id="valence")
db["segments"]["valence"].set([0.1, 0.2])
db.save("corpus")                               # Parquet, the default
db.save("corpus", storage_format="csv")
csv = Path("corpus/db.segments.csv")
csv.write_text(csv.read_text().replace("0.1", "0.9"))
later = time.time() + 60
os.utime(csv, (later, later))

loaded = audformat.Database.load("corpus")
seen = loaded["segments"].get()["valence"].tolist()
loaded.save("corpus", storage_format="csv")
print("version: audformat", audformat.__version__)
print("expected: the newer file, edited by hand, is read: [0.9, 0.2]")
print(f"seen: {seen}; after saving, the CSV is {csv.read_text().split()}")
if seen != [0.1, 0.2] or "0.9" in csv.read_text():
    raise SystemExit("The behaviour is no longer as stated.")
PY
