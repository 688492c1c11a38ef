"""What the documentation states, held against the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from typer.main import get_command

from pipelines.cli import app
from valence.config import Config
from valence.storage.location import Location

_ROOT = Path(__file__).resolve().parents[1]
_CONFIGURATION = _ROOT / "docs" / "configuration.toml"


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


def test_what_the_readme_says_to_set_is_accepted() -> None:
    readme = (_ROOT / "README.md").read_text()
    assignments = re.findall(r"--set (?:'([^']+)'|([\w.]+=[\w.]+))", readme)
    told = {quoted or bare for quoted, bare in assignments}
    assert {"split.validation_share=0.3", "sweep.engine=sklearnex"} <= told
    for assignment in told - {"section.key=value"}:
        # What is not is an error.
        Config.resolve(Config(), assignments=[assignment])


def test_the_readme_names_every_command_and_no_other() -> None:
    readme = (_ROOT / "README.md").read_text()
    table = re.findall(r"^\| `valence (\w+)", readme, flags=re.MULTILINE)
    assert sorted(table) == sorted(get_command(app).commands)  # type: ignore[attr-defined]


def test_links_of_the_documentation_lead_somewhere() -> None:
    for page in (*_ROOT.glob("*.md"), *_ROOT.glob("docs/*.md"), *_ROOT.glob("cluster/**/*.md")):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page}: {link}"


def test_no_words_tell_of_a_bootstrap() -> None:
    """Intervals turn signs and leave out subjects; `bootstrap` is the name of a setting alone."""
    old = re.compile(r"\b(?:the|a) bootstrap\b|resampl\w*\s+(?:of\s+)?subjects|\bresamples\b", re.I)
    pages = [_ROOT / "README.md", *(_ROOT / "docs").glob("*.*"), *(_ROOT / "tests/bench").iterdir()]
    sources = [file for name in ("valence", "pipelines") for file in (_ROOT / name).rglob("*")]
    texts = [file for file in (*pages, *sources) if file.suffix in (".md", ".toml", ".py", ".j2")]
    assert len(texts) > 100
    assert [file.name for file in texts if old.search(file.read_text())] == []
