"""ELAN documents, read by pympi and held against the order of ELAN's schema."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pympi
import pytest

from tests.helpers.predicted import AROUSAL, VALENCE, made_predicted
from valence.prediction.outputs.elan import render


def test_pympi_reads_values_and_passages(tmp_path: Path) -> None:
    file = tmp_path / "talk.eaf"
    file.write_bytes(render(made_predicted("/d/talk.wav", targets=("valence", "arousal"))))
    eaf = pympi.Elan.Eaf(str(file))
    assert list(eaf.get_tier_names()) == [
        *("valence", "valence passages"),
        *("arousal", "arousal passages"),
    ]
    values = sorted(eaf.get_annotation_data_for_tier("valence"))
    assert [(start, end) for start, end, _ in values] == [
        (500 * i, 500 * i + 500) for i in range(19)
    ]
    assert [float(text) for *_, text in values] == pytest.approx(VALENCE[:19].tolist(), abs=5e-4)
    arousal = sorted(eaf.get_annotation_data_for_tier("arousal"))
    assert [float(text) for *_, text in arousal] == pytest.approx(AROUSAL.tolist(), abs=5e-4)
    assert sorted(eaf.get_annotation_data_for_tier("valence passages")) == [
        (500, 2500, "high 0.438"),
        (6000, 8000, "low -0.425"),
    ]
    (media,) = eaf.get_linked_files()
    assert media["MEDIA_URL"] == "file:///d/talk.wav"
    assert media["RELATIVE_MEDIA_URL"] == "./talk.wav"
    assert media["MIME_TYPE"] == "audio/x-wav"


def test_pympi_writes_it_back_with_the_same_annotations(tmp_path: Path) -> None:
    first, again = tmp_path / "talk.eaf", tmp_path / "again.eaf"
    first.write_bytes(render(made_predicted("/d/talk.flac")))
    eaf = pympi.Elan.Eaf(str(first))
    eaf.add_annotation("valence passages", 8500, 9000, "mine")
    eaf.to_file(str(again))
    read = pympi.Elan.Eaf(str(again))
    assert len(read.get_annotation_data_for_tier("valence")) == 19
    assert (8500, 9000, "mine") in read.get_annotation_data_for_tier("valence passages")


def test_slots_ascend_and_no_two_intervals_share_one() -> None:
    root = ElementTree.fromstring(render(made_predicted("/d/talk.mp3")))
    order = ["HEADER", "TIME_ORDER", "TIER", "TIER", "LINGUISTIC_TYPE"]
    assert [child.tag for child in root] == order
    slots = {s.get("TIME_SLOT_ID"): int(s.get("TIME_VALUE", "")) for s in root.iter("TIME_SLOT")}
    assert list(slots.values()) == sorted(slots.values())
    alignable = list(root.iter("ALIGNABLE_ANNOTATION"))
    used = [each.get(f"TIME_SLOT_REF{side}") for each in alignable for side in (1, 2)]
    assert sorted(used, key=str) == sorted(slots, key=str)
    for each in alignable:
        assert slots[each.get("TIME_SLOT_REF1")] < slots[each.get("TIME_SLOT_REF2")]
    ids = [each.get("ANNOTATION_ID") for each in alignable]
    assert len(set(ids)) == len(ids) == 21
    assert root.findtext("HEADER/PROPERTY") == "21"
    assert root.find("HEADER/MEDIA_DESCRIPTOR").get("MIME_TYPE") == "audio/*"  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ['a & <b> "c".wav', "Zoë 会議.wav", "a\nb.wav"])
def test_any_name_of_a_recording_gives_a_document(name: str) -> None:
    root = ElementTree.fromstring(render(made_predicted(f"/d/{name}")))
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    assert media is not None
    assert media.get("RELATIVE_MEDIA_URL") == "./" + name.replace("\n", "\\n")


def test_the_same_prediction_gives_the_same_bytes() -> None:
    assert render(made_predicted("/d/talk.wav")) == render(made_predicted("/d/talk.wav"))
