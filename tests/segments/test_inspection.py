from __future__ import annotations

import json
import os
import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.helpers.layouts import AUDIO, labels, write
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.corpus.splits import assign_splits
from valence.corpus.synthetic import write_corpus
from valence.segments.inspection import Finding, check_corpus, remarks_on_rates, remarks_on_stamps
from valence.segments.preprocessing import Job, process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location

_SHORT = Config.resolve(Config(), assignments=["sequence.length=4"])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three good recordings of 3 s at 16 kHz: `a` trains, `b` validates, `c` tests."""
    rng = np.random.default_rng(0)
    for name in "abc":
        file = tmp_path / AUDIO / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, rng.uniform(-0.1, 0.1, (48_000, 2)), 16_000)
        write(tmp_path, f"label_segments/valence/{name}.csv", labels(6))
    write(tmp_path, "metadata/partition.csv", "Id,Proposal\na,train\nb,devel\nc,test\n")
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
    write(small, "label_segments/valence/a.csv", labels(6).replace("2500,0.5", "2500,"))
    assert _check(small)["a"].labelled == pytest.approx(5 / 6)
    write(small, "label_segments/valence/a.csv", labels(3))
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
        soundfile.write(small / AUDIO / f"{name}.wav", np.full((33_075, 1), 0.1), 11_025)
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
    write(small, "label_segments/valence/b.csv", labels(6, first=500))
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
    damage(small / AUDIO / "a.wav")
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
    file.write_text(labels(6).replace("0.5,1", ",1"))
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
        write(small, f"label_segments/arousal/{name}.csv", labels(6, first=500))
    write(small, "label_segments/arousal/a.csv", labels(2, first=500))
    findings = _check(small, both)
    assert findings["a"].labelled == pytest.approx(2 / 6)
    assert findings["b"].labelled == 1.0
    assert findings["c"].labelled == 0.0


def test_a_damaged_label_file_is_told_with_its_line(small: Path) -> None:
    write(small, "label_segments/valence/a.csv", labels(6).replace("1000,0.5", "1000,sad"))
    findings = _check(small)
    assert "a.csv', line 4: the value is 'sad'" in str(findings["a"].problem)
    assert findings["b"].problem is None


def _unlink_labels(root: Path, name: str) -> None:
    (root / f"label_segments/valence/{name}.csv").unlink()


def _spoil_labels(root: Path, name: str) -> None:
    write(root, f"label_segments/valence/{name}.csv", labels(6).replace("0.5", "high"))


def _spoil_arousal(root: Path, name: str) -> None:
    write(root, f"label_segments/arousal/{name}.csv", "")


def _empty_labels(root: Path, name: str) -> None:
    write(root, f"label_segments/valence/{name}.csv", labels(6).replace("0.5", ""))


def _shorten_labels(root: Path, name: str) -> None:
    write(root, f"label_segments/valence/{name}.csv", labels(2))


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
    file = root / AUDIO / f"{name}.wav"
    file.write_bytes(file.read_bytes()[:50_000])


def _shorten_audio(root: Path, name: str) -> None:
    soundfile.write(root / AUDIO / f"{name}.wav", np.full(8000, 0.1), 8000)


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
    shutil.copy(small / AUDIO / "c.wav", small / AUDIO / "d.wav")
    write(small, "label_segments/valence/d.csv", labels(6))
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
    (small / AUDIO / "a.wav").rename(small / AUDIO / "d.wav")
    write(small, "metadata/partition.csv", "d,train\nb,devel\nc,test\na,train\n")
    findings = list(_check(small).values())
    assert [finding.id for finding in findings] == ["b", "c", "d", "a"]
    assert "no audio file" in str(findings[-1].problem)


def test_a_corpus_that_cannot_be_divided_is_still_looked_at(small: Path) -> None:
    (small / "metadata/partition.csv").unlink()
    findings = _check(small)
    assert [finding.split for finding in findings.values()] == [None] * 3
    assert [finding.duration for finding in findings.values()] == [3.0] * 3


def test_what_is_no_file_is_listed_with_its_reason(small: Path) -> None:
    shutil.copy(small / AUDIO / "a.wav", small / "a.wav")
    (small / AUDIO / "d.wav").symlink_to(small / "a.wav")
    (small / AUDIO / "e.wav").symlink_to(small / "absent.wav")
    os.mkfifo(small / AUDIO / "f.wav")
    (small / AUDIO / "g.wav").mkdir()
    found = _check(small)
    assert sorted(found) == ["a", "b", "c", "d", "e", "f", "g"]
    assert "content was not fetched" in str(found["e"].problem)
    assert "is a named pipe" in str(found["f"].problem)
    assert "is a folder" in str(found["g"].problem)


def test_a_link_that_cannot_be_followed_costs_its_own_recording(small: Path) -> None:
    (small / AUDIO / "round.wav").symlink_to("round.wav")
    (small / AUDIO / "long.wav").symlink_to("n" * 300)
    (small / AUDIO / "behind.wav").symlink_to("a.wav/x")
    (small / AUDIO / "folder").symlink_to("folder")
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
    shutil.copy(small / AUDIO / "a.wav", closed / "d.wav")
    (small / AUDIO / "d.wav").symlink_to(closed / "d.wav")
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
