#!/usr/bin/env bash
# audpsychometric 0.1.1
# The evaluator weighted estimator lets negative weights stand, and divides by their sum.
# Two raters agree and the third rates the reverse: the estimate is the third one's curve, against the majority.
# Who is hurt: a gold standard turns upside down when one annotator of three holds the joystick the wrong way round.
# Way around: set weights below 0 to 0 before averaging, or look at rater_agreement first and leave such raters out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check audpsychometric==0.1.1 numpy==1.26.4 pandas==2.3.3 scipy==1.12.0
venv/bin/python - <<'PY'
import importlib.metadata

import audpsychometric
import numpy as np

rng = np.random.default_rng(1)
curve = np.linspace(-1, 1, 20)
noise = 0.1 * rng.standard_normal((20, 3))
ratings = np.c_[curve, curve, -curve] + noise
estimate = audpsychometric.evaluator_weighted_estimator(ratings)
weights = audpsychometric.rater_agreement(ratings)
print("version: audpsychometric", importlib.metadata.version("audpsychometric"))
r = np.corrcoef(estimate, curve)[0, 1]
print("expected: an estimate that follows the two raters who agree")
print(f"seen: weights {weights.round(2)}, correlation of the estimate with those two raters {r:.2f}")
if r > -0.9:
    raise SystemExit("The behaviour is no longer as stated.")
PY
