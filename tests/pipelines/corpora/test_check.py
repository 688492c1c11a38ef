"""What `valence check` prints: every reason in full, at any width of a terminal and in a pipe."""

from __future__ import annotations

import pytest

from pipelines.corpora.check import listing
from valence.segments.inspection import Finding

_REASON = (
    "'/data/a folder/raw_data/audio/x.wav' is not audio that can be decoded. Expected WAV, FLAC, "
    "Ogg or MP3; it may be damaged, or another kind of file under that name."
)
_LONG = "a-recording-whose-name-says-everything-about-who-spoke-where-and-when"


def _finding(id: str, **facts: object) -> Finding:
    return Finding(
        id, id, "validation", duration=123.4, sr=16000, channels=1, format="wav", labelled=1.0,
        **facts,  # type: ignore[arg-type]
    )  # fmt: skip


_FINDINGS = [
    _finding("01"),
    _finding("02", remarks=("is short",)),
    _finding("03", problem=_REASON, remarks=("is not named in metadata/partition.csv",)),
    _finding(_LONG, problem=_REASON),
    _finding("録音" * 30, problem=_REASON),
    _finding("b[bold]k :cat:\x1b[31m"),
]


@pytest.mark.parametrize("width", [None, 1, 40, 80, 100, 160, 240, 400])
def test_nothing_is_cut_at_any_width(width: int | None) -> None:
    lines = listing(_FINDINGS, width)
    text = " ".join(" ".join(lines).split())
    assert text.count(f"REJECTED: {_REASON}") == 3
    for words in ("is short", "is not named in metadata/partition.csv", _LONG, "録音" * 30):
        assert words in text
    assert "…" not in text
    # What would steer the terminal is shown as an escape.
    assert "b[bold]k :cat:\\x1b[31m" in text


@pytest.mark.parametrize("width", [80, 100, 160])
def test_lines_fit_where_their_words_do(width: int) -> None:
    lines = listing(_FINDINGS[:4], width)
    assert max(map(len, lines)) <= width
    # One long name does not take the table from the others.
    assert lines[1].split() == ["01", "01", "validation", "123.4", "16000", "1", "wav", "100%"]
    assert lines[lines.index(_LONG) + 1].startswith("    subject")


def test_a_reason_stands_behind_the_facts_where_it_fits() -> None:
    lines = listing(_FINDINGS[:3], 100)
    assert lines[2].endswith("100%  is short")
    assert lines[3].endswith("100%")
    assert lines[4].startswith("    REJECTED: '/data/a folder")


def test_a_pipe_gets_a_line_for_each_recording() -> None:
    lines = listing(_FINDINGS, None)
    assert len(lines) == 1 + len(_FINDINGS)
    assert lines[0].split()[-5:] == ["what", "is", "wrong,", "and", "remarks"]
