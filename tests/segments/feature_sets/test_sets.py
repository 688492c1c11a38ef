"""Feature sets of a corpus: which are there, and a recording's rows on its segments."""

from __future__ import annotations

import hashlib
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from valence.errors import FeatureError, UsageError
from valence.segments.feature_sets import list_sets, open_any, open_set, require_equal_stamps
from valence.storage.location import Location

_IDS = ("1", "2")


def _write(root: Path, name: str, content: str, *, kind: str = "feature_segments") -> Path:
    file = root / kind / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


@pytest.fixture
def corpus(tmp_path: Path) -> Location:
    _write(tmp_path, "egemaps/1.csv", "timestamp,segment_id,a,b\n0,1,1,2\n500,1,3,\n1500,1,5,6\n")
    _write(tmp_path, "egemaps/2.csv", "timestamp,b,a\n500,2,1\n1000,4,3\n")
    _write(tmp_path, "vggish/1.csv", "timestamp,0,1,2\n0,1,2,3\n")
    (tmp_path / "feature_segments/empty").mkdir()
    (tmp_path / "feature_segments/.hidden").mkdir()
    return Location.parse(tmp_path)


def test_sets_are_the_folders_with_files(corpus: Location) -> None:
    assert list_sets(corpus) == ["egemaps", "vggish"]
    assert list_sets(corpus / "raw_data") == []


def test_rows_stand_at_their_segments(corpus: Location) -> None:
    chosen = open_set(corpus, "egemaps", _IDS)
    assert chosen.columns == ("a", "b")
    expected = np.array([[1, 2], [3, np.nan], [np.nan] * 2, [5, 6], [np.nan] * 2], np.float32)
    np.testing.assert_array_equal(chosen.read("1", 5), expected)
    np.testing.assert_array_equal(chosen.read("1", 2), expected[:2])
    # Another order of columns is the same set; 500 ms at first is the end of the first segment.
    np.testing.assert_array_equal(chosen.read("2", 2), np.array([[1, 2], [3, 4]], np.float32))
    assert pickle.loads(pickle.dumps(chosen)).read("2", 2).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("segments", "remark"),
    [(4, None), (6, None), (2, None), (7, "1.5 s shorter"), (1, "1.5 s longer")],
)
def test_a_second_more_or_less_is_no_remark(
    corpus: Location, segments: int, remark: str | None
) -> None:
    remarks = open_set(corpus, "egemaps", _IDS).joined("1", segments).remarks
    assert remarks[0] == "'1.csv' lacks 1 row between its first and last"
    assert len(remarks) == (1 if remark is None else 2)
    assert remark is None or remark in remarks[1]


def test_a_set_that_is_not_there_names_the_nearest(corpus: Location) -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'egemaps'.* It has egemaps, vggish"):
        open_set(corpus, "eGeMAPS", _IDS)
    with pytest.raises(
        UsageError, match=r"The folder feature_segments/empty is there and holds no"
    ):
        open_set(corpus, "empty", _IDS)
    with pytest.raises(UsageError, match=r"has no feature set '\.\./egemaps'"):
        open_set(corpus, "../egemaps", _IDS)
    with pytest.raises(UsageError, match="has no folder feature_segments with sets"):
        open_set(corpus / "raw_data", "egemaps", _IDS)


def test_recordings_are_named_where_their_file_cannot_be_used(corpus: Location) -> None:
    root = Path(corpus.path)
    _write(root, "egemaps/3.csv", "timestamp,a,c\n0,1,2\n")
    _write(root, "egemaps/4.csv", "timestamp,a,b,c\n0,1,2,3\n")
    _write(root, "egemaps/5.csv", "timestamp,a,b\n0,1,2\n")
    _write(root, "egemaps/5.parquet", "no Parquet")
    (root / "feature_segments/egemaps/6.csv").symlink_to(root / "nowhere.csv")
    chosen = open_set(corpus, "egemaps", _IDS)
    for recording, says in (
        (
            "3",
            "3.csv' has 2 features and lacks 'b'. Expected the 2 columns of '1.csv', like 2 of 2 "
            "files of the set 'egemaps'; make the file again.",
        ),
        ("4", "4.csv' has 3 features and also has 'c'"),
        ("5", "has '5.csv' and '5.parquet' for the recording '5'"),
        ("6", "leads nowhere"),
        ("6_devel", "no file for the recording '6_devel'. The nearest name there is '6'"),
        # The file of another recording is no mistake in a name.
        ("1_devel", "no file for the recording '1_devel'. Expected"),
    ):
        with pytest.raises(FeatureError) as caught:
            chosen.read(recording, 4)
        assert says in str(caught.value)
    assert chosen.has("5")
    assert not chosen.has("7")


def test_a_damaged_first_file_costs_no_other(corpus: Location) -> None:
    _write(Path(corpus.path), "egemaps/0.csv", "")
    chosen = open_set(corpus, "egemaps", ["0", *_IDS])
    assert chosen.columns == ("a", "b")
    with pytest.raises(FeatureError, match=r"0.csv' is empty"):
        chosen.read("0", 1)
    _write(Path(corpus.path), "broken/0.csv", "")
    with pytest.raises(FeatureError, match=r"0.csv' is empty"):
        open_set(corpus, "broken", ["0"])


def test_columns_are_those_of_most_recordings(corpus: Location) -> None:
    root = Path(corpus.path)
    # The first file by name differs, and so does a leftover that belongs to no recording.
    _write(root, "most/0.csv", "timestamp,x\n0,9\n")
    _write(root, "most/1.csv", "timestamp,b,a\n0,1,2\n")
    _write(root, "most/2.csv", "timestamp,a,b\n0,1,2\n")
    for leftover in ("00", "summary", "zz"):
        _write(root, f"most/{leftover}.csv", "timestamp,x\n0,9\n")
    chosen = open_set(corpus, "most", ["0", "1", "2", "absent"])
    assert chosen.columns == ("b", "a")
    assert chosen.read("2", 1).tolist() == [[2, 1]]
    with pytest.raises(FeatureError, match=r"0.csv' has 1 feature and lacks 'b'.*2 of 3 files"):
        chosen.read("0", 1)
    assert open_set(corpus, "most", ["0"]).columns == ("x",)


def test_columns_without_a_majority_are_refused(corpus: Location) -> None:
    root = Path(corpus.path)
    _write(root, "torn/1.csv", "timestamp,a,b\n0,1,2\n")
    _write(root, "torn/2.csv", "timestamp,a,b,c\n0,1,2,3\n")
    says = r"'1.csv' has 2 features, '2.csv' 3, and no columns .* more than half of the 2 files"
    with pytest.raises(FeatureError, match=says):
        open_set(corpus, "torn", _IDS)
    # Two kinds of equally many columns are two kinds.
    _write(root, "torn/2.csv", "timestamp,a,c\n0,1,2\n")
    with pytest.raises(FeatureError, match=r"'1.csv' has 2 features, '2.csv' 2"):
        open_set(corpus, "torn", _IDS)


def test_a_set_of_other_recordings_is_refused(corpus: Location) -> None:
    with pytest.raises(FeatureError, match=r"no file of any of 2 recordings.*belong to '1', '2'"):
        open_set(corpus, "egemaps", ["8_devel", "9"])


def test_names_in_another_unicode_form_are_the_same_recording(corpus: Location) -> None:
    name = unicodedata.normalize("NFD", "Zoë")
    _write(Path(corpus.path), f"egemaps/{name}.csv", "timestamp,a,b\n0,1,2\n")
    assert open_set(corpus, "egemaps", ["Zoë"]).read("Zoë", 1).tolist() == [[1, 2]]


def test_files_that_begin_differently_are_refused_together() -> None:
    require_equal_stamps("s", {"a": "end", "b": "end"})
    says = r"begin at 0 ms \('b'\) and others a segment later \('a', 'c'\)"
    with pytest.raises(FeatureError, match=says):
        require_equal_stamps("s", {"a": "end", "b": "start", "c": "end"})


def test_a_set_that_was_interrupted_is_refused(corpus: Location) -> None:
    about = corpus / "feature_segments/egemaps/set.json"
    about.write_text('{"complete": false}')
    with pytest.raises(FeatureError, match=r"is not finished.*run the same command again"):
        open_set(corpus, "egemaps", _IDS)
    about.write_text('{"complete": true}')
    assert open_set(corpus, "egemaps", _IDS).about == {"complete": True}


def test_the_digest_follows_the_content_of_the_files_in_use(corpus: Location) -> None:
    chosen = open_set(corpus, "egemaps", _IDS)
    one, both = chosen.digest("1"), chosen.digests(["2", "1"])
    # sha256sum of the file.
    content = (Path(corpus.path) / "feature_segments/egemaps/1.csv").read_bytes()
    assert one == hashlib.sha256(content).hexdigest()
    assert list(both) == ["1", "2"]
    with pytest.raises(FeatureError, match="no file for the recording 'absent'"):
        chosen.digests(["1", "absent"])
    _write(Path(corpus.path), "egemaps/2.csv", "timestamp,b,a\n500,2,1\n1000,4,4\n")
    assert chosen.digest("1") == one
    assert chosen.digests(["1", "2"])["2"] != both["2"]


def test_sequences_are_found_by_their_start(corpus: Location) -> None:
    root = Path(corpus.path)
    _write(root, "long/1.csv", "timestamp,a\n0,1\n2500,2\n", kind="feature_sequences")
    with pytest.raises(FeatureError, match=r"set.json' does not say how long"):
        open_any(corpus, "long", _IDS)
    _write(root, "long/set.json", '{"length": 30}', kind="feature_sequences")
    chosen = open_any(corpus, "long", _IDS)
    found = chosen.read_sequences("1", np.array([5, 0, 3, 99]))
    np.testing.assert_array_equal(found[:, 0], np.array([2, 1, np.nan, np.nan], np.float32))
    _write(root, "long/1.csv", "timestamp,a\n0,1\n")
    with pytest.raises(UsageError, match="another in feature_sequences"):
        open_any(corpus, "long", _IDS)
    _write(root, "egemaps/set.json", "[1]")
    with pytest.raises(FeatureError, match="it is no JSON object"):
        open_any(corpus, "egemaps", _IDS)


def test_sets_on_an_object_store_are_read(corpus: Location, object_store: str) -> None:
    query = f"?endpoint_override={object_store}&scheme=http&region=us-east-1"
    there = Location.parse(f"s3://key:secret@shared/sets{query}")
    source = Path(corpus.path) / "feature_segments/egemaps/1.csv"
    (there / "feature_segments/egemaps/1.csv").write_bytes(source.read_bytes())
    assert list_sets(there) == ["egemaps"]
    assert open_set(there, "egemaps", _IDS).read("1", 1).tolist() == [[1, 2]]
