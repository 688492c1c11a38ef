"""The corpus that an import writes: sound, labels, tables, and the record of origin."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.helpers.made_corpora import SR, write_audio
from valence.corpus.muse import read_corpus
from valence.errors import CorpusError, OutputError
from valence.importing.layout import Labels, segments_of, write_corpus
from valence.importing.record import RECORD
from valence.importing.recordings import SourceRecording
from valence.importing.sources.stretches import Sound
from valence.storage.location import Location

_RECORD = {"command": "import", "source": "/somewhere"}


def _labels(*values: float) -> Labels:
    return Labels(np.array(values, np.float32), (Location.parse("/somewhere/1.csv"),))


def _recording(tmp_path: Path, name: str = "1", **sound: object) -> SourceRecording:
    file = tmp_path / f"source/{name}.wav"
    if not file.exists():
        write_audio(file, seconds=2.3)
    return SourceRecording(name, (Sound(Location.parse(file), **sound),))  # type: ignore[arg-type]


def _write(tmp_path: Path, recordings: dict[str, SourceRecording], labels, **given):  # type: ignore[no-untyped-def]
    return write_corpus(
        Location.parse(tmp_path / "out"), recordings, labels, record=_RECORD, **given
    )


def test_every_segment_has_a_row_and_what_is_behind_the_end_is_dropped(tmp_path: Path) -> None:
    # 2.3 s are 4 whole segments.
    recordings = {name: _recording(tmp_path, name) for name in ("1", "2")}
    labels = {
        "1": {"valence": _labels(0.1, math.nan, -1)},
        "2": {"valence": _labels(1, 1, 1, 1, 1), "arousal": _labels(*[0.25] * 8)},
    }
    notes = _write(tmp_path, recordings, labels)
    written = tmp_path / "out/label_segments"
    assert (written / "valence/1.csv").read_text() == (
        "timestamp,value\n0,0.1\n500,\n1000,-1.0\n1500,\n"
    )
    assert (written / "valence/2.csv").read_text().count("\n") == 5
    # One label stands for the rest of 0.3 s; labels for two seconds more are a remark.
    assert notes == ["'2' has arousal labels for 2 s behind its end, which are dropped"]


def test_values_are_read_back_as_they_were(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 4).astype(np.float32)
    _write(tmp_path, {"1": _recording(tmp_path)}, {"1": {"valence": Labels(values)}})
    text = (tmp_path / "out/label_segments/valence/1.csv").read_text().splitlines()[1:]
    np.testing.assert_array_equal(np.array([row.split(",")[1] for row in text], np.float32), values)


def test_subjects_and_partition_are_written_where_they_are_known(tmp_path: Path) -> None:
    recordings = {
        "a,b": SourceRecording(
            "a,b", _recording(tmp_path, "a,b").sounds, subject='Kim "K"', partition="train"
        ),
        "c": _recording(tmp_path, "c"),
    }
    labels = {name: {"valence": _labels(0, 0)} for name in recordings}
    _write(tmp_path, recordings, labels)
    corpus = read_corpus(Location.parse(tmp_path / "out"))
    assert [(each.id, each.subject, each.partition) for each in corpus.recordings] == [
        ("a,b", 'Kim "K"', "train"),
        ("c", "c", None),
    ]


def test_the_record_says_where_each_file_comes_from(tmp_path: Path) -> None:
    recordings = {"1": _recording(tmp_path, start=0.5, end=1.75, channel=0)}
    _write(tmp_path, recordings, {"1": {"valence": _labels(0.5, 0.5)}}, set_aside=["a row"])
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert record["set_aside"] == ["a row"]
    entry = record["recordings"]["1"]
    assert entry["audio"] == {
        "placed": "cut",
        "from": [{"file": f"{tmp_path}/source/1.wav", "start": 0.5, "end": 1.75, "channel": 0}],
    }
    assert entry["labels"] == {"valence": {"from": ["/somewhere/1.csv"], "labelled": 2}}
    assert entry["segments"] == 2
    y, _ = soundfile.read(tmp_path / "source/1.wav", dtype="float32")
    cut, _ = soundfile.read(tmp_path / "out/raw_data/audio/1.wav", dtype="float32")
    np.testing.assert_array_equal(cut, y[SR // 2 : round(1.75 * SR)])


@pytest.mark.parametrize(
    ("sound", "labels", "words"),
    [
        ({}, _labels(math.nan, math.nan), "it has no label in 4 segments"),
        ({"end": 0.4}, _labels(1), "Expected 0.5 s at least, the length of a segment"),
        ({"start": 2.0}, _labels(math.nan, 1), "Expected 0.5 s at least, the length of a segment"),
        ({"start": 9.0}, _labels(1), r"lasts 2\.3 s, and a stretch begins at 9 s"),
        ({"channel": 1}, _labels(1), "has 1 channels, and channel 1 is named"),
    ],
)
def test_a_recording_that_cannot_be_used_is_set_aside(
    sound: dict[str, object], labels: Labels, words: str, tmp_path: Path
) -> None:
    bad, good = _recording(tmp_path, "bad", **sound), _recording(tmp_path, "good")
    of = {"bad": {"valence": labels}, "good": {"valence": _labels(0)}}
    (note,) = _write(tmp_path, {"bad": bad, "good": good}, of)
    assert note.startswith("'bad': ")
    with pytest.raises(CorpusError, match=words):
        _write(tmp_path, {"bad": bad}, of)
    assert not (tmp_path / "out/label_segments/valence/bad.csv").exists()


def test_a_stretch_that_ends_behind_the_file_ends_with_it(tmp_path: Path) -> None:
    recordings = {"1": _recording(tmp_path, start=1.0, end=9.0)}
    (note,) = _write(tmp_path, recordings, {"1": {"valence": _labels(0, 0)}})
    assert "is cut up to 9 s of '1.wav', which lasts 2.3 s" in note
    assert soundfile.info(tmp_path / "out/raw_data/audio/1.wav").duration == pytest.approx(1.3)


def test_a_link_that_leads_elsewhere_is_set_again(tmp_path: Path) -> None:
    recordings = {"1": _recording(tmp_path)}
    labels = {"1": {"valence": _labels(0)}}
    _write(tmp_path, recordings, labels)
    link = tmp_path / "out/raw_data/audio/1.wav"
    link.unlink()
    link.symlink_to(tmp_path / "nowhere.wav")
    _write(tmp_path, recordings, labels)
    assert link.resolve() == tmp_path / "source/1.wav"
    # A copy replaces the link, and leaves the file that it led to.
    before = (tmp_path / "source/1.wav").read_bytes()
    _write(tmp_path, recordings, labels, placing="copy")
    assert not link.is_symlink()
    assert link.read_bytes() == before == (tmp_path / "source/1.wav").read_bytes()


def test_a_record_that_cannot_be_read_is_no_import(tmp_path: Path) -> None:
    (tmp_path / "out/metadata").mkdir(parents=True)
    (tmp_path / "out" / RECORD).write_text("{")
    with pytest.raises(OutputError, match="from another source, in another form"):
        _write(tmp_path, {"1": _recording(tmp_path)}, {"1": {"valence": _labels(0)}})


def test_segments_are_whole() -> None:
    assert [segments_of(seconds) for seconds in (0.49, 0.5, 1.4999999, 1.4, 0)] == [0, 1, 3, 2, 0]


def test_from_a_store_of_objects_to_another(
    object_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    where = f"?endpoint_override={object_store}&scheme=http&region=us-east-1"
    root = Location.parse(f"s3://shared/importing{where}")
    file = tmp_path / "1.wav"
    write_audio(file, seconds=2.3)
    (root / "source/1.wav").write_bytes(file.read_bytes())
    recordings = {
        "1": SourceRecording("1", (Sound(root / "source/1.wav"),)),
        "2": SourceRecording("2", (Sound(root / "source/1.wav", 0.5),)),
    }
    labels = {name: {"valence": _labels(0.5)} for name in recordings}
    for _ in range(2):
        write_corpus(root / "out", recordings, labels, record=_RECORD)
    corpus = read_corpus(root / "out")
    assert [each.id for each in corpus.recordings] == ["1", "2"]
    assert corpus.recordings[0].audio.read_bytes() == file.read_bytes()


def test_a_table_that_a_user_added_is_neither_overwritten_nor_removed(tmp_path: Path) -> None:
    recordings = {"1": _recording(tmp_path)}
    labels = {"1": {"valence": _labels(0)}}
    _write(tmp_path, recordings, labels)
    own = tmp_path / "out/metadata/partition.csv"
    own.write_text("Id,Proposal\n1,train\n")
    _write(tmp_path, recordings, labels)
    # An import that was killed leaves this record.
    record = tmp_path / "out" / RECORD
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"complete": False}))
    _write(tmp_path, recordings, labels)
    assert own.read_text() == "Id,Proposal\n1,train\n"
    named = {"1": SourceRecording("1", recordings["1"].sounds, partition="test")}
    with pytest.raises(OutputError, match=r"partition\.csv' is there and was not imported"):
        _write(tmp_path, named, labels)
    assert own.read_text() == "Id,Proposal\n1,train\n"
