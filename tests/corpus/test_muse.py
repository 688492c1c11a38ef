from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from valence.config import Config, SplitConfig
from valence.corpus.muse import read_corpus, subject_of
from valence.corpus.splits import assign_splits
from valence.corpus.synthetic import write_corpus
from valence.errors import ConfigError, CorpusError, SplitError
from valence.segments.inspection import Finding, check_corpus, remarks_on_rates, remarks_on_stamps
from valence.segments.preprocessing import Job, process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location


def _make(root: Path, files: Iterable[str]) -> Location:
    for name in files:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return Location.parse(root)


def _write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


_AUDIO = "raw_data/audio"


def test_recordings_are_listed_with_labels_subject_and_partition(tmp_path: Path) -> None:
    root = _make(
        tmp_path,
        [
            f"{_AUDIO}/10.wav",
            f"{_AUDIO}/2.FLAC",
            f"{_AUDIO}/8_devel.ogg",
            f"{_AUDIO}/9_test.mp3",
            f"{_AUDIO}/.10.wav.swp",
            "label_segments/valence/10.csv",
            "label_segments/valence/2.csv",
            "label_segments/arousal/2.csv",
            "label_segments/physio-arousal/2.csv",
            "label_segments/physio-arousal/10.csv",
            "label_segments/anno12_EDA/10.csv",
        ],
    )
    _write(tmp_path, "metadata/partition.csv", "Id,Proposal\n2,train\n8_devel,devel\n10,test\n")
    corpus = read_corpus(root)
    assert [recording.id for recording in corpus.recordings] == ["10", "2", "8_devel", "9_test"]
    ten, two, eight, nine = corpus.recordings
    assert ten.audio.path == f"{tmp_path}/{_AUDIO}/10.wav"
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


def test_subjects_csv_overrides(tmp_path: Path) -> None:
    root = _make(tmp_path, [f"{_AUDIO}/{name}.wav" for name in ("a1", "a2", "b_train")])
    _write(tmp_path, "metadata/subjects.csv", "subject,note,Id\nanna,x,a1\nanna,,a2\nzoe,,gone\n")
    corpus = read_corpus(root)
    assert [recording.subject for recording in corpus.recordings] == ["anna", "anna", "b"]
    assert "metadata/subjects.csv names 1 recording ('gone') without audio" in corpus.remarks


@pytest.mark.parametrize(
    "text",
    [
        "Id,Proposal\n1,train\n2,devel\n3,test\n",
        "Proposal,age,Id\ntrain,31,1\ndevel,,2\ntest,40,3\n",
        "id,proposal\n1,Train\n2,dev\n3,test\n1,train\n",
        "name,age,part\n1,31,train\n2,,devel\n3,40,test\n",
        "1,train\n2,devel\n3,test\n",
        "\ufeffId,Proposal\r\n1,train\r\n\r\n2,devel\r\n3,test",
        "Id;Proposal\n1;train\n2;devel\n3;test\n",
        ",file,Partition\n0,3,test\n1,1,Training\n2,2,val\n",
        ",clip,x\n0,3.wav,test\n1,1.wav,train\n2,2.wav,devel\n",
        "id,stimulus,split\nx7,1.wav,train\nx8,2.wav,devel\nx9,3.wav,test\n",
        "Id,file_name,set,partition\n1,audio/1.wav,A,train\n2,2.WAV,B,devel\n3,3.wav,A,test\n",
        "train,1\ndevel,2\ntest,3\n",
        "Id,Proposal,\n1,train,\n2,devel,\n3,test,\n",
    ],
    ids=[
        *("MuSe", "another order", "case", "by content", "no header", "BOM and CRLF", "semicolons"),
        *("index of pandas", "index and unknown names", "an Id that is none", "two alike"),
        *("no header, turned", "trailing commas"),
    ],
)
def test_partition_is_read_by_name_else_by_content(tmp_path: Path, text: str) -> None:
    root = _make(tmp_path, [f"{_AUDIO}/{name}.wav" for name in "123"])
    _write(tmp_path, "metadata/partition.csv", text)
    partition = {r.id: r.partition for r in read_corpus(root).recordings}
    assert partition == {"1": "train", "2": "devel", "3": "test"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (",file,Partition\n0,r0,train\n1,r3,devel\n", "names 'r0', 'r3', and none of the 4"),
        (",file,Partition\n3,r0,train\n0,r3,devel\n", "names 'r0', 'r3', and none of the 4"),
        ('"","file","Partition"\n"1","r0","train"\n"2","r1","test"\n', "names 'r0', 'r1', and"),
        ("No,recording_file,Partition\n0,r3,train\n1,r2,devel\n", "whole numbers in .* 'No' may"),
        (",index,recording_file,Partition\n0,0,a,train\n1,1,b,test\n", "numbers in column 1 may"),
        (",utt,Partition\n3,0,train\n0,3,devel\n", "Ids of recordings in column 1 and other .*ut"),
        ("fold,talk,Partition\n1,a,train\n1,b,train\n2,c,test\n", "whole numbers in .* 'fold'"),
        ("2,r1,train\n0,r2,test\n", "whole numbers in column 1 may"),
        (",talk,gender,Partition\n2,t7,f,train\n3,t8,m,test\n", "whole numbers in column 1 may"),
    ],
    ids=[
        *("pandas", "pandas, shuffled", "R", "a number by another name", "two indices"),
        *("two that may be Ids", "a fold", "no header", "further columns"),
    ],
)
def test_numbers_that_may_count_rows_are_not_taken_for_ids(
    tmp_path: Path, text: str, found: str
) -> None:
    root = _make(tmp_path, [f"{_AUDIO}/{name}.wav" for name in "0123"])
    _write(tmp_path, "metadata/partition.csv", text)
    with pytest.raises(CorpusError, match=found):
        read_corpus(root)


@pytest.mark.parametrize(
    "text",
    [
        "3,train\n0,devel\n1,test\n2,train\n",
        "No,split\n3,train\n0,devel\n1,test\n2,train\n",
        "No,split,speaker\n3,train,a\n0,devel,b\n1,test,c\n2,train,d\n",
        ",utt,split\n0,3.wav,train\n1,0.wav,devel\n2,1.wav,test\n3,2.wav,train\n",
    ],
)
def test_numbers_are_ids_where_nothing_else_can_be(tmp_path: Path, text: str) -> None:
    root = _make(tmp_path, [f"{_AUDIO}/{name}.wav" for name in "0123"])
    _write(tmp_path, "metadata/partition.csv", text)
    partition = {r.id: r.partition for r in read_corpus(root).recordings}
    assert partition == {"0": "devel", "1": "test", "2": "train", "3": "train"}


@pytest.mark.parametrize(
    "text", ["0,1\n1,1\n2,2\n3,2\n", "1,0\n1,1\n2,2\n2,3\n", "0,a\n1,a\n2,b\n3,b\n"]
)
def test_of_two_columns_without_names_that_of_ids_is_found(tmp_path: Path, text: str) -> None:
    root = _make(tmp_path, [f"{_AUDIO}/{name}.wav" for name in "0123"])
    _write(tmp_path, "metadata/subjects.csv", text)
    zero, one, two, three = (recording.subject for recording in read_corpus(root).recordings)
    assert zero == one != two == three


@pytest.mark.parametrize("name", ["partition", "subjects"])
@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("a link to nothing", "a link to 'absent', which leads nowhere"),
        ("a link to itself", "which leads nowhere"),
        ("behind a link to nothing", "cannot be read"),
        ("empty", "holds no row"),
        ("blank", "holds no row"),
        ("a header", "has a header and no row"),
        ("git-LFS", "holds the address of its content .* was not fetched"),
        ("a pipe", "a pipe, a socket or a device"),
    ],
)
def test_a_table_that_is_there_and_says_nothing_is_not_absent(
    tmp_path: Path, name: str, kind: str, found: str
) -> None:
    root = _make(tmp_path, [f"{_AUDIO}/1.wav", f"{_AUDIO}/2.wav"])
    file = tmp_path / "metadata" / f"{name}.csv"
    if kind == "behind a link to nothing":
        file.parent.symlink_to("absent")
    else:
        file.parent.mkdir()
    text = {
        "empty": "",
        "blank": "\n,\n",
        "a header": "Id,Proposal\n" if name == "partition" else "Id,subject\n",
        "git-LFS": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 31\n",
    }
    match kind:
        case "a link to nothing":
            file.symlink_to("absent")
        case "a link to itself":
            file.symlink_to(file.name)
        case "a pipe":
            os.mkfifo(file)
        case "behind a link to nothing":
            pass
        case _:
            file.write_text(text[kind])
    with pytest.raises(CorpusError, match=found) as raised:
        read_corpus(root)
    # Both lie behind the link, and the partition is asked for first.
    message = "partition" if kind == "behind a link to nothing" else name
    assert f"{tmp_path}/metadata/{message}.csv" in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "a1,anna\na2,anna\na3,zoe\n",
        "Id,speaker,group\na1,anna,x\na2,anna,y\na3,zoe,z\n",
        ",FileName,SpkrID\n0,a1.wav,anna\n1,a2.wav,anna\n2,a3.wav,zoe\n",
        "a1.wav;anna\na2.wav;anna\na3.wav;zoe\n",
        "Id,subject,speaker\na1,anna,1\na2,anna,1\na3,zoe,2\na1,anna,1\n",
    ],
    ids=["no header", "further columns", "as pandas writes it", "semicolons", "two that agree"],
)
def test_subjects_are_read_by_name_else_by_content(tmp_path: Path, text: str) -> None:
    root = _make(tmp_path, [f"{_AUDIO}/{name}.wav" for name in ("a1", "a2", "a3")])
    _write(tmp_path, "metadata/subjects.csv", text)
    corpus = read_corpus(root)
    assert [recording.subject for recording in corpus.recordings] == ["anna", "anna", "zoe"]
    assert (corpus.subjects, corpus.subjects_remark) == ("file", "")


def test_a_subject_in_two_parts_is_found_through_a_table_with_further_columns(
    tmp_path: Path,
) -> None:
    root = _make(tmp_path, [f"{_AUDIO}/{name}.wav" for name in "12"])
    _write(tmp_path, "metadata/partition.csv", "Id,Proposal\n1,train\n2,devel\n")
    _write(tmp_path, "metadata/subjects.csv", "Id,speaker,group\n1,anna,x\n2,anna,y\n")
    with pytest.raises(SplitError, match="Subject 'anna' is in train"):
        assign_splits(read_corpus(root), SplitConfig())


@pytest.mark.parametrize(
    ("text", "subjects"),
    [
        ("8_train,tom\n9_train,tom\n", {"tom"}),
        ("8,tom\n9.wav,tom\n", {"tom"}),
        ("8_train,tom\n", {"tom", "9"}),
    ],
    ids=["of one part", "less the suffix", "one of two"],
)
def test_whoever_speaks_in_one_part_of_an_id_speaks_in_all(
    tmp_path: Path, text: str, subjects: set[str]
) -> None:
    names = ("8_train", "8_devel", "8_test", "9_train", "9_test")
    root = _make(tmp_path, [f"{_AUDIO}/{name}.wav" for name in names])
    _write(tmp_path, "metadata/subjects.csv", "Id,subject\n" + text)
    corpus = read_corpus(root)
    by_id = {recording.id: recording.subject for recording in corpus.recordings}
    assert set(by_id.values()) == subjects
    assert by_id["8_train"] == by_id["8_devel"] == by_id["8_test"] == "tom"
    assert corpus.subjects_remark == ""
    assert "they take the subject of the same Id" in "".join(corpus.remarks)
    assert "without audio" not in "".join(corpus.remarks)


def test_a_part_whose_other_parts_have_two_subjects_is_unknown(tmp_path: Path) -> None:
    root = _make(tmp_path, [f"{_AUDIO}/8_{part}.wav" for part in ("train", "devel", "test")])
    _write(tmp_path, "metadata/subjects.csv", "Id,subject\n8_train,tom\n8_devel,ann\n")
    assert "does not name 1 of 3 recordings: '8_test'" in read_corpus(root).subjects_remark


def test_a_name_in_two_spellings_is_one_subject_or_remarked(tmp_path: Path) -> None:
    root = _make(tmp_path, [f"{_AUDIO}/{name}.wav" for name in "1234"])
    text = "Id,subject\n1,Zo\u00eb\n2,Zoe\u0308\n3,Anna\n4,anna\n"
    _write(tmp_path, "metadata/subjects.csv", text)
    corpus = read_corpus(root)
    assert [r.subject for r in corpus.recordings] == ["Zo\u00eb", "Zo\u00eb", "Anna", "anna"]
    assert "writes 'Anna', 'anna', which count as 2 subjects" in "".join(corpus.remarks)


def test_parts_of_an_id_in_two_unicode_forms_have_one_subject(tmp_path: Path) -> None:
    root = _make(tmp_path, [f"{_AUDIO}/{n}.wav" for n in ("Zo\u00eb_train", "Zoe\u0308_test")])
    assert {recording.subject for recording in read_corpus(root).recordings} == {"Zo\u00eb"}


def test_what_a_table_leaves_out_is_told_with_its_effect(tmp_path: Path) -> None:
    root = _make(tmp_path, [f"{_AUDIO}/{name}.wav" for name in "1234"])
    _write(tmp_path, "metadata/partition.csv", "Id,Proposal\n1.wav,train\n2.wav,devel\n")
    _write(tmp_path, "metadata/subjects.csv", "Id,subject\n1,anna\n2,zoe\n")
    corpus = read_corpus(root)
    endings, partition, subjects, _ = corpus.remarks
    assert endings.startswith(
        "metadata/partition.csv writes 2 Ids ('1.wav', '2.wav') with a folder"
    )
    assert "does not name 2 of 4 recordings: '3', '4'; under the protocol" in partition
    assert "subjects are unknown in part" in subjects
    assert "does not name 2 of 4 recordings: '3', '4'; each counts as a subject" in subjects
    assert corpus.subjects_remark == subjects


@pytest.mark.parametrize(
    ("names", "known", "remark"),
    [
        (["1", "2"], "unknown", "name the subjects in metadata/subjects.csv"),
        (["03a01Fa", "03a01Nc"], "unknown", "look like EmoDB's: .*corpus.subjects = 'emodb'"),
        (["03a01Fa_devel", "03a01Fa_test"], "unknown", "corpus.subjects = 'emodb'"),
        (["MSP-PODCAST_0001_0008", "MSP-PODCAST_0001_0009"], "unknown", "MSP-Podcast's.*SpkrID"),
        (["8_devel", "8_test", "9"], "id", ""),
        (["1"], "id", ""),
    ],
)
def test_it_is_said_how_subjects_are_known(
    tmp_path: Path, names: list[str], known: str, remark: str
) -> None:
    corpus = read_corpus(_make(tmp_path, [f"{_AUDIO}/{name}.wav" for name in names]))
    assert corpus.subjects == known
    assert (corpus.subjects_remark in corpus.remarks) is bool(remark)
    assert re.search(remark, corpus.subjects_remark)


def test_a_rule_finds_subjects_and_stands_alone(tmp_path: Path) -> None:
    root = _make(tmp_path, [f"{_AUDIO}/{name}.wav" for name in ("03a01Fa", "03a02Nc_devel")])
    corpus = read_corpus(root, "emodb")
    assert [recording.subject for recording in corpus.recordings] == ["03", "03"]
    assert (corpus.subjects, corpus.subjects_remark) == ("rule", "")
    _write(tmp_path, "metadata/subjects.csv", "Id,subject\n03a01Fa,x\n")
    with pytest.raises(ConfigError, match="'emodb' does as well"):
        read_corpus(root, "emodb")


def test_names_in_another_unicode_form_are_joined_and_remarked(tmp_path: Path) -> None:
    composed, split = "Zo\u00eb", "Zoe\u0308"
    root = _make(
        tmp_path,
        [
            f"{_AUDIO}/{split}.wav",
            f"{_AUDIO}/2.wav",
            f"label_segments/valence/{composed}.csv",
            "label_segments/valence/2.csv",
        ],
    )
    _write(tmp_path, "metadata/partition.csv", f"Id,Proposal\n{composed},train\n2,devel\n")
    _write(tmp_path, "metadata/subjects.csv", f"Id,subject\n{composed},z\n2,y\n")
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
    root = _make(
        tmp_path,
        [
            f"{folder}/{name}"
            for folder, end in ((_AUDIO, "wav"), (labels, "csv"))
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
    root = _make(tmp_path, [f"{_AUDIO}/1.wav", f"{_AUDIO}/2.wav"])
    _write(tmp_path, f"metadata/{name}.csv", text)
    with pytest.raises(CorpusError, match=found) as raised:
        read_corpus(root)
    assert f"{tmp_path}/metadata/{name}.csv" in str(raised.value)


def test_of_two_files_of_an_id_the_better_is_used_and_remarked(tmp_path: Path) -> None:
    root = _make(tmp_path, [f"{_AUDIO}/{name}" for name in ("1.mp3", "1.wav", "1.flac", "2.ogg")])
    one, two = read_corpus(root).recordings
    assert one.audio.name == "1.wav"
    assert one.remarks == ("has 3 audio files; '1.wav' is used, not '1.flac', '1.mp3'",)
    assert two.remarks == ()


def test_what_has_no_audio_is_told(tmp_path: Path) -> None:
    root = _make(
        tmp_path,
        [
            f"{_AUDIO}/1.wav",
            f"{_AUDIO}/notes.txt",
            *(f"label_segments/valence/{i}.csv" for i in "13"),
        ],
    )
    _write(tmp_path, "metadata/partition.csv", "Id,Proposal\n1,train\n2,devel\n")
    corpus = read_corpus(root)
    assert corpus.missing == ("2", "3")
    assert corpus.remarks == (
        "raw_data/audio has 1 file ('notes.txt') that is no audio",
        "2 recordings ('2', '3') are named elsewhere and have no audio",
    )


def test_names_that_differ_in_case_only_are_remarked(tmp_path: Path) -> None:
    audio = ("Anna.wav", "ben.wav", "8_Devel.wav", "Zoë.wav")
    root = _make(tmp_path, [f"{_AUDIO}/{name}" for name in audio])
    _write(tmp_path, "label_segments/valence/anna.csv", _labels(6))
    _write(tmp_path, "label_segments/valence/ben.csv", _labels(6))
    corpus = read_corpus(root)
    assert corpus.missing == ("anna",)
    assert (
        "1 name in label_segments or metadata/partition.csv and that of the audio differ in "
        "capital and small letters only: 'anna' ('Anna'); such files are not joined: write both "
        "names alike"
    ) in corpus.remarks
    _write(
        tmp_path, "metadata/partition.csv", "Id,Proposal\nANNA,train\nben,devel\nZOE\u0308,test\n"
    )
    _write(tmp_path, "metadata/subjects.csv", "Id,subject\nben,b\nanna,a\n8_Devel,c\nZoë,z\n")
    cased = [remark for remark in read_corpus(root).remarks if "letters only" in remark]
    assert len(cased) == 2
    assert "3 names in label_segments or metadata/partition.csv" in cased[0]
    assert "'ANNA' ('Anna')" in cased[0]
    assert "'anna' ('Anna')" in cased[0]
    assert "1 name in metadata/subjects.csv and that" in cased[1]


def test_a_corpus_without_any_label_says_so(tmp_path: Path) -> None:
    corpus = read_corpus(_make(tmp_path, [f"{_AUDIO}/1.wav"]))
    assert corpus.remarks == ("label_segments/valence holds no label file",)


@pytest.mark.parametrize(
    ("files", "inside", "found"),
    [
        ([], "absent", "there is no such folder"),
        (["a.txt"], "a.txt", "it is a file"),
        (["a.txt"], "", "it has no folder raw_data/audio"),
        ([f"{_AUDIO}/1.wav"], "raw_data", "it has no folder raw_data/audio"),
        ([f"{_AUDIO}/readme.txt"], "", "raw_data/audio holds no audio file"),
        (["raw_data/audio"], "", "it has no folder raw_data/audio"),
    ],
)
def test_a_folder_that_is_no_corpus_is_refused(
    tmp_path: Path, files: list[str], inside: str, found: str
) -> None:
    _make(tmp_path, files)
    with pytest.raises(CorpusError, match=rf"is no corpus: {found}\. Expected the MuSe layout"):
        read_corpus(Location.parse(tmp_path / inside))


def test_each_folder_is_listed_once_and_no_recording_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{i:03d}" for i in range(200)]
    files = [f"{_AUDIO}/{name}.wav" for name in names]
    for target in ("valence", "arousal"):
        files += [f"label_segments/{target}/{name}.csv" for name in names]
    root = _make(tmp_path, files)
    _write(tmp_path, "metadata/partition.csv", "".join(f"{name},train\n" for name in names))
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


# check_corpus


_SHORT = Config.resolve(Config(), assignments=["sequence.length=4"])


def _labels(n: int, *, first: int = 0) -> str:
    return "timestamp,value,segment_id\n" + "".join(f"{first + 500 * i},0.5,1\n" for i in range(n))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three good recordings of 3 s at 16 kHz: `a` trains, `b` validates, `c` tests."""
    rng = np.random.default_rng(0)
    for name in "abc":
        file = tmp_path / _AUDIO / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, rng.uniform(-0.1, 0.1, (48_000, 2)), 16_000)
        _write(tmp_path, f"label_segments/valence/{name}.csv", _labels(6))
    _write(tmp_path, "metadata/partition.csv", "Id,Proposal\na,train\nb,devel\nc,test\n")
    return tmp_path


def _check(root: Path, config: Config = _SHORT) -> dict[str, Finding]:
    corpus = read_corpus(Location.parse(root))
    return {finding.id: finding for finding in check_corpus(corpus, config)}


def test_a_good_recording_is_described(small: Path) -> None:
    assert _check(small)["b"] == Finding(
        id="b",
        subject="b",
        split="validation",
        duration=3.0,
        sr=16_000,
        channels=2,
        format="wav",
        labelled=1.0,
        problem=None,
        remarks=(),
    )


def test_the_share_of_labelled_segments_is_of_the_audio(small: Path) -> None:
    _write(small, "label_segments/valence/a.csv", _labels(6).replace("2500,0.5", "2500,"))
    assert _check(small)["a"].labelled == pytest.approx(5 / 6)
    _write(small, "label_segments/valence/a.csv", _labels(3))
    found = _check(small)["a"]
    assert found.labelled == pytest.approx(3 / 6)
    assert found.problem is None
    assert found.remarks == (
        "valence: the labels are 1.5 s shorter than the audio; the first 1.5 s are joined",
    )


def test_a_stated_scale_is_used(small: Path) -> None:
    stated = Config.resolve(_SHORT, assignments=["labels.range=[0, 0.5]"])
    assert _check(small, stated)["a"].labelled == 1.0
    narrow = Config.resolve(_SHORT, assignments=["labels.range=[0, 0.4]"])
    assert "line 2: the value is '0.5'" in str(_check(small, narrow)["a"].problem)


def test_sound_below_the_rate_of_the_model_is_remarked(small: Path) -> None:
    assert remarks_on_rates(list(_check(small).values()), 16_000) == []
    for name in "bc":
        soundfile.write(small / _AUDIO / f"{name}.wav", np.full((33_075, 1), 0.1), 11_025)
    found = _check(small)
    assert found["a"].remarks == ()
    for name in "bc":
        assert found[name].problem is None
        assert found[name].remarks == (
            "its sample rate of 11025 Hz is below 16000 Hz: it holds nothing above 5512.5 Hz",
        )
    (remark,) = remarks_on_rates(list(found.values()), 16_000)
    assert remark.startswith(
        "2 of 3 recordings ('b', 'c') have a sample rate of 11025 Hz, below the 16000 Hz"
    )


def test_label_files_of_two_conventions_are_remarked(small: Path) -> None:
    assert remarks_on_stamps(list(_check(small).values())) == []
    _write(small, "label_segments/valence/b.csv", _labels(6, first=500))
    (remark,) = remarks_on_stamps(list(_check(small).values()))
    assert "1 recordings ('b' first) begin with the end of a segment" in remark


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda file: file.write_bytes(b""), "is empty"),
        (lambda file: file.write_bytes(b"no sound at all, only words"), "is not audio"),
        (lambda file: file.write_bytes(file.read_bytes()[:30_000]), "is truncated"),
        (lambda file: soundfile.write(file, np.zeros(0), 8000), "is empty"),
    ],
    ids=["empty", "text", "truncated", "no samples"],
)
def test_bad_audio_costs_only_itself(
    small: Path, damage: Callable[[Path], object], found: str
) -> None:
    damage(small / _AUDIO / "a.wav")
    findings = _check(small)
    assert found in str(findings["a"].problem)
    assert findings["a"].duration is None
    assert findings["b"].problem is findings["c"].problem is None


def test_a_recording_shorter_than_a_sequence_is_told(small: Path) -> None:
    found = _check(small, Config())["a"]
    assert found.problem == "has 6 segments (3.0 s), fewer than the 40 of a sequence"


@pytest.mark.parametrize("name", ["a", "b"])
def test_training_and_validation_need_labels(small: Path, name: str) -> None:
    file = small / f"label_segments/valence/{name}.csv"
    file.write_text(_labels(6).replace("0.5,1", ",1"))
    assert _check(small)[name].problem == "has no segment with a label"
    file.unlink()
    found = _check(small)[name]
    assert found.problem == "has no label file for valence"
    assert found.labelled == 0.0


def test_a_test_recording_needs_no_labels(small: Path) -> None:
    (small / "label_segments/valence/c.csv").unlink()
    found = _check(small)["c"]
    assert found.problem is None
    assert found.remarks == ("has no label file for valence",)


def test_every_target_is_wanted(small: Path) -> None:
    both = Config.resolve(_SHORT, assignments=['model.targets=["valence", "arousal"]'])
    for name in "ab":
        _write(small, f"label_segments/arousal/{name}.csv", _labels(6, first=500))
    _write(small, "label_segments/arousal/a.csv", _labels(2, first=500))
    findings = _check(small, both)
    assert findings["a"].labelled == pytest.approx(2 / 6)
    assert findings["b"].labelled == 1.0
    assert findings["c"].labelled == 0.0


def test_a_damaged_label_file_is_told_with_its_line(small: Path) -> None:
    _write(small, "label_segments/valence/a.csv", _labels(6).replace("1000,0.5", "1000,sad"))
    findings = _check(small)
    assert "a.csv', line 4: the value is 'sad'" in str(findings["a"].problem)
    assert findings["b"].problem is None


def _unlink_labels(root: Path, name: str) -> None:
    (root / f"label_segments/valence/{name}.csv").unlink()


def _spoil_labels(root: Path, name: str) -> None:
    _write(root, f"label_segments/valence/{name}.csv", _labels(6).replace("0.5", "high"))


def _spoil_arousal(root: Path, name: str) -> None:
    _write(root, f"label_segments/arousal/{name}.csv", "")


def _empty_labels(root: Path, name: str) -> None:
    _write(root, f"label_segments/valence/{name}.csv", _labels(6).replace("0.5", ""))


def _shorten_labels(root: Path, name: str) -> None:
    _write(root, f"label_segments/valence/{name}.csv", _labels(2))


def _pipe_for_labels(root: Path, name: str) -> None:
    _unlink_labels(root, name)
    os.mkfifo(root / f"label_segments/valence/{name}.csv")


def _folder_for_labels(root: Path, name: str) -> None:
    _unlink_labels(root, name)
    (root / f"label_segments/valence/{name}.csv").mkdir()


def _link_labels_to(target: str) -> Callable[[Path, str], None]:
    def damage(root: Path, name: str) -> None:
        _unlink_labels(root, name)
        (root / f"label_segments/valence/{name}.csv").symlink_to(target)

    return damage


def _truncate_audio(root: Path, name: str) -> None:
    file = root / _AUDIO / f"{name}.wav"
    file.write_bytes(file.read_bytes()[:50_000])


def _shorten_audio(root: Path, name: str) -> None:
    soundfile.write(root / _AUDIO / f"{name}.wav", np.full(8000, 0.1), 8000)


def _nothing(root: Path, name: str) -> None:
    pass


@pytest.mark.parametrize("name", list("abcd"))
@pytest.mark.parametrize(
    "damage",
    [
        _nothing,
        _unlink_labels,
        _spoil_labels,
        _spoil_arousal,
        _empty_labels,
        _shorten_labels,
        _pipe_for_labels,
        _folder_for_labels,
        pytest.param(_link_labels_to("absent.csv"), id="_link_labels_to_nothing"),
        pytest.param(_link_labels_to("/dev/zero"), id="_link_labels_to_a_device"),
        _truncate_audio,
        _shorten_audio,
    ],
)
def test_what_is_found_is_what_preprocessing_does(
    small: Path, damage: Callable[[Path, str], None], name: str
) -> None:
    # `d` is named in no partition: unlabelled.
    shutil.copy(small / _AUDIO / "c.wav", small / _AUDIO / "d.wav")
    _write(small, "label_segments/valence/d.csv", _labels(6))
    damage(small, name)
    corpus = read_corpus(Location.parse(small))
    recording = next(found for found in corpus.recordings if found.id == name)
    job = Job(recording, assign_splits(corpus, _SHORT.split)[name], copies=0)
    outcome = process_recording(job, SegmentStore(Location.parse(small / "store")), _SHORT)
    found = _check(small)[name]
    assert (found.problem is None) == (outcome.status == "ok"), (found.problem, outcome.reason)
    if outcome.status == "ok":
        assert found.labelled == pytest.approx(outcome.labelled / outcome.segments)


def test_a_recording_without_audio_is_found_last(small: Path) -> None:
    (small / _AUDIO / "a.wav").rename(small / _AUDIO / "d.wav")
    _write(small, "metadata/partition.csv", "d,train\nb,devel\nc,test\na,train\n")
    findings = list(_check(small).values())
    assert [finding.id for finding in findings] == ["b", "c", "d", "a"]
    assert "no audio file" in str(findings[-1].problem)


def test_a_corpus_that_cannot_be_divided_is_still_looked_at(small: Path) -> None:
    (small / "metadata/partition.csv").unlink()
    findings = _check(small)
    assert [finding.split for finding in findings.values()] == [None] * 3
    assert [finding.duration for finding in findings.values()] == [3.0] * 3


def test_what_is_no_file_is_listed_with_its_reason(small: Path) -> None:
    shutil.copy(small / _AUDIO / "a.wav", small / "a.wav")
    (small / _AUDIO / "d.wav").symlink_to(small / "a.wav")
    (small / _AUDIO / "e.wav").symlink_to(small / "absent.wav")
    os.mkfifo(small / _AUDIO / "f.wav")
    (small / _AUDIO / "g.wav").mkdir()
    found = _check(small)
    assert sorted(found) == ["a", "b", "c", "d", "e", "f", "g"]
    assert "content was not fetched" in str(found["e"].problem)
    assert "is a named pipe" in str(found["f"].problem)
    assert "is a folder" in str(found["g"].problem)


def test_a_link_that_cannot_be_followed_costs_its_own_recording(small: Path) -> None:
    (small / _AUDIO / "round.wav").symlink_to("round.wav")
    (small / _AUDIO / "long.wav").symlink_to("n" * 300)
    (small / _AUDIO / "behind.wav").symlink_to("a.wav/x")
    (small / _AUDIO / "folder").symlink_to("folder")
    labels = small / "label_segments/valence"
    (labels / "b.csv").unlink()
    (labels / "b.csv").symlink_to("b.csv")
    found = _check(small)
    assert sorted(found) == ["a", "b", "behind", "c", "long", "round"]
    assert "Too many levels" in str(found["round"].problem)
    assert "File name too long" in str(found["long"].problem)
    assert "Not a directory" in str(found["behind"].problem)
    assert "a link to 'b.csv', which leads nowhere" in str(found["b"].problem)
    assert found["a"].problem is found["c"].problem is None
    store = SegmentStore(Location.parse(small / "store"))
    for recording in read_corpus(Location.parse(small)).recordings:
        outcome = process_recording(Job(recording, "train", 0), store, _SHORT)
        assert outcome.status == ("ok" if recording.id in "ac" else "rejected")


@pytest.mark.skipif(os.geteuid() != 0, reason="makes itself another user")
def test_a_link_into_a_folder_that_is_closed_costs_its_own_recording(small: Path) -> None:
    closed = small / "closed"
    closed.mkdir(0o700)
    shutil.copy(small / _AUDIO / "a.wav", closed / "d.wav")
    (small / _AUDIO / "d.wav").symlink_to(closed / "d.wav")
    kept = [place for place in (small, *small.parents) if "pytest" in place.as_posix()]
    for place in kept:
        place.chmod(0o755)
    os.seteuid(65534)
    try:
        found = _check(small)
        recording = read_corpus(Location.parse(small)).recordings[-1]
        store = SegmentStore(Location.parse(small / "store"))
        outcome = process_recording(Job(recording, "test", 0), store, _SHORT)
    finally:
        os.seteuid(0)
        for place in kept:
            place.chmod(0o700)
    assert "Permission denied" in str(found["d"].problem)
    assert [found[name].problem for name in "abc"] == [None] * 3
    assert (recording.id, outcome.status) == ("d", "rejected")
    assert "Permission denied" in outcome.reason


def test_real_speech_in_the_layout_of_muse(nemo: Location) -> None:
    corpus = read_corpus(nemo)
    findings = check_corpus(corpus, Config())
    assert len(findings) == 13
    assert not corpus.remarks
    assert sum(finding.duration or 0 for finding in findings) == pytest.approx(2700)
    assert Counter(finding.split for finding in findings) == {
        "train": 6,
        "validation": 1,
        "test": 4,
        "unlabelled": 2,
    }
    assert all(finding.problem is None for finding in findings)
    shares = {finding.split: finding.labelled for finding in findings}
    assert shares == {"train": 1.0, "validation": 1.0, "test": 1.0, "unlabelled": 0.0}


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_labels_that_are_no_file_are_not_passed_over(small: Path, kind: str) -> None:
    file = small / "label_segments/valence/a.csv"
    file.unlink()
    if kind == "link":
        file.symlink_to("absent.csv")
    else:
        os.mkfifo(file)
    found = _check(small)["a"]
    assert "cannot be read" in " ".join([str(found.problem), *found.remarks])


def test_a_bad_name_costs_no_other_recording(tmp_path: Path) -> None:
    """One that is not UTF-8 and one that leaves no room for a suffix are rejected, each alone."""
    from pipelines.preprocess.stage import _list_files

    root = Location.parse(tmp_path / "corpus")
    write_corpus(root, subjects=3, seconds=4.0)
    audio = tmp_path / "corpus" / "raw_data" / "audio"
    long = "n" * 251
    for name in (os.fsdecode(b"caf\xe9"), long, "n" * 247):
        shutil.copy(audio / "01.wav", audio / f"{name}.wav")
    (tmp_path / "corpus/label_segments/valence" / os.fsdecode(b"caf\xe9.csv")).write_text("")
    config = Config.resolve(
        Config(), assignments=["sequence.length=4", "split.protocol=paper", "augment.copies=0"]
    )
    corpus = read_corpus(root)
    ids = [recording.id for recording in corpus.recordings]
    assert ids == sorted(["01", "02", "03", "caf\\xe9", long, "n" * 247])
    problems = {finding.id: finding.problem for finding in check_corpus(corpus, config)}
    assert "not UTF-8" in str(problems["caf\\xe9"])
    assert "has an Id of 251 bytes" in str(problems[long])
    assert problems["01"] is None
    sizes, _ = _list_files(corpus)
    assert len([path for path in sizes if path.endswith(".wav")]) == 6
    store = SegmentStore(Location.parse(tmp_path / "run"))
    status = {}
    for recording in corpus.recordings:
        job = Job(recording, "test", 0)
        # A worker is sent it so.
        outcome = process_recording(pickle.loads(pickle.dumps(job)), store, config)
        status[recording.id] = outcome.status
        json.dumps(outcome.row(), default=str).encode()
        store.write_recordings([outcome.row()])
    assert status == dict.fromkeys(ids, "ok") | {"caf\\xe9": "rejected", long: "rejected"}
