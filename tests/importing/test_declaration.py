"""Declarations: what is accepted, what is refused and how it is said."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from valence.errors import ConfigError
from valence.importing.declaration import Declaration, load_declaration, shipped_declarations

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "importing.md"
_LEAST = 'name = "mine"\ntitle = "Mine"\n[[labels]]\nfiles = ["{id}.csv"]\nvalence = "v"\n'


def _load(tmp_path: Path, text: str, *assignments: str) -> Declaration:
    (tmp_path / "mine.toml").write_text(text)
    return load_declaration(str(tmp_path / "mine.toml"), assignments)


def test_shipped_forms_carry_the_name_of_their_file_and_say_where_they_are_described() -> None:
    shipped = shipped_declarations()
    folder = files("valence.importing") / "forms"
    assert {f"{each.name}.toml" for each in shipped} == {each.name for each in folder.iterdir()}
    assert len(shipped) == 21
    assert all(each.sources for each in shipped)
    for each in shipped:
        assert load_declaration(each.name) == each


def test_the_page_names_every_form() -> None:
    (table,) = re.findall(r"\| `--form` \|.*?\n\n", _PAGE.read_text(), flags=re.DOTALL)
    rows = re.findall(r"^\| (`[a-z].*?) \|", table, flags=re.MULTILINE)
    named = set()
    for row in rows:
        first, *others = re.findall(r"`([\w-]+)`", row)
        named |= {first, *(f"{first}{each}" if each[0] == "-" else each for each in others)}
    assert {each.name for each in shipped_declarations()} == named


def test_the_declaration_of_the_page_is_accepted(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", _PAGE.read_text(), flags=re.DOTALL)
    declaration = _load(tmp_path, example)
    assert declaration.labels[0].scale == (1, 7)
    assert declaration.parts_of("Kim_1") == {"id": "Kim_1", "who": "Kim"}
    assert declaration.parts_of("Kim") == {"id": "Kim"}


def test_assignments_override_all_groups_of_labels(tmp_path: Path) -> None:
    second = '[[labels]]\nfiles = ["b/{id}.csv"]\narousal = "a"\n'
    declaration = _load(
        tmp_path, _LEAST + second, "labels.scale=[0,5]", "labels.unit=ms", "audio=['x/{id}']"
    )
    assert [form.scale for form in declaration.labels] == [(0, 5), (0, 5)]
    assert [form.unit for form in declaration.labels] == ["ms", "ms"]
    assert declaration.audio == ("x/{id}",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text + "colour = 1\n", r"labels\.0\.colour: Extra inputs"),
        (lambda text: text.replace("name", "nome"), "name: Field required"),
        (lambda text: text.replace('valence = "v"', ""), "no column with values is named"),
        (lambda text: text + 'value = "v"\n', "needs {target} in files"),
        (lambda text: text + "scale = [3, 1]\n", r"scale = \[3.0, 1.0\] does not ascend"),
        (lambda text: text + "scale = {valence = [1, 1]}\n", "does not ascend"),
        (lambda text: text + 'time = "t"\nstart = "s"\nend = "e"\n', "time is named beside"),
        (lambda text: text + 'start = "s"\n', "start and end are named together"),
        (lambda text: text + 'reader = "nova"\n', "finds the columns by itself; remove valence"),
        (lambda text: text + 'reader = "lines"\n', "'lines' needs begins and line"),
        (lambda text: text + "step = [0]\n", "greater than 0"),
        (lambda text: text + 'id = "{video"\n', "'{video' cannot be filled in: expected '}'"),
        (lambda text: text + 'id = "{}"\n', "'{}' cannot be filled in: braces hold the name"),
        (lambda text: text + 'id = "{0}"\n', "'{0}' cannot be filled in"),
        (lambda text: text + 'id = "{v!z}"\n', "'{v!z}' cannot be filled in"),
        (lambda text: text + 'id = "{f:d}"\n', "'{f:d}' cannot be filled in"),
        (lambda text: text + 'id = "{f.x}"\n', "'{f.x}' cannot be filled in"),
        (lambda text: text + "[subjects]\ntemplate = '{}'\n", "subjects.template: .* be filled in"),
        (
            lambda text: text + "[partition]\nfile = 'a'\nid = 'i'\nvalue = 'v'\nkey = '{'\n",
            "partition.key: .* cannot be filled in",
        ),
        (lambda text: text + "[cut]\nfile = ['a']\nid = '{x}}'\n", "cut.id: .* be filled in"),
        (lambda text: text + 'raters = "("\n', "no regular expression"),
        (lambda text: 'id_parts = "("\n' + text, "no regular expression"),
        (lambda text: 'join = "subject"\n' + text, "join = 'subject' needs subjects"),
        (lambda text: text + "[subjects]\nfile = 'a'\n", "either template is named, or file, id"),
        (lambda text: text + "[", "is no TOML that can be read"),
    ],
)
def test_what_is_wrong_in_a_declaration_is_named(change, words: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=words):
        _load(tmp_path, change(_LEAST))


def test_forms_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no form 'recolla'\. Expected one of .*recola, "):
        load_declaration("recolla")
    with pytest.raises(ConfigError, match=r"cannot be read: .*No such file"):
        load_declaration(str(tmp_path / "absent.toml"))


@pytest.mark.parametrize("assignment", ["labels", "a.b.c=1", "=3"])
def test_assignments_of_another_form_are_refused(assignment: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--declare .* was found\. Expected key=value"):
        _load(tmp_path, _LEAST, assignment)


def test_no_shipped_form_has_a_key_twice_or_a_default_by_mistake() -> None:
    folder = files("valence.importing") / "forms"
    for each in folder.iterdir():
        assert tomllib.loads(each.read_text())["labels"], each.name
