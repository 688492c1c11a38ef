#!/usr/bin/env bash
# pyEDFlib 0.1.42
# A missing sample (NaN) is written to EDF as an ordinary number inside the physical range, with no error or warning.
# EDF has no code for "missing", so a reader cannot tell that number from a measurement.
# Who is hurt: lost contact in skin conductance or heart rate turns into sudden drops, like a strong response.
# Way around: interpolate and keep a mask in a channel of its own, or write gaps as EDF+D.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyEDFlib==0.1.42 numpy==2.4.6
venv/bin/python - <<'PY'
import importlib.metadata

import numpy as np
import pyedflib

eda = np.full(40, 3.0)
eda[20] = np.nan
writer = pyedflib.EdfWriter("x.edf", 1, file_type=pyedflib.FILETYPE_EDFPLUS)
writer.setSignalHeaders([dict(label="EDA", dimension="uS", sample_frequency=4, physical_max=20,
                              physical_min=0.5, digital_max=32767, digital_min=-32768,
                              transducer="", prefilter="")])
writer.writeSamples([eda])
writer.close()
with pyedflib.EdfReader("x.edf") as reader:
    seen = reader.readSignal(0)
print("version: pyEDFlib", importlib.metadata.version("pyEDFlib"))
print("expected: an error, or a warning, at the missing sample among values of 3")
print(f"seen: samples 19 to 21 come back as {seen[19:22].round(2)}")
if not np.isfinite(seen[20]):
    raise SystemExit("The behaviour is no longer as stated.")
PY
