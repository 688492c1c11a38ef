"""What `valence check` prints: every reason in full, at any width of a terminal and in a pipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.corpora.check import check, listing
from tests.helpers.feature_sets import taking, write_features
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.errors import FeatureError
from valence.segments.inspection import Finding
from valence.storage.location import Location

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


def test_feature_sets_are_named_below_the_recordings(
    tiny_corpus: Location, tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("raw_data", "label_segments", "metadata"):
        (tmp_path / folder).symlink_to(Path(tiny_corpus.path) / folder)
    corpus = read_corpus(Location.parse(tmp_path))
    check(corpus, tiny_config)
    assert "feature set" not in capsys.readouterr().out
    ids = [each.id for each in corpus.recordings]
    folder = Location.parse(tmp_path) / "feature_segments/toy"
    for name in ids[1:]:
        write_features(folder, name, np.ones((80, 5)))
    write_features(folder, ids[1], np.ones((90, 5)))
    check(corpus, tiny_config)
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("feature set toy"))
    assert lines[start] == (
        "feature set toy, in feature_segments: 5 columns, a row for each segment, files for 5 of 6 "
        "recordings"
    )
    assert lines[start + 1].startswith(f"  no file for '{ids[0]}'. ")
    assert lines[start + 2].endswith(f"'{ids[1]}.csv' is 5 s longer than the recording")
    with pytest.raises(FeatureError, match=f"no features that can be used for '{ids[0]}'"):
        check(corpus, taking(tiny_config))
    write_features(folder, ids[0], np.ones((80, 5)))
    check(corpus, taking(tiny_config))
