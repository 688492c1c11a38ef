#!/usr/bin/env bash
# pyEDFlib 0.1.42
# EdfWriter.writeSamples cuts every channel to the shortest one's duration, with no error and no warning.
# A channel that ends within a second is padded up to the second instead, so some padding hides the cut.
# Who is hurt: skin conductance of 10 s beside an ECG that stopped after 7 s loses its last 3 s.
# Way around: bring all channels to one duration yourself, and read each length back after writing.
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

def header(label, rate, unit):
    return dict(label=label, dimension=unit, sample_frequency=rate, physical_max=20,
                physical_min=-20, digital_max=32767, digital_min=-32768,
                transducer="", prefilter="")

eda, ecg = np.linspace(1, 2, 4 * 10), np.sin(np.arange(256 * 7) / 10)
writer = pyedflib.EdfWriter("x.edf", 2, file_type=pyedflib.FILETYPE_EDFPLUS)
writer.setSignalHeaders([header("EDA", 4, "uS"), header("ECG", 256, "mV")])
writer.writeSamples([eda, ecg])
writer.close()
with pyedflib.EdfReader("x.edf") as reader:
    seen = reader.readSignal(0).size
print("version: pyEDFlib", importlib.metadata.version("pyEDFlib"))
print(f"expected: all {eda.size} samples of EDA (10 s at 4 Hz), or an error")
print(f"seen: {seen} samples of EDA, {seen / 4} s, the duration of the ECG")
if seen != 28:
    raise SystemExit("The behaviour is no longer as stated.")
PY
