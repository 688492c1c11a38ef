"""Patterns of paths, and the files that they find."""

from __future__ import annotations

from pathlib import Path

import pytest

from valence.errors import ConfigError, CorpusError
from valence.importing.sources.patterns import compile_pattern, fill, first_matching, list_tree
from valence.storage.location import Location


def _tree(root: Path, *paths: str):  # type: ignore[no-untyped-def]
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return list_tree(Location.parse(root))


@pytest.mark.parametrize(
    ("pattern", "path", "parts"),
    [
        ("{id}.csv", "3.csv", {"id": "3"}),
        ("{id}.csv", "a/3.csv", None),
        ("**/{id}.csv", "3.csv", {"id": "3"}),
        ("**/{target}/{id}.csv", "x/y/Valence/a.b.csv", {"target": "Valence", "id": "a.b"}),
        ("r_{id:\\d+_\\d+}.csv", "R_1_2.CSV", {"id": "1_2"}),
        ("r_{id:\\d{2}}.csv", "r_123.csv", None),
        ("*/{id}_{rater:[^_]+}.csv", "v/a_b_c.csv", {"id": "a_b", "rater": "c"}),
        ("{id}/{id}.csv", "1/2.csv", None),
        ("{id}/{id}.csv", "2/2.csv", {"id": "2"}),
        ("a.b/{id}", "axb/1", None),
    ],
)
def test_parts_of_paths(pattern: str, path: str, parts: dict[str, str] | None) -> None:
    found = compile_pattern(pattern).fullmatch(path)
    assert (found and found.groupdict()) == parts


def test_an_expression_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="holds no regular expression that can be read"):
        compile_pattern("{id:(}.csv")


def test_templates() -> None:
    assert fill("{a}_{b}", {"a": "1", "b": "2", "c": "3"}) == "1_2"
    assert fill("{a}_{b}", {"a": "1"}) is None
    assert fill("{a}_{b}", {"a": "1", "b": ""}) is None
    assert fill("fixed", {}) == "fixed"


def test_hidden_files_and_the_second_tree_of_a_mac_are_no_content(tmp_path: Path) -> None:
    tree = _tree(
        tmp_path, "v/1.csv", "v/._1.csv", ".git/v/2.csv", "__MACOSX/v/1.csv", "v/.DS_Store"
    )
    assert tree.paths == ("v/1.csv",)


def test_links_to_files_are_content_and_links_in_a_circle_do_no_harm(tmp_path: Path) -> None:
    _tree(tmp_path, "v/1.csv")
    (tmp_path / "v/2.csv").symlink_to(tmp_path / "v/1.csv")
    (tmp_path / "v/again").symlink_to(tmp_path)
    assert "v/2.csv" in list_tree(Location.parse(tmp_path)).paths


def test_a_path_that_two_patterns_read_in_two_ways_is_refused(tmp_path: Path) -> None:
    tree = _tree(tmp_path, "valence/ann/1.csv", "b/2.csv")
    patterns = ["{target}/{rater}/{id}.csv", "{x}/{target}/{id}.csv"]
    with pytest.raises(CorpusError, match="which read its path in two ways"):
        list(first_matching(tree, patterns))
    (_, fields), *others = first_matching(tree, ["b/{id}.csv", "**/b/{id}.csv"])
    assert fields == {"id": "2"}
    assert not others


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="there is no such folder"):
        list_tree(Location.parse(tmp_path / "absent"))
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="it is a file"):
        list_tree(Location.parse(tmp_path / "file"))
