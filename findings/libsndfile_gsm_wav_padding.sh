#!/usr/bin/env bash
# libsndfile 1.2.2 in soundfile 0.14.0
# A WAV file in GSM 6.10 comes back longer than it was written: the sample count in its "fact" chunk is ignored.
# One thousand samples become 1280, since every block holds 320; the surplus follows the true end of the call.
# Who is hurt: telephone speech gains up to 40 ms a file, and durations no longer match those of the annotation.
# Way around: read the count from the "fact" chunk and cut the decoded signal there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6
venv/bin/python - <<'PY'
import struct
from pathlib import Path

import numpy as np
import soundfile as sf

y = 0.1 * np.sin(2 * np.pi * 300 * np.arange(1000) / 8000)
sf.write("call.wav", y, 8000, subtype="GSM610")
data = Path("call.wav").read_bytes()
at = data.index(b"fact")
fact = struct.unpack("<I", data[at + 8:at + 12])[0]
seen = sf.read("call.wav")[0].size
print("version: soundfile", sf.__version__, "with", sf.__libsndfile_version__)
print(f"expected: {y.size} samples; the fact chunk says {fact}")
print(f"seen: {seen} samples, sf.info says {sf.info('call.wav').frames}")
assert fact == y.size, "the input itself states another length"
if seen != 1280:
    raise SystemExit("The behaviour is no longer as stated.")
PY
