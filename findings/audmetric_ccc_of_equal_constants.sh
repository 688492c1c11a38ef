#!/usr/bin/env bash
# audmetric 1.4.2
# The concordance correlation of two equal constant curves is 1.0 or NaN, as the rounding of their mean decides.
# Seven times 0.1 against itself gives 1.0, ten times 0.1 gives NaN, and 0.5 always gives NaN.
# Who is hurt: a mean over recordings counts a flat one as perfect, or drops it, by the number of its frames.
# Way around: test for a constant curve first, and decide once what it should count.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check audmetric==1.4.2 numpy==2.4.6
venv/bin/python - <<'PY'
import importlib.metadata
import warnings

import audmetric
import numpy as np

warnings.simplefilter("ignore")
print("version: audmetric", importlib.metadata.version("audmetric"))
print("expected: one answer for a constant curve against itself, whatever its length and value")
seen = {}
for value in (0.1, 0.5):
    for n in (7, 10, 100):
        seen[value, n] = audmetric.concordance_cc(np.full(n, value), np.full(n, value))
        print(f"seen: {n} times {value}: {seen[value, n]}")
values = list(seen.values())
if not (any(np.isnan(values)) and np.nanmax(values) > 0.99):
    raise SystemExit("The behaviour is no longer as stated.")
PY
