from __future__ import annotations

import pytest

from pipelines.preprocess.summary import Tally
from tests.helpers.consoles import RecordedConsole
from valence.formatting import some
from valence.segments.jobs import PartOutcome, RecordingOutcome


def _outcome(name: str, **what: object) -> RecordingOutcome:
    return RecordingOutcome(name, "s", "train", 1, checksum="c", **what)  # type: ignore[arg-type]


_OUTCOMES = [
    _outcome(
        "a",
        duration=1800.0,
        stored_bytes=2**20,
        seconds={"mel": 2.0, "decode": 1.0},
        remarks=("it is odd",),
    ),
    _outcome(
        "b", duration=900.0, stored_bytes=2**19, seconds={"mel": 3.0}, remarks=("it is narrow",)
    ),
    _outcome("c", duration=900.0, stored_bytes=2**19, skipped=True, remarks=("it is narrow",)),
    _outcome("d", status="rejected", reason="it is silent"),
    RecordingOutcome("e", "s", "train", 1, status="rejected", reason="it cannot be read"),
]


def _tally() -> Tally:
    tally = Tally()
    for outcome in _OUTCOMES:
        tally.add(outcome)
    return tally


def test_summary_by_hand() -> None:
    summary = _tally().summary()
    assert summary["recordings"] == 5
    assert (summary["processed"], summary["skipped"], summary["rejected"]) == (2, 1, 2)
    assert summary["unread"] == 1
    assert summary["audio_hours"] == 1.0
    assert summary["stored_bytes"] == 2**21
    assert summary["step_seconds"] == {"decode": 1.0, "mel": 5.0}
    # What was skipped was not made now, and makes the work no faster.
    assert summary["audio_hours_per_hour"] == pytest.approx(2700 / summary["seconds"], rel=0.2)


def test_parts_count_as_they_come_and_their_recording_once() -> None:
    tally = Tally()
    tally.add_part(PartOutcome("a", 0, duration=7200.0, skipped=True))
    tally.add_part(PartOutcome("a", 1, duration=3600.0, seconds={"mel": 2.0}))
    assert tally.note().startswith("1.00 h of audio, ")
    tally.add(_outcome("a", duration=10800.0, stored_bytes=2**20, seconds={"store": 1.0}))
    summary = tally.summary()
    assert (summary["recordings"], summary["processed"], summary["skipped"]) == (1, 1, 0)
    assert summary["audio_hours"] == 3.0
    assert summary["stored_bytes"] == 2**20
    assert summary["step_seconds"] == {"mel": 2.0, "store": 1.0}
    assert tally.note().startswith("1.00 h of audio, ")


def test_parts_of_what_is_rejected_in_the_end() -> None:
    tally = Tally()
    tally.add_part(PartOutcome("a", 0, duration=7200.0))
    tally.add(_outcome("a", status="rejected", reason="it stops making sense"))
    assert tally.summary()["audio_hours"] == 0.0
    assert tally.note().endswith("1 rejected")


def test_note_while_it_runs() -> None:
    note = _tally().note()
    assert note.startswith("0.75 h of audio, ")
    assert note.endswith("x real time, 1 skipped, 2 rejected")


def test_what_is_said_at_the_end(console: RecordedConsole) -> None:
    _tally().tell(console, _OUTCOMES)
    assert console.lines[:2] == ["  rejected d: it is silent", "  rejected e: it cannot be read"]
    assert console.lines[2:4] == [
        "  remark on 2 of 3 recordings, 'b', 'c': it is narrow",
        "  remark on 1 of 3 recordings, 'a': it is odd",
    ]
    assert "2 recordings made, 1 skipped, 2 rejected; 0.75 h of audio" in console.lines[4]
    assert "1.00 h and 2.0 MiB in the store" in console.lines[4]


def test_some_names() -> None:
    assert some(["a", "b"]) == "'a', 'b'"
    assert some([str(i) for i in range(12)]).endswith("'9' and 2 more")
