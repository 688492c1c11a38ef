from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.layouts import AUDIO, labels, make, write
from valence.corpus.muse import read_corpus, subject_of
from valence.errors import CorpusError
from valence.storage.location import Location


def test_recordings_are_listed_with_labels_subject_and_partition(tmp_path: Path) -> None:
    root = make(
        tmp_path,
        [
            f"{AUDIO}/10.wav",
            f"{AUDIO}/2.FLAC",
            f"{AUDIO}/8_devel.ogg",
            f"{AUDIO}/9_test.mp3",
            f"{AUDIO}/.10.wav.swp",
            "label_segments/valence/10.csv",
            "label_segments/valence/2.csv",
            "label_segments/arousal/2.csv",
            "label_segments/physio-arousal/2.csv",
            "label_segments/physio-arousal/10.csv",
            "label_segments/anno12_EDA/10.csv",
        ],
    )
    write(tmp_path, "metadata/partition.csv", "Id,Proposal\n2,train\n8_devel,devel\n10,test\n")
    corpus = read_corpus(root)
    assert [recording.id for recording in corpus.recordings] == ["10", "2", "8_devel", "9_test"]
    ten, two, eight, nine = corpus.recordings
    assert ten.audio.path == f"{tmp_path}/{AUDIO}/10.wav"
    assert {name: file.path for name, file in ten.labels.items()} == {
        "valence": f"{tmp_path}/label_segments/valence/10.csv",
        "arousal": f"{tmp_path}/label_segments/physio-arousal/10.csv",
    }
    assert two.labels["arousal"].path == f"{tmp_path}/label_segments/arousal/2.csv"
    assert eight.labels == {}
    assert [r.subject for r in corpus.recordings] == ["10", "2", "8", "9"]
    assert [r.partition for r in corpus.recordings] == ["test", "train", "devel", None]
    assert nine.remarks == ("is not named in metadata/partition.csv",)
    assert corpus.subjects == "unknown"
    assert ten.remarks == two.remarks == eight.remarks == ()
    assert corpus.missing == ()
    assert corpus.remarks == (corpus.subjects_remark,)


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("8_devel", "8"),
        ("8_train", "8"),
        ("8_test", "8"),
        ("8_dev", "8_dev"),
        ("a_test_b", "a_test_b"),
    ],
)
def test_the_subject_is_the_id_less_its_suffix(name: str, subject: str) -> None:
    assert subject_of(name) == subject


def test_names_in_another_unicode_form_are_joined_and_remarked(tmp_path: Path) -> None:
    composed, split = "Zo\u00eb", "Zoe\u0308"
    root = make(
        tmp_path,
        [
            f"{AUDIO}/{split}.wav",
            f"{AUDIO}/2.wav",
            f"label_segments/valence/{composed}.csv",
            "label_segments/valence/2.csv",
        ],
    )
    write(tmp_path, "metadata/partition.csv", f"Id,Proposal\n{composed},train\n2,devel\n")
    write(tmp_path, "metadata/subjects.csv", f"Id,subject\n{composed},z\n2,y\n")
    corpus = read_corpus(root)
    two, zoe = corpus.recordings
    assert (zoe.id, zoe.partition, zoe.subject) == (split, "train", "z")
    assert zoe.labels["valence"].stem == composed
    (remark,) = zoe.remarks
    assert "another Unicode form" in remark
    assert two.remarks == corpus.missing == corpus.remarks == ()


def test_two_files_whose_names_look_alike_are_not_mixed(tmp_path: Path) -> None:
    composed, split = "Zo\u00eb", "Zoe\u0308"
    labels = "label_segments/valence"
    root = make(
        tmp_path,
        [
            f"{folder}/{name}"
            for folder, end in ((AUDIO, "wav"), (labels, "csv"))
            for name in (f"{composed}.{end}", f"{split}.{end}")
        ],
    )
    (zoe,) = read_corpus(root).recordings
    assert zoe.audio.stem == zoe.id == zoe.labels["valence"].stem
    audio, annotated = zoe.remarks
    assert "differ only in their Unicode form (NFC, NFD)" in audio
    assert "has 2 label files in label_segments/valence" in annotated


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        (
            "partition",
            "Id,Proposal\n1,train\n2,evaluation\n",
            "line 3: recording '2' is given 'eva",
        ),
        (
            "partition",
            "Id,Proposal\n1,train\n1,test\n",
            "line 3: recording '1' is test here and tr",
        ),
        ("partition", "Id,Proposal\n1\n", "line 2: '1' was found"),
        ("subjects", "Id,subject\n1,\n", "line 2: recording '1' has no subject"),
        ("subjects", "Id,subject\n1,NaN\n2,NaN\n", "line 2: recording '1' has no subject"),
        ("partition", ",utterance,x\n0,7,train\n1,8,test\n", "whole numbers in column 1 may"),
        ("subjects", "1,2\n2,1\n", "Ids of recordings in column 1 and other ones in column 2"),
        ("subjects", "Id,subject\n1,a\n1,b\n", "line 3: recording '1' has subject 'b'"),
        ("partition", "Id,Proposal\n1,train,x\n", "line 2: .* 3 filled cells"),
        ("partition", "Id,file,Partition\n1,2,train\n2,1,devel\n", "'Id' .* 'file'"),
        ("partition", "Id,a,b\n1,train,test\n", "the Proposal in the column 'a' or .* 'b'"),
        ("partition", "Id,note\n1,x\n", "none is called Proposal or holds only dev, "),
        ("partition", "stimulus,split\nx,train\n", "none holds Ids of the recordings"),
        ("partition", "Id,Proposal\n1,Test1\n", "line 2: recording '1' is given 'Test1'"),
        ("subjects", "Id,speaker,participant\n1,a,x\n2,a,y\n", "'speaker' or .* 'participant'"),
        ("subjects", "Id,age\n1,31\n", "none is called subject"),
        ("subjects", "1,anna,x\n", "begins with the row 1, anna, x .* whole numbers in col"),
        ("subjects", "Id,subject\n01,a\n02,b\n", "names '01', '02', and none of the 2 recordings"),
    ],
)
def test_metadata_that_cannot_be_used_is_refused(
    tmp_path: Path, name: str, text: str, found: str
) -> None:
    root = make(tmp_path, [f"{AUDIO}/1.wav", f"{AUDIO}/2.wav"])
    write(tmp_path, f"metadata/{name}.csv", text)
    with pytest.raises(CorpusError, match=found) as raised:
        read_corpus(root)
    assert f"{tmp_path}/metadata/{name}.csv" in str(raised.value)


def test_of_two_files_of_an_id_the_better_is_used_and_remarked(tmp_path: Path) -> None:
    root = make(tmp_path, [f"{AUDIO}/{name}" for name in ("1.mp3", "1.wav", "1.flac", "2.ogg")])
    one, two = read_corpus(root).recordings
    assert one.audio.name == "1.wav"
    assert one.remarks == ("has 3 audio files; '1.wav' is used, not '1.flac', '1.mp3'",)
    assert two.remarks == ()


def test_what_has_no_audio_is_told(tmp_path: Path) -> None:
    root = make(
        tmp_path,
        [
            f"{AUDIO}/1.wav",
            f"{AUDIO}/notes.txt",
            *(f"label_segments/valence/{i}.csv" for i in "13"),
        ],
    )
    write(tmp_path, "metadata/partition.csv", "Id,Proposal\n1,train\n2,devel\n")
    corpus = read_corpus(root)
    assert corpus.missing == ("2", "3")
    assert corpus.remarks == (
        "raw_data/audio has 1 file ('notes.txt') that is no audio",
        "2 recordings ('2', '3') are named elsewhere and have no audio",
    )


def test_names_that_differ_in_case_only_are_remarked(tmp_path: Path) -> None:
    audio = ("Anna.wav", "ben.wav", "8_Devel.wav", "Zoë.wav")
    root = make(tmp_path, [f"{AUDIO}/{name}" for name in audio])
    write(tmp_path, "label_segments/valence/anna.csv", labels(6))
    write(tmp_path, "label_segments/valence/ben.csv", labels(6))
    corpus = read_corpus(root)
    assert corpus.missing == ("anna",)
    assert (
        "1 name in label_segments or metadata/partition.csv and that of the audio differ in "
        "capital and small letters only: 'anna' ('Anna'); such files are not joined: write both "
        "names alike"
    ) in corpus.remarks
    write(
        tmp_path, "metadata/partition.csv", "Id,Proposal\nANNA,train\nben,devel\nZOE\u0308,test\n"
    )
    write(tmp_path, "metadata/subjects.csv", "Id,subject\nben,b\nanna,a\n8_Devel,c\nZoë,z\n")
    cased = [remark for remark in read_corpus(root).remarks if "letters only" in remark]
    assert len(cased) == 2
    assert "3 names in label_segments or metadata/partition.csv" in cased[0]
    assert "'ANNA' ('Anna')" in cased[0]
    assert "'anna' ('Anna')" in cased[0]
    assert "1 name in metadata/subjects.csv and that" in cased[1]


def test_a_corpus_without_any_label_says_so(tmp_path: Path) -> None:
    corpus = read_corpus(make(tmp_path, [f"{AUDIO}/1.wav"]))
    assert corpus.remarks == ("label_segments/valence holds no label file",)


@pytest.mark.parametrize(
    ("files", "inside", "found"),
    [
        ([], "absent", "there is no such folder"),
        (["a.txt"], "a.txt", "it is a file"),
        (["a.txt"], "", "it has no folder raw_data/audio"),
        ([f"{AUDIO}/1.wav"], "raw_data", "it has no folder raw_data/audio"),
        ([f"{AUDIO}/readme.txt"], "", "raw_data/audio holds no audio file"),
        (["raw_data/audio"], "", "it has no folder raw_data/audio"),
    ],
)
def test_a_folder_that_is_no_corpus_is_refused(
    tmp_path: Path, files: list[str], inside: str, found: str
) -> None:
    make(tmp_path, files)
    with pytest.raises(CorpusError, match=rf"is no corpus: {found}\. Expected the MuSe layout"):
        read_corpus(Location.parse(tmp_path / inside))


def test_each_folder_is_listed_once_and_no_recording_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{i:03d}" for i in range(200)]
    files = [f"{AUDIO}/{name}.wav" for name in names]
    for target in ("valence", "arousal"):
        files += [f"label_segments/{target}/{name}.csv" for name in names]
    root = make(tmp_path, files)
    write(tmp_path, "metadata/partition.csv", "".join(f"{name},train\n" for name in names))
    listed, asked = [], []
    scandir, info = os.scandir, Location.info

    def watched_scandir(folder: Path) -> object:
        listed.append(folder.relative_to(tmp_path).as_posix())
        return scandir(folder)

    def watched_info(location: Location) -> object:
        asked.append(location.name)
        return info(location)

    monkeypatch.setattr(os, "scandir", watched_scandir)
    monkeypatch.setattr(Location, "info", watched_info)
    assert len(read_corpus(root).recordings) == 200
    assert sorted(listed) == [
        "label_segments/arousal",
        "label_segments/physio-arousal",
        "label_segments/valence",
        "raw_data/audio",
    ]
    assert asked == ["synthetic.json"]
