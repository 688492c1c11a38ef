"""Look through a corpus before any work is done: its recordings, and their problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from valence.audio.decoding import low_rate, read_header
from valence.config import Config, Target
from valence.corpus.annotations import join_annotation, read_annotation
from valence.corpus.muse import Corpus, Recording, subject_of
from valence.corpus.splits import SplitName, assign_splits
from valence.errors import AnnotationError, AudioError, SplitError
from valence.formatting import plural
from valence.segments.store import SegmentStore

_CHECKED_AT_ONCE = 16
# A remark that concerns many recordings names only so many of them.
_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """The findings of `check_corpus` about a recording.

    Attributes
    ----------
    split
        The recording's split, or None if the corpus cannot be divided or the audio is missing.
    duration, sr, channels, format
        Seconds, sample rate in Hz, number of channels and suffix of the file; None where the audio
        cannot be read.
    labelled
        Share of the segments whose targets are all known, in [0, 1].
    problem
        The reason why preprocessing would reject the recording, or None.
    remarks
        Oddities that do not keep the recording from being used.
    stamps
        The ends of a segment that the timestamps of its label files name: `start`, `end` or both.
    segments
        Number of whole segments; None where the audio cannot be read.
    """

    id: str
    subject: str
    split: SplitName | None
    duration: float | None = None
    sr: int | None = None
    channels: int | None = None
    format: str | None = None
    labelled: float | None = None
    problem: str | None = None
    remarks: tuple[str, ...] = ()
    stamps: tuple[str, ...] = field(default=(), compare=False)
    segments: int | None = field(default=None, compare=False)


def check_corpus(corpus: Corpus, config: Config) -> list[Finding]:
    """Check the audio header and the labels of every recording, without decoding any sound.

    The check finds the problems and oddities that preprocessing would find, except those that only
    decoding shows (silence, damage in the middle). Recordings that are named in the corpus but have
    no audio come last.

    Returns
    -------
    One finding for each recording. If the corpus cannot be divided (`assign_splits` says why),
    `split` is None in all of them.
    """
    try:
        splits: Mapping[str, SplitName] = assign_splits(corpus, config.split)
    except SplitError:
        splits = {}

    def check(recording: Recording) -> Finding:
        return _check_recording(recording, splits.get(recording.id), config)

    # Threads suffice, because nearly all of the time is spent waiting for the storage.
    with ThreadPoolExecutor(_CHECKED_AT_ONCE) as pool:
        findings = list(pool.map(check, corpus.recordings))
    absent = "has no audio file in raw_data/audio; restore it, or remove what else names it"
    return findings + [
        Finding(name, subject_of(name), split=None, problem=absent) for name in corpus.missing
    ]


def remarks_on_stamps(findings: Sequence[Finding]) -> list[str]:
    """Remark on a corpus in which some label files give segment starts and others segment ends.

    Row i labels segment i in both kinds of file. If a file begins with a segment's end because its
    first row was lost, all its labels are half a second off, and the file itself does not show it.
    """
    ends = {
        end: [finding.id for finding in findings if end in finding.stamps]
        for end in ("start", "end")
    }
    if not all(ends.values()):
        return []
    fewer = min(ends, key=lambda end: len(ends[end]))
    other = "end" if fewer == "start" else "start"
    return [
        f"the label files of {len(ends[fewer])} recordings ('{ends[fewer][0]}' first) begin with "
        f"the {fewer} of a segment as their timestamp, those of {len(ends[other])} with its "
        f"{other}; row i labels segment i in both, so see that no first row is missing"
    ]


def remarks_on_rates(findings: Sequence[Finding], sr: int) -> list[str]:
    """Remark on recordings whose sample rate is below `sr`, the model's sample rate in Hz."""
    low = [finding for finding in findings if finding.sr is not None and finding.sr < sr]
    if not low:
        return []
    rates = sorted({finding.sr for finding in low if finding.sr is not None})
    found = f"{rates[0]}" if len(rates) == 1 else f"{rates[0]} to {rates[-1]}"
    named = ", ".join(f"'{finding.id}'" for finding in low[:_NAMED])
    return [
        f"{len(low)} of {plural(len(findings), 'recording')} ({named}"
        f"{', …' if len(low) > _NAMED else ''}) {'has' if len(low) == 1 else 'have'} a sample rate "
        f"of {found} Hz, below the {sr} Hz of preprocess.sr: the upper mel bands of such a "
        "recording are empty, and a model learns that"
    ]


def _check_recording(recording: Recording, split: SplitName | None, config: Config) -> Finding:
    finding = Finding(
        recording.id,
        recording.subject,
        split,
        format=recording.audio.suffix.removeprefix("."),
        remarks=recording.remarks,
    )
    channel = config.preprocess.channel
    try:
        header = read_header(recording.audio)
    except AudioError as error:
        return replace(finding, problem=str(error))
    finding = replace(finding, duration=header.duration, sr=header.sr, channels=header.channels)
    if channel != "mean" and channel >= header.channels:
        problem = f"has {header.channels} channel(s), and preprocess.channel = {channel} is none"
        return replace(finding, problem=problem)
    odd = (*recording.remarks, *low_rate(header.sr, sr=config.preprocess.sr))
    n_segments = header.frames * 1000 // (header.sr * config.preprocess.segment_ms)
    finding = replace(finding, segments=n_segments)
    known, damaged, remarks, stamps = _read_labels(recording, n_segments, config)
    needed = config.model.targets if split in ("train", "validation") else ()
    problems = [reason for target, reason in damaged if target in needed]
    # Where the labels are not needed, a damaged label file is no reason to reject the recording.
    remarks += [f"labels not used: {reason}" for target, reason in damaged if target not in needed]
    unusable = SegmentStore.why_not(recording.id)
    if unusable is not None:
        problems.append(f"{unusable}; rename the recording and its label files")
    if n_segments < config.sequence.length:
        problems.append(
            f"has {n_segments} segments ({header.duration:.1f} s), fewer than the "
            f"{config.sequence.length} of a sequence"
        )
    if not problems and not known.any():
        absent = [target for target in config.model.targets if target not in recording.labels]
        lacking = f"label file for {' and '.join(absent)}" if absent else "segment with a label"
        if split in ("train", "validation"):
            problems.append(f"has no {lacking}")
        elif split != "unlabelled":
            remarks.append(f"has no {lacking}")
    return replace(
        finding,
        labelled=float(known.mean()) if n_segments else 0.0,
        problem="; ".join(problems) or None,
        remarks=(*odd, *remarks),
        stamps=stamps,
    )


def _read_labels(
    recording: Recording, n_segments: int, config: Config
) -> tuple[NDArray[np.bool_], list[tuple[Target, str]], list[str], tuple[str, ...]]:
    """Read a recording's labels: which segments have all targets, damage, remarks and stamps."""
    targets = config.model.targets
    known = np.full(n_segments, all(target in recording.labels for target in targets))
    damaged: list[tuple[Target, str]] = []
    remarks: list[str] = []
    stamps = set()
    for target, file in recording.labels.items():
        try:
            annotation = read_annotation(
                file, step_ms=config.preprocess.segment_ms, scale=config.labels.range
            )
        except AnnotationError as error:
            damaged.append((target, str(error)))
            known &= target not in targets
            continue
        if annotation.stamps is not None:
            stamps.add(annotation.stamps)
        labels, oddities = join_annotation(annotation, n_segments)
        remarks += [f"{target}: {oddity}" for oddity in oddities]
        if target in targets:
            known &= np.isfinite(labels)
    return known, damaged, remarks, tuple(sorted(stamps))
