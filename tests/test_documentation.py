"""What the documentation states, held against the code."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from pipelines.cli import app
from valence.config import Config
from valence.storage.location import Location

_ROOT = Path(__file__).resolve().parents[1]
_CONFIGURATION = _ROOT / "docs" / "configuration.toml"
_README = _ROOT / "README.md"
_PAGES = sorted([*_ROOT.glob("*.md"), *_ROOT.glob("docs/*.md"), _ROOT / "cluster" / "README.md"])
_PROJECT: dict[str, Any] = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
# Five lines of a hundred characters, and words for five minutes of somebody's second language.
_LONGEST_PARAGRAPH = 500
_MOST_WORDS = 1200

_of_pages = pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))


def _without_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


def _words(text: str) -> str:
    """The text as it is read: links without their addresses."""
    return re.sub(r"\]\([^)]*\)", "]", text)


def test_the_documented_configuration_is_the_default_and_names_every_key() -> None:
    assert Config.read(Location.parse(_CONFIGURATION)) == Config()
    text = _CONFIGURATION.read_text()
    tables = tomllib.loads(text)
    absent = set(re.findall(r"^# (\w+) = ", text, flags=re.MULTILINE))
    for name, field in Config.model_fields.items():
        keys = set(field.annotation.model_fields)  # type: ignore[union-attr]
        assert keys - set(tables[name]) <= absent
    # Uncommented, they are accepted as well.
    uncommented = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert Config.model_validate(tomllib.loads(uncommented)) != Config()


def test_what_the_pages_say_to_set_is_accepted() -> None:
    output = set()
    for page in _PAGES:
        assignments = re.findall(r"--set (?:'([^']+)'|([\w.]+=[\w.-]+))", page.read_text())
        output |= {quoted or bare for quoted, bare in assignments}
    assert {"split.validation_share=0.3", "sweep.engine=sklearnex", "train.gpus=always"} <= output
    for assignment in output - {"section.key=value"}:
        # What is not is an error.
        Config.resolve(Config(), assignments=[assignment])


def test_settings_that_the_pages_name_exist() -> None:
    sections = "|".join(Config.model_fields)
    named = set()
    for page in _PAGES:
        named |= set(re.findall(rf"`({sections})\.(\w+)[`=]", page.read_text()))
    assert {("train", "residency"), ("sweep", "svr_max_rows")} <= named
    for section, key in named:
        assert key in Config.model_fields[section].annotation.model_fields  # type: ignore[union-attr]


def test_the_readme_names_every_command_and_no_other() -> None:
    table = re.findall(r"^\| `valence (\w+)", _README.read_text(), flags=re.MULTILINE)
    assert sorted(table) == sorted(get_command(app).commands)  # type: ignore[attr-defined]


def _headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", _without_blocks(page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in found}


def test_links_of_the_documentation_lead_somewhere() -> None:
    anchors = 0
    for page in _PAGES:
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            if "://" in link:
                continue
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), f"{page}: {link}"
            if anchor:
                anchors += 1
                assert anchor in _headings(target), f"{page}: {link}"
    assert anchors > 5


def test_the_readme_leads_to_every_page() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", _README.read_text())
    assert {str(page.relative_to(_ROOT)) for page in _PAGES} - {"README.md"} <= set(links)


def test_modules_that_the_pages_name_exist() -> None:
    found = set()
    for page in _PAGES:
        found |= set(re.findall(r"\b(?:valence|pipelines|tests)/[\w/]+\.py\b", page.read_text()))
    assert {"valence/metrics.py", "valence/audio/augmentation.py", "valence/run.py"} <= found
    assert [name for name in sorted(found) if not (_ROOT / name).exists()] == []


@_of_pages
def test_paragraphs_are_short(page: Path) -> None:
    # An item of a list and a row of a table count as paragraphs, too.
    pieces = re.split(
        r"\n\s*\n|\n(?=\s*(?:[-|]|\d+\.) ?)", _words(_without_blocks(page.read_text()))
    )
    assert [piece for piece in pieces if len(piece) > _LONGEST_PARAGRAPH] == []


@_of_pages
def test_sentences_begin_with_what_they_speak_of(page: Path) -> None:
    text = _words(_without_blocks(page.read_text()))
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    begun = re.findall(r"(?:^(?:- |\d+\. )?|[.:;] )((?:Of|Whose|What|As) [^.?]*[.?])", prose, re.M)
    assert [sentence for sentence in begun if not sentence.endswith("?")] == []


def test_the_readme_is_read_in_five_minutes() -> None:
    words = [word for word in _words(_README.read_text()).split() if re.search(r"\w", word)]
    assert len(words) <= _MOST_WORDS


def _listed() -> Iterator[tuple[str, str]]:
    """The folders of README's tree, each with its line."""
    (block,) = re.findall(r"## The tree\n\n```\n(.*?)```", _README.read_text(), flags=re.DOTALL)
    above: list[str] = []
    for row in block.splitlines():
        indent, name, line = re.fullmatch(r"( *)(\S+)/ {2,}(\S.*)", row).groups()  # type: ignore[union-attr]
        above = [*above[: len(indent) // 2], name]
        yield "/".join(above), line


def test_the_tree_has_every_folder_and_the_words_of_its_docstring() -> None:
    listed = dict(_listed())
    packages = {
        str(file.parent.relative_to(_ROOT)): ast.get_docstring(ast.parse(file.read_text()))
        for root in ("valence", "pipelines")
        for file in (_ROOT / root).rglob("__init__.py")
    }
    assert len(packages) > 15
    for folder, docstring in packages.items():
        assert f"{listed[folder]}." == str(docstring).splitlines()[0], folder
    # All of tests/ that does not mirror a folder of valence/ has a line of its own.
    tests = {path.parent.name for path in _ROOT.glob("tests/*/*.py")}
    of_tests = {name for name in tests if not (_ROOT / "valence" / name).is_dir()}
    others = {"tests", "cluster", "docs", "findings"}
    expected = packages.keys() | others | {f"tests/{name}" for name in of_tests}
    assert listed.keys() == expected


def test_the_citation_is_of_this_version_and_of_the_study() -> None:
    citation = yaml.safe_load((_ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert (citation["type"], citation["title"]) == ("software", "valence")
    assert citation["version"] == _PROJECT["version"]
    study = citation["preferred-citation"]
    readme = _README.read_text()
    assert study["title"] in readme
    assert " and ".join(author["family-names"] for author in study["authors"]) in readme


def test_the_package_has_a_name_of_its_own_and_the_command_stays() -> None:
    assert f"`{_PROJECT['name']}`" in _README.read_text()
    assert _PROJECT["name"] != "valence"
    assert _PROJECT["scripts"] == {"valence": "pipelines.cli:main"}


def test_no_words_tell_of_a_bootstrap() -> None:
    """Intervals turn signs and leave out subjects; `bootstrap` is the name of a setting alone."""
    old = re.compile(r"\b(?:the|a) bootstrap\b|resampl\w*\s+(?:of\s+)?subjects|\bresamples\b", re.I)
    pages = [_ROOT / "README.md", *(_ROOT / "docs").glob("*.*"), *(_ROOT / "tests/bench").iterdir()]
    sources = [file for name in ("valence", "pipelines") for file in (_ROOT / name).rglob("*")]
    texts = [file for file in (*pages, *sources) if file.suffix in (".md", ".toml", ".py", ".j2")]
    assert len(texts) > 100
    assert [file.name for file in texts if old.search(file.read_text())] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="no make is installed")
@pytest.mark.parametrize(
    ("target", "runs"),
    [
        ("demo", "bin/valence demo --out runs/demo"),
        ("test", "lint test-ray test-programs test-science"),
        ("test-all", "test-kills test-clusters"),
    ],
)
def test_the_commands_that_the_readme_begins_with_do_their_work(target: str, runs: str) -> None:
    assert f"make {target}" in _README.read_text()
    ran = subprocess.run(
        ["make", "--dry-run", target],
        cwd=_README.parent,
        env={name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "RUN")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert runs in ran.stdout
