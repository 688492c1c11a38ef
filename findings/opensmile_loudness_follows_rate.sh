#!/usr/bin/env bash
# opensmile 2.6.0 (openSMILE, eGeMAPSv02)
# Loudness grows with the sampling rate: one voice with nothing above 7 kHz is 76 % louder at 44.1 than at 16 kHz.
# The sound level of the same two signals agrees within 0.1 dB, and no warning says that rates are not comparable.
# Who is hurt: corpora of different rates cannot be pooled; loudness, prominent for arousal, tells them apart.
# Way around: resample every recording to one rate before extraction, or set resample=True with one sampling_rate.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check opensmile==2.6.0 numpy==2.4.6
venv/bin/python - <<'PY'
import numpy as np
import opensmile

def voice(sr):
    t = np.arange(3 * sr) / sr
    y = sum(np.sin(2 * np.pi * 150 * k * t) / k for k in range(1, 40))      # 150 to 5850 Hz
    return (0.05 * y * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * t))).astype(np.float32)

smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
low, high = (smile.process_signal(voice(sr), sr).iloc[0] for sr in (16000, 44100))
print("version: opensmile", opensmile.__version__)
level = "equivalentSoundLevel_dBp"
print(f"expected: the same loudness, for the same sound ({low[level]:.2f} and {high[level]:.2f} dB)")
ratios = []
for name in ("amean", "percentile20.0", "percentile50.0", "percentile80.0"):
    name = f"loudness_sma3_{name}"
    ratios.append(high[name] / low[name])
    print(f"seen: {name} {low[name]:.3f} at 16 kHz, {high[name]:.3f} at 44.1 kHz: {ratios[-1] - 1:+.0%}")
assert abs(low[level] - high[level]) < 0.2, "the inputs differ in level"
if min(ratios) < 1.5:
    raise SystemExit("The behaviour is no longer as stated.")
PY
