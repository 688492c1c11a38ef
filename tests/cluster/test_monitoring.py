"""The dashboard speaks of metrics that the code sends, and its expressions say what they claim."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.train.monitor import SHOWN

_ROOT = Path(__file__).resolve().parents[2]
_MONITORING = _ROOT / "cluster" / "monitoring"
_DASHBOARD: dict[str, Any] = json.loads((_MONITORING / "grafana-dashboard.json").read_text())
_PROMTOOL = shutil.which("promtool")

needs_promtool = pytest.mark.skipif(_PROMTOOL is None, reason="promtool is not installed")


@dataclass(frozen=True)
class _Metric:
    """A metric as the code registers it: a regular expression of its name, and its labels."""

    name: str
    labels: frozenset[str]


def _registered() -> Iterator[_Metric]:
    """Metrics of the stages as Prometheus names them, read off the source."""
    for path in sorted((_ROOT / "pipelines").rglob("*.py")):
        tree = ast.parse(path.read_text())
        words = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id not in ("Counter", "Gauge", "Histogram") or len(node.args) < 3:
                continue
            # A name that is put together is put together of words of the same file.
            any_word = "|".join(sorted(word for word in words if re.fullmatch(r"[a-z_]+", word)))
            parts = (
                node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
            )
            name = "".join(
                re.escape(part.value) if isinstance(part, ast.Constant) else f"(?:{any_word})"
                for part in parts
            )
            suffix = "_total" if node.func.id == "Counter" else ""
            yield _Metric(f"ray_{name}{suffix}", frozenset(ast.literal_eval(node.args[2])))


def _targets() -> Iterator[tuple[str, str]]:
    for panel in _DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def _expression(title: str, at: int = 0) -> str:
    """An expression of a panel, for all sessions of Ray."""
    found = [expression for panel, expression in _targets() if panel == title]
    return found[at].replace("$session", ".*")


def test_the_source_registers_what_the_stages_send() -> None:
    found = list(_registered())
    assert _Metric("ray_valence_audio_seconds_total", frozenset({"stage"})) in found
    assert any(re.fullmatch(metric.name, "ray_valence_validation_ccc") for metric in found)
    assert not any(re.fullmatch(metric.name, "ray_valence_nonsense") for metric in found)


def test_every_metric_of_the_dashboard_is_one_that_the_code_registers() -> None:
    known = list(_registered())
    named = {
        name for _, expression in _targets() for name in re.findall(r"ray_valence_\w+", expression)
    }
    # All that is told of a training is among them.
    assert {f"ray_valence_{name}" for name in SHOWN} <= named
    unknown = {
        name for name in named if not any(re.fullmatch(metric.name, name) for metric in known)
    }
    assert not unknown


def test_labels_that_the_dashboard_groups_by_are_ones_that_the_code_gives() -> None:
    known = list(_registered())
    for title, expression in _targets():
        for name in re.findall(r"ray_valence_\w+", expression):
            labels = [metric.labels for metric in known if re.fullmatch(metric.name, name)]
            grouped = re.findall(r"by \(([^)]*)\)", expression) + re.findall(
                r"(\w+)=~?\"", expression
            )
            used = {each for group in grouped for each in group.split(", ")} - {"SessionName"}
            for given in labels:
                assert used <= given, f"{title}: {name}"


def test_what_a_run_is_watched_by_has_a_panel() -> None:
    titles = {panel["title"] for panel in _DASHBOARD["panels"]}
    assert titles >= {
        "Audio-hours per hour",
        "Recordings left",
        "Rejected",
        "CCC",
        "Sequences per second",
        "Learning rate",
        "Time left",
        "Combinations done",
        "CPU per node",
        "Memory per node",
        "GPU per node",
    }


def test_panels_do_not_overlap_and_ask_the_chosen_prometheus() -> None:
    panels = _DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert all(0 <= x < 24 for x, _ in cells)
    variables = {variable["name"] for variable in _DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "session"}
    for panel in panels:
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)
    for _, expression in _targets():
        assert set(re.findall(r"\$(\w+)", expression)) == {"session"}


def test_prometheus_reads_the_list_of_nodes_that_ray_keeps() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    config = yaml.safe_load((_MONITORING / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (listed,) = job["file_sd_configs"]
    assert listed["files"] == [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]


@needs_promtool
def test_prometheus_takes_its_configuration() -> None:
    assert _PROMTOOL is not None
    output = subprocess.run(
        [_PROMTOOL, "check", "config", _MONITORING / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.returncode == 0, output.stdout + output.stderr


def _evaluate(
    folder: Path, series: dict[str, str], expected: dict[str, list[tuple[str, float]]]
) -> None:
    """Let promtool evaluate expressions at five minutes, over samples of every ten seconds."""
    test = {
        "evaluation_interval": "10s",
        "tests": [
            {
                "interval": "10s",
                "input_series": [
                    {"series": name, "values": values} for name, values in series.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": "5m",
                        "exp_samples": [
                            {"labels": labels, "value": value} for labels, value in samples
                        ],
                    }
                    for expression, samples in expected.items()
                ],
            }
        ],
    }
    file = folder / "test.yml"
    file.write_text(json.dumps(test))
    assert _PROMTOOL is not None
    output = subprocess.run(
        [_PROMTOOL, "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert output.returncode == 0, output.stdout + output.stderr


def _series(name: str, worker: str, **labels: str) -> str:
    tags = {"SessionName": "session_1", "WorkerId": worker, **labels}
    return name + "{" + ", ".join(f'{key}="{value}"' for key, value in tags.items()) + "}"


@needs_promtool
def test_expressions_add_up_over_workers_and_keep_what_tells_apart(tmp_path: Path) -> None:
    audio, done = "ray_valence_audio_seconds_total", "ray_valence_recordings_total"
    _evaluate(
        tmp_path,
        {
            # Two workers that do 300 and 100 s of audio in 10 s: 40 hours an hour.
            _series(audio, "a", stage="preprocess"): "0+300x40",
            _series(audio, "b", stage="preprocess"): "0+100x40",
            _series(audio, "a", stage="extract"): "0+50x40",
            _series(done, "a", stage="preprocess", status="ok"): "0+1x40",
            _series(done, "b", stage="preprocess", status="ok"): "7x40",
            _series(done, "b", stage="preprocess", status="rejected"): "2x40",
            _series("ray_valence_combinations_total", "c", status="ok"): "0+2x40",
            _series("ray_valence_combinations_total", "c", status="failed"): "1x40",
            _series("ray_valence_recordings_left", "c", stage="preprocess"): "400-10x40",
            _series("ray_valence_validation_ccc", "c", seed="0"): "0.31x40",
            _series("ray_valence_validation_ccc", "c", seed="1"): "0.25x40",
            # The best and what is left are of all seeds, and of the last epoch of each.
            _series("ray_valence_best_validation_ccc", "c", seed="0"): "0.33x40",
            _series("ray_valence_best_validation_ccc", "c", seed="1"): "0.35x40",
            _series("ray_valence_seconds_left", "c", seed="0"): "120x40",
            _series("ray_valence_seconds_left", "c", seed="1"): "30x40",
            _series("ray_node_mem_used", "", ip="10.0.0.5"): "3x40",
            _series("ray_node_mem_total", "", ip="10.0.0.5"): "12x40",
        },
        {
            _expression("Audio-hours per hour"): [
                ('{stage="preprocess"}', 40.0),
                ('{stage="extract"}', 5.0),
            ],
            _expression("Recordings done"): [
                ('{stage="preprocess", status="ok"}', 37.0),
                ('{stage="preprocess", status="rejected"}', 2.0),
            ],
            _expression("Rejected"): [("{}", 2.0)],
            _expression("Combinations done"): [("{}", 61.0)],
            _expression("Recordings left"): [('{stage="preprocess"}', 100.0)],
            _expression("CCC", at=1): [('{seed="0"}', 0.31), ('{seed="1"}', 0.25)],
            _expression("CCC", at=2): [("{}", 0.35)],
            _expression("Time left"): [("{}", 30.0)],
            _expression("Memory per node"): [('{ip="10.0.0.5"}', 25.0)],
        },
    )


@needs_promtool
def test_a_count_that_has_not_begun_is_shown_as_none(tmp_path: Path) -> None:
    _evaluate(
        tmp_path,
        {_series("ray_valence_audio_seconds_total", "a", stage="preprocess"): "0+1x40"},
        {
            _expression("Rejected"): [("{}", 0.0)],
            _expression("Combinations done"): [("{}", 0.0)],
        },
    )


@needs_promtool
def test_every_expression_is_one_that_prometheus_understands(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$session", ".*")}
        for number, (_, expression) in enumerate(_targets())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert _PROMTOOL is not None
    output = subprocess.run(
        [_PROMTOOL, "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert output.returncode == 0, output.stdout + output.stderr
