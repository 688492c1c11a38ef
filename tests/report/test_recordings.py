"""The best and worst recordings of a run: how they are chosen, and the pages that play them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from valence.figures import Track
from valence.prediction.predictor import Predictor
from valence.report.analysis.results import read_evidence
from valence.report.analysis.robustness import measure
from valence.report.analysis.scores import find
from valence.report.page.recordings import recordings
from valence.report.recordings import rank, write_pages
from valence.run import Run
from valence.segments.store import SegmentStore
from valence.storage.location import Location


def _track(name: str, ccc: float | None) -> Track:
    return Track(name, np.zeros(1), np.zeros(1), np.zeros(1), ccc)


def _ranks(*scores: float | None) -> list[tuple[str, str]]:
    tracks = [_track(str(number), score) for number, score in enumerate(scores)]
    return [(each.kind, each.recording) for each in rank(tracks)]


def test_three_of_each_are_chosen_and_none_is_both() -> None:
    assert _ranks(0.1, 0.9, 0.5, None, -0.2, 0.3, 0.8, 0.2) == [
        ("best", "1"),
        ("best", "6"),
        ("best", "2"),
        ("worst", "4"),
        ("worst", "0"),
        ("worst", "7"),
    ]
    assert _ranks(0.1, 0.9, 0.5) == [("best", "1"), ("best", "2"), ("worst", "0")]
    assert _ranks(0.4, 0.4) == [("best", "0"), ("worst", "1")]
    assert _ranks(0.4) == [("best", "0")]
    assert _ranks(None) == []


def _data(page: Path) -> dict[str, Any]:
    (found,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text()
    )
    data: dict[str, Any] = json.loads(found)
    return data


def test_pages_of_the_test_recordings_lie_beside_the_report(reported: Run) -> None:
    folder = Path(reported.folder("report").path)
    report = (folder / "report.html").read_text()
    links = re.findall(r'<a href="(recordings/[^"]+)">([^<]+)</a>', report)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert len(links) == len({name for _, name in links}) > 0
    assert links[0][0] == "recordings/best-1.html"
    store = SegmentStore(reported.folder("segments"))
    for address, name in links:
        page = folder / address
        assert f"<h1>{name}</h1>" in page.read_text()
        (curve,) = _data(page)["curves"]
        stored = store.read(name)
        assert len(curve["predicted"]) == len(stored)
        annotated = [np.nan if each is None else each for each in curve["annotated"]]
        np.testing.assert_allclose(annotated, stored.valence, rtol=1e-6)
    noted = reported.stage("report").noted()
    assert noted is not None
    assert {address for address, _ in links} <= set(noted)
    # The band is the error that the report states.
    mse = metrics["deep"]["test"]["mse"]
    assert f"valence ± {mse**0.5:.2f}" in (folder / links[0][0]).read_text()


def test_an_address_that_cannot_be_opened_here_costs_the_pages_alone(
    finished_run: Run, tmp_path: Path
) -> None:
    evidence = read_evidence(finished_run)
    # Such an address is refused as wrong use, as is one whose package is missing.
    moved = replace(evidence, record={**evidence.record, "corpus": "https://example.org/corpus"})
    predictor, folder = Predictor.load(finished_run), Location.parse(str(tmp_path / "report"))
    ranked = write_pages(moved, find(evidence), predictor, folder)
    assert len(ranked) > 0
    assert all("the corpus cannot be read now" in each.why_not for each in ranked)
    assert str(measure(moved, predictor)).startswith("Not measured, because the corpus")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("gone", "the corpus cannot be read now"),
        ("changed", "the corpus now holds another sound than this run was made from"),
        ("lost", "the corpus does not hold it now"),
        ("unreadable", "its sound cannot be read now"),
    ],
)
def test_without_the_sound_the_section_says_why(
    finished_run: Run, tmp_path: Path, fault: str, reason: str
) -> None:
    evidence = read_evidence(finished_run)
    corpus, other = Path(str(evidence.record["corpus"])), tmp_path / "corpus"
    findings, folder = find(evidence), Location.parse(str(tmp_path / "report"))
    shown = {each.recording for each in rank(findings.tracks[findings.headline])}
    if fault != "gone":
        _copy_with(corpus, other, fault, shown)
    moved = replace(evidence, record={**evidence.record, "corpus": str(other)})
    ranked = write_pages(moved, findings, Predictor.load(finished_run), folder)
    assert len(ranked) > 0
    assert all(reason in each.why_not and not each.page for each in ranked)
    assert not folder.exists()
    section = recordings(ranked, moved, findings)
    assert section is not None
    kinds = [part.kind for part in section.parts]
    assert kinds[0] == "table"
    assert set(kinds[1:]) == {"text"}
    assert reason in section.parts[1].text
    assert all(ranked_.recording in " ".join(p.text for p in section.parts) for ranked_ in ranked)


def _copy_with(corpus: Path, other: Path, fault: str, shown: set[str]) -> None:
    """Copy a corpus in which the sound of some recordings is changed, lost or unreadable."""
    audio = other / "raw_data" / "audio"
    audio.mkdir(parents=True)
    for part in ("label_segments", "metadata"):
        (other / part).symlink_to(corpus / part)
    for file in (corpus / "raw_data" / "audio").iterdir():
        if file.stem not in shown:
            (audio / file.name).symlink_to(file)
        elif fault == "changed":
            (audio / file.name).write_bytes(file.read_bytes() + b"\0\0")
        elif fault == "unreadable":
            (audio / file.name).symlink_to(tmp := other / "nowhere" / file.name)
            assert not tmp.exists()
