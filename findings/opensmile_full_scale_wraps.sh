#!/usr/bin/env bash
# opensmile 2.6.0 (openSMILE, eGeMAPSv02)
# A sample of exactly 1.0 or above is not clipped: it wraps round to the negative end of the scale.
# Plateaus at 1.0 turn into jumps to -1.0, and mean loudness becomes several times that of the same plateaus at 0.99.
# Who is hurt: peak-normalised recordings and float files with overshoot, common in speech, get false loudness and flux.
# Way around: clip or scale to at most 32767 / 32768 before extraction.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check opensmile==2.6.0 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
import opensmile

sr = 16000
tone = 1.5 * np.sin(2 * np.pi * 150 * np.arange(2 * sr) / sr)
smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)

def loudness(limit):
    y = np.clip(tone, -limit, limit).astype(np.float32)
    return smile.process_signal(y, sr)["loudness_sma3_amean"].item()

low, full = loudness(0.99), loudness(1.0)
print("version: opensmile", opensmile.__version__)
print(f"expected: nearly the same mean loudness at limits 0.99 and 1.0 (0.09 dB apart), here {low:.3f}")
print(f"seen: {low:.3f} at 0.99, {full:.3f} at 1.0")
if full < 2 * low:
    raise SystemExit("The behaviour is no longer as stated.")
PY
