#!/usr/bin/env bash
# libsndfile 1.2.2 in soundfile 0.14.0 (input written by PyAV 18.1.0)
# An MP3 of variable bit rate that has no Xing header ends early, with no error and no warning.
# The length is estimated from the first frames; a loud start and a quiet rest cost most of the file.
# Who is hurt: speech after the estimated end gets no frames, and annotations of it are cut or unmatched.
# Way around: decode such files with PyAV or FFmpeg, and compare the decoded length with the annotated one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check soundfile==0.14.0 av==18.1.0 numpy==2.4.6
venv/bin/python - <<'PY'
import av
import numpy as np
import soundfile as sf

sr, seconds = 44100, 10
t = np.arange(sr * seconds) / sr
rng = np.random.default_rng(0)
y = np.where(t < 7, 0.3 * np.sin(2 * np.pi * 200 * t) + 0.2 * rng.standard_normal(t.size),
             0.0003 * np.sin(2 * np.pi * 200 * t)).astype(np.float32)

with av.open("v.mp3", "w", options={"write_xing": "0", "id3v2_version": "0"}) as out:
    options = {"flags": "+qscale", "global_quality": str(4 * 118)}
    stream = out.add_stream("libmp3lame", rate=sr, options=options)
    stream.layout = "mono"
    for start in range(0, y.size, 1152):
        frame = av.AudioFrame.from_ndarray(y[None, start:start + 1152], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = sr, start
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))

with av.open("v.mp3") as source:
    valid = sum(frame.samples for frame in source.decode(audio=0))
seen = sf.read("v.mp3")[0].size
print("version: soundfile", sf.__version__, "with", sf.__libsndfile_version__)
print(f"expected: about {y.size} samples; FFmpeg decodes {valid}")
print(f"seen: soundfile reads {seen} without an error")
assert sf.__libsndfile_version__ == "1.2.2"
assert valid >= y.size, "the input itself is short"
if seen > 0.8 * valid:
    raise SystemExit("The behaviour is no longer as stated.")
PY
