#!/usr/bin/env bash
# praatio 6.2.2
# Each save and load of a point tier in the long TextGrid form doubles the quotation marks in its labels.
# Two rounds make 8 of 2 marks; interval tiers, and point tiers in the short form, come back as they were.
# Who is hurt: labels that cite what was said stop matching across passes of one annotation.
# Way around: save point tiers in the short form, or replace "" by " in their labels after each load.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check praatio==6.2.2
venv/bin/python - <<'PY'
import importlib.metadata

from praatio import textgrid

label = 'laughs at "no"'
seen = {}
for form in ("short_textgrid", "long_textgrid"):
    grid = textgrid.Textgrid()
    grid.addTier(textgrid.PointTier("events", [(0.75, label)], 0, 2))
    grid.addTier(textgrid.IntervalTier("turns", [(0, 1, label)], 0, 2))
    for _ in range(2):
        grid.save("x.TextGrid", format=form, includeBlankSpaces=True)
        grid = textgrid.openTextgrid("x.TextGrid", includeEmptyIntervals=False)
    seen[form] = grid.getTier("events").entries[0].label, grid.getTier("turns").entries[0].label
print("version: praatio", importlib.metadata.version("praatio"))
print("expected: the label unchanged after two rounds:", label)
for form, (point, interval) in seen.items():
    print(f"seen: {form}: point {point}; interval {interval}")
if seen != {"short_textgrid": (label, label),
            "long_textgrid": (label.replace('"', '"' * 4), label)}:
    raise SystemExit("The behaviour is no longer as stated.")
PY
