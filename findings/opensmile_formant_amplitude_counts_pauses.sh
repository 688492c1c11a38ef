#!/usr/bin/env bash
# opensmile 2.6.0 (openSMILE, eGeMAPSv02)
# The functionals of F1, F2 and F3amplitudeLogRelF0_sma3nz count unvoiced frames, where the value is a floor of -201.
# Every other feature marked "nz" leaves unvoiced frames out; this one sinks from 4 to -109 when silence is appended.
# Who is hurt: the feature measures the share of pauses, not the voice, and models read it as voice quality.
# Way around: take low-level descriptors, keep frames with F0 above 0, and average those.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check opensmile==2.6.0 numpy==2.4.6 scipy==1.17.1
venv/bin/python - <<'PY'
import warnings

import numpy as np
import opensmile
from scipy.signal import lfilter

warnings.simplefilter("ignore")
sr = 16000
y = np.zeros(2 * sr)
y[::107] = 1                                    # pulses at 150 Hz through three formants
for f, b in ((500, 80), (1500, 120), (2500, 160)):
    r = np.exp(-np.pi * b / sr)
    y = lfilter([1], [1, -2 * r * np.cos(2 * np.pi * f / sr), r * r], y)
voice = (0.3 * y / np.abs(y).max()).astype(np.float32)
smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
alone = smile.process_signal(voice, sr).iloc[0]
paused = smile.process_signal(np.r_[voice, np.zeros_like(voice)], sr).iloc[0]
print("version: opensmile", opensmile.__version__)
print("expected: means over voiced frames ('nz') hardly change when as much silence is appended")
for name in ("F1frequency", "HNRdBACF", "logRelF0-H1-A3", "F1amplitudeLogRelF0"):
    name += "_sma3nz_amean"
    print(f"seen: {name} {alone[name]:.1f} alone, {paused[name]:.1f} with silence")
amplitude = "F1amplitudeLogRelF0_sma3nz_amean"
holds = abs(alone[amplitude] - paused[amplitude]) > 80
holds &= abs(alone["HNRdBACF_sma3nz_amean"] - paused["HNRdBACF_sma3nz_amean"]) < 2
if not holds:
    raise SystemExit("The behaviour is no longer as stated.")
PY
