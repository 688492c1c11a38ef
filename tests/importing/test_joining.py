"""Files of a subject, joined to one recording."""

from __future__ import annotations

import math

import numpy as np
import pytest

from valence.corpus.muse import Partition
from valence.errors import CorpusError
from valence.importing.joining import join_subjects
from valence.importing.recordings import SourceRecording
from valence.importing.sounds import Length
from valence.importing.sources.stretches import Sound
from valence.importing.traces import Trace
from valence.storage.location import Location


def _recording(name: str, subject: str | None, partition: Partition = "train") -> SourceRecording:
    return SourceRecording(name, (Sound(Location.parse(f"/{name}.wav")),), subject, partition)


def _whole(name: str, value: float) -> Trace:
    return Trace(
        name,
        "valence",
        None,
        np.zeros(1),
        np.array([math.inf]),
        np.array([value]),
        (1, 5),
        Location.parse("/table.csv"),
    )


def test_files_follow_each_other_in_the_order_of_their_ids() -> None:
    recordings = {
        "b": _recording("b", "s"),
        "a": _recording("a", "s"),
        "c": _recording("c", None),
    }
    lengths = {"a": Length((1.25,)), "b": Length((2.0,), ("odd",)), "c": Length((3.0,))}
    traces = [_whole("b", 5), _whole("c", 3), _whole("a", 1), _whole("absent", 2)]
    joined, moved, measured = join_subjects(recordings, traces, lengths)
    assert [sound.file.name for sound in joined["s"].sounds] == ["a.wav", "b.wav"]
    assert measured == {"s": Length((1.25, 2.0), ("odd",)), "c": Length((3.0,))}
    of = {trace.id: trace for trace in moved}
    assert of["s"].start.tolist() == [0, 1.25]
    assert of["s"].end.tolist() == [1.25, 3.25]
    assert of["s"].value.tolist() == [1, 5]
    assert of["c"].end.tolist() == [3]


def test_a_subject_in_two_partitions_is_refused() -> None:
    recordings = {"a": _recording("a", "s"), "b": _recording("b", "s", "test")}
    lengths = dict.fromkeys(recordings, Length((1.0,)))
    with pytest.raises(CorpusError, match="Subject 's' is in several partitions: 'a' is train"):
        join_subjects(recordings, [], lengths)


def test_a_subject_with_the_name_of_a_recording_is_refused() -> None:
    recordings = {"a": _recording("a", "b"), "b": _recording("b", None)}
    lengths = dict.fromkeys(recordings, Length((1.0,)))
    with pytest.raises(CorpusError, match="'b' is the name of a subject and of a recording"):
        join_subjects(recordings, [], lengths)
