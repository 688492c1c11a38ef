"""Properties of recordings, from Ids and from tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.made_corpora import write_text
from valence.errors import CorpusError
from valence.importing.declaration import Lookup, PartitionForm
from valence.importing.sources.lookups import read_partition, read_property
from valence.importing.sources.patterns import list_tree
from valence.storage.location import Location

_PARTS = {name: {"id": name, "talk": name[0]} for name in ("a1", "a2", "b1")}
_TABLE = {"file": "**/p.csv", "id": "talk", "value": "set", "key": "{talk}"}


def _partition(root: Path, form: dict[str, object], remarks: list[str]) -> dict[str, str]:
    tree = list_tree(Location.parse(root))
    return read_partition(tree, PartitionForm.model_validate(form), _PARTS, remarks)  # type: ignore[return-value]


def test_a_table_is_joined_by_a_part_of_the_id(tmp_path: Path) -> None:
    write_text(tmp_path / "m/p.csv", "talk,set", "a,Development", "b.wav,Test1", "c,Train")
    form = _TABLE | {"words": {"test1": "test"}}
    remarks: list[str] = []
    found = _partition(tmp_path, form, remarks)
    assert found == {"a1": "devel", "a2": "devel", "b1": "test"}
    assert not remarks


def test_a_column_may_have_one_of_several_names(tmp_path: Path) -> None:
    write_text(tmp_path / "p.csv", "Talk,Proposal", "a,train")
    form = _TABLE | {"value": ["partition", "proposal"]}
    assert _partition(tmp_path, form, []) == {"a1": "train", "a2": "train"}
    with pytest.raises(CorpusError, match="none is called 'partition'"):
        _partition(tmp_path, form | {"value": ["partition", "split"]}, [])


def test_unknown_values_and_missing_cells_are_left_out(tmp_path: Path) -> None:
    write_text(tmp_path / "p.csv", "talk,set", "a,Test3", "b,")
    assert _partition(tmp_path, _TABLE | {"unknown": ["Test3"]}, []) == {}


def test_an_absent_table_is_remarked_on(tmp_path: Path) -> None:
    remarks: list[str] = []
    assert _partition(tmp_path, _TABLE, remarks) == {}
    assert "has no table '**/p.csv', so the partition of each recording" in remarks[0]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["a,train", "a,test"], "line 3: 'a' has the set 'test', and 'train'"),
        (["a,someday"], "'a1' is given the partition 'someday'"),
    ],
)
def test_what_cannot_be_is_refused(rows: list[str], words: str, tmp_path: Path) -> None:
    write_text(tmp_path / "p.csv", "talk,set", *rows)
    with pytest.raises(CorpusError, match=words):
        _partition(tmp_path, _TABLE, [])


def test_two_tables_are_refused(tmp_path: Path) -> None:
    for folder in "ab":
        write_text(tmp_path / folder / "p.csv", "talk,set", "a,train")
    with pytest.raises(CorpusError, match="both fit"):
        _partition(tmp_path, _TABLE, [])


def test_a_template_takes_parts_of_the_id(tmp_path: Path) -> None:
    tree = list_tree(Location.parse(tmp_path))
    lookup = Lookup(template="{talk}", unknown=("b",))
    assert read_property(tree, lookup, "subjects", _PARTS, []) == {"a1": "a", "a2": "a"}
    assert read_property(tree, None, "subjects", _PARTS, []) == {}
