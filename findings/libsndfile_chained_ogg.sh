#!/usr/bin/env bash
# libsndfile 1.2.2 in soundfile 0.14.0
# An Ogg file of several logical streams in a row (a "chained" file, RFC 3533) is read only to the end of the first.
# Length and samples of all later parts are missing, and no error or warning says so.
# Who is hurt: recordings that were joined, or that a recorder went on with after a pause, lose all but their first part.
# Way around: decode with PyAV or FFmpeg, which read every part, or split the file at each page that begins a stream.
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
y = 0.3 * np.sin(2 * np.pi * 200 * np.arange(6 * sr) / sr)
sf.write("one.ogg", y[:sr], sr)
sf.write("two.ogg", y[sr:], sr)
Path("chain.ogg").write_bytes(Path("one.ogg").read_bytes() + Path("two.ogg").read_bytes())

with av.open("chain.ogg") as source:
    decoded = sum(frame.samples for frame in source.decode(audio=0))
seen = sf.read("chain.ogg")[0].size
print("version: soundfile", sf.__version__, "with", sf.__libsndfile_version__)
print(f"expected: {y.size} samples; FFmpeg decodes {decoded}")
print(f"seen: {seen} samples, sf.info says {sf.info('chain.ogg').frames}")
assert decoded > 0.99 * y.size, "the input itself is short"
if seen != sr:
    raise SystemExit("The behaviour is no longer as stated.")
PY
