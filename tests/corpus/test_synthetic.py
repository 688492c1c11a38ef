from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import audmetric
import librosa
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from valence.config import SplitConfig
from valence.corpus.annotations import read_annotation
from valence.corpus.muse import Corpus, read_corpus
from valence.corpus.splits import assign_splits, resolve_protocol
from valence.corpus.synthetic import SYNTHETIC, make_voice, write_corpus
from valence.storage.location import Location


def _digests(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _write(folder: Path, **arguments: object) -> dict[str, str]:
    write_corpus(Location.parse(folder), **arguments)  # type: ignore[arg-type]
    return _digests(folder)


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    first = _write(tmp_path / "a", subjects=4, seconds=3.0, seed=7)
    assert len(first) == 4 * 3 + 2
    assert len(set(first.values())) == len(first)
    assert _write(tmp_path / "b", subjects=4, seconds=3.0, seed=7) == first
    other = _write(tmp_path / "c", subjects=4, seconds=3.0, seed=8)
    same = {name for name in first if first[name] == other[name]}
    assert same == {"metadata/partition.csv"}


_DIGESTS = """
import hashlib, pathlib, sys
from valence.storage.location import Location
from valence.corpus.synthetic import write_corpus
folder = pathlib.Path(sys.argv[1])
write_corpus(Location.parse(folder), subjects=4, seconds=20.0)
for file in sorted(folder.rglob("*.*")):
    print(hashlib.sha256(file.read_bytes()).hexdigest())
"""


def test_an_older_processor_gives_the_same_bytes(tmp_path: Path) -> None:
    # NumPy's exp and power differ in their last bits between instruction sets.
    newer = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    if not newer:
        pytest.skip("this processor has no instruction set beyond NumPy's baseline")
    digests = []
    for disabled in ("", " ".join(newer)):
        ran = subprocess.run(
            [sys.executable, "-c", _DIGESTS, str(tmp_path / f"without {disabled}")],
            env={**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.append(ran.stdout.split())
    assert len(digests[0]) == 14
    assert digests[0] == digests[1]


def test_a_speaker_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few = _write(tmp_path / "a", subjects=3, seconds=2.0)
    many = _write(tmp_path / "b", subjects=5, seconds=2.0)
    for name in few.keys() - {"metadata/partition.csv", SYNTHETIC}:
        assert few[name] == many[name]


def test_the_audio_is_mono_16_bit_of_the_length_asked(tmp_path: Path) -> None:
    _write(tmp_path, subjects=3, seconds=2.3, sr=22_050)
    info = soundfile.info(tmp_path / "raw_data/audio/02.wav")
    assert (info.samplerate, info.channels, info.subtype) == (22_050, 1, "PCM_16")
    assert info.frames == round(2.3 * 22_050)


@pytest.mark.parametrize(
    ("subjects", "counts"), [(3, (1, 1, 1)), (6, (4, 1, 1)), (10, (6, 2, 2)), (14, (8, 3, 3))]
)
def test_subjects_are_divided_60_20_20(
    tmp_path: Path, subjects: int, counts: tuple[int, int, int]
) -> None:
    _write(tmp_path, subjects=subjects, seconds=1.0)
    corpus = read_corpus(Location.parse(tmp_path))
    found = Counter(recording.partition for recording in corpus.recordings)
    assert (found["train"], found["devel"], found["test"]) == counts
    assert len({recording.subject for recording in corpus.recordings}) == subjects


def test_without_a_partition_it_has_the_form_of_the_papers_corpus(tmp_path: Path) -> None:
    _write(tmp_path, subjects=5, seconds=1.0, partition=False)
    corpus = read_corpus(Location.parse(tmp_path))
    assert resolve_protocol(corpus, SplitConfig()) == "paper"
    splits = assign_splits(corpus, SplitConfig())
    assert Counter(splits.values()) == {"train": 3, "validation": 1, "test": 2, "unlabelled": 1}
    assert splits["05_test"] == "unlabelled"
    labelled = {
        recording.id: read_annotation(recording.labels["valence"]).labelled
        for recording in corpus.recordings
    }
    assert labelled == {**dict.fromkeys(splits, 2), "05_test": 0}


def test_voices_differ_and_cover_both_registers() -> None:
    voices = [make_voice(number, seed=3) for number in range(12)]
    assert len({voice.pitch for voice in voices}) == 12
    assert max(voice.pitch for voice in voices[::2]) < min(voice.pitch for voice in voices[1::2])
    assert make_voice(4, seed=3) == voices[4] != make_voice(4, seed=2)
    for low, high in zip(voices[::2], voices[1::2], strict=True):
        assert low.tract < high.tract


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The embedded corpus as it comes: ten speakers, two minutes each."""
    folder = Location.parse(tmp_path_factory.mktemp("embedded"))
    write_corpus(folder)
    return read_corpus(folder)


def test_every_recording_is_labelled_by_smooth_curves(corpus: Corpus) -> None:
    assert not corpus.remarks
    curves = []
    for recording in corpus.recordings:
        for file in recording.labels.values():
            annotation = read_annotation(file)
            assert not annotation.remarks
            assert annotation.labelled == 240
            curves.append(annotation.value)
    steps = np.abs(np.diff(curves, axis=1))
    assert steps.max() < 0.2
    assert np.abs(curves).max() <= 0.85
    assert np.ptp(curves, axis=1).min() > 1.0


def test_valence_and_arousal_are_two_curves(corpus: Corpus) -> None:
    pairs = [
        [read_annotation(recording.labels[target]).value for target in ("valence", "arousal")]
        for recording in corpus.recordings
    ]
    correlation = [np.corrcoef(pair)[0, 1] for pair in pairs]
    assert np.abs(correlation).max() < 0.7
    assert abs(np.corrcoef(np.concatenate(pairs, axis=1))[0, 1]) < 0.3


def test_no_sample_is_clipped_and_no_segment_is_empty(corpus: Corpus) -> None:
    levels = []
    for recording in corpus.recordings:
        y, _ = soundfile.read(recording.audio.path)
        segments = np.abs(y[: len(y) // 8000 * 8000].reshape(-1, 8000)).max(axis=1)
        assert segments.max() < 0.95
        assert segments.min() > 0
        levels.append(segments.max())
    assert max(levels) > 2 * min(levels)


def _windows(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over 40 consecutive rows."""
    return np.stack([x[start : start + 40].mean(axis=0) for start in range(len(x) - 39)])


@pytest.mark.parametrize("target", ["valence", "arousal"])
def test_emotion_can_be_learnt_by_ear_alone_and_not_perfectly(corpus: Corpus, target: str) -> None:
    """A ridge on mean and spread of each mel band, on speakers that it was not trained on.

    Segments are brought to one peak, so that loudness over time tells nothing.
    """
    x: dict[str, list[NDArray[np.float64]]] = {"train": [], "devel": [], "test": []}
    y: dict[str, list[NDArray[np.float64]]] = {"train": [], "devel": [], "test": []}
    for recording in corpus.recordings:
        audio, sr = soundfile.read(recording.audio.path, dtype="float32")
        segments = audio.reshape(-1, 8000)
        segments = segments / np.abs(segments).max(axis=1, keepdims=True)
        mel = librosa.power_to_db(
            librosa.feature.melspectrogram(y=segments, sr=sr, n_fft=1024, hop_length=512),
            top_db=None,
        )
        statistics = np.concatenate([mel.mean(axis=2), mel.std(axis=2)], axis=1)
        assert recording.partition is not None
        x[recording.partition].append(_windows(statistics.astype(np.float64)))
        labels = read_annotation(recording.labels[target]).value.astype(np.float64)  # type: ignore[index]
        y[recording.partition].append(_windows(labels))
    ridge = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
    ridge.fit(np.concatenate(x["train"]), np.concatenate(y["train"]))
    for split in ("devel", "test"):
        truth = np.concatenate(y[split])
        ccc = audmetric.concordance_cc(truth, ridge.predict(np.concatenate(x[split])))
        assert 0.5 < ccc < 0.98
