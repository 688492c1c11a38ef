"""Annotations of NOVA: text and binary, and headers that cannot be right."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import made_corpora as made
from valence.errors import AnnotationError
from valence.importing.declaration import load_declaration
from valence.importing.readers.nova import is_nova
from valence.importing.traces import Trace, read_traces
from valence.storage.location import Location

_HEADER = "001/expert.valence.gold.annotation"


def _traces(root: Path) -> list[Trace]:
    return list(read_traces(Location.parse(root), load_declaration("nova")))


def _edit(file: Path, change: Callable[[str], str]) -> None:
    file.write_text(change(file.read_text()))


@pytest.mark.parametrize("binary", [False, True])
def test_text_and_binary_say_the_same(binary: bool, tmp_path: Path) -> None:
    made.nova(tmp_path, binary=binary)
    arousal, valence = _traces(tmp_path)
    assert (valence.id, valence.target, valence.rater) == ("001_expert", "valence", None)
    assert (arousal.target, valence.scale) == ("arousal", (-1, 1))
    # 25 Hz: sample i describes [i / 25, (i + 1) / 25) s.
    np.testing.assert_allclose(valence.start[:3], [0, 0.04, 0.08])
    np.testing.assert_allclose(valence.end - valence.start, 0.04)
    expected = [made.curve((number + 0.5) / 25) for number in range(150)]
    np.testing.assert_allclose(valence.value, expected, atol=1e-6)
    np.testing.assert_allclose(arousal.value, -valence.value, atol=1e-6)


def test_another_annotator_is_a_rater(tmp_path: Path) -> None:
    made.nova(tmp_path)
    for file in list((tmp_path / "001").iterdir()):
        file.rename(file.with_name(file.name.replace(".gold.", ".ann.")))
    assert {trace.rater for trace in _traces(tmp_path)} == {"ann"}


def test_scores_without_confidence_or_value_are_missing(tmp_path: Path) -> None:
    made.nova(tmp_path)
    _edit(tmp_path / f"{_HEADER}~", lambda text: text.replace(";1", ";0", 1))
    lines = (tmp_path / f"{_HEADER}~").read_text().splitlines()
    made.write_text(tmp_path / f"{_HEADER}~", lines[0], "nan;1", *lines[2:])
    valence = _traces(tmp_path)[1]
    assert np.isnan(valence.value[:2]).all()
    assert np.isfinite(valence.value[2:]).all()
    assert "1 scores with confidence 0" in valence.remarks[0]


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (_HEADER, lambda text: text.replace("CONTINUOUS", "DISCRETE"), "the type 'discrete'"),
        (_HEADER, lambda text: text.replace('sr="25"', 'sr="fast"'), "sr of the scheme is 'fast'"),
        (_HEADER, lambda text: text.replace('sr="25"', 'sr="0"'), "sr = 0, min = -1"),
        (_HEADER, lambda text: text.replace('max="1"', 'max="-1"'), "a scale that ascends"),
        (_HEADER, lambda text: text.replace('name="valence"', 'name="arousal"'), "named for val"),
        (_HEADER, lambda text: text.replace('size="150"', 'size="149"'), "holds 150 scores, and"),
        (_HEADER, lambda text: text[:60], "cannot be read as NOVA's XML"),
        (_HEADER, lambda text: "<!DOCTYPE a><annotation/>", "it has a document type"),
        (_HEADER, lambda text: "<other/>", "holds <other>"),
        (
            f"{_HEADER}~",
            lambda text: "2.5;1\n" + text.split("\n", 1)[1],
            "line 1: the score is 2.5",
        ),
        (f"{_HEADER}~", lambda text: "0,5;1\n" + text, "line 1: '0,5;1' was found"),
        (f"{_HEADER}~", lambda text: "", "holds 0 scores"),
    ],
)
def test_what_cannot_be_is_refused(
    file: str, change: Callable[[str], str], words: str, tmp_path: Path
) -> None:
    made.nova(tmp_path)
    _edit(tmp_path / file, change)
    with pytest.raises(AnnotationError, match=words):
        _traces(tmp_path)


def test_data_that_are_absent_or_cut_are_refused(tmp_path: Path) -> None:
    made.nova(tmp_path, binary=True)
    data = tmp_path / f"{_HEADER}~"
    data.write_bytes(data.read_bytes()[:-3])
    with pytest.raises(AnnotationError, match=r"has 1197 bytes\. Expected pairs of float32"):
        _traces(tmp_path)
    data.write_bytes(struct.pack("<2f", 7, 1) * 150)
    with pytest.raises(AnnotationError, match="score 1: the score is 7"):
        _traces(tmp_path)
    data.unlink()
    with pytest.raises(AnnotationError, match="Expected the data of the annotation beside"):
        _traces(tmp_path)


def test_an_encoding_that_is_not_known_is_refused(tmp_path: Path) -> None:
    made.nova(tmp_path)
    _edit(tmp_path / _HEADER, lambda text: text.replace('"1.0"', '"1.0" encoding="foo"', 1))
    with pytest.raises(AnnotationError, match="cannot be read as NOVA's XML: unknown encoding"):
        _traces(tmp_path)
    assert not is_nova(Location.parse(tmp_path / _HEADER))


@pytest.mark.parametrize("size", ["\u00b2", "0150", "9" * 5000, ""])
def test_a_size_may_be_no_number(size: str, tmp_path: Path) -> None:
    made.nova(tmp_path)
    _edit(tmp_path / _HEADER, lambda text: text.replace('size="150"', f'size="{size}"'))
    if len(size) > 4:
        with pytest.raises(AnnotationError, match="holds 150 scores, and its header states 999"):
            _traces(tmp_path)
    else:
        assert len(_traces(tmp_path)[1].value) == 150
