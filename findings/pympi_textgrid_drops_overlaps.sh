#!/usr/bin/env bash
# pympi-ling 1.71
# Overlapping annotations on one ELAN tier are lost on the way to a TextGrid: the second one's label disappears.
# Its time after the first stays behind as an empty interval; neither an error nor a warning tells of it.
# Who is hurt: interruptions and overlapping laughs, telling for affect, vanish from one in two speakers.
# Way around: write overlapping annotations to tiers of their own before to_textgrid, and count labels after it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pympi-ling==1.71
venv/bin/python - <<'PY'
import importlib.metadata
import warnings

from pympi import Elan

warnings.simplefilter("ignore")
eaf = Elan.Eaf()
eaf.add_annotation("default", 0, 1000, "talk")
eaf.add_annotation("default", 500, 1500, "laugh")
before = eaf.get_annotation_data_for_tier("default")
after = list(eaf.to_textgrid().get_tier("default").get_all_intervals())
print("version: pympi-ling", importlib.metadata.version("pympi-ling"))
print(f"expected: both labels, or an error: {before}")
print(f"seen: {after}")
if "laugh" in [label for _, _, label in after]:
    raise SystemExit("The behaviour is no longer as stated.")
PY
