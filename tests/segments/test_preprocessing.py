from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from valence.audio.augmentation import augment
from valence.audio.decoding import read_audio
from valence.audio.mel import log_mel
from valence.audio.segmentation import normalize, segment_audio
from valence.config import Config
from valence.corpus.muse import Recording
from valence.errors import MissingStageError
from valence.segments import preprocessing
from valence.segments.jobs import Cut, Job, RecordingOutcome
from valence.segments.preprocessing import (
    begin_recording,
    join_parts,
    process_part,
    process_recording,
)
from valence.segments.store import SegmentStore
from valence.storage.location import Location

_SR = 16_000
_CONFIG = Config.resolve(Config(), assignments=["sequence.length=10"])


def _speech(seconds: float, sr: int = _SR, channels: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * sr)) / sr
    phase = 2 * np.pi * np.cumsum(150 + 40 * np.sin(t)) / sr
    voice = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.1 + np.abs(np.sin(3 * t)))
    y = 0.1 * voice[:, None] + 0.003 * rng.standard_normal((len(t), channels))
    return y.astype(np.float32)


class _Corpus:
    """A folder of recordings, made as a test asks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = SegmentStore(Location.parse(folder / "segments"))

    def audio(self, y: np.ndarray, name: str = "7.wav", sr: int = _SR) -> Location:
        soundfile.write(self.folder / name, y, sr)
        return Location.parse(self.folder / name)

    def labels(self, n: int, target: str = "valence", *, text: str | None = None) -> Location:
        file = self.folder / f"{target}.csv"
        rows = "".join(f"{500 * (i + 1)},{i / 100:.2f},7\n" for i in range(n))
        file.write_text(text if text is not None else f"timestamp,value,subject_id\n{rows}")
        return Location.parse(file)

    def job(
        self, audio: Location, labels: dict[str, Location], split: str = "train", copies: int = 0
    ) -> Job:
        recording = Recording("7", audio, "7", labels=labels)  # type: ignore[arg-type]
        return Job(recording, split, copies)  # type: ignore[arg-type]


@pytest.fixture
def corpus(tmp_path: Path) -> _Corpus:
    return _Corpus(tmp_path)


def _job(corpus: _Corpus, seconds: float = 20.3, copies: int = 1) -> Job:
    labels = {"valence": corpus.labels(40), "arousal": corpus.labels(38, "arousal")}
    return corpus.job(corpus.audio(_speech(seconds)), labels, copies=copies)


def test_outcome_and_labels_by_hand(corpus: _Corpus) -> None:
    outcome = process_recording(_job(corpus), corpus.store, _CONFIG)
    assert (outcome.id, outcome.status, outcome.reason) == ("7", "ok", "")
    assert (outcome.segments, outcome.labelled, outcome.copies) == (40, 40, 1)
    assert outcome.duration == pytest.approx(20.3)
    assert outcome.stored_bytes == Path(corpus.store.file("7").path).stat().st_size
    stored = corpus.store.read("7", 0)
    assert stored.timestamp.tolist() == list(range(0, 20_000, 500))
    np.testing.assert_allclose(stored.valence, np.arange(40) / 100, atol=1e-6)
    np.testing.assert_allclose(stored.arousal[:38], np.arange(38) / 100, atol=1e-6)
    assert np.isnan(stored.arousal[38:]).all()
    assert stored.mel.shape == (40, 128, 34)
    assert stored.mel.dtype == np.float16


def test_stored_mel_is_librosas(corpus: _Corpus) -> None:
    job = _job(corpus)
    process_recording(job, corpus.store, _CONFIG)
    y, _ = soundfile.read(job.recording.audio.path, dtype="float32")
    stored = corpus.store.read("7").mel
    for index in (0, 17, 39):
        segment = y[8000 * index : 8000 * (index + 1)]
        segment = segment / np.abs(segment).max() * 10 ** (-3 / 20)
        power = librosa.feature.melspectrogram(
            y=np.pad(segment, (0, 448)), sr=_SR, n_fft=1024, hop_length=256, n_mels=128
        )
        expected = librosa.power_to_db(power, top_db=None)
        # Half a unit of float16's last place at 64 dB and above is 1/32 dB.
        np.testing.assert_allclose(stored[index], expected, atol=1 / 32 + 1e-3)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_equals_the_functions_one_after_the_other(corpus: _Corpus, dtype: str) -> None:
    config = Config.resolve(
        _CONFIG, assignments=[f"preprocess.dtype={dtype}", "preprocess.level=rms"]
    )
    job = _job(corpus, 70.0, copies=2)
    outcome = process_recording(job, corpus.store, config)
    segments = segment_audio(read_audio(job.recording.audio, sr=_SR), 8000)
    clean = normalize(segments, level="rms")
    everything = []
    for copy in range(3):
        changed = clean
        if copy:
            changed = augment(
                clean, config.augment, sr=_SR, seed=config.preprocess.seed, recording="7", copy=copy
            )
        mel = log_mel(changed, config.mel, sr=_SR).astype(dtype)
        assert np.array_equal(corpus.store.read("7", copy).mel, mel)
        everything.append(mel.astype(np.float64))
    joined = np.concatenate(everything)
    assert outcome.moments is not None
    assert outcome.moments.count == joined.shape[0] * joined.shape[2]
    np.testing.assert_allclose(outcome.moments.mean, joined.mean(axis=(0, 2)), rtol=1e-12)
    np.testing.assert_allclose(
        outcome.moments.m2 / outcome.moments.count, joined.var(axis=(0, 2)), rtol=1e-10
    )


# Cheap enough to make half an hour of audio several times, and resampled.
_LONG = Config.resolve(
    _CONFIG,
    assignments=[
        "preprocess.sr=4000",
        "mel.n_fft=256",
        "mel.hop_length=64",
        "mel.n_mels=32",
    ],
)
_LONG_SR, _LONG_SECONDS = 8000, 1505.3


@pytest.fixture(scope="module")
def long_audio() -> np.ndarray:
    """25 minutes: three blocks of a file, the last one short."""
    return _speech(_LONG_SECONDS, _LONG_SR)


def _long_job(corpus: _Corpus, y: np.ndarray, copies: int = 0) -> Job:
    labels = {"valence": corpus.labels(3000)}
    return corpus.job(corpus.audio(y, "7.wav", _LONG_SR), labels, copies=copies)


def _cut(job: Job, store: SegmentStore, segments: int = 1200) -> Cut:
    cut = begin_recording(job, store, _LONG, part_segments=segments)
    assert isinstance(cut, Cut)
    return cut


@pytest.mark.parametrize("copies", [0, 1])
def test_a_recording_in_parts_is_the_same_bytes(
    corpus: _Corpus, long_audio: np.ndarray, copies: int
) -> None:
    job = _long_job(corpus, long_audio, copies)
    whole = process_recording(job, corpus.store, _LONG)
    expected = corpus.store.file("7").read_bytes()
    assert whole.duration == pytest.approx(_LONG_SECONDS)
    for segments, parts in ((1200, 3), (1201, 3), (2400, 2), (2401, 2)):
        corpus.store.file("7").delete()
        cut = _cut(job, corpus.store, segments)
        assert cut.parts == parts
        made = [
            process_part(job, cut, part, corpus.store, _LONG) for part in reversed(range(parts))
        ]
        assert [each.reason for each in made] == [""] * parts
        assert sum(each.duration for each in made) == pytest.approx(_LONG_SECONDS)
        assert not corpus.store.file("7").exists()
        outcome = join_parts(job, cut, corpus.store, _LONG)
        assert corpus.store.file("7").read_bytes() == expected
        assert outcome.row() == whole.row()
        assert outcome.moments is not None
        assert whole.moments is not None
        assert outcome.moments.to_json() == whole.moments.to_json()
        assert not (corpus.folder / "segments/parts/7").exists()


def test_a_short_recording_is_not_cut(corpus: _Corpus, long_audio: np.ndarray) -> None:
    outcome = begin_recording(_long_job(corpus, long_audio), corpus.store, _LONG)
    assert isinstance(outcome, RecordingOutcome)
    assert (outcome.status, outcome.segments) == ("ok", 3010)


def test_a_recording_that_stands_there_is_not_cut(corpus: _Corpus, long_audio: np.ndarray) -> None:
    job = _long_job(corpus, long_audio)
    process_recording(job, corpus.store, _LONG)
    outcome = begin_recording(job, corpus.store, _LONG, part_segments=1200)
    assert isinstance(outcome, RecordingOutcome)
    assert outcome.skipped


def test_parts_that_stand_there_are_left(corpus: _Corpus, long_audio: np.ndarray) -> None:
    job = _long_job(corpus, long_audio)
    cut = _cut(job, corpus.store)
    for part in range(3):
        assert not process_part(job, cut, part, corpus.store, _LONG).skipped
    broken = next((corpus.folder / "segments/parts/7").glob("00001200-*"))
    broken.write_bytes(broken.read_bytes()[:-100])
    again = [process_part(job, _cut(job, corpus.store), n, corpus.store, _LONG) for n in range(3)]
    assert [each.skipped for each in again] == [True, False, True]
    other = Config.resolve(_LONG, assignments=["preprocess.level_dbfs=-6"])
    assert not process_part(job, cut, 0, corpus.store, other).skipped


def test_what_is_wrong_with_a_part_is_told(corpus: _Corpus, long_audio: np.ndarray) -> None:
    y = long_audio.copy()
    # Floating point, since sixteen bits hold no NaN.
    y[round(900 * _LONG_SR)] = np.nan
    job = _long_job(corpus, y[:10])
    soundfile.write(job.recording.audio.path, y, _LONG_SR, subtype="FLOAT")
    cut = _cut(job, corpus.store)
    made = [process_part(job, cut, part, corpus.store, _LONG) for part in range(3)]
    assert made[0].reason == ""
    assert "NaN" in made[1].reason
    assert "NaN" in made[2].reason
    assert not any(each.unread for each in made)
    with pytest.raises(FileNotFoundError, match="gone before it was used"):
        join_parts(job, cut, corpus.store, _LONG)
    assert not corpus.store.file("7").exists()


def test_audio_that_changes_between_the_parts(corpus: _Corpus, long_audio: np.ndarray) -> None:
    job = _long_job(corpus, long_audio)
    cut = _cut(job, corpus.store)
    assert process_part(job, cut, 0, corpus.store, _LONG).reason == ""
    corpus.audio(long_audio[:-1], "7.wav", _LONG_SR)
    output = process_part(job, cut, 1, corpus.store, _LONG)
    assert output.unread
    assert "was changed while it was being worked on" in output.reason
    # Another cut is of the other file, and takes nothing of the first.
    assert not process_part(job, _cut(job, corpus.store), 0, corpus.store, _LONG).skipped


def test_labels_that_change_between_the_parts(corpus: _Corpus, long_audio: np.ndarray) -> None:
    job = _long_job(corpus, long_audio)
    cut = _cut(job, corpus.store)
    made = [process_part(job, cut, part, corpus.store, _LONG) for part in range(3)]
    assert [each.reason for each in made] == [""] * 3
    before = (corpus.folder / "valence.csv").read_text()
    corpus.labels(2999)
    output = process_part(job, replace(cut, parts=4), 3, corpus.store, _LONG)
    assert output.unread
    assert "label file of it was changed" in output.reason
    outcome = join_parts(job, cut, corpus.store, _LONG)
    assert (outcome.status, outcome.checksum) == ("rejected", "")
    assert not corpus.store.file("7").exists()
    # As they were, they are those of the parts that stand there.
    corpus.labels(0, text=before)
    assert join_parts(job, cut, corpus.store, _LONG).status == "ok"


def test_put_together_twice(
    corpus: _Corpus, long_audio: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _long_job(corpus, long_audio)
    cut = _cut(job, corpus.store)
    for part in range(3):
        process_part(job, cut, part, corpus.store, _LONG)
    first = join_parts(job, cut, corpus.store, _LONG)
    content = corpus.store.file("7").read_bytes()
    # Another that began before the first had ended finds the parts gone, and the file there.
    found = SegmentStore.stored
    looks = iter([lambda *_: None])
    monkeypatch.setattr(SegmentStore, "stored", lambda store, name: next(looks, found)(store, name))
    second = join_parts(job, cut, corpus.store, _LONG)
    assert second.row() == first.row()
    assert corpus.store.file("7").read_bytes() == content


def test_a_header_that_claims_any_length(corpus: _Corpus) -> None:
    audio = corpus.audio(_speech(25), "7.flac")
    path = Path(audio.path)
    content = bytearray(path.read_bytes())
    # The 36 bits of STREAMINFO that count the samples, all ones.
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)
    outcome = begin_recording(corpus.job(audio, {}, split="test"), corpus.store, _CONFIG)
    assert isinstance(outcome, RecordingOutcome)
    assert outcome.status == "rejected"


def test_parts_without_labels_are_refused_at_the_end(
    corpus: _Corpus, long_audio: np.ndarray
) -> None:
    job = _long_job(corpus, long_audio)
    corpus.labels(0, text="timestamp,value\n500,\n1000,\n")
    cut = _cut(job, corpus.store)
    for part in range(3):
        assert process_part(job, cut, part, corpus.store, _LONG).reason == ""
    outcome = join_parts(job, cut, corpus.store, _LONG)
    assert outcome.status == "rejected"
    assert "none of its 3010 segments has a label" in outcome.reason
    assert not corpus.store.file("7").exists()


def test_what_stands_there_is_left(corpus: _Corpus) -> None:
    job = _job(corpus)
    first = process_recording(job, corpus.store, _CONFIG)
    inode = Path(corpus.store.file("7").path).stat().st_ino
    again = process_recording(job, corpus.store, _CONFIG)
    assert again.skipped
    assert not first.skipped
    assert Path(corpus.store.file("7").path).stat().st_ino == inode
    assert again.row() == first.row()
    assert again.moments is not None
    assert first.moments is not None
    assert np.array_equal(again.moments.mean, first.moments.mean)


@pytest.mark.parametrize(
    "assignment",
    ["preprocess.level_dbfs=-6", "mel.n_mels=64", "augment.gain=[0.5, 0.6]", "preprocess.seed=1"],
)
def test_another_configuration_makes_it_again(corpus: _Corpus, assignment: str) -> None:
    job = _job(corpus)
    process_recording(job, corpus.store, _CONFIG)
    before = corpus.store.read("7", 1).mel
    config = Config.resolve(_CONFIG, assignments=[assignment])
    outcome = process_recording(job, corpus.store, config, replace=False)
    assert (outcome.status, outcome.skipped) == ("ok", False)
    assert not np.array_equal(corpus.store.read("7", 1).mel, before)


def test_a_stated_scale_changes_the_labels_and_is_noticed(corpus: _Corpus) -> None:
    job = _job(corpus)
    first = process_recording(job, corpus.store, _CONFIG)
    before = corpus.store.read("7").valence
    config = Config.resolve(_CONFIG, assignments=["labels.range=[-2, 2]"])
    outcome = process_recording(job, corpus.store, config, replace=False)
    assert (outcome.status, outcome.skipped) == ("ok", False)
    assert outcome.fingerprint != first.fingerprint
    np.testing.assert_allclose(corpus.store.read("7").valence, before / 2, atol=1e-7)


def test_configuration_that_it_does_not_depend_on(corpus: _Corpus) -> None:
    """A recording without copies does not depend on how copies are made."""
    job = _job(corpus, copies=0)
    process_recording(job, corpus.store, _CONFIG)
    config = Config.resolve(
        _CONFIG, assignments=["augment.gain=[0.5, 0.6]", "preprocess.seed=1", "train.epochs=2"]
    )
    assert process_recording(job, corpus.store, config).skipped


@pytest.mark.parametrize("changed", ["audio", "labels"])
def test_changed_files_are_noticed(corpus: _Corpus, changed: str) -> None:
    job = _job(corpus)
    process_recording(job, corpus.store, _CONFIG)
    before = corpus.store.file("7").read_bytes()
    if changed == "audio":
        corpus.audio(_speech(20.3, seed=1))
    else:
        corpus.labels(39)
    outcome = process_recording(job, corpus.store, _CONFIG, replace=False)
    assert outcome.status == "stale"
    assert corpus.store.file("7").read_bytes() == before
    assert process_recording(job, corpus.store, _CONFIG, replace=True).status == "ok"
    assert corpus.store.file("7").read_bytes() != before


def test_audio_gone_bad_costs_nothing_unless_replaced(corpus: _Corpus) -> None:
    job = _job(corpus)
    process_recording(job, corpus.store, _CONFIG)
    job.recording.audio.write_bytes(b"no longer audio")
    assert process_recording(job, corpus.store, _CONFIG, replace=False).status == "stale"
    assert corpus.store.stored("7") is not None
    assert process_recording(job, corpus.store, _CONFIG, replace=True).status == "rejected"
    assert corpus.store.stored("7") is None


@pytest.mark.parametrize("replace", [False, True])
def test_audio_that_is_away_costs_nothing(corpus: _Corpus, replace: bool) -> None:
    job = _job(corpus)
    process_recording(job, corpus.store, _CONFIG)
    job.recording.audio.delete()
    gone = process_recording(job, corpus.store, _CONFIG, replace=replace)
    assert gone.status == "rejected"
    assert "cannot be read" in gone.reason
    assert corpus.store.stored("7") is not None


@pytest.mark.parametrize(("sr", "channels"), [(8_000, 1), (48_000, 2)])
def test_any_rate_and_channels(corpus: _Corpus, sr: int, channels: int) -> None:
    audio = corpus.audio(_speech(12, sr, channels), sr=sr)
    job = corpus.job(audio, {"valence": corpus.labels(24)})
    outcome = process_recording(job, corpus.store, _CONFIG)
    assert (outcome.status, outcome.segments) == ("ok", 24)
    # 8 kHz audio has nothing above 4 kHz: the upper bands are far below the others.
    bands = corpus.store.read("7").mel.astype(np.float32).mean(axis=(0, 2))
    if sr == 8_000:
        assert bands[:90].min() - bands[105:].max() > 20
    else:
        assert bands[105:].max() > -40


@pytest.mark.parametrize(("n", "output"), [(39, ""), (42, ""), (34, "shorter"), (50, "longer")])
def test_labels_of_another_length(corpus: _Corpus, n: int, output: str) -> None:
    job = corpus.job(corpus.audio(_speech(20)), {"valence": corpus.labels(n)})
    outcome = process_recording(job, corpus.store, _CONFIG)
    assert outcome.status == "ok"
    assert outcome.labelled == min(n, 40)
    assert any(output in remark for remark in outcome.remarks) if output else not outcome.remarks


def _rejected(corpus: _Corpus, job: Job, config: Config = _CONFIG) -> str:
    outcome = process_recording(job, corpus.store, config)
    assert outcome.status == "rejected"
    assert corpus.store.stored("7") is None
    assert outcome.moments is None
    with pytest.raises(MissingStageError):
        corpus.store.read("7")
    return outcome.reason


def test_audio_that_is_none(corpus: _Corpus) -> None:
    labels = {"valence": corpus.labels(40)}
    for content, output in (
        (b"", "is empty"),
        (b"timestamp,value\n", "not audio"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "not audio"),
    ):
        audio = Location.parse(corpus.folder / "7.wav")
        audio.write_bytes(content)
        assert output in _rejected(corpus, corpus.job(audio, labels))


def test_audio_that_ends_early_or_is_no_sound(corpus: _Corpus) -> None:
    labels = {"valence": corpus.labels(40)}
    for suffix in ("wav", "flac", "ogg"):
        audio = corpus.audio(_speech(20), f"7.{suffix}")
        audio.write_bytes(audio.read_bytes()[:-500])
        reason = _rejected(corpus, corpus.job(audio, labels))
        assert "truncated" in reason
        assert "Restore it" in reason or "restore it" in reason
    silent = corpus.audio(np.zeros((20 * _SR, 1), np.float32))
    assert "all 320000 samples are zero" in _rejected(corpus, corpus.job(silent, labels))
    y = _speech(20)
    y[300_000] = np.nan
    soundfile.write(corpus.folder / "7.wav", y, _SR, subtype="FLOAT")
    audio = Location.parse(corpus.folder / "7.wav")
    assert "NaN or infinite" in _rejected(corpus, corpus.job(audio, labels))


def test_shorter_than_a_sequence(corpus: _Corpus) -> None:
    job = corpus.job(corpus.audio(_speech(4.9)), {"valence": corpus.labels(9)})
    reason = _rejected(corpus, job)
    assert "9 segments (4.9 s), fewer than the 10 of a sequence (5 s)" in reason


@pytest.mark.parametrize("split", ["train", "validation"])
def test_labels_are_needed_to_train_and_validate(corpus: _Corpus, split: str) -> None:
    audio = corpus.audio(_speech(20))
    assert "no label file for valence" in _rejected(corpus, corpus.job(audio, {}, split))
    empty = corpus.labels(0, text="timestamp,value\n" + "".join(f"{500 * i},\n" for i in range(40)))
    reason = _rejected(corpus, corpus.job(audio, {"valence": empty}, split))
    assert "none of its 40 segments has a label for valence" in reason
    both = Config.resolve(_CONFIG, assignments=['model.targets=["valence", "arousal"]'])
    job = corpus.job(audio, {"valence": corpus.labels(40)}, split)
    assert "no label file for arousal" in _rejected(corpus, job, both)


@pytest.mark.parametrize("split", ["test", "unlabelled"])
def test_labels_are_not_needed_otherwise(corpus: _Corpus, split: str) -> None:
    outcome = process_recording(
        corpus.job(corpus.audio(_speech(20)), {}, split), corpus.store, _CONFIG
    )
    assert (outcome.status, outcome.labelled) == ("ok", 0)
    assert np.isnan(corpus.store.read("7").valence).all()


def test_damaged_labels(corpus: _Corpus) -> None:
    audio = corpus.audio(_speech(20))
    for text, output in (
        ("timestamp,value\n500,0.1\n1000,happy\n", "line 3"),
        ("timestamp,value\n500,0.1\n1500,0.2\n", "every 500 ms"),
        ("timestamp,value\n500,0.1\n500,0.2\n", "line 3"),
    ):
        labels = {"valence": corpus.labels(0, text=text)}
        for split in ("train", "validation"):
            assert output in _rejected(corpus, corpus.job(audio, labels, split))
        labels = {"valence": corpus.labels(40), "arousal": corpus.labels(0, "arousal", text=text)}
        for job in (
            corpus.job(audio, {"valence": labels["arousal"]}, "test"),
            corpus.job(audio, labels, "train"),
        ):
            # A label file that is not needed costs its own labels alone.
            outcome = process_recording(job, corpus.store, _CONFIG)
            assert outcome.status == "ok"
            assert any(output in remark for remark in outcome.remarks)
            corpus.store.file("7").delete()


def test_an_id_that_the_store_needs_itself(corpus: _Corpus) -> None:
    job = _job(corpus)
    job = replace(job, recording=replace(job.recording, id="recordings"))
    outcome = process_recording(job, corpus.store, _CONFIG)
    assert outcome.status == "rejected"
    assert "Rename" in outcome.reason


def test_an_outcome_states_the_seconds_of_each_step(corpus: _Corpus) -> None:
    outcome = process_recording(_job(corpus), corpus.store, _CONFIG)
    assert set(outcome.seconds) == {"fetch", "check", "decode", "level", "augment", "mel", "store"}


_LIMITED = """
import resource, signal, sys
from valence.config import Config
from valence.corpus.muse import Recording
from valence.segments.jobs import Job
from valence.segments.preprocessing import process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
audio, store = (Location.parse(text) for text in sys.argv[1:])
try:
    process_recording(Job(Recording("7", audio, "7"), "test", 0), SegmentStore(store), Config())
except OSError as error:
    print("OSError", error.errno)
"""


def test_a_failing_write_is_no_fault_of_the_recording(corpus: _Corpus) -> None:
    """A disk that takes no more, as a limit on the size of files makes one."""
    audio = corpus.audio(_speech(30))
    ran = subprocess.run(
        [sys.executable, "-c", _LIMITED, audio.path, corpus.store.root.path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith("OSError")
    assert list(Path(corpus.store.root.path).iterdir()) == []


_MEASURED = """
import resource, sys
from valence.config import Config
from valence.corpus.muse import Recording
from valence.segments.jobs import Job
from valence.segments.preprocessing import process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location
audio, store = (Location.parse(text) for text in sys.argv[1:])
outcome = process_recording(
    Job(Recording("7", audio, "7"), "test", 0), SegmentStore(store), Config()
)
print(outcome.segments, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.memory
def test_memory_does_not_grow_with_the_length(corpus: _Corpus) -> None:
    peaks = []
    minute = _speech(60)
    for minutes in (12, 60):
        audio = corpus.folder / f"{minutes}.wav"
        with soundfile.SoundFile(audio, "w", _SR, 1) as sound:
            for _ in range(minutes):
                sound.write(minute)
        ran = subprocess.run(
            [sys.executable, "-c", _MEASURED, str(audio), str(corpus.folder / str(minutes))],
            capture_output=True,
            text=True,
            check=True,
        )
        segments, peak = map(int, ran.stdout.split())
        assert segments == 120 * minutes
        peaks.append(peak)
        audio.unlink()
    assert peaks[1] < peaks[0] + 25, peaks


def test_audio_that_is_replaced_before_it_is_decoded(
    corpus: _Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _job(corpus)
    found = preprocessing.checksum

    def replaced(path: Path) -> str:
        digest = found(path)
        corpus.audio(_speech(20.3, seed=9), "other.wav")
        Path(corpus.folder / "other.wav").replace(path)
        return digest

    monkeypatch.setattr(preprocessing, "checksum", replaced)
    outcome = process_recording(job, corpus.store, _CONFIG)
    assert outcome.status == "rejected"
    assert "was changed while it was being worked on" in outcome.reason
    assert not corpus.store.file("7").exists()


def test_what_is_odd_about_the_sound_stays_known(corpus: _Corpus) -> None:
    y = _speech(21)
    audio = corpus.audio(np.concatenate([y, -y], axis=1))
    job = corpus.job(audio, {"valence": corpus.labels(42)})
    first = process_recording(job, corpus.store, _CONFIG)
    assert [remark[:31] for remark in first.remarks] == ["its channels cancel each other "]
    stored = corpus.store.read("7").mel
    assert process_recording(job, corpus.store, _CONFIG).row() == first.row()
    corpus.store.file("7").delete()
    corpus.audio(y)
    process_recording(job, corpus.store, _CONFIG)
    np.testing.assert_array_equal(corpus.store.read("7").mel, stored)


def test_parts_in_opposite_phase_are_the_same_bytes(
    corpus: _Corpus, long_audio: np.ndarray
) -> None:
    other = long_audio.copy()
    other[1000 * _LONG_SR :] *= -1
    job = _long_job(corpus, np.concatenate([long_audio, other], axis=1))
    whole = process_recording(job, corpus.store, _LONG)
    assert "cancel each other" in whole.remarks[0]
    expected = corpus.store.file("7").read_bytes()
    corpus.store.file("7").delete()
    cut = _cut(job, corpus.store)
    for part in range(cut.parts):
        assert process_part(job, cut, part, corpus.store, _LONG).reason == ""
    assert join_parts(job, cut, corpus.store, _LONG).row() == whole.row()
    assert corpus.store.file("7").read_bytes() == expected


def test_another_channel_is_another_recording(corpus: _Corpus) -> None:
    audio = corpus.audio(np.concatenate([_speech(21), _speech(21, seed=5)], axis=1))
    job = corpus.job(audio, {"valence": corpus.labels(42)})
    stored = []
    for channel in ("mean", 0, 1):
        config = Config.resolve(_CONFIG, assignments=[f"preprocess.channel={channel}"])
        assert not process_recording(job, corpus.store, config).skipped
        stored.append(corpus.store.read("7").mel)
    assert not any(np.array_equal(a, b) for a, b in pairwise(stored))
    config = Config.resolve(_CONFIG, assignments=["preprocess.channel=2"])
    assert "has 2 channel(s)" in process_recording(job, corpus.store, config).reason


def test_the_default_channel_is_in_no_fingerprint() -> None:
    assert "channel" not in Config().preprocess.model_dump(mode="json")
    chosen = Config.resolve(Config(), assignments=["preprocess.channel=1"])
    assert chosen.preprocess.model_dump(mode="json")["channel"] == 1
    assert Config.resolve(chosen, assignments=["preprocess.channel=mean"]) == Config()
