#!/usr/bin/env bash
# audpsychometric 0.1.1
# The table of intraclass correlations calls ICC(2,1) and ICC(2,k) "consistency"; they measure absolute agreement.
# When one rater rates 3 points higher, ICC(2,1) falls from 0.97 to 0.54, while ICC(3,1) stays at 0.97.
# Who is hurt: whoever picks a coefficient by this column reports absolute agreement under the name of consistency.
# Way around: go by the names of Shrout and Fleiss (ICC_3_1, ICC_3_k are consistency), not by the column "rating type".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check audpsychometric==0.1.1 numpy==1.26.4 pandas==2.3.3 scipy==1.12.0 pingouin==0.6.1
venv/bin/python - <<'PY'
import contextlib
import importlib.metadata
import io
import warnings

import audpsychometric
import pandas as pd

warnings.simplefilter("ignore")
ratings = pd.DataFrame({"a": [1, 2, 3, 4, 5, 6], "b": [1, 2, 3, 4, 5, 7], "c": [1, 2, 3, 5, 5, 6]})
shifted = ratings.assign(c=ratings["c"] + 3)


def coefficients(table):
    with contextlib.redirect_stdout(io.StringIO()):
        _, found = audpsychometric.intra_class_correlation(table)
    rows = {row["icc_type"]: row for row in found["results_table"]}
    return {name: (rows[name]["rating type"], float(rows[name]["icc"])) for name in ("ICC_2_1", "ICC_3_1")}


before, after = coefficients(ratings), coefficients(shifted)
print("version: audpsychometric", importlib.metadata.version("audpsychometric"))
print("expected: a coefficient of consistency does not change when one rater adds 3 to every rating")
for name in before:
    print(f"seen: {name}, called {before[name][0]}: {before[name][1]:.3f}, with 3 added {after[name][1]:.3f}")
same = abs(before["ICC_3_1"][1] - after["ICC_3_1"][1]) < 1e-9
if not (same and before["ICC_2_1"][0] == "consistency" and after["ICC_2_1"][1] < 0.7):
    raise SystemExit("The behaviour is no longer as stated.")
PY
