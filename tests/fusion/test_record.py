"""What a fused corpus says of its raters: written, read back, and doubted once labels change."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.raters import trace
from valence.config import FuseConfig
from valence.errors import CorpusError
from valence.formatting import raters_agree
from valence.fusion.gold_standard import Fused, fuse_traces
from valence.fusion.record import AGREEMENT, PAIRS, RECORD, read_agreement, write_fusion
from valence.metrics import concordance
from valence.storage.location import Location

_WAVE = np.array([-0.3, -0.1, 0.2, 0.4, 0.1, -0.2, -0.4, 0.0])
_SETTINGS = FuseConfig(standardize="none", align="none", smooth="none", method="mean")


def _found() -> list[Fused]:
    """Two recordings of two raters, one of a single rater, one whose raters oppose."""
    return fuse_traces(
        [
            *(trace(_WAVE + 0.1 * n, rater="ab"[n], id="1") for n in range(2)),
            *(trace(0.5 * _WAVE - 0.2 * n, rater="ab"[n], id="2") for n in range(2)),
            trace(_WAVE, rater="a", id="3"),
            *(trace(sign * _WAVE, rater=str(sign), id="4") for sign in (1, -1)),
        ],
        _SETTINGS,
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Location:
    root = Location.parse(tmp_path / "corpus")
    for name in "123":
        (root / f"label_segments/valence/{name}.csv").write_text("timestamp,value\n0,0.1\n")
    (root / "metadata").local.mkdir()  # type: ignore[union-attr]
    write_fusion(root, _found(), _SETTINGS, set_aside=["'5' has traces and no audio file"])
    return root


def _rows(file: Location) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.read_text())))


def test_the_table_has_recordings_their_mean_and_all_together(corpus: Location) -> None:
    rows = {(row["of"], row["Id"], row["values"]): row for row in _rows(corpus / AGREEMENT)}
    one = concordance(_WAVE, _WAVE + 0.1)
    two = concordance(0.5 * _WAVE, 0.5 * _WAVE - 0.2)
    first, second = [_WAVE, 0.5 * _WAVE], [_WAVE + 0.1, 0.5 * _WAVE - 0.2]
    both = concordance(np.concatenate(first), np.concatenate(second))
    # Another pair of raters opposes in the fourth recording: of 24 shared steps it has 8.
    opposed = concordance(_WAVE, -_WAVE)
    assert float(rows["recording", "1", "rated"]["ccc"]) == pytest.approx(one, abs=1e-6)
    mean = (one + two + opposed) / 3
    assert float(rows["mean", "", "rated"]["ccc"]) == pytest.approx(mean, abs=1e-6)
    assert float(rows["mean", "", "fused"]["ccc"]) == pytest.approx((one + two) / 2, abs=1e-6)
    expected = (2 * both + opposed) / 3
    assert float(rows["all", "", "rated"]["ccc"]) == pytest.approx(expected, abs=1e-6)
    assert float(rows["all", "", "fused"]["ccc"]) == pytest.approx(both, abs=1e-6)
    # A single rater agrees with nobody, and raters who oppose were not fused.
    assert rows["recording", "3", "rated"]["ccc"] == ""
    assert float(rows["recording", "4", "rated"]["pcc"]) == -1
    assert ("recording", "4", "fused") not in rows
    assert rows["all", "", "fused"]["complete"] == "16"
    assert [rows["all", "", values]["pairs"] for values in ("rated", "fused")] == ["2", "1"]


def test_every_pair_has_a_row(corpus: Location) -> None:
    rows = _rows(corpus / PAIRS)
    assert [(row["Id"], row["values"], row["rater"], row["other"]) for row in rows] == [
        ("1", "rated", "a", "b"),
        ("1", "fused", "a", "b"),
        ("2", "rated", "a", "b"),
        ("2", "fused", "a", "b"),
        ("4", "rated", "1", "-1"),
    ]
    assert float(rows[0]["ccc"]) == pytest.approx(concordance(_WAVE, _WAVE + 0.1), abs=1e-6)
    assert rows[0]["steps"] == "8"


def test_the_record_holds_settings_raters_and_problems(corpus: Location) -> None:
    record = (corpus / RECORD).read_json()
    assert FuseConfig.model_validate(record["settings"]) == _SETTINGS
    assert record["set_aside"] == ["'5' has traces and no audio file"]
    raters = record["recordings"]["1"]["valence"]["raters"]
    assert [(each["rater"], each["weight"], each["delay"]) for each in raters] == [
        ("a", 0.5, 0.0),
        ("b", 0.5, 0.0),
    ]
    assert record["recordings"]["4"]["valence"]["problem"].startswith("raters '1', '-1' oppose")
    assert record["recordings"]["3"]["valence"]["as_rated"]["ccc"] is None


def test_agreement_is_read_back_for_labels_as_they_were_fused(corpus: Location) -> None:
    agreement, remark = read_agreement(corpus)
    assert remark == ""
    assert agreement is not None
    of = agreement["valence"]
    assert (of["recordings"], of["recordings_rated"], of["step"]) == (3, 4, 0.5)
    # Raters 1 and -1 are those of the recording that was set aside.
    assert of["raters"] == of["as_rated"]["raters"] == 4
    assert of["as_fused"]["raters"] == 2
    said = raters_agree(agreement, "valence")
    assert "4 raters, steps of 0.5 s, 4 recordings)" in said
    assert "after the steps that precede fusing (3 recordings)." in said
    (row,) = (r for r in _rows(corpus / AGREEMENT) if (r["of"], r["values"]) == ("all", "rated"))
    assert of["as_rated"]["ccc"] == float(row["ccc"])
    # A copy has other times and the same content.
    file = corpus / "label_segments/valence/1.csv"
    os.utime(file.path, (1, 1))
    assert read_agreement(corpus) == (agreement, "")


def test_a_target_without_any_curve_has_rows_as_rated_alone(tmp_path: Path) -> None:
    root = Location.parse(tmp_path / "corpus")
    (root / "label_segments/valence/1.csv").write_text("timestamp,value\n0,0.1\n")
    found = fuse_traces(
        [
            *(trace(_WAVE, rater=name) for name in "ab"),
            *(trace(sign * _WAVE, rater=str(sign), target="arousal") for sign in (1, -1)),
        ],
        _SETTINGS,
    )
    assert list(write_fusion(root, found, _SETTINGS, set_aside=[])) == ["valence"]
    rows = [(r["target"], r["of"], r["values"]) for r in _rows(root / AGREEMENT)]
    assert [row for row in rows if row[0] == "arousal"] == [
        ("arousal", "recording", "rated"),
        ("arousal", "mean", "rated"),
        ("arousal", "all", "rated"),
    ]


@pytest.mark.parametrize("change", ["edited", "gone"])
def test_other_labels_have_no_agreement(corpus: Location, change: str) -> None:
    file = corpus / "label_segments/valence/2.csv"
    file.write_text("timestamp,value\n0,0.9\n") if change == "edited" else file.delete()
    os.utime((corpus / "label_segments/valence/1.csv").path, (1, 1))
    agreement, remark = read_agreement(corpus)
    assert agreement is None
    assert "2.csv' " in remark
    assert "is not stated" in remark


def test_a_corpus_that_was_not_fused_has_no_agreement(tmp_path: Path) -> None:
    assert read_agreement(Location.parse(tmp_path)) == (None, "")


@pytest.mark.parametrize("content", ["", "{", '{"format": 1}', '{"format": 1, "agreement": {}, '
                                     '"files": {"a": {"bytes": 3}}}'])  # fmt: skip
def test_a_damaged_record_is_an_error_with_a_remedy(corpus: Location, content: str) -> None:
    (corpus / RECORD).write_text(content)
    with pytest.raises(CorpusError, match=r"is damaged: .* Run 'valence fuse' again"):
        read_agreement(corpus)
