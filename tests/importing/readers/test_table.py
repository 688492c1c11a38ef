"""Tables with a column for each target or rater, or a row for each recording."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import made_corpora as made
from tests.helpers.made_corpora import write_text
from valence.errors import AnnotationError, CorpusError
from valence.importing.declaration import Declaration, load_declaration
from valence.importing.traces import Trace, places_of, read_traces
from valence.storage.location import Location


def _declared(**labels: object) -> Declaration:
    return Declaration.model_validate({"name": "n", "title": "t", "labels": [labels]})


def _read(root: Path, aside: list[str] | None = None, **labels: object) -> list[Trace]:
    return list(read_traces(Location.parse(root), _declared(**labels), aside))


def test_a_table_of_all_recordings_and_raters(tmp_path: Path) -> None:
    write_text(
        tmp_path / "all.csv",
        "who,clip,t,v",
        "ann,a/1.wav,0,1",
        "bob,a/1.wav,0,2",
        "ann,a/1.wav,1,3",
    )
    traces = _read(
        tmp_path, files=["all.csv"], id="{clip}", rater="who", time="t", valence="v", scale=[0, 5]
    )
    assert [(each.id, each.rater, each.value.tolist()) for each in traces] == [
        ("1", "ann", [1, 3]),
        ("1", "bob", [2]),
    ]


def test_raters_are_named_by_the_group_of_their_pattern(tmp_path: Path) -> None:
    write_text(tmp_path / "valence/1.csv", "t,rater_x,rater_y,mean", "0,0.1,0.2,0.15", "1,0,0,0")
    traces = _read(tmp_path, files=["{target}/{id}.csv"], time="t", raters=r"rater_(\w)")
    assert [each.rater for each in traces] == ["x", "y"]
    with pytest.raises(AnnotationError, match="none is called like a rater"):
        _read(tmp_path, files=["{target}/{id}.csv"], time="t", raters="R.")


def test_words_of_targets_and_raters_that_mean_a_gold_standard(tmp_path: Path) -> None:
    for word in ("V", "dominance"):
        write_text(tmp_path / f"{word}/gs/1.csv", "t,x", "0,0.5", "1,0.5")
    traces = _read(
        tmp_path,
        files=["{target}/{rater}/{id}.csv"],
        targets={"v": "valence"},
        gold=["gs"],
        time="t",
        value="x",
    )
    assert [(each.target, each.rater) for each in traces] == [("valence", None)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("b,9,0", "line 3: the value of v is 9"),
        ("b,high,0", "line 3: the v is 'high'"),
        (",3,0", "line 3: ',3,0' has no clip"),
        (".b,3,0", "line 3: the Id '.b' begins with a point"),
    ],
)
def test_a_row_of_a_recording_that_cannot_be_used_is_set_aside(
    row: str, words: str, tmp_path: Path
) -> None:
    write_text(tmp_path / "all.csv", "clip,v,w", "a,2,0", row, "c,4,0")
    aside: list[str] = []
    labels = {"files": ["all.csv"], "id": "{clip}", "valence": "v", "scale": [1, 5]}
    traces = _read(tmp_path, aside, **labels)
    assert [(each.id, each.value.tolist()) for each in traces] == [("a", [2]), ("c", [4])]
    (message,) = aside
    assert words in message


def test_a_recording_with_two_rows_costs_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "all.csv", "clip,v,w", "a,2,x", "b,2,x", "a.wav,3,x", "c,4,", "c,4")
    aside: list[str] = []
    labels = {"files": ["all.csv"], "id": "{clip}", "valence": "v", "scale": [1, 5]}
    traces = _read(tmp_path, aside, **labels)
    assert [(each.id, each.value.tolist()) for each in traces] == [("b", [2]), ("c", [4])]
    (message,) = aside
    assert "line 4: 'a' was already in line 2, and the rows differ" in message
    assert [each.remarks for each in traces] == [
        (),
        ("stands in the lines 5, 6 of 'all.csv' with equal rows, and one is kept",),
    ]


def test_the_decimal_sign_of_a_column_is_the_same_in_all_of_its_rows(tmp_path: Path) -> None:
    labels = {"files": ["all.csv"], "id": "{clip}", "valence": "v", "scale": [1, 5]}
    # Alone, 3,125 might be three thousand.
    write_text(tmp_path / "all.csv", "clip;v", "a;2,5", "b;3,125", "c;4", "d;x,y", "e;NA")
    aside: list[str] = []
    traces = _read(tmp_path, aside, **labels)
    assert [(each.id, each.value.tolist()) for each in traces] == [
        ("a", [2.5]),
        ("b", [3.125]),
        ("c", [4]),
    ]
    assert ["line 5: the v is" in aside[0], "no value" in aside[1], len(aside)] == [True, True, 2]
    for rows in (("a;2,5", "b;1.5", "c;4"), ("a;3,125", "c;4")):
        write_text(tmp_path / "all.csv", "clip;v", *rows)
        with pytest.raises(AnnotationError, match=r"line 2: the v is .*may be a decimal mark"):
            _read(tmp_path, **labels)


def test_the_decimal_sign_of_a_course_may_show_in_another_recording(tmp_path: Path) -> None:
    write_text(tmp_path / "all.csv", "clip;t;v", "a;0,5;3,125", "a;1,0;4", "b;0,5;2,5", "b;1;4")
    labels = {"files": ["all.csv"], "id": "{clip}", "time": "t", "valence": "v", "scale": [1, 5]}
    assert [each.value.tolist() for each in _read(tmp_path, **labels)] == [[3.125, 4], [2.5, 4]]


@pytest.mark.parametrize("step", [[], [0.5]])
def test_bins_that_would_end_at_0_are_refused(step: list[float], tmp_path: Path) -> None:
    write_text(tmp_path / "1.csv", "t,v", "0,0.1", "0.5,0.2", "1,0.3")
    labels = {"files": ["{id}.csv"], "time": "t", "valence": "v", "step": step}
    with pytest.raises(AnnotationError, match=r"0 as its first time.*labels\.stamps=start"):
        _read(tmp_path, stamps="end", **labels)
    for stamps, begin in (("start", 0.0), ("middle", -0.25)):
        (trace,) = _read(tmp_path, stamps=stamps, **labels)
        assert trace.start[0] == begin
    # Bins before the recording are whole, and so is the one that ends at 0.
    write_text(tmp_path / "1.csv", "t,v", "-0.5,0.1", "0,0.1", "0.5,0.2", "1,0.3")
    (trace,) = _read(tmp_path, stamps="end", **labels)
    assert trace.start.tolist() == [-1, -0.5, 0, 0.5]


def test_a_head_that_states_no_scale_is_refused(tmp_path: Path) -> None:
    for head in ("Magnitude,", "Magnitude,-1", "Magnitude,big", "Width,1"):
        write_text(tmp_path / "1.csv", head, "t,v", "0,0.5")
        with pytest.raises(AnnotationError, match="does not state the scale Magnitude in its head"):
            _read(
                tmp_path, files=["{id}.csv"], head_rows=1, time="t", valence="v", scale="Magnitude"
            )


def test_rounding_at_the_ends_of_a_scale_is_no_fault(tmp_path: Path) -> None:
    write_text(tmp_path / "1.csv", "t,v", "0,1.0001", "1,-1.0001")
    (trace,) = _read(tmp_path, files=["{id}.csv"], time="t", valence="v")
    assert trace.value.tolist() == [1, -1]


def test_the_first_bad_file_is_an_error_unless_it_may_be_set_aside(tmp_path: Path) -> None:
    write_text(tmp_path / "1.csv", "t,v", "0,x")
    write_text(tmp_path / "2.csv", "t,v", "0,0.5")
    labels = {"files": ["{id}.csv"], "time": "t", "valence": "v"}
    with pytest.raises(AnnotationError, match="line 2: the v is 'x'"):
        _read(tmp_path, **labels)
    aside: list[str] = []
    assert [each.id for each in _read(tmp_path, aside, **labels)] == ["2"]
    assert len(aside) == 1
    (tmp_path / "2.csv").unlink()
    with pytest.raises(
        CorpusError, match=r"None of 1 label files .*used.*The first reason: .*line 2"
    ):
        _read(tmp_path, [], **labels)
    (tmp_path / "1.csv").unlink()
    with pytest.raises(CorpusError, match=r"no label file in the form n \('\{id\}\.csv'\)"):
        _read(tmp_path, **labels)


def test_a_file_without_any_value_is_set_aside(tmp_path: Path) -> None:
    write_text(tmp_path / "1.csv", "t,v", "0,NaN", "1,")
    write_text(tmp_path / "2.csv", "t,v", "0,0.5")
    aside: list[str] = []
    traces = _read(tmp_path, aside, files=["{id}.csv"], time="t", valence="v")
    assert [each.id for each in traces] == ["2"]
    assert len(aside) == 1
    assert aside[0].startswith(f"'{tmp_path}/1.csv' has no value of valence for '1'. Expected")
    (tmp_path / "2.csv").unlink()
    with pytest.raises(CorpusError, match=r"None of 1 label files .* has no value of valence"):
        _read(tmp_path, [], files=["{id}.csv"], time="t", valence="v")


def test_lines_with_blanks_before_them_count(tmp_path: Path) -> None:
    made.iemocap(tmp_path)
    file = tmp_path / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    file.write_text(file.read_text().replace("[2.0000", "  [2.0000"))
    traces = read_traces(Location.parse(tmp_path), load_declaration("iemocap"))
    assert {each.id[-4:] for each in traces} == {"F000", "M000", "M001"}


def test_the_place_of_an_id_is_its_file_and_line(tmp_path: Path) -> None:
    write_text(tmp_path / "all.csv", "clip,v", "a,2", "b,2")
    declared = _declared(files=["all.csv"], id="{clip}", valence="v", scale=[1, 5])
    places = places_of(Location.parse(tmp_path), declared, {"b"})
    assert places == {"b": f"'{tmp_path}/all.csv', line 3"}
