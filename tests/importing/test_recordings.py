"""Audio files of Ids, by the patterns of a declaration."""

from __future__ import annotations

from pathlib import Path

import pytest

from valence.errors import CorpusError
from valence.importing.declaration import Declaration
from valence.importing.recordings import find_recordings
from valence.storage.location import Location


def _find(root: Path, *ids: str, **declared: object) -> dict[str, list[str]]:
    declaration = Declaration.model_validate(
        {
            "name": "n",
            "title": "t",
            "labels": [{"files": ["{id}.csv"], "time": "t", "valence": "v"}],
            **declared,
        }
    )
    found = find_recordings(Location.parse(root), declaration, ids)
    return {
        name: [sound.file.path[len(str(root)) + 1 :] for sound in each.sounds]
        for name, each in found.items()
    }


def _touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_the_name_without_its_ending_is_the_id(tmp_path: Path) -> None:
    _touch(tmp_path, "a/1.WAV", "b/2.part.flac", "b/1.csv", "b/3.txt", "b/2.wav.md5")
    assert _find(tmp_path, "1", "2.part", "3") == {"1": ["a/1.WAV"], "2.part": ["b/2.part.flac"]}


def test_a_format_that_loses_nothing_comes_first(tmp_path: Path) -> None:
    _touch(tmp_path, "video/1.mp4", "mp3/1.mp3", "wav/1.wav")
    assert _find(tmp_path, "1") == {"1": ["wav/1.wav"]}


def test_parts_of_the_id_find_the_file(tmp_path: Path) -> None:
    _touch(tmp_path, "ID7_vid2.wav", "ID7_vid22_x.wav", "ID77_vid2.wav")
    declared = {
        "audio": [r"ID{person:\d+}_vid{video:\d+}*"],
        "id_parts": r"(?P<person>\d+)_(?P<video>\d+)",
    }
    assert _find(tmp_path, "7_2", "7_22", "77_2", **declared) == {
        "7_2": ["ID7_vid2.wav"],
        "7_22": ["ID7_vid22_x.wav"],
        "77_2": ["ID77_vid2.wav"],
    }


def test_capital_letters_tell_ids_apart(tmp_path: Path) -> None:
    _touch(tmp_path, "a.wav", "A.wav")
    assert _find(tmp_path, "a", "A") == {"A": ["A.wav"], "a": ["a.wav"]}


def test_two_files_of_one_format_are_refused_and_no_file_too(tmp_path: Path) -> None:
    _touch(tmp_path, "x/1.wav", "y/1.wav")
    with pytest.raises(CorpusError, match=r"'1' has 2 audio files: .*x/1.wav' and .*y/1.wav'"):
        _find(tmp_path, "1")
    assert _find(tmp_path, "1", audio=["y/{id}"]) == {"1": ["y/1.wav"]}
    with pytest.raises(CorpusError, match=r"holds no audio file of '2'\. .*--audio DIR"):
        _find(tmp_path, "2")
