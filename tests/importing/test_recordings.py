"""Audio files of Ids, by the patterns of a declaration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import made_corpora as made
from valence.errors import CorpusError
from valence.importing.declaration import Declaration, load_declaration
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


_PATHS = [
    {"files": ["{session}/{role}.csv"], "id": "{session}_{role}", "time": "t", "valence": "v"}
]


@pytest.mark.parametrize("id_parts", [None, "(?P<session>.+)_(?P<role>[^_]+)"])
def test_parts_of_the_path_come_before_those_of_the_id(
    id_parts: str | None, tmp_path: Path
) -> None:
    _touch(tmp_path, "day_1/child_1.csv", "day_1/child_1.wav", "day_1/expert.csv")
    _touch(tmp_path, "day_1/expert.wav", "day_1_child/1.wav")
    declared = {"labels": _PATHS, "audio": ["{session}/{role}"], "id_parts": id_parts}
    assert _find(tmp_path, "day_1_child_1", "day_1_expert", **declared) == {
        "day_1_child_1": ["day_1/child_1.wav"],
        "day_1_expert": ["day_1/expert.wav"],
    }
    # The labels of another session may have the same Id.
    _touch(tmp_path, "day_1_child/1.csv")
    with pytest.raises(CorpusError, match=r"both give the Id 'day_1_child_1'.*different audio"):
        _find(tmp_path, "day_1_child_1", **declared)


def test_nova_finds_the_sound_of_a_role_with_an_underscore(tmp_path: Path) -> None:
    made.nova(tmp_path)
    for file in list((tmp_path / "001").iterdir()):
        file.rename(file.with_name(file.name.replace("expert", "child_1")))
    found = find_recordings(Location.parse(tmp_path), load_declaration("nova"), ["001_child_1"])
    assert found["001_child_1"].sounds[0].file.name == "child_1.audio.wav"
