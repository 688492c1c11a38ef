#!/usr/bin/env bash
# libsndfile 1.2.2 in soundfile 0.14.0
# A FLAC file whose header leaves the number of samples open (0, which the format allows) cannot be read.
# Encoders that write into a pipe leave it open; soundfile then reports 2**63 - 1 frames, and sf.read raises ValueError.
# Who is hurt: streamed recordings look damaged or endless, though every sample is there and intact.
# Way around: decode with PyAV or FFmpeg, or encode the file anew; soundfile's own reading in blocks fails too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check soundfile==0.14.0 av==18.1.0 numpy==2.4.6
venv/bin/python - <<'PY'
from pathlib import Path

import av
import numpy as np
import soundfile as sf

sr = 16000
y = 0.3 * np.sin(2 * np.pi * 200 * np.arange(2 * sr) / sr)
sf.write("known.flac", y, sr)
data = bytearray(Path("known.flac").read_bytes())
data[21] &= 0xF0                # STREAMINFO, 36 bits: the number of samples, 0 for unknown
data[22:26] = bytes(4)
Path("unknown.flac").write_bytes(data)

def decode(path):
    with av.open(path) as source:
        return np.concatenate([frame.to_ndarray().ravel() for frame in source.decode(audio=0)])

print("version: soundfile", sf.__version__, "with", sf.__libsndfile_version__)
whole = decode("unknown.flac")
print(f"expected: {y.size} samples; FFmpeg decodes {whole.size}")
assert np.array_equal(whole, decode("known.flac")), "the input itself is damaged"
frames = sf.info("unknown.flac").frames
try:
    seen = f"{sf.read('unknown.flac')[0].size} samples"
except ValueError as error:
    seen = f"ValueError: {error}"
print(f"seen: {frames} frames in sf.info; sf.read: {seen}")
if frames != 2**63 - 1 or not seen.startswith("ValueError"):
    raise SystemExit("The behaviour is no longer as stated.")
PY
