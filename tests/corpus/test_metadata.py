from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.helpers.layouts import AUDIO, make, write
from valence.config import SplitConfig
from valence.corpus.muse import read_corpus
from valence.corpus.splits import assign_splits
from valence.errors import ConfigError, CorpusError, SplitError


def test_subjects_csv_overrides(tmp_path: Path) -> None:
    root = make(tmp_path, [f"{AUDIO}/{name}.wav" for name in ("a1", "a2", "b_train")])
    write(tmp_path, "metadata/subjects.csv", "subject,note,Id\nanna,x,a1\nanna,,a2\nzoe,,gone\n")
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
    root = make(tmp_path, [f"{AUDIO}/{name}.wav" for name in "123"])
    write(tmp_path, "metadata/partition.csv", text)
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
    root = make(tmp_path, [f"{AUDIO}/{name}.wav" for name in "0123"])
    write(tmp_path, "metadata/partition.csv", text)
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
    root = make(tmp_path, [f"{AUDIO}/{name}.wav" for name in "0123"])
    write(tmp_path, "metadata/partition.csv", text)
    partition = {r.id: r.partition for r in read_corpus(root).recordings}
    assert partition == {"0": "devel", "1": "test", "2": "train", "3": "train"}


@pytest.mark.parametrize(
    "text", ["0,1\n1,1\n2,2\n3,2\n", "1,0\n1,1\n2,2\n2,3\n", "0,a\n1,a\n2,b\n3,b\n"]
)
def test_of_two_columns_without_names_that_of_ids_is_found(tmp_path: Path, text: str) -> None:
    root = make(tmp_path, [f"{AUDIO}/{name}.wav" for name in "0123"])
    write(tmp_path, "metadata/subjects.csv", text)
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
    root = make(tmp_path, [f"{AUDIO}/1.wav", f"{AUDIO}/2.wav"])
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
    root = make(tmp_path, [f"{AUDIO}/{name}.wav" for name in ("a1", "a2", "a3")])
    write(tmp_path, "metadata/subjects.csv", text)
    corpus = read_corpus(root)
    assert [recording.subject for recording in corpus.recordings] == ["anna", "anna", "zoe"]
    assert (corpus.subjects, corpus.subjects_remark) == ("file", "")


def test_a_subject_in_two_parts_is_found_through_a_table_with_further_columns(
    tmp_path: Path,
) -> None:
    root = make(tmp_path, [f"{AUDIO}/{name}.wav" for name in "12"])
    write(tmp_path, "metadata/partition.csv", "Id,Proposal\n1,train\n2,devel\n")
    write(tmp_path, "metadata/subjects.csv", "Id,speaker,group\n1,anna,x\n2,anna,y\n")
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
    root = make(tmp_path, [f"{AUDIO}/{name}.wav" for name in names])
    write(tmp_path, "metadata/subjects.csv", "Id,subject\n" + text)
    corpus = read_corpus(root)
    by_id = {recording.id: recording.subject for recording in corpus.recordings}
    assert set(by_id.values()) == subjects
    assert by_id["8_train"] == by_id["8_devel"] == by_id["8_test"] == "tom"
    assert corpus.subjects_remark == ""
    assert "they take the subject of the same Id" in "".join(corpus.remarks)
    assert "without audio" not in "".join(corpus.remarks)


def test_a_part_whose_other_parts_have_two_subjects_is_unknown(tmp_path: Path) -> None:
    root = make(tmp_path, [f"{AUDIO}/8_{part}.wav" for part in ("train", "devel", "test")])
    write(tmp_path, "metadata/subjects.csv", "Id,subject\n8_train,tom\n8_devel,ann\n")
    assert "does not name 1 of 3 recordings: '8_test'" in read_corpus(root).subjects_remark


def test_a_name_in_two_spellings_is_one_subject_or_remarked(tmp_path: Path) -> None:
    root = make(tmp_path, [f"{AUDIO}/{name}.wav" for name in "1234"])
    text = "Id,subject\n1,Zo\u00eb\n2,Zoe\u0308\n3,Anna\n4,anna\n"
    write(tmp_path, "metadata/subjects.csv", text)
    corpus = read_corpus(root)
    assert [r.subject for r in corpus.recordings] == ["Zo\u00eb", "Zo\u00eb", "Anna", "anna"]
    assert "writes 'Anna', 'anna', which count as 2 subjects" in "".join(corpus.remarks)


def test_parts_of_an_id_in_two_unicode_forms_have_one_subject(tmp_path: Path) -> None:
    root = make(tmp_path, [f"{AUDIO}/{n}.wav" for n in ("Zo\u00eb_train", "Zoe\u0308_test")])
    assert {recording.subject for recording in read_corpus(root).recordings} == {"Zo\u00eb"}


def test_what_a_table_leaves_out_is_told_with_its_effect(tmp_path: Path) -> None:
    root = make(tmp_path, [f"{AUDIO}/{name}.wav" for name in "1234"])
    write(tmp_path, "metadata/partition.csv", "Id,Proposal\n1.wav,train\n2.wav,devel\n")
    write(tmp_path, "metadata/subjects.csv", "Id,subject\n1,anna\n2,zoe\n")
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
    corpus = read_corpus(make(tmp_path, [f"{AUDIO}/{name}.wav" for name in names]))
    assert corpus.subjects == known
    assert (corpus.subjects_remark in corpus.remarks) is bool(remark)
    assert re.search(remark, corpus.subjects_remark)


def test_a_rule_finds_subjects_and_stands_alone(tmp_path: Path) -> None:
    root = make(tmp_path, [f"{AUDIO}/{name}.wav" for name in ("03a01Fa", "03a02Nc_devel")])
    corpus = read_corpus(root, "emodb")
    assert [recording.subject for recording in corpus.recordings] == ["03", "03"]
    assert (corpus.subjects, corpus.subjects_remark) == ("rule", "")
    write(tmp_path, "metadata/subjects.csv", "Id,subject\n03a01Fa,x\n")
    with pytest.raises(ConfigError, match="'emodb' does as well"):
        read_corpus(root, "emodb")
