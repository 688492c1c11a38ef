"""What the image is made of: pinned, complete, unprivileged, and the same that manifests expect."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).resolve().parents[2]
_CLUSTER = _ROOT / "cluster"
_PROJECT: dict[str, Any] = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]


def _pins() -> dict[str, str]:
    pins: dict[str, str] = {}
    for line in (_CLUSTER / "constraints.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)", line)
        assert match, f"{line} is no exact pin"
        assert match[1] not in pins, f"{line} is there twice"
        pins[match[1]] = match[2]
    return pins


def _wanted() -> list[Requirement]:
    """What the image can install: the project, its extra for clusters, and the faster SVR."""
    extras = _PROJECT["optional-dependencies"]
    texts = _PROJECT["dependencies"] + extras["cluster"] + extras["sklearnex"]
    return [Requirement(text) for text in texts]


def _needs(requirement: Requirement) -> Iterator[Requirement]:
    """What a package that is installed here needs in turn."""
    for text in distribution(requirement.name).requires or []:
        needed = Requirement(text)
        for extra in ("", *requirement.extras):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                yield needed
                break


def test_every_requirement_of_the_project_is_pinned_within_its_bounds() -> None:
    pins = _pins()
    for requirement in _wanted():
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement} against {pin}"


def test_what_the_requirements_need_is_pinned_too() -> None:
    pins = _pins()
    todo, seen = _wanted(), set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        assert name in pins, f"{requirement} is not pinned"
        assert requirement.specifier.contains(pins[name]), f"{requirement} against {pins[name]}"
        try:
            installed = distribution(requirement.name).version.partition("+")[0]
        except PackageNotFoundError:
            continue
        # Another version may need other packages: it says nothing about the pinned one.
        if installed == pins[name]:
            todo.extend(_needs(requirement))
    # Walked through Ray's extras and not only over the project's own list.
    assert len(seen) > 2 * len(_wanted())


def test_manifests_name_the_ray_that_is_pinned() -> None:
    ray = _pins()["ray"]
    for name in ("raycluster.yaml", "rayjob.yaml"):
        spec = yaml.safe_load((_CLUSTER / "kubernetes" / name).read_text())["spec"]
        assert spec.get("rayClusterSpec", spec)["rayVersion"] == ray


def _instructions() -> list[tuple[str, str]]:
    text = (_CLUSTER / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word, rest.strip()) for word, rest in found]


def test_the_base_is_one_release_of_a_python_that_the_project_supports() -> None:
    (base,) = (rest for word, rest in _instructions() if word == "FROM")
    match = re.fullmatch(r"python:(\d+\.\d+\.\d+)-slim-\w+", base)
    assert match, base
    assert SpecifierSet(_PROJECT["requires-python"]).contains(match[1])
    header = (_CLUSTER / "constraints.txt").read_text().split("\n\n")[0]
    assert f"Python {match[1].rpartition('.')[0]}" in header.replace("\n# ", " ")


def test_nothing_runs_as_root() -> None:
    words = [word for word, _ in _instructions()]
    assert words.index("USER") > max(i for i, word in enumerate(words) if word == "RUN")
    (user,) = (rest for word, rest in _instructions() if word == "USER")
    assert user == "$UID"
    arguments = dict(rest.split("=", 1) for word, rest in _instructions() if word == "ARG")
    # Also what Kubernetes runs it as.
    assert arguments["UID"] == "1000"
    cluster = yaml.safe_load((_CLUSTER / "kubernetes" / "raycluster.yaml").read_text())["spec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["spec"]["securityContext"]["runAsUser"] == 1000


def test_the_environment_is_what_ray_up_and_login_shells_need() -> None:
    (environment,) = (rest for word, rest in _instructions() if word == "ENV")
    values = dict(each.split("=", 1) for each in environment.split())
    assert values["RAY_AUTH_MODE"] == "token"
    assert values["HOME"].startswith("/home/")
    assert "PATH" not in values
    runs = " ".join(rest for word, rest in _instructions() if word == "RUN")
    for tool in ("openssh-client", "rsync", "ca-certificates"):
        assert tool in runs
    assert '"/build[$EXTRAS]"' in runs
    assert "EXTRAS=cluster,media" in [rest for word, rest in _instructions() if word == "ARG"]
    assert "PIP_CONSTRAINT=/build/constraints.txt" in runs


def _reaches_the_builder(path: str) -> bool:
    """As .dockerignore says it: the last line that matches a path or its folder decides."""
    parents = [path, *(str(parent) for parent in Path(path).parents)][:-1]
    reaches = True
    for line in (_ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            if any(fnmatch(name, pattern) or Path(name).match(pattern) for name in parents):
                reaches = line.startswith("!")
    return reaches


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    copied = [
        name for word, rest in _instructions() if word == "COPY" for name in rest.split()[:-1]
    ]
    assert {"pyproject.toml", _PROJECT["readme"], "valence", "pipelines"} <= set(copied)
    for name in copied:
        assert (_ROOT / name).exists(), name
        assert _reaches_the_builder(name), name
    assert _reaches_the_builder("pipelines/runtime/ray_data_logging.yaml")


@pytest.mark.parametrize(
    "path", ["runs/demo/config.toml", ".git/config", ".venv/bin/python", "cluster/aws.yaml"]
)
def test_what_the_image_does_not_need_stays_outside(path: str) -> None:
    assert not _reaches_the_builder(path)


def test_ray_takes_the_runtime_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.runtime_env import RuntimeEnv

    monkeypatch.chdir(_ROOT)
    text = (_CLUSTER / "runtime_env.yaml").read_text()
    given = yaml.safe_load(text)
    assert RuntimeEnv(**given).env_vars() == given["env_vars"]
    assert "pip" not in given
    # The line that is there to be uncommented.
    with_pip = yaml.safe_load(re.sub(r"^# (pip: )", r"\1", text, flags=re.MULTILINE))
    packages = RuntimeEnv(**with_pip).pip_config()["packages"]
    assert f"ray=={_pins()['ray']}" in packages
