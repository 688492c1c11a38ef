"""Measure how scores fall on degraded sound: white noise, and the band of a telephone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from valence.audio.decoding import read_audio
from valence.corpus.muse import read_corpus
from valence.errors import CorpusError, UsageError
from valence.formatting import plural
from valence.metrics import Scores, score
from valence.model.inference import sequence_outputs
from valence.prediction.predictor import Predictor
from valence.report.analysis.results import Evidence
from valence.storage.location import Location

Array = NDArray[np.float32]
Degrade = Callable[[Array, np.random.Generator], Array]

# Seconds of sound to degrade. Five conditions of this much sound take as long as an hour of
# recordings.
MOST_SECONDS = 600.0
# The only lasting reason why nothing is measured; a later report may succeed after all others.
NO_LABELS = "No recording with labels is there to degrade."
# Another lasting reason.
FROM_A_SET = (
    "Not measured: the model takes a set of features that was made elsewhere, so that sound which "
    "is degraded here has none."
)
_TELEPHONE_HZ = (300.0, 3400.0)
_SNR_DB = (20.0, 10.0, 0.0)
# Largest difference between stored predictions and those computed here from the same sound.
_SAME = 1e-3


@dataclass(frozen=True)
class Condition:
    """Scores under one condition of the sound."""

    name: str
    label: str
    scores: Scores


@dataclass(frozen=True)
class Robustness:
    """Scores on the same sequences under several conditions, the unchanged sound first.

    Attributes
    ----------
    conditions
        The conditions with their scores.
    split
        Split of the recordings.
    recordings
        Number of recordings.
    seconds
        Length of the sound that was used.
    note
        A fact that a reader must know, or an empty string.
    """

    conditions: tuple[Condition, ...]
    split: str
    recordings: int
    seconds: float
    note: str

    def change(self, condition: Condition) -> float:
        """Compute the CCC under `condition` minus the CCC of the unchanged sound."""
        return condition.scores.ccc - self.conditions[0].scores.ccc

    def to_json(self) -> dict[str, Any]:
        """Return the content for `metrics.json`."""
        return {
            "split": self.split,
            "recordings": self.recordings,
            "seconds": self.seconds,
            "note": self.note,
            "conditions": {
                each.name: {**each.scores.to_json(), "change": self.change(each)}
                for each in self.conditions
            },
        }


def white_noise(y: Array, rng: np.random.Generator, *, snr_db: float) -> Array:
    """Add white noise whose mean power lies `snr_db` below the mean power of `y`.

    Parameters
    ----------
    y
        Samples `[samples]`.
    rng
        Generator of the noise.
    snr_db
        Ratio of powers in dB.
    """
    power = float(np.mean(np.square(y, dtype=np.float64)))
    scale = np.sqrt(power / 10 ** (snr_db / 10))
    return y + np.float32(scale) * rng.standard_normal(len(y), dtype=np.float32)


def telephone(y: Array, rng: np.random.Generator, *, sr: int) -> Array:
    """Keep 300 to 3,400 Hz of samples `[samples]` (Butterworth, 24 dB per octave)."""
    del rng
    band = signal.butter(4, _TELEPHONE_HZ, btype="bandpass", fs=sr, output="sos")
    return np.asarray(signal.sosfilt(band, y), np.float32)


def measure(
    evidence: Evidence, predictor: Predictor, *, most_seconds: float = MOST_SECONDS
) -> Robustness | str:
    """Score the deep model on degraded recordings of the test set, or else the validation set.

    The same number of seconds is taken from the beginning of each recording, so that about
    `most_seconds` are used at most. Returns a sentence with the reason if nothing can be measured.
    """
    if predictor.description.features is not None:
        return FROM_A_SET
    for split in ("test", "validation"):
        rows = evidence.features.of(split)
        if len(rows):
            break
    else:
        return NO_LABELS
    try:
        root = Location.parse(str(evidence.record.get("corpus", "")))
        corpus = read_corpus(root, evidence.config.corpus.subjects)
    except (CorpusError, UsageError, OSError) as error:
        # An address can need a package or a login that this machine lacks.
        return f"Not measured, because the corpus cannot be read now: {error}"
    audio = {recording.id: recording.audio for recording in corpus.recordings}
    names = [str(name) for name in dict.fromkeys(rows.recording.tolist()) if name in audio]
    config = evidence.config
    sr, segment = config.preprocess.sr, config.preprocess.segment_samples
    length = config.sequence.length
    # With many recordings the share of each becomes small, but a sequence must fit in.
    segments = max(
        length, int(most_seconds / config.preprocess.segment_seconds / max(len(names), 1))
    )
    conditions = _conditions(sr)
    predicted: list[list[Array]] = [[] for _ in conditions]
    targets, subjects, stored, seconds, used = [], [], [], 0.0, 0
    for name in names:
        own = rows.rows((rows.recording == name) & (rows.start + length <= segments))
        if not len(own) or seconds >= max(most_seconds, 1):
            continue
        try:
            y = read_audio(audio[name], sr=sr, channel=config.preprocess.channel)[
                : segments * segment
            ]
        except CorpusError as error:
            return f"Not measured, because a recording cannot be read now: {error}"
        if own.start.max() + length > len(y) // segment:
            return f"Not measured: '{audio[name]}' is no longer what this run was made from."
        for place, (key, _, degrade) in enumerate(conditions):
            mel = predictor.mel(degrade(y, _generator(config.preprocess.seed, name, key)))
            outputs = sequence_outputs(predictor.model, mel, own.start, length)
            predicted[place].append(outputs.prediction[:, 0])
        targets.append(own.target[:, 0])
        subjects.append(own.subject)
        stored.append(own.prediction[:, 0])
        seconds += len(y) / sr
        used += 1
    if not used:
        return "Not measured: none of the recordings with labels is in the corpus now."
    label, who = np.concatenate(targets), np.concatenate(subjects)
    if np.abs(np.concatenate(predicted[0]) - np.concatenate(stored)).max() > _SAME:
        return "Not measured: the corpus now holds other sound than this run was made from."
    scored = tuple(
        Condition(
            key,
            title,
            score(
                label,
                np.concatenate(parts),
                subjects=who,
                bootstrap=config.sweep.bootstrap,
            ),
        )
        for (key, title, _), parts in zip(conditions, predicted, strict=True)
    )
    everything = len(label) == len(rows)
    note = (
        ""
        if everything
        else f"Measured on the beginning of {used} of "
        f"{plural(len(set(rows.recording.tolist())), 'recording')}, {seconds:g} s in all, so that "
        "the report does not take long."
    )
    return Robustness(scored, split, used, seconds, note)


def _conditions(sr: int) -> Sequence[tuple[str, str, Degrade]]:
    noisy = [
        (f"noise_{snr:g}db", f"noise, SNR {snr:g} dB", partial(white_noise, snr_db=snr))
        for snr in _SNR_DB
    ]
    return [
        ("clean", "as recorded", lambda y, rng: y),
        *noisy,
        ("telephone", "telephone", partial(telephone, sr=sr)),
    ]


def _generator(seed: int, recording: str, condition: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{recording}:{condition}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
