#!/usr/bin/env bash
# librosa 0.11.0
# MFCCs of several signals stacked in one array differ from the MFCCs of each: the quiet ones change.
# The floor of 80 dB below the peak is taken over the whole stack, so a loud signal cuts the quiet one's spectrum off.
# Who is hurt: features of a soft speaker depend on who shares the batch or the other channel, and not at prediction.
# Way around: call librosa once a signal, or pass S=librosa.power_to_db(mel, top_db=None).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check librosa==0.11.0 numpy==2.4.6
venv/bin/python - <<'PY'
import librosa
import numpy as np

sr = 16000
rng = np.random.default_rng(0)
loud, quiet = 0.5 * rng.standard_normal(sr), 1e-4 * rng.standard_normal(sr)
alone = librosa.feature.mfcc(y=quiet, sr=sr)
stacked = librosa.feature.mfcc(y=np.stack([loud, quiet]), sr=sr)[1]
mel = [librosa.feature.melspectrogram(y=quiet, sr=sr),
       librosa.feature.melspectrogram(y=np.stack([loud, quiet]), sr=sr)[1]]
print("version: librosa", librosa.__version__)
print(f"expected: the same coefficients; the mel spectra agree: {np.allclose(*mel, rtol=1e-4)}")
seen = np.abs(stacked - alone).max()
spread = [np.ptp(m[1:], axis=1).max() for m in (alone, stacked)]
print(f"seen: they differ by up to {seen:.1f}; the quiet signal's coefficients 1 to 19 vary over time "
      f"by up to {spread[0]:.1f} alone, {spread[1]:.1f} in the stack")
if not np.allclose(*mel, rtol=1e-4) or seen < 10:
    raise SystemExit("The behaviour is no longer as stated.")
PY
