"""Tables that cut audio files, and traces in the time of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.made_corpora import write_text
from valence.errors import CorpusError
from valence.importing.declaration import Declaration
from valence.importing.sources.patterns import list_tree
from valence.importing.sources.stretches import Stretch, read_stretches, to_recording_time
from valence.importing.traces import Trace
from valence.storage.location import Location

_CUT = {"file": ["cut.csv"], "id": "{who}", "audio": "file", "start": "a", "end": "b"}


def _read(root: Path, *rows: str, **cut: object) -> dict[str, tuple[Stretch, ...]]:
    write_text(root / "cut.csv", "who,file,a,b,ch", *rows)
    declaration = Declaration.model_validate(
        {
            "name": "n",
            "title": "t",
            "id_parts": r"(?P<talk>\w)\d",
            "labels": [{"files": ["{id}.csv"], "time": "t", "valence": "v"}],
            "cut": _CUT | {"channel": "ch", "times": "file"} | cut,
        }
    )
    return read_stretches(list_tree(Location.parse(root)), declaration)


def test_rows_of_an_id_follow_each_other_in_time(tmp_path: Path) -> None:
    found = _read(tmp_path, "x1,w.wav,5000,,1", "x1,w.wav,0,2000,0", "x2,v.wav,0,1,", unit="ms")
    assert found == {
        "x1": (Stretch(0, 2, 0, "w"), Stretch(5, None, 1, "w")),
        "x2": (Stretch(0, 0.001, None, "v"),),
    }


def test_times_may_count_from_the_begin_of_another_recording(tmp_path: Path) -> None:
    write_text(tmp_path / "zero.csv", "talk,from", "x,100")
    origin = {"file": "zero.csv", "id": "talk", "value": "from", "key": "{talk}"}
    assert _read(tmp_path, "x1,w,107.5,110,", origin=origin) == {
        "x1": (Stretch(7.5, 10, None, "w"),)
    }
    with pytest.raises(CorpusError, match="line 2: the begin of the audio file 'y' is 'not named'"):
        _read(tmp_path, "y1,w,107.5,110,", origin=origin)
    with pytest.raises(CorpusError, match=r"no table 'none\.csv', which says when"):
        _read(tmp_path, "x1,w,1,2,", origin=origin | {"file": "none.csv"})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["x1,w,3,2,"], "line 2: 'x1' is cut from 3 s to 2.0 s"),
        (["x1,w,-3,2,"], "line 2: 'x1' is cut from -3 s"),
        (["x1,w,,2,"], "is cut from nan s"),
        (["x1,w,0,2,0.5"], "line 2: the channel is 0.5"),
        (["x1,w,0,2,-1"], "the channel is -1"),
        (["x1,w,0,2,", "x1,w,1,3,"], "is cut in line 2 up to 2.0 s, and in line 3 from 1 s"),
        (["x1,w,0,,", "x1,w,1,3,"], "in line 2 up to the end s"),
        ([",w,0,2,"], "line 2: the Id '' is empty"),
    ],
)
def test_stretches_that_cannot_be_are_refused_with_their_line(
    rows: list[str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match=words):
        _read(tmp_path, *rows)


def test_several_stretches_need_labels_in_the_time_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"declare cut\.times = 'file'"):
        _read(tmp_path, "x1,w,0,1,", "x1,w,2,3,", times="recording")


def test_an_absent_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no table none\.csv, which cuts its audio files"):
        _read(tmp_path, "x1,w,0,1,", file=["none.csv"])


def test_samples_move_with_their_stretch_and_end_with_it() -> None:
    start = np.array([0.0, 1.8, 4.0, 5.0, 5.9])
    trace = Trace(
        "x1", "valence", None, start, start + 0.5, np.arange(5.0), (0, 5), Location.parse("/x")
    )
    moved = to_recording_time(trace, (Stretch(0, 2.2, 0, "w"), Stretch(5, 6.0, 0, "w")))
    # The sample at 5.9 s has its middle behind the stretch; that at 1.8 s is cut at 2.2 s.
    np.testing.assert_allclose(moved.start, [0, 1.8, 2.2])
    np.testing.assert_allclose(moved.end, [0.5, 2.2, 2.7])
    assert moved.value.tolist() == [0, 1, 3]
    whole = to_recording_time(trace, (Stretch(1, None, None, None),))
    np.testing.assert_allclose(whole.start, start[1:] - 1)
