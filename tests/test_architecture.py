"""The rooms of the house: which folder may import which, and what loading a part of it costs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]

# What a folder may import beside itself, `valence/` (the modules that lie in it, no folder) and
# `storage`, which all stand on.
_ARROWS: dict[str, set[str]] = {
    "valence": set(),
    "valence/storage": set(),
    "valence/corpus": set(),
    "valence/audio": set(),
    "valence/figures": set(),
    "valence/importing": {"valence/corpus", "valence/audio"},
    "valence/fusion": {"valence/importing"},
    "valence/segments": {"valence/corpus", "valence/audio"},
    "valence/model": {"valence/audio"},
    "valence/training": {"valence/model", "valence/segments", "valence/audio"},
    "valence/sweep": {"valence/segments"},
    "valence/prediction": {
        *("valence/model", "valence/sweep", "valence/figures", "valence/corpus", "valence/audio"),
        "valence/segments",
    },
    "valence/report": {
        *("valence/corpus", "valence/audio", "valence/segments", "valence/model"),
        *("valence/training", "valence/sweep", "valence/prediction", "valence/figures"),
    },
    # The stages may use all of the science, and the plumbing; they meet through files alone.
    "pipelines/runtime": set(),
    "pipelines/corpora": {"pipelines/runtime"},
    "pipelines/preprocess": {"pipelines/runtime"},
    "pipelines/train": {"pipelines/runtime"},
    "pipelines/sweep": {"pipelines/runtime"},
    "pipelines": {
        *("pipelines/runtime", "pipelines/corpora", "pipelines/preprocess", "pipelines/train"),
        "pipelines/sweep",
    },
}
# Commands that lie in `pipelines/` itself, each a stage of its own.
_SINGLE_STAGES = {"extract", "features", "predict"}
_MOST_FILES = 9
_WITHOUT_TORCH = {
    "audio.augmentation",
    "audio.decoding",
    "audio.mel",
    "audio.speech",
    "audio.standardization",
    "config",
    "corpus.annotations",
    "corpus.csv_tables",
    "corpus.muse",
    "corpus.splits",
    "corpus.synthetic",
    "corpus.synthetic_voice",
    "fusion.gold_standard",
    "importing.layout",
    "importing.recognition",
    "metrics",
    "run",
    "segments.feature_sets",
    "segments.inspection",
    "segments.store",
    "storage.location",
    "sweep.features",
}


def _modules(package: str) -> list[Path]:
    return sorted((_ROOT / package).rglob("*.py"))


def _name(file: Path) -> str:
    parts = file.relative_to(_ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


_FILES = {_name(file): file for package in ("valence", "pipelines") for file in _modules(package)}


def _imports(file: Path) -> set[str]:
    """The modules that a file imports, a package's own where it is that which is imported."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in _FILES else str(node.module) for name in names}
    return found


def _room(file: Path) -> str:
    """The folder of the table that a file belongs to: the first below the package, or that."""
    return "/".join(file.relative_to(_ROOT).parts[:2][: 1 + (file.parent.parent != _ROOT)])


def _arrows() -> Iterator[tuple[str, str, str, str]]:
    """Importing and imported module, each with its folder; `valence` itself only hands on names."""
    for name, file in _FILES.items():
        if name == "valence":
            continue
        for imported in _imports(file) & _FILES.keys():
            yield name, imported, _room(file), _room(_FILES[imported])


def test_every_folder_stands_in_the_table() -> None:
    assert {_room(file) for file in _FILES.values()} == _ARROWS.keys()


def test_imports_go_along_the_arrows_alone() -> None:
    wrong = [
        f"{name} imports {imported}: no arrow from {here} to {there}"
        for name, imported, here, there in _arrows()
        if there not in {here, *_ARROWS[here]}
        if there not in {"valence", "valence/storage"}
        if here.startswith("valence") or there.startswith("pipelines")
    ]
    assert not wrong, "\n".join(wrong)


def test_every_arrow_of_the_table_is_used() -> None:
    used = {(here, there) for _, _, here, there in _arrows()}
    assert {(here, there) for here, to in _ARROWS.items() for there in to} <= used


def test_no_arrows_run_in_a_circle() -> None:
    assert list(TopologicalSorter(_ARROWS).static_order())


@pytest.mark.parametrize(
    "folder",
    sorted({file.parent for file in _FILES.values()}),
    ids=lambda folder: str(folder.relative_to(_ROOT)),
)
def test_a_folder_holds_no_more_than_one_can_see(folder: Path) -> None:
    assert sum(file.name != "__init__.py" for file in folder.glob("*.py")) <= _MOST_FILES


@pytest.mark.parametrize("file", _modules("valence"), ids=_name)
def test_the_science_imports_neither_ray_nor_the_pipelines(file: Path) -> None:
    roots = {name.partition(".")[0] for name in _imports(file)}
    assert not roots & {"ray", "pipelines"}


@pytest.mark.parametrize("stage", sorted(_SINGLE_STAGES))
def test_stages_meet_only_through_files(stage: str) -> None:
    others = {f"pipelines.{name}" for name in _SINGLE_STAGES - {stage}}
    others |= {"pipelines.preprocess", "pipelines.train", "pipelines.sweep"}
    found = _imports(_FILES[f"pipelines.{stage}"])
    assert not {name for name in found for other in others if f"{name}.".startswith(f"{other}.")}


def test_no_module_of_the_science_imports_itself_by_way_of_others() -> None:
    # The packages' own names stand for what they gather from their modules.
    graph = {
        name: _imports(file) & _FILES.keys()
        for name, file in _FILES.items()
        if name.startswith("valence.") and file.name != "__init__.py"
    }
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


def _loaded(code: str) -> set[str]:
    """The top-level modules that are loaded once `code` has run in a fresh interpreter."""
    tell = "import json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tell}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(ran.stdout.splitlines()[-1]))


def test_sound_and_labels_load_no_torch() -> None:
    lines = [
        f"import valence.{name}; assert not {{'torch', 'ray'}} & set(sys.modules), {name!r}"
        for name in sorted(_WITHOUT_TORCH)
    ]
    assert "valence" in _loaded("\n".join(["import sys", *lines]))


def test_the_controller_of_a_training_loads_no_torch() -> None:
    """Ray's controller, a process of each training, loads what says how the workers meet."""
    loaded = _loaded("import ray, pipelines.train.rendezvous")
    assert "ray" in loaded
    assert "torch" not in loaded


def test_the_package_and_the_command_line_load_neither_torch_nor_ray() -> None:
    loaded = _loaded(
        "import valence\n"
        "from typer.testing import CliRunner\n"
        "from pipelines.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0"
    )
    assert "valence" in loaded
    assert not loaded & {"torch", "ray"}
