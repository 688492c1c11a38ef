"""Feature sets as `valence check` sees them, before any work is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from valence.config import Config
from valence.errors import FeatureError, UsageError
from valence.segments.feature_sets import check_sets, require_model_input
from valence.segments.feature_sets.inspection import SetFinding
from valence.storage.location import Location

_LENGTHS = {"1": 10, "2": 10, "3": 10, "4": None}


def _config(*assignments: str) -> Config:
    return Config.resolve(
        Config(), assignments=["sequence.length=4", "sequence.stride=3", *assignments]
    )


def _rows(n: int, *, first: int = 0, step: int = 500, value: str = "1,2") -> str:
    lines = [f"{first + step * i},{value}" for i in range(n)]
    return "\n".join(["timestamp,a,b", *lines, ""])


def _write(root: Path, place: str, content: str) -> None:
    file = root / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def _check(root: Path, *assignments: str) -> tuple[list[SetFinding], list[str]]:
    return check_sets(Location.parse(root), _LENGTHS, _config(*assignments))


def test_a_whole_set_takes_one_line(tmp_path: Path) -> None:
    for name in _LENGTHS:
        _write(tmp_path, f"feature_segments/own/{name}.csv", _rows(10))
    (finding,), beside = _check(tmp_path)
    assert finding.in_words() == [
        "feature set own, in feature_segments: 2 columns, a row for each segment, files for 4 of 4 "
        "recordings"
    ]
    assert beside == []
    assert check_sets(Location.parse(tmp_path / "nowhere"), _LENGTHS, _config()) == ([], [])


def test_every_fault_of_a_set_is_named(tmp_path: Path) -> None:
    folder = "feature_segments/own"
    _write(tmp_path, f"{folder}/1.csv", _rows(10))
    _write(tmp_path, f"{folder}/2.csv", _rows(14))
    _write(tmp_path, f"{folder}/3.csv", _rows(10, step=1))
    _write(tmp_path, f"{folder}/0.csv", "timestamp,x\n0,1\n")
    _write(tmp_path, f"{folder}/4_devel.csv", _rows(10))
    _write(tmp_path, "feature_segments/1.csv", _rows(10))
    (finding,), beside = _check(tmp_path)
    # The leftover '0.csv' comes first by name, and says nothing about the columns.
    assert (finding.columns, finding.used, finding.missing) == (2, 2, ("4",))
    head, missing, refused, longer, strays = finding.in_words()
    assert "2 columns, a row for each segment, files for 2 of 4 recordings" in head
    assert missing.startswith("  no file for '4'. The nearest name there is '4_devel'. Expected '")
    assert refused.startswith("  '3' NOT USED: ")
    assert "line 3: the timestamp is 1 ms" in refused
    assert longer == "  remark: '2': '2.csv' is 2 s longer than the recording"
    assert strays == "  remark: 2 files are of no recording, and not read: '0.csv', '4_devel.csv'"
    assert beside == [
        "feature_segments holds '1.csv' beside its folders; such files belong to no feature set: "
        "expected feature_segments/<set>/<Id>.csv"
    ]


def test_the_same_fault_of_many_files_takes_one_line(tmp_path: Path) -> None:
    for name in "123":
        _write(tmp_path, f"feature_segments/own/{name}.csv", _rows(10, step=1))
    _write(tmp_path, "feature_segments/own/4.csv", _rows(10, value="1,inf"))
    (finding,), _ = _check(tmp_path)
    assert finding.used == 0
    _, many, one = finding.in_words()
    assert many.startswith("  '1', '2', '3' NOT USED: '")
    assert "own/1.csv', line 3: the timestamp is 1 ms" in many
    assert one.startswith("  '4' NOT USED: ")


def test_sets_that_cannot_be_used_as_a_whole_say_why(tmp_path: Path) -> None:
    _write(tmp_path, "feature_segments/ends/1.csv", _rows(9, first=500))
    _write(tmp_path, "feature_segments/ends/2.csv", _rows(10))
    _write(tmp_path, "feature_segments/long/1.csv", _rows(1))
    _write(tmp_path, "feature_segments/others/x.csv", _rows(10))
    _write(tmp_path, "feature_segments/quarter/1.csv", _rows(10))
    _write(tmp_path, "feature_segments/quarter/set.json", '{"settings": {"segment_ms": 250}}')
    _write(tmp_path, "feature_sequences/long/1.csv", _rows(1))
    found, beside = _check(tmp_path)
    said = {(each.name, each.folder): "\n".join(each.in_words()) for each in found}
    assert "CANNOT BE USED: Files of" in said["ends", "feature_segments"]
    assert "no file of any of 4 recordings" in said["others", "feature_segments"]
    assert "for segments of 250 ms" in said["quarter", "feature_segments"]
    assert "does not say how long the sequences are" in said["long", "feature_sequences"]
    assert beside[0].startswith("'long' is the name of a set in feature_segments and of another")


@pytest.mark.parametrize(
    ("length", "starts", "says"),
    [
        (4, (0, 3, 6), ""),
        (4, (0, 2, 4, 6), "remark: '1': lacks rows for 1 of 3 sequences (sequence.stride = 3)"),
        (5, (0, 3), "CANNOT BE USED: The feature set 'long' describes sequences of 5 segments"),
    ],
)
def test_rows_of_sequences_must_be_those_of_the_configuration(
    tmp_path: Path, length: int, starts: tuple[int, ...], says: str
) -> None:
    lines = ["timestamp,a", *(f"{500 * start},1" for start in starts), ""]
    _write(tmp_path, "feature_sequences/long/1.csv", "\n".join(lines))
    _write(tmp_path, "feature_sequences/long/set.json", f'{{"length": {length}}}')
    (finding,), _ = _check(tmp_path)
    lines = finding.in_words()
    assert f"a row for each sequence of {length} segments, files for 1 of 4" in lines[0]
    rest = "\n".join(line for line in lines[1:] if "no file for" not in line)
    assert rest.strip().startswith(says)
    assert bool(rest) == bool(says)


def test_a_set_that_the_model_is_to_take_must_be_whole(tmp_path: Path) -> None:
    corpus, usable = Location.parse(tmp_path), {"1": 10, "2": 10}
    for name in usable:
        _write(tmp_path, f"feature_segments/own/{name}.csv", _rows(10))
    config = _config("model.input=own")
    found, _ = check_sets(corpus, _LENGTHS, config)
    require_model_input(corpus, usable, found, config)
    require_model_input(corpus, _LENGTHS, found, _config())
    with pytest.raises(FeatureError, match=r"no features that can be used for '3', '4'"):
        require_model_input(corpus, _LENGTHS, found, config)
    with pytest.raises(UsageError, match="Did you mean 'own'"):
        require_model_input(corpus, usable, found, _config("model.input=owm"))
