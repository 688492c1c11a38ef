"""Join the files of a subject to one recording."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from valence.errors import CorpusError
from valence.importing.readers.identity import recording_id
from valence.importing.recordings import SourceRecording
from valence.importing.sounds import Length
from valence.importing.traces import Trace


def join_subjects(
    recordings: Mapping[str, SourceRecording],
    traces: Sequence[Trace],
    lengths: Mapping[str, Length],
) -> tuple[dict[str, SourceRecording], list[Trace], dict[str, Length]]:
    """Join the recordings of each subject, in the order of their Ids.

    A recording whose subject is not known stays as it is. The Id of a joined recording is its
    subject.

    Parameters
    ----------
    recordings
        The recordings by Id.
    traces
        Their traces, from one rater or a gold standard.
    lengths
        Their lengths by Id.

    Returns
    -------
    The joined recordings, their traces and their lengths.

    Raises
    ------
    CorpusError
        If the recordings of a subject are in several partitions, or a subject has the name of a
        recording.
    """
    members: dict[str, list[str]] = {}
    for name in sorted(recordings):
        subject = recordings[name].subject
        members.setdefault(name if subject is None else subject, []).append(name)
    joined, joined_lengths, offsets, homes = {}, {}, {}, {}
    for subject, names in members.items():
        of = [recordings[name] for name in names]
        _require_one(subject, names, of, recordings)
        home = subject if of[0].subject is None else recording_id(subject, of[0].sounds[0].file)
        sounds = tuple(sound for each in of for sound in each.sounds)
        joined[home] = replace(of[0], id=home, sounds=sounds)
        joined_lengths[home] = Length(
            tuple(second for name in names for second in lengths[name].seconds),
            tuple(remark for name in names for remark in lengths[name].remarks),
        )
        offset = 0.0
        for name in names:
            offsets[name], homes[name] = offset, home
            offset += lengths[name].total
    moved: dict[tuple[str, str], list[Trace]] = {}
    for trace in sorted(traces, key=lambda trace: offsets.get(trace.id, math.inf)):
        if trace.id in homes:
            begin = offsets[trace.id]
            # A value of a whole file ends where the next file begins.
            end = np.minimum(trace.end, lengths[trace.id].total) + begin
            shifted = replace(trace, id=homes[trace.id], start=trace.start + begin, end=end)
            moved.setdefault((shifted.id, shifted.target), []).append(shifted)
    return joined, [_concatenated(each) for each in moved.values()], joined_lengths


def _require_one(
    subject: str,
    names: Sequence[str],
    of: Sequence[SourceRecording],
    recordings: Mapping[str, SourceRecording],
) -> None:
    if len({each.partition for each in of}) > 1:
        raise CorpusError(
            f"Subject '{subject}' is in several partitions: '{names[0]}' is {of[0].partition}, and "
            "others are not. Expected one partition for files that are joined; import without "
            "join, or correct the partition."
        )
    if subject in recordings and recordings[subject].subject is None and len(names) > 1:
        raise CorpusError(
            f"'{subject}' is the name of a subject and of a recording whose subject is not known. "
            "Expected different names; rename one of them."
        )


def _concatenated(traces: Sequence[Trace]) -> Trace:
    return replace(
        traces[0],
        start=np.concatenate([trace.start for trace in traces]),
        end=np.concatenate([trace.end for trace in traces]),
        value=np.concatenate([trace.value for trace in traces]),
        remarks=tuple(dict.fromkeys(remark for trace in traces for remark in trace.remarks)),
    )
