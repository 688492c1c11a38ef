"""Render a prediction as an annotation document for ELAN.

The form is that of ELAN's schema EAF 3.0 (https://www.mpi.nl/tools/elan/EAFv3.0.xsd).
"""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from valence.prediction.outputs.predicted import Predicted
from valence.prediction.outputs.tiers import Tier, tiers_of
from valence.storage.filenames import printable
from valence.storage.location import Location

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
# ELAN requires a date. A fixed one gives the same bytes for the same recording.
_DATE = "1970-01-01T00:00:00+00:00"
# The only kind of interval that is needed: placed in time, and independent of other tiers.
_KIND = "values"


def render(predicted: Predicted) -> bytes:
    """Write the tiers of a prediction as an `.eaf`, linked to the recording's sound."""
    root = Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "valence",
            "DATE": _DATE,
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": _INSTANCE,
            "xsi:noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    header = SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    SubElement(header, "MEDIA_DESCRIPTOR", _media(predicted.audio))
    tiers = tiers_of(predicted)
    count = sum(len(tier.intervals) for tier in tiers)
    # ELAN numbers new annotations from here.
    SubElement(header, "PROPERTY", {"NAME": "lastUsedAnnotationId"}).text = str(count)
    slots = _add_slots(root, tiers)
    number = 0
    for place, tier in enumerate(tiers):
        element = SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": _KIND, "TIER_ID": tier.name})
        for index, interval in enumerate(tier.intervals):
            number += 1
            start, end = slots[place, index]
            annotation = SubElement(SubElement(element, "ANNOTATION"), "ALIGNABLE_ANNOTATION")
            annotation.set("ANNOTATION_ID", f"a{number}")
            annotation.set("TIME_SLOT_REF1", start)
            annotation.set("TIME_SLOT_REF2", end)
            SubElement(annotation, "ANNOTATION_VALUE").text = interval.text
    SubElement(
        root,
        "LINGUISTIC_TYPE",
        {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": _KIND, "TIME_ALIGNABLE": "true"},
    )
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return content + b"\n"


def _add_slots(root: Element, tiers: tuple[Tier, ...]) -> dict[tuple[int, int], tuple[str, str]]:
    """Add the time slots, ascending, and return the two of each interval by tier and place.

    No two intervals share a slot, so that an annotator can move each border on its own.
    """
    order = SubElement(root, "TIME_ORDER")
    ends = [
        (ms, place, index, side)
        for place, tier in enumerate(tiers)
        for index, interval in enumerate(tier.intervals)
        for side, ms in enumerate((interval.start, interval.end))
    ]
    names = {}
    for number, (ms, place, index, side) in enumerate(sorted(ends), 1):
        name = names[place, index, side] = f"ts{number}"
        SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": name, "TIME_VALUE": str(ms)})
    return {
        (place, index): (names[place, index, 0], names[place, index, 1])
        for place, index, side in names
        if side == 0
    }


def _media(audio: Location) -> dict[str, str]:
    """Link the sound: by its full address, and as a file beside the document.

    ELAN writes addresses without escapes, and looks beside the document if the address fails.
    """
    kind = "audio/x-wav" if audio.suffix == ".wav" else "audio/*"
    address = f"file://{printable(audio.path)}" if audio.local is not None else audio.uri
    return {
        "MEDIA_URL": address,
        "MIME_TYPE": kind,
        "RELATIVE_MEDIA_URL": f"./{printable(audio.name)}",
    }
