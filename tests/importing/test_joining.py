"""Files of a subject, joined to one recording."""

from __future__ import annotations

import math

import numpy as np
import pytest

from valence.corpus.muse import Partition
from valence.errors import CorpusError
from valence.importing.grid import to_grid
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


def _samples(name: str, start: list[float], step: float, value: float) -> Trace:
    begin = np.array(start)
    values = np.full(len(start), value)
    file = Location.parse(f"/{name}.csv")
    return Trace(name, "valence", None, begin, begin + step, values, (0, 100), file)


@pytest.mark.parametrize("delay", [0.0, 1.0])
def test_labels_outside_of_their_file_do_not_reach_its_neighbours(delay: float) -> None:
    # 'a' has 3 s of sound and 7 s of ratings 0; 'b' has 10 s of ratings 100.
    recordings = {"a": _recording("a", "s"), "b": _recording("b", "s")}
    lengths = {"a": Length((3.0,)), "b": Length((10.0,))}
    traces = [
        _samples("a", [0.5 * row - delay for row in range(14)], 0.5, 0),
        _samples("b", [0.5 * row - delay for row in range(20)], 0.5, 100),
    ]
    _, (joined,), _ = join_subjects(recordings, traces, lengths)
    behind = round(2 * delay)
    # With a delay the last second of 'b' has no rating, and nothing else fills it.
    expected = [-1.0] * 6 + [1.0] * (20 - behind) + [math.nan] * behind
    np.testing.assert_array_equal(to_grid(joined, 26), expected)
    assert "has 8 valence samples of 'a' before or behind its sound of 3 s" in joined.remarks[0]
    assert len(joined.remarks) == (2 if delay else 1)


def test_samples_that_reach_over_an_end_are_cut_there() -> None:
    # Spans of 5 s over 8 s of sound: the second ends 2 s behind it, and the third begins there.
    recordings = {"a": _recording("a", "s"), "b": _recording("b", "s")}
    lengths = {"a": Length((8.0,)), "b": Length((4.0,))}
    spans = _samples("a", [0, 5, 10], 5.0, 100)
    # The first sample begins 0.1 s before the file; its middle is inside.
    early = _samples("b", [-0.1, 0.4], 0.5, 0)
    _, (joined,), _ = join_subjects(recordings, [spans, early], lengths)
    np.testing.assert_allclose(joined.start, [0, 5, 8, 8.4])
    np.testing.assert_allclose(joined.end, [5, 8, 8.4, 8.9])
    assert len(joined.remarks) == 1
    assert "has 1 valence samples of 'a'" in joined.remarks[0]


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
