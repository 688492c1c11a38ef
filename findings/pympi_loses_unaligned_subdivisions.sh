#!/usr/bin/env bash
# pympi-ling 1.71
# ELAN leaves inner borders of a time subdivision open (a TIME_SLOT with no TIME_VALUE) and spaces them evenly.
# pympi gives None for such a border, and its TextGrid of the tier holds one empty interval: every label is gone.
# Who is hurt: word or emotion tiers drop out of a conversion to Praat with no error, file by file.
# Way around: align the tier in ELAN first, or fill open slots evenly between their neighbours.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pympi-ling==1.71
venv/bin/python - <<'PY'
import importlib.metadata
import warnings
from pathlib import Path

from pympi import Elan

warnings.simplefilter("ignore")

def annotation(n, begin, end, value):
    return (f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{n}" TIME_SLOT_REF1="{begin}" '
            f'TIME_SLOT_REF2="{end}"><ANNOTATION_VALUE>{value}</ANNOTATION_VALUE>'
            '</ALIGNABLE_ANNOTATION></ANNOTATION>')

Path("x.eaf").write_text(f'''<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2020-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="ts2"/>
<TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="900"/></TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="top" TIER_ID="turn">{annotation(1, "ts1", "ts3", "turn")}</TIER>
<TIER LINGUISTIC_TYPE_REF="sub" PARENT_REF="turn" TIER_ID="emotion">
{annotation(2, "ts1", "ts2", "calm")}{annotation(3, "ts2", "ts3", "glad")}</TIER>
<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="top" TIME_ALIGNABLE="true"/>
<LINGUISTIC_TYPE CONSTRAINTS="Time_Subdivision" GRAPHIC_REFERENCES="false"
 LINGUISTIC_TYPE_ID="sub" TIME_ALIGNABLE="true"/>
<CONSTRAINT DESCRIPTION="Time subdivision" STEREOTYPE="Time_Subdivision"/>
</ANNOTATION_DOCUMENT>''')
eaf = Elan.Eaf("x.eaf")
rows = eaf.get_annotation_data_for_tier("emotion")
grid = list(eaf.to_textgrid().get_tier("emotion").get_all_intervals())
print("version: pympi-ling", importlib.metadata.version("pympi-ling"))
print("expected: calm from 0 to 450 ms, glad from 450 to 900 ms, as ELAN shows them")
print(f"seen: {rows}; in the TextGrid {grid}")
if not (any(None in row[:2] for row in rows) and all(not label for _, _, label in grid)):
    raise SystemExit("The behaviour is no longer as stated.")
PY
