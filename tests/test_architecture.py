"""The direction of the imports, and what loading the package costs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_STAGES = {"preprocess", "train", "extract", "sweep", "predict"}
_WITHOUT_TORCH = {
    "audio.augmentation",
    "audio.decoding",
    "audio.mel",
    "audio.standardization",
    "config",
    "corpus.annotations",
    "corpus.csv_tables",
    "corpus.muse",
    "corpus.splits",
    "corpus.synthetic",
    "corpus.synthetic_voice",
    "metrics",
    "run",
    "segments.inspection",
    "segments.store",
    "storage.location",
    "sweep.features",
}


def _imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _modules(package: str) -> list[Path]:
    return sorted((_ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("file", _modules("valence"), ids=lambda file: file.stem)
def test_the_science_imports_neither_ray_nor_the_pipelines(file: Path) -> None:
    roots = {name.partition(".")[0] for name in _imports(file)}
    assert not roots & {"ray", "pipelines"}


@pytest.mark.parametrize("stage", sorted(_STAGES))
def test_stages_meet_only_through_files(stage: str) -> None:
    others = {f"pipelines.{name}" for name in _STAGES - {stage}}
    assert not _imports(_ROOT / "pipelines" / f"{stage}.py") & others


def test_no_module_of_the_science_imports_itself_by_way_of_others() -> None:
    files = {".".join(f.relative_to(_ROOT).with_suffix("").parts): f for f in _modules("valence")}
    # The packages' own names stand for what they gather from their modules.
    graph = {
        name: _imports(file) & files.keys()
        for name, file in files.items()
        if file.name != "__init__.py"
    }
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


def _loaded(code: str) -> set[str]:
    """The top-level modules that are loaded once `code` has run in a fresh interpreter."""
    tell = "import json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tell}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(ran.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", sorted(_WITHOUT_TORCH))
def test_sound_and_labels_load_no_torch(name: str) -> None:
    assert not _loaded(f"import valence.{name}") & {"torch", "ray"}


def test_the_package_and_the_command_line_load_neither_torch_nor_ray() -> None:
    loaded = _loaded(
        "import valence\n"
        "from typer.testing import CliRunner\n"
        "from pipelines.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0"
    )
    assert "valence" in loaded
    assert not loaded & {"torch", "ray"}
