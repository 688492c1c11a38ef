"""Join the files of a subject to one recording."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from valence.errors import CorpusError
from valence.importing.grid import SEGMENT_SECONDS
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
    The joined recordings, their traces and their lengths. A sample outside of its own file is left
    out, with a remark.

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
            inside, begin = _inside(trace, lengths[trace.id].total), offsets[trace.id]
            shifted = replace(
                inside, id=homes[trace.id], start=inside.start + begin, end=inside.end + begin
            )
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


def _inside(trace: Trace, seconds: float) -> Trace:
    """Keep the samples that lie in their own file, and cut them where it begins and ends.

    A sample lies in the file if its middle does, as on the segment grid. One that is longer than a
    segment also does if the file has half a segment of it, so that a rating of several seconds is
    not lost at the end. Without this, a sample would label the file that comes before or after.
    """
    # A value of a whole file ends where the file does.
    end = np.where(np.isfinite(trace.end), trace.end, np.maximum(seconds, trace.start))
    middle = (trace.start + end) / 2
    first, last = np.clip(trace.start, 0, seconds), np.clip(end, 0, seconds)
    long = end - trace.start > SEGMENT_SECONDS * (1 + 1e-6)
    kept = (middle >= 0) & (middle < seconds) | (long & (last - first >= SEGMENT_SECONDS / 2))
    remarks = trace.remarks
    if dropped := int(np.count_nonzero(np.isfinite(trace.value[~kept]))):
        remarks += (
            f"has {dropped} {trace.target} samples of '{trace.id}' before or behind its sound of "
            f"{seconds:g} s, which are dropped",
        )
    return replace(
        trace, start=first[kept], end=last[kept], value=trace.value[kept], remarks=remarks
    )


def _concatenated(traces: Sequence[Trace]) -> Trace:
    return replace(
        traces[0],
        start=np.concatenate([trace.start for trace in traces]),
        end=np.concatenate([trace.end for trace in traces]),
        value=np.concatenate([trace.value for trace in traces]),
        remarks=tuple(dict.fromkeys(remark for trace in traces for remark in trace.remarks)),
    )
