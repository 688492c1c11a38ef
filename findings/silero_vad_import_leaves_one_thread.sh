#!/usr/bin/env bash
# silero-vad 6.2.3
# Importing silero_vad sets PyTorch to one thread for the whole process, and nothing sets it back.
# The call stands at import, so a file that merely names the package slows training that never detects a voice.
# Who is hurt: jobs on many cores run several times slower, and the line at fault is an import.
# Way around: note torch.get_num_threads() before the import, and restore it afterwards.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check silero-vad==6.2.3 torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import importlib.metadata

import torch

torch.set_num_threads(4)
before = torch.get_num_threads()
import silero_vad

after = torch.get_num_threads()
print("version: silero-vad", importlib.metadata.version("silero-vad"))
print(f"expected: {before} threads, as set before the import")
print(f"seen: {after} after the import")
if (before, after) != (4, 1):
    raise SystemExit("The behaviour is no longer as stated.")
PY
