#!/usr/bin/env bash
# pympi-ling 1.71
# Eaf.shift_annotations moves a time slot once for every annotation that uses it, not once.
# A turn and its subdivisions share slots, as ELAN writes them: asked for 1000 ms, it shifts both tiers by 2000 ms.
# Who is hurt: annotations meant to be aligned to a trimmed recording land a whole offset too late.
# Way around: add the offset to the values of Eaf.timeslots yourself, each slot once.
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

slots = "".join(f'<TIME_SLOT TIME_SLOT_ID="ts{i}" TIME_VALUE="{value}"/>'
                for i, value in enumerate((0, 450, 900), 1))
Path("x.eaf").write_text(f'''<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2020-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/><TIME_ORDER>{slots}</TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="top" TIER_ID="turn">{annotation(1, "ts1", "ts3", "turn")}</TIER>
<TIER LINGUISTIC_TYPE_REF="sub" PARENT_REF="turn" TIER_ID="emotion">
{annotation(2, "ts1", "ts2", "calm")}{annotation(3, "ts2", "ts3", "glad")}</TIER>
<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="top" TIME_ALIGNABLE="true"/>
<LINGUISTIC_TYPE CONSTRAINTS="Time_Subdivision" GRAPHIC_REFERENCES="false"
 LINGUISTIC_TYPE_ID="sub" TIME_ALIGNABLE="true"/>
<CONSTRAINT DESCRIPTION="Time subdivision" STEREOTYPE="Time_Subdivision"/>
</ANNOTATION_DOCUMENT>''')
eaf = Elan.Eaf("x.eaf")
eaf.shift_annotations(1000)
seen = eaf.get_annotation_data_for_tier("turn") + eaf.get_annotation_data_for_tier("emotion")
print("version: pympi-ling", importlib.metadata.version("pympi-ling"))
print("expected: turn 1000 to 1900, calm 1000 to 1450, glad 1450 to 1900")
print(f"seen: {seen}")
if seen[0][:2] != (2000, 2900):
    raise SystemExit("The behaviour is no longer as stated.")
PY
