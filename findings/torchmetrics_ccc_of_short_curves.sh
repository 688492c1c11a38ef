#!/usr/bin/env bash
# torchmetrics 1.9.0
# ConcordanceCorrCoef divides variances and covariance by n - 1, but not the squared difference of means.
# Its value lies above Lin's, which audmetric gives; the shorter the curve, the wider the gap, and both are called CCC.
# Who is hurt: means over short recordings, and one paper's scores beside another's, are not comparable.
# Way around: compute CCC from population moments, as Lin did, or compare on long curves only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0 audmetric==1.4.2 numpy==2.4.6
venv/bin/python - <<'PY'
import warnings

import audmetric
import numpy as np
import torch
import torchmetrics

warnings.simplefilter("ignore")
t = np.linspace(0, 3, 400)
print("version: torchmetrics", torchmetrics.__version__)
print("expected: Lin's coefficient, 2 cov / (var + var + (difference of means)^2)")
gap = {}
for n in (3, 5, 10, 400):
    x, y = np.sin(t[::400 // n][:n]), np.sin(t[::400 // n][:n] + 0.3) + 0.3
    x, y = x.astype(np.float32), y.astype(np.float32)
    theirs = float(torchmetrics.ConcordanceCorrCoef()(torch.tensor(y), torch.tensor(x)))
    lin = float(audmetric.concordance_cc(x, y))
    gap[n] = theirs - lin
    print(f"seen: {n} points: torchmetrics {theirs:.4f}, audmetric {lin:.4f}")
if gap[3] < 0.01 or abs(gap[400]) > 0.001:
    raise SystemExit("The behaviour is no longer as stated.")
PY
