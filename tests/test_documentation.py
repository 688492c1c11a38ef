"""What the documentation states, held against the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from typer.main import get_command

from pipelines.cli import app
from valence.config import Config
from valence.storage import Location

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


def test_the_readme_shows_the_configuration_for_small_corpora_as_it_is() -> None:
    shown = re.findall(r"```toml\n(.*?)```", (_ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(shown) == 1
    kept = _ROOT / "docs" / "small-corpus.toml"
    assert tomllib.loads(shown[0]) == tomllib.loads(kept.read_text())
    assert Config.read(Location.parse(kept)).model.dropout == 0.5


def test_the_readme_names_every_command_and_no_other() -> None:
    readme = (_ROOT / "README.md").read_text()
    table = re.findall(r"^\| `valence (\w+)", readme, flags=re.MULTILINE)
    assert sorted(table) == sorted(get_command(app).commands)  # type: ignore[attr-defined]


def test_links_of_the_documentation_lead_somewhere() -> None:
    for page in (*_ROOT.glob("*.md"), *_ROOT.glob("docs/*.md"), *_ROOT.glob("cluster/**/*.md")):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page}: {link}"
