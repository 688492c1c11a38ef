#!/usr/bin/env bash
# irrCAC 0.4.4 beside krippendorff 0.9.0
# Krippendorff's alpha with irrCAC's "ordinal" weights is another number than the ordinal alpha of krippendorff.
# Nominal and interval ("quadratic") agree to five digits, so a spot check of those does not show it.
# Who is hurt: agreement of rating scales, reported as "ordinal alpha", is 0.82 or 0.83 by the library chosen.
# Way around: name the library in the paper; take krippendorff for Krippendorff's own ordinal distance.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check irrCAC==0.4.4 krippendorff==0.9.0
venv/bin/python - <<'PY'
import importlib.metadata
import warnings

import krippendorff
import numpy as np
import pandas as pd
from irrCAC.raw import CAC

warnings.simplefilter("ignore")
nan = np.nan
ratings = np.array([[1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
                    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
                    [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
                    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan]])       # raters, units
print("version: irrCAC", importlib.metadata.version("irrCAC"),
      "krippendorff", importlib.metadata.version("krippendorff"))
print("expected: the same alpha from both at every level of measurement")
gap = {}
for weights, level in (("identity", "nominal"), ("quadratic", "interval"), ("ordinal", "ordinal")):
    one = CAC(pd.DataFrame(ratings.T), weights=weights).krippendorff()["est"]["coefficient_value"]
    two = krippendorff.alpha(ratings, level_of_measurement=level)
    gap[level] = abs(one - two)
    print(f"seen: {level}: irrCAC {one:.5f}, krippendorff {two:.5f}")
if gap["nominal"] > 1e-4 or gap["interval"] > 1e-4 or gap["ordinal"] < 0.01:
    raise SystemExit("The behaviour is no longer as stated.")
PY
