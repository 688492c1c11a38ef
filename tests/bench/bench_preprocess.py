# ruff: noqa: E402  (the thread limits are read when NumPy is imported)
"""CPU-seconds per 5-minute recording: the study's plain way against this product's functions.

It keeps to one core and one thread, on the audio that both ways shall read:

    python tests/bench/bench_preprocess.py [AUDIO ...]

Without arguments it writes 5 minutes of synthetic speech as WAV, FLAC and Ogg Vorbis and takes
those. Start-up (imports, first calls) is outside the timings of both.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import audiomentations
import librosa
import numpy as np
import pyarrow as pa
import soundfile

from valence.config import Config
from valence.corpus.muse import Recording
from valence.segments.preprocessing import Job, process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location

SR, SEGMENT, SEQUENCE = 16_000, 8_000, 40


def plain_way(audio: Path, folder: Path, *, augmented: bool, stride: int) -> None:
    """The study's preprocessing as one would write it down: a loop over segments."""
    y, _ = librosa.load(audio, sr=SR, mono=True)
    transform = audiomentations.Compose(
        [
            audiomentations.AddGaussianNoise(min_amplitude=0.01, max_amplitude=0.05, p=0.5),
            audiomentations.PitchShift(min_semitones=-2, max_semitones=2, p=0.5),
            audiomentations.TimeStretch(min_rate=0.85, max_rate=1.15, p=0.5),
            audiomentations.Gain(
                min_gain_db=20 * np.log10(0.9), max_gain_db=20 * np.log10(1.1), p=0.5
            ),
        ]
    )
    mels = []
    for start in range(0, len(y) - SEGMENT + 1, SEGMENT):
        segment = y[start : start + SEGMENT]
        peak = np.abs(segment).max()
        if peak > 0:
            segment = segment * (10 ** (-3 / 20) / peak)
        if augmented:
            segment = transform(segment, sample_rate=SR)
        segment = np.pad(segment, (0, 33 * 256 - SEGMENT))
        power = librosa.feature.melspectrogram(
            y=segment, sr=SR, n_fft=1024, hop_length=256, n_mels=128
        )
        mels.append(librosa.power_to_db(power, top_db=None))
    stacked = np.stack(mels)
    stacked = (stacked - stacked.mean()) / stacked.std()
    labels = np.zeros((len(stacked), 2), np.float32)
    for start in range(0, len(stacked) - SEQUENCE + 1, stride):
        part = slice(start, start + SEQUENCE)
        np.savez(
            folder / f"{audio.stem}_{start}.npz",
            mel=stacked[part, None],
            labels=labels[part],
        )


def product_way(audio: Path, folder: Path, *, copies: int) -> None:
    """This product's functions: from the file to the segment store, moments included."""
    recording = Recording(audio.stem, Location.parse(audio), audio.stem)
    store = SegmentStore(Location.parse(folder))
    outcome = process_recording(Job(recording, "test", copies), store, Config())
    assert outcome.status == "ok", outcome.reason


def cpu_seconds(work: Callable[[Path], None], repeats: int) -> float:
    """Least CPU time of the process, after one call that does not count.

    The least, because what else runs on the machine can only add to it. Each call writes into a
    new folder, and what removing the folder costs is not counted.
    """
    taken = []
    for _ in range(1 + repeats):
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            work(Path(folder))
            taken.append(time.process_time() - began)
    return min(taken[1:])


def synthetic_recordings(folder: Path) -> list[Path]:
    """Five minutes of a voiced sound with pauses, in three formats."""
    rng = np.random.default_rng(0)
    t = np.arange(300 * SR) / SR
    pitch = 140 + 40 * np.sin(2 * np.pi * 0.13 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / SR
    voice = sum(np.sin(k * phase) / k for k in range(1, 20))
    loudness = np.clip(np.sin(2 * np.pi * 0.7 * t) + 0.6, 0, None)
    y = (0.1 * voice * loudness + 0.002 * rng.standard_normal(len(t))).astype(np.float32)
    files = []
    for suffix, subtype in ((".wav", "PCM_16"), (".flac", "PCM_16"), (".ogg", "VORBIS")):
        file = folder / f"synthetic{suffix}"
        # libsndfile crashes when it encodes long Vorbis in one call.
        with soundfile.SoundFile(file, "w", SR, 1, subtype) as sound:
            for start in range(0, len(y), SR):
                sound.write(y[start : start + SR])
        files.append(file)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("audio", nargs="*", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--stride", type=int, default=1, help="of the plain way's sequences")
    arguments = parser.parse_args()
    repeats = arguments.repeats
    pa.set_cpu_count(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = arguments.audio or synthetic_recordings(folder)
        print(f"{'CPU-seconds per 5 minutes':<34}{'plain':>8}{'valence':>9}{'ratio':>7}")
        for audio in files:
            per = 300 / soundfile.info(audio).duration
            plain = {
                augmented: per
                * cpu_seconds(
                    partial(plain_way, audio, augmented=augmented, stride=arguments.stride), repeats
                )
                for augmented in (False, True)
            }
            ours = {
                copies: per * cpu_seconds(partial(product_way, audio, copies=copies), 3 * repeats)
                for copies in (0, 1)
            }
            for kind, there, here in (
                ("clean", plain[False], ours[0]),
                # The product's side makes the clean recording too, since it never makes one alone.
                ("augmented", plain[True], ours[1]),
                ("clean and augmented", plain[False] + plain[True], ours[1]),
            ):
                print(f"{f'{audio.name} {kind}':<34}{there:>8.3f}{here:>9.3f}{there / here:>7.1f}")


if __name__ == "__main__":
    main()
