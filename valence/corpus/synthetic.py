"""Make the embedded corpus: babbling voices whose valence and arousal are known at every moment.

The labels are the values from which the sound was made; no person has judged the sound. Scores on
this corpus show that a system works, and say nothing about people.
"""

from __future__ import annotations

import wave
from collections.abc import Iterator
from typing import Literal

import numpy as np

from valence.corpus.muse import SYNTHETIC
from valence.corpus.synthetic_voice import LABEL_SECONDS, Emotion, Floats, Voice, speak, wander
from valence.storage.location import Location

__all__ = ["SYNTHETIC", "make_emotion", "make_voice", "write_corpus"]


def write_corpus(
    folder: Location,
    *,
    subjects: int = 10,
    seconds: float = 120.0,
    sr: int = 16_000,
    seed: int = 0,
    partition: bool = True,
) -> None:
    """Write a corpus in the MuSe layout; the same arguments give the same bytes.

    Parameters
    ----------
    folder
        The folder in which `raw_data`, `label_segments` and `metadata` are written.
    subjects
        Number of speakers, at least 3: about 60 % train, 20 % devel and 20 % test.
    seconds
        Length of each recording.
    sr
        Sample rate [Hz], at least 12,000.
    seed
        Determines voices, emotions and syllables.
    partition
        True: each speaker has one recording, all recordings are labelled, and
        `metadata/partition.csv` divides them. False: the form of MuSe-Personalisation, without
        `partition.csv`: each test speaker has three recordings, `_train`, `_devel` and `_test`, and
        the labels of `_test` are empty.
    """
    assert subjects >= 3, "training, devel and test need a speaker each"
    held_out = max(1, round(0.2 * subjects))
    rows = ["Id,Proposal"]
    for number in range(subjects):
        subject = f"{number + 1:02d}"
        split = _split(number, subjects, held_out)
        voice = make_voice(number, seed=seed)
        suffixes = ["_train", "_devel", "_test"] if split == "test" and not partition else [""]
        for take, suffix in enumerate(suffixes):
            rng = np.random.default_rng([seed, number, take])
            emotion = make_emotion(seconds, rng)
            y = speak(voice, emotion, seconds=seconds, sr=sr, rng=rng)
            _write_wav(folder / f"raw_data/audio/{subject}{suffix}.wav", y, sr)
            for name, curve in (("valence", emotion.valence), ("arousal", emotion.arousal)):
                file = folder / f"label_segments/{name}/{subject}{suffix}.csv"
                _write_labels(file, curve, empty=suffix == "_test")
        rows.append(f"{subject},{split}")
    if partition:
        (folder / "metadata/partition.csv").write_text("\n".join(rows) + "\n")
    # This file is written last, so that its presence shows that the corpus is complete.
    made = {"subjects": subjects, "seconds": seconds, "sr": sr, "seed": seed}
    (folder / SYNTHETIC).write_json(made)


def make_voice(number: int, *, seed: int = 0) -> Voice:
    """Make the voice of speaker `number`: low for even numbers, high for odd ones.

    Voices are spread evenly instead of drawn at random, so that few speakers cover the range.
    """
    # An additive recurrence (M. Roberts' R-sequence) spreads each coordinate evenly.
    steps = np.array([0.8566749, 0.7338919, 0.6287067, 0.5385973, 0.4614028, 0.3952739])
    offset = np.random.default_rng([seed, 7]).random(6)
    low, tempo, breath, tilt, gain, floor = (offset + (number // 2 + 1) * steps) % 1.0
    high = number % 2 == 1
    return Voice(
        pitch=(175.0 if high else 95.0) * 2 ** (0.5 * low),
        tract=(1.04 if high else 0.94) + 0.07 * (low - 0.5) + 0.02 * (breath - 0.5),
        tempo=4.0 + 1.4 * tempo,
        breath=0.03 + 0.03 * breath,
        tilt=-0.8 + 1.6 * tilt,
        gain_db=-12.0 * gain,
        floor_db=-50.0 + 8.0 * floor,
    )


def make_emotion(seconds: float, rng: np.random.Generator) -> Emotion:
    """Draw valence and arousal: two smooth, independent curves between about -0.8 and 0.8."""
    n = int(seconds / LABEL_SECONDS)
    return Emotion(valence=_smooth_curve(n, rng), arousal=_smooth_curve(n, rng))


def _smooth_curve(n: int, rng: np.random.Generator) -> Floats:
    """Draw a curve that is smooth over about 8 s, mostly within [-0.8, 0.8], float64 `[n]`."""
    slow = wander(n, 14, rng)
    return np.asarray(np.round(0.85 * np.tanh(1.3 * slow), 6))


def _split(number: int, subjects: int, held_out: int) -> Literal["train", "devel", "test"]:
    if number >= subjects - held_out:
        return "test"
    return "devel" if number >= subjects - 2 * held_out else "train"


def _write_wav(file: Location, y: Floats, sr: int) -> None:
    pcm = np.round(32767 * y).astype("<i2")
    with file.writer() as target, wave.open(target, "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(sr)
        audio.writeframes(pcm.tobytes())


def _write_labels(file: Location, curve: Floats, *, empty: bool) -> None:
    file.write_text("timestamp,value,segment_id\n" + "".join(_label_rows(curve, empty=empty)))


def _label_rows(curve: Floats, *, empty: bool) -> Iterator[str]:
    for row, value in enumerate(curve):
        yield f"{round(1000 * LABEL_SECONDS * row)},{'' if empty else f'{value:.6f}'},1\n"
